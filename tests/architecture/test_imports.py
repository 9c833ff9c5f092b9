"""Who may import whom: the imports of every file are read and held to the rule.

The rule is data. A new file is covered as soon as it is there; a file that the rule does not know
fails.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "unnorm"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# The helper modules know no density.
HELPERS = {"containers", "supports", "messages", "values", "methods", "signature", "slot_values"}
HELPERS |= {"functions", "settings", "sharing", "tracing", "validation"}
DECLARATION = HELPERS | {"declaration", "batches", "density", "purity"}
ALGEBRA = DECLARATION | {"agreement", "algebra"}
# What every verb may use besides.
VERB = ALGEBRA | {"progress", "diagnostics.verdict"}
# What a file of each part may import of unnorm (its own folder always); an entry covers what lies
# below it.
MAY_IMPORT = {
    **dict.fromkeys(HELPERS, HELPERS),
    "declaration": HELPERS,
    "batches": {"declaration"},
    "density": HELPERS | {"declaration", "batches"},
    "purity": HELPERS | {"declaration", "batches", "density"},
    "agreement": DECLARATION,
    "algebra": DECLARATION | {"agreement"},
    "numpyro_bridge": ALGEBRA,
    "normalize": ALGEBRA,
    "models": ALGEBRA,
    "progress": set(),
    "precision": set(),
    "sampling": VERB,
    "diagnostics": DECLARATION | {"progress"},
    "partition": VERB | {"sampling", "diagnostics.mixing", "diagnostics.weights"},
    "fitting": VERB | {"sampling", "partition"},
}
# A file's import that breaks the rule knowingly: `sample(strict=True)` asks the public `diagnose`
# for its verdict, and `Density.normalized()` the public `log_z` for its value.
EXCEPTIONS = {("sampling.driver", "unnorm"), ("normalize", "unnorm")}
ON_TOP = {"__init__", "__main__", "cli", "demo", "model_file"}
# Where a library may be imported at all; longer names go before shorter ones.
OUTSIDE = {
    "blackjax": {"sampling", "partition"},
    "optax": {"fitting"},
    "arviz": {"sampling.storage", "diagnostics"},
    "arviz_base": {"sampling.storage", "diagnostics"},
    "arviz_stats": {"sampling.storage", "diagnostics"},
    "arviz_plots": {"sampling.storage", "diagnostics"},
    "numpyro.distributions": {""},
    "numpyro": {"numpyro_bridge"},
}


def module_of(file):
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def below(name, parents):
    """Whether a dotted name is one of these or lies inside one; "" holds everything."""
    return any(
        parent == "" or name == parent or name.startswith(parent + ".") for parent in parents
    )


def part_of(module):
    return module.split(".")[0]


def is_module(name):
    return (PACKAGE / (name.replace(".", "/") + ".py")).exists() or (
        PACKAGE / name.replace(".", "/")
    ).is_dir()


def imports(source):
    """Every dotted name that a source imports, and the line; a relative import starts with a
    dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((f"{base}.{alias.name}" if not base.endswith(".") else base + alias.name, node.lineno)
                        for alias in node.names)  # fmt: skip


def own_problem(module, name):
    """What is wrong with importing `unnorm.<name>` in a module, if anything."""
    top = part_of(module)
    if top in ON_TOP:
        return None
    if not name or not is_module(part_of(name)):
        return "imports from unnorm itself, which stands on top"
    allowed = MAY_IMPORT[top] | {top}
    return (
        None
        if below(name, allowed)
        else f"imports {name}, and may import of unnorm {sorted(allowed)}"
    )


def problems(module, source):
    """Each import of a module that breaks the rule, as a sentence."""
    for name, line in imports(source):
        found = None
        if (module, name) in EXCEPTIONS:
            continue
        if name.startswith("."):
            found = f"imports {name} relatively; write the absolute name"
        elif name == "unnorm" or name.startswith("unnorm."):
            found = own_problem(module, name.removeprefix("unnorm").removeprefix("."))
        else:
            library = next((known for known in OUTSIDE if below(name, {known})), None)
            if library and part_of(module) not in ON_TOP and not below(module, OUTSIDE[library]):
                found = f"imports {name}, which belongs to {sorted(OUTSIDE[library])}"
        if found:
            yield f"unnorm/{module.replace('.', '/')}, line {line}: {found}"


def test_the_rule_knows_every_part():
    known = set(MAY_IMPORT) | ON_TOP
    assert {part_of(module_of(file)) for file in FILES} <= known, (
        "give the new part its place in MAY_IMPORT"
    )


@pytest.mark.parametrize("file", FILES)
def test_imports_keep_the_rule(file):
    source = (PACKAGE / file).read_text(encoding="utf-8")
    assert not list(problems(module_of(file), source))


BROKEN = {
    "from . import values": ("density", "relatively"),
    "from .values import hold": ("density", "relatively"),
    "import unnorm as un": ("sampling.chains", "stands on top"),
    "from unnorm import Density": ("sampling.driver", "stands on top"),
    "from unnorm.declaration.density import Density": ("supports", "imports density.Density"),
    "from unnorm import density": ("supports", "imports density,"),
    "def f():\n    from unnorm.fitting.driver import fit": (
        "sampling.driver",
        "imports fitting.driver.fit",
    ),
    "import unnorm.sampling.driver": ("diagnostics.chains", "imports sampling.driver"),
    "from unnorm.declaration.product import Product": ("diagnostics.chains", "imports algebra"),
    "from unnorm.diagnostics.convergence import diagnose": (
        "partition.driver",
        "imports diagnostics.convergence",
    ),
    "import blackjax.mcmc": ("fitting.driver", "belongs to ['partition', 'sampling']"),
    "from optax import adam": ("sampling.driver", "belongs to ['fitting']"),
    "import arviz_base": ("sampling.driver", "belongs to"),
    "import numpyro.infer": ("sampling.driver", "belongs to ['numpyro_bridge']"),
    "from numpyro import infer": ("supports", "belongs to ['numpyro_bridge']"),
}
KEPT = {
    "from unnorm.declaration.signature import Slot\nfrom unnorm import signature": "density",
    "from unnorm.core.findings import Finding": "partition.driver",
    "from unnorm.diagnostics import verdict": "fitting.driver",
    "import numpyro.distributions as dist\nfrom numpyro.distributions import biject_to": "supports",
    "from numpyro import distributions": "supports",
    "from unnorm.sampling.kernels import KERNELS": "sampling.driver",
    "import arviz_base": "sampling.storage",
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_broken_rule_is_seen(source):
    module, expected = BROKEN[source]
    (found,) = problems(module, source)
    assert expected in found


@pytest.mark.parametrize("source", KEPT)
def test_what_is_allowed_passes(source):
    assert not list(problems(KEPT[source], source))

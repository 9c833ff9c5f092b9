"""Who may import whom: the imports of every file are read and held to the rule.

The rule is data. A new file is covered as soon as it is there; a room that the rule does not know
fails.
"""

import ast

import pytest
from figures import PACKAGE, Package, cycles

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# The rooms, and which other rooms each may import. A room may import itself.
GROUND = {"core", "supports", "declaration"}
TOOLS = GROUND | {"statistics", "numerics"}
MAY_IMPORT = {
    "core": set(),
    "supports": {"core"},
    "declaration": {"core", "supports"},
    "statistics": {"core"},
    "numerics": {"core"},
    "interactions": TOOLS,
    "integration": TOOLS | {"interactions"},
    "sampling": TOOLS | {"interactions", "integration"},
    "partition": TOOLS | {"interactions", "integration", "sampling"},
    "fitting": TOOLS | {"interactions", "integration", "sampling", "partition"},
    "diagnostics": GROUND | {"statistics", "interactions", "integration"},
    "plots": GROUND | {"statistics", "sampling", "partition", "fitting", "diagnostics"},
    "reports": GROUND | {"statistics", "sampling", "partition", "fitting", "diagnostics", "plots"},
    "models": GROUND,
    "bridges": GROUND,
}
# `sample(strict=True)` asks the public `diagnose` for its verdict, `Density.normalized()` the
# public `log_z` for its value, and `fit.plot()` is a door to the public `plot_forest`.
EXCEPTIONS = {
    ("sampling.driver", "unnorm"),
    ("partition.normalized", "unnorm"),
    ("fitting.results.readable", "unnorm"),
}
ON_TOP = {"__init__", "cli", "command_line", "demo", "model_file"}

# Where a library may be imported at all; longer names go before shorter ones.
OUTSIDE = {
    "blackjax": {"sampling", "partition"},
    "optax": {"fitting"},
    "arviz": {"sampling.output", "diagnostics", "statistics"},
    "arviz_base": {"sampling.output", "diagnostics", "statistics"},
    "arviz_stats": {"sampling.output", "diagnostics", "statistics"},
    "arviz_plots": {"sampling.output", "diagnostics"},
    "numpyro.distributions": {""},
    "numpyro": {"bridges.numpyro"},
}


def module_of(file):
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def below(name, parents):
    """Whether a dotted name is one of these or lies inside one; "" holds everything."""
    return any(parent in ("", name) or name.startswith(parent + ".") for parent in parents)


def room_of(module):
    return module.split(".")[0]


def folder_of(module):
    return module.rpartition(".")[0]


def is_module(name):
    path = PACKAGE / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def imports(source):
    """Every dotted name that a source imports, with its line; relative ones start with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            join = "" if base.endswith(".") else "."
            yield from ((base + join + alias.name, node.lineno) for alias in node.names)


def own_problem(module, name):
    """What is wrong with importing `unnorm.<name>` in a module, if anything."""
    room = room_of(module)
    if room in ON_TOP:
        return None
    if not name or not is_module(room_of(name)):
        return "imports from unnorm itself, which stands on top"
    allowed = MAY_IMPORT[room] | {room}
    if not below(name, allowed):
        return f"imports {name}, and may import of unnorm {sorted(allowed)}"
    target, _, attribute = name.rpartition(".")
    private = attribute.startswith("_") and not is_module(name)
    if private and folder_of(target) not in (folder_of(module), module):
        return f"imports the private name {attribute} of another folder"
    return None


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
            on_top = room_of(module) in ON_TOP
            if library and not on_top and not below(module, OUTSIDE[library]):
                found = f"imports {name}, which belongs to {sorted(OUTSIDE[library])}"
        if found:
            yield f"unnorm/{module.replace('.', '/')}, line {line}: {found}"


def test_the_rule_knows_every_room():
    known = set(MAY_IMPORT) | ON_TOP
    rooms = {room_of(module_of(file)) for file in FILES}
    assert rooms <= known, "give the new room its place in MAY_IMPORT"


@pytest.mark.parametrize("file", FILES)
def test_imports_keep_the_rule(file):
    source = (PACKAGE / file).read_text(encoding="utf-8")
    assert not list(problems(module_of(file), source))


def test_no_circle_of_imports():
    assert cycles(Package(PACKAGE)) == []


BROKEN = {
    "from . import values": ("declaration.density", "relatively"),
    "from .values import hold": ("declaration.density", "relatively"),
    "import unnorm as un": ("sampling.engine.scan", "stands on top"),
    "from unnorm import Density": ("sampling.driver", "stands on top"),
    "from unnorm.declaration.density import Density": ("supports", "imports declaration"),
    "from unnorm import declaration": ("supports", "imports declaration,"),
    "def f():\n    from unnorm.fitting.driver import fit": (
        "sampling.driver",
        "imports fitting.driver.fit",
    ),
    "import unnorm.sampling.driver": ("diagnostics.chains", "imports sampling.driver"),
    "from unnorm.partition.base import LogZ": ("integration.nodes", "imports partition.base"),
    "from unnorm.declaration.density import _held": ("fitting.driver", "the private name _held"),
    "import blackjax.mcmc": ("fitting.driver", "belongs to ['partition', 'sampling']"),
    "from optax import adam": ("sampling.driver", "belongs to ['fitting']"),
    "import arviz_base": ("sampling.driver", "belongs to"),
    "import numpyro.infer": ("sampling.driver", "belongs to ['bridges.numpyro']"),
    "from numpyro import infer": ("supports", "belongs to ['bridges.numpyro']"),
}
KEPT = {
    "from unnorm.declaration.slots import Slot\nfrom unnorm.declaration import signature": (
        "declaration.density"
    ),
    "from unnorm.core.findings import Finding": "partition.driver",
    "from unnorm.core import findings": "fitting.driver",
    "import numpyro.distributions as dist": "supports",
    "from numpyro import distributions": "supports",
    "from unnorm.sampling.kernels.registry import KERNELS": "sampling.driver",
    "import arviz_base": "sampling.output.datatree",
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_broken_rule_is_seen(source):
    module, expected = BROKEN[source]
    (found,) = problems(module, source)
    assert expected in found


@pytest.mark.parametrize("source", KEPT)
def test_what_is_allowed_passes(source):
    assert not list(problems(KEPT[source], source))

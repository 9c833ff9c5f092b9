"""The figures of the architecture, counted from the source alone: `python
tests/architecture/figures.py [folder]`.

Standard library only. A figure is read from the syntax trees of the package; nothing is imported.
"""

import ast
import re
import statistics
import sys
from collections import Counter
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "unnorm"
RETURNS_DENSITY = {
    "at",
    "bare",
    "bind",
    "charted",
    "constrained_to",
    "fix",
    "for_jit",
    "given",
    "on_chart",
    "rename",
    "resolved",
    "with_dimensions",
    "with_leaves",
}
# Names under which a density, or an object that holds one, travels.
CARRIERS = {"p", "density", "problem", "target", "view", "integrand"}
# Where each verb begins, and where its default method goes on: which one that is, is chosen as the
# program runs.
JOURNEYS = {
    "log_z": (("partition.driver", "log_z"), ("partition.default_estimator", "two_estimates")),
    "fit": (("fitting.driver", "fit"), ("fitting.procedures.minimize", "fit_by_minimization")),
    "sample": (("sampling.driver", "sample"),),
}
ED_WORDS = {
    "seed",
    "need",
    "feed",
    "speed",
    "embed",
    "shed",
    "red",
    "bed",
    "exceed",
    "indeed",
    "fed",
    "led",
}


class Package:
    """The syntax trees of all modules, by dotted name within the package."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = {self._name(path): path for path in sorted(folder.rglob("*.py"))}
        self.sources = {name: path.read_text(encoding="utf-8") for name, path in self.files.items()}
        self.trees = {name: ast.parse(source) for name, source in self.sources.items()}

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self.folder).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)

    def module_of(self, dotted: str) -> str | None:
        """The module that `unnorm.<dotted>` names, itself or by one of its attributes."""
        return next(
            (name for name in (dotted, dotted.rpartition(".")[0]) if name in self.files), None
        )

    @cache  # noqa: B019
    def names_of(self, module: str) -> dict[str, tuple[str, str]]:
        """What each imported name of a module stands for: (module, attribute); the attribute of a
        module is ""."""
        found = {}
        for node in ast.walk(self.trees[module]):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and (node.module + ".").startswith("unnorm.")
            ):
                base = node.module.removeprefix("unnorm").removeprefix(".")
                for alias in node.names:
                    whole = f"{base}.{alias.name}".removeprefix(".")
                    target = (whole, "") if whole in self.files else (base, alias.name)
                    if target[0] in self.files:
                        found[alias.asname or alias.name] = target
        return found

    @cache  # noqa: B019
    def imports_of(self, module: str) -> frozenset[str]:
        return frozenset(target for target, _ in self.names_of(module).values() if target != module)


def functions(tree: ast.AST):
    return (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def cycles(package: Package) -> list[list[str]]:
    """Groups of modules that import each other in a circle (Tarjan's strongly connected
    components)."""
    index, low, stack, groups = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(package.imports_of(name)):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            groups.append(sorted(group))

    for name in package.files:
        if name not in index:
            visit(name)
    return [group for group in groups if len(group) > 1]


def longest_chain(package: Package) -> list[str]:
    """The longest chain of imports; a circle counts once for each of its modules."""
    chains: dict[str, list[str]] = {}

    def chain(name, above=()):
        if name in chains:
            return chains[name]
        below = [
            chain(other, (*above, name)) for other in package.imports_of(name) if other not in above
        ]
        found = [name, *max(below, key=len, default=[])]
        if not above or not any(other in above for other in package.imports_of(name)):
            chains[name] = found
        return found

    return max(
        (chain(name) for name in package.files if name not in ("__init__", "cli", "demo")), key=len
    )


def is_number(node: ast.AST) -> bool:
    """Whether an expression is made of numbers alone."""
    allowed = (
        ast.Constant,
        ast.UnaryOp,
        ast.BinOp,
        ast.operator,
        ast.unaryop,
        ast.Tuple,
        ast.Load,
        ast.List,
        ast.Dict,
        ast.GeneratorExp,
        ast.comprehension,
        ast.Name,
        ast.Store,
        ast.Call,
    )
    numbers = [
        n for n in ast.walk(node) if isinstance(n, ast.Constant) and type(n.value) in (int, float)
    ]
    plain = all(isinstance(n, allowed) for n in ast.walk(node))
    texts = any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(node))
    return bool(numbers) and plain and not texts


def module_numbers(package: Package) -> list[tuple[str, str]]:
    """Numbers named at the level of a module, where they decide verdicts, budgets and tolerances
    out of sight."""
    found = []
    for module, tree in package.trees.items():
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [
                    n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)
                ]
                if is_number(node.value):
                    found += [(module, name) for name in names if name.strip("_").isupper()]
    return found


def ed_names(package: Package) -> tuple[list[str], int]:
    """Names of functions and classes that hold an "-ed" word, and the number of all."""
    names = [
        n.name
        for tree in package.trees.values()
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("__")
    ]
    words = {name: re.findall(r"[a-z]+|[A-Z][a-z]*", name) for name in names}
    ed = [
        name
        for name in names
        if any(w.lower().endswith("ed") and w.lower() not in ED_WORDS for w in words[name])
    ]
    return ed, len(names)


def called_once(package: Package) -> tuple[int, int]:
    """How many functions at the level of a module are named exactly once elsewhere in the package,
    and how many are."""
    uses = Counter(
        n.id if isinstance(n, ast.Name) else n.attr
        for tree in package.trees.values()
        for n in ast.walk(tree)
        if isinstance(n, ast.Name | ast.Attribute)
    )
    defined = [
        n.name
        for tree in package.trees.values()
        for n in tree.body
        if isinstance(n, ast.FunctionDef)
    ]
    return sum(uses[name] == 1 for name in defined), len(defined)


# -- journeys --------------------------------------------------------------------------------------
class Journey:
    """The way of the density's parameter through a verb: a room for every change of module on the
    way in.

    A call is followed where its function or class is found by the imports, or by a local name that
    holds an object of a known class. An object that is made with the density carries it: its
    methods are entered through it. Each parameter of a function is followed once.
    """

    def __init__(self, package: Package, verb: str):
        self.package, self.rooms, self.seen = package, [], set()
        for module, name in JOURNEYS[verb]:
            self.rooms.append(module)
            entry = definition(package, module, name)
            self.follow(module, None, entry, frozenset({entry.args.args[0].arg}))

    def follow(
        self,
        module: str,
        owner: ast.ClassDef | None,
        function: ast.FunctionDef,
        given: frozenset[str],
    ) -> None:
        if (module, id(function), given) in self.seen:
            return
        self.seen.add((module, id(function), given))
        tracked, made = self.tracked_in(module, owner, function, given)
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            for target, cls, called in self.callees(module, owner, call.func, made):
                passed = passed_parameters(called, call, tracked)
                if cls is not None and carried(cls) and isinstance(call.func, ast.Attribute):
                    passed |= {"self"} if made.get(name_of(call.func.value)) else set()
                if passed:
                    if target != module:
                        self.rooms.append(target)
                    self.follow(target, cls, called, passed)

    def tracked_in(self, module, owner, function, given):
        """The names that hold the density in a function, and the local names that hold objects of
        known classes."""
        tracked, made = set(given) - {"self"}, {}
        if owner is not None:
            tracked |= {f"self.{field}" for field in carried(owner)}
        for node in ast.walk(function):
            if not isinstance(node, ast.Assign):
                continue
            names = [
                name_of(n)
                for t in node.targets
                for n in (t.elts if isinstance(t, ast.Tuple) else [t])
            ]
            value = node.value
            if is_density(value, tracked):
                tracked |= set(names)
            elif any(is_density(n, tracked) for n in ast.walk(value)):
                tracked |= {name for name in names if name in CARRIERS}
            if isinstance(value, ast.Call):
                for target, cls, _ in self.callees(module, owner, value.func, made):
                    made |= dict.fromkeys(names, (target, cls)) if cls is not None else {}
        return tracked, made

    def callees(self, module, owner, func, made):
        """The module, class and function that a call enters: none where the imports do not tell."""
        if isinstance(func, ast.Attribute) and name_of(func.value) == "self" and owner is not None:
            found = (module, owner, method_of(owner, func.attr))
        elif isinstance(func, ast.Attribute) and name_of(func.value) in made:
            target, cls = made[name_of(func.value)]
            found = (target, cls, method_of(cls, func.attr))
        elif isinstance(func, ast.Call):  # Estimator(...)(density)
            inner = [
                (t, c) for t, c, _ in self.callees(module, owner, func.func, made) if c is not None
            ]
            return [(t, c, m) for t, c in inner if (m := method_of(c, "__call__"))]
        else:
            found = self.by_import(module, func, made)
        return [found] if found is not None and found[2] is not None else []

    def by_import(self, module, func, made):
        name = name_of(func)
        if name in made:
            target, cls = made[name]
            return target, cls, method_of(cls, "__call__")
        names = self.package.names_of(module)
        if isinstance(func, ast.Attribute) and name_of(func.value) in names:
            base, attribute = names[name_of(func.value)]
            target = (base, func.attr) if not attribute else None
        else:
            target = names.get(name, (module, name))
        if target is None:
            return None
        node = definition(self.package, *target)
        if node is None and target[1] in self.package.names_of(
            target[0]
        ):  # handed on by a package's face
            target = self.package.names_of(target[0])[target[1]]
            node = definition(self.package, *target)
        if isinstance(node, ast.ClassDef):
            return target[0], node, method_of(node, "__init__") or as_init(node)
        return None if node is None else (target[0], None, node)


def definition(package: Package, module: str, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    nodes = (
        n
        for n in package.trees[module].body
        if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name
    )
    return next(nodes, None)


def method_of(cls: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == name), None)


def as_init(cls: ast.ClassDef) -> ast.FunctionDef:
    """The constructor that a dataclass or a named tuple gets from its fields."""
    fields = [
        n.target.id
        for n in cls.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    ]
    arguments = ast.arguments(
        [], [ast.arg(name) for name in ["self", *fields]], None, [], [], None, []
    )
    return ast.FunctionDef("__init__", arguments, [], [], lineno=cls.lineno, end_lineno=cls.lineno)


@cache
def carried(cls: ast.ClassDef) -> frozenset[str]:
    """The fields of a class in which a density is held, by their names."""
    fields = {
        n.target.id
        for n in cls.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    fields |= {
        n.attr
        for n in ast.walk(cls)
        if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
    }
    return frozenset(fields & CARRIERS)


def name_of(node: ast.AST) -> str:
    """`x` or `self.x` as text; else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ):
        return f"self.{node.attr}"
    return ""


def passed_parameters(called: ast.FunctionDef, call: ast.Call, tracked: set[str]) -> frozenset[str]:
    """The parameters of the called function that receive the density."""
    names = [a.arg for a in called.args.posonlyargs + called.args.args if a.arg != "self"]
    given = {
        name for name, value in zip(names, call.args, strict=False) if is_density(value, tracked)
    }
    return frozenset(
        given | {k.arg for k in call.keywords if k.arg and is_density(k.value, tracked)}
    )


def is_density(node: ast.AST, tracked: set[str]) -> bool:
    """Whether an expression is the density: its name, a carrier's field, or what its own methods
    return."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in RETURNS_DENSITY and is_density(node.func.value, tracked)
    if (
        isinstance(node, ast.Attribute)
        and node.attr in CARRIERS
        and is_density(node.value, tracked)
    ):
        return True
    return name_of(node) in tracked


# -- the table -------------------------------------------------------------------------------------
def figures(folder: Path = PACKAGE) -> dict[str, object]:
    """Every figure by name."""
    package = Package(folder)
    folders = Counter(path.parent for path in package.files.values() if path.name != "__init__.py")
    lines = [line for source in package.sources.values() for line in source.splitlines()]
    sizes = sorted(len(source.splitlines()) for name, source in package.sources.items())
    spans = sorted(
        f.end_lineno - f.lineno + 1 - docstring_lines(f)
        for tree in package.trees.values()
        for f in functions(tree)
    )
    ed, names = ed_names(package)
    once, defined = called_once(package)
    fan_out = [
        len(package.imports_of(name))
        for name in package.files
        if package.files[name].name != "__init__.py"
    ]
    return {
        "lines in all": len(lines),
        "largest folder, files": max(folders.values()),
        "longest chain of imports": len(longest_chain(package)),
        "circles of imports": len(cycles(package)),
        "own imports per file, mean": round(statistics.mean(fan_out), 2),
        "numbers at the level of a module": len(module_numbers(package)),
        **{
            f"journey of {verb}, rooms entered": len(Journey(package, verb).rooms)
            for verb in JOURNEYS
        },
        "names with an -ed word, %": round(100 * len(ed) / names, 1),
        "functions named once, %": round(100 * once / defined, 1),
        "lines over 100 characters, %": round(
            100 * sum(len(line) > 100 for line in lines) / len(lines), 2
        ),
        "lines of a file, median and p90": (statistics.median(sizes), percentile(sizes, 0.9)),
        "lines of a function, median and p90": (statistics.median(spans), percentile(spans, 0.9)),
    }


def docstring_lines(function: ast.FunctionDef) -> int:
    first = function.body[0]
    text = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return first.end_lineno - first.lineno + 1 if text else 0


def percentile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    for name, value in figures(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE).items():
        print(f"{name:40} {value}")

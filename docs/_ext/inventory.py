"""The public names of unnorm by group, and what the docstring of one lacks.

No part of Sphinx is needed here: `tests/docs` uses it too.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import unnorm as un
from unnorm.core.method import registry_name
from unnorm.fitting.objectives import registry as objectives
from unnorm.models import FAMILIES
from unnorm.partition.estimators import registry as estimators
from unnorm.sampling.kernels import registry as kernels
from unnorm.supports import Annotation, Support

NAMESPACES = {
    "kernels": ("un.kernels", "Kernels", "What moves the chains of `un.sample`."),
    "objectives": ("un.objectives", "Objectives", "What `un.fit` minimizes, and what it aims at."),
    "estimators": ("un.estimators", "Estimators of log Z", "How `un.log_z` finds the constant."),
    "models": ("un.models", "Model families", "Declared densities, ready to fit."),
}
GROUPS = {
    "declaration": ("Declaration", "Densities, and what a keyword argument may be."),
    "supports": ("Supports", "What a variable or a parameter may be."),
    "verbs": ("Verbs", "Sample, diagnose, fit, normalize, and what follows a fit."),
    "figures": ("Figures", "Pictures of results, and one page of them all."),
    "results": ("Results", "What the verbs return."),
} | {group: (title, what) for group, (_, title, what) in NAMESPACES.items()}
DECLARATION = {"density", "Density", "Constant", "Covariate", "truncate"}
FORMULA = re.compile(r"[=∝≥≤∇Σ∑∫]|exp\(|log ")
# Names that compute nothing, and names that are notation or hold what a verb returned.
WITHOUT_FORMULA = {"un.plot_grid", "un.use_devices", "un.StoreError"}
WITHOUT_REFERENCE = {
    "un.Constant", "un.Covariate", "un.truncate", "un.StoreError",
    "un.Fit", "un.LogZ", "un.Diagnosis",
}  # fmt: skip


@dataclass(frozen=True)
class Public:
    """A public name: its group, its full name as users write it, and the object."""

    group: str
    name: str
    thing: Any

    @property
    def label(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def page(self) -> str:
        """Names that differ in case only must not share a file: `density` and `Density`."""
        return self.label + ("_class" if self.name == "un.Density" else "")

    @property
    def description(self) -> str:
        owner = type(self.thing) if isinstance(self.thing, Annotation) else self.thing
        return inspect.getdoc(owner) or ""

    @property
    def summary(self) -> str:
        return " ".join(self.description.partition("\n\n")[0].split())

    @property
    def registered(self) -> str:
        """The name by which a method is asked for, in quotes; empty where there is none."""
        in_registry = self.group in ("kernels", "objectives", "estimators")
        return f'"{registry_name(self.thing)}"' if in_registry else ""


def group_of(name: str, thing: Any) -> str:
    if name in DECLARATION:
        return "declaration"
    if isinstance(thing, Support) or (isinstance(thing, type) and issubclass(thing, Support)):
        return "supports"
    if name.startswith("plot_") or name == "report":
        return "figures"
    if name in ("Fit", "LogZ", "Diagnosis"):
        return "results"
    return "verbs"


def public_names() -> Iterator[Public]:
    for name in un.__all__:
        if name not in NAMESPACES:
            thing = getattr(un, name)
            yield Public(group_of(name, thing), f"un.{name}", thing)
    for group, registry in (
        ("kernels", kernels),
        ("objectives", objectives),
        ("estimators", estimators),
    ):
        for name in registry.__all__:
            if inspect.isclass(getattr(registry, name)):
                yield Public(group, f"un.{group}.{name}", getattr(registry, name))
    for name, family in FAMILIES.items():
        yield Public("models", f"un.models.{name}", family)


def lacks(public: Public) -> list[str]:
    """What the docstring of a public name should have and has not."""
    text = public.description
    wanted = {
        "a description": len(public.summary) >= 20,
        "an example": ">>>" in text,
        "a formula": public.name in WITHOUT_FORMULA or bool(FORMULA.search(text)),
        "a reference": public.group == "supports"
        or public.name in WITHOUT_REFERENCE
        or "References:" in text,
    }
    return [part for part, present in wanted.items() if not present]

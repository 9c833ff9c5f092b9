"""What kernels, objectives and estimators share: options as a pytree, and look-up by name."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar, dataclass_transform

import jax

from unnorm.core.messages import choose_from
from unnorm.core.validation import Range, check_fields

T = TypeVar("T")


def static(default: Any = dataclasses.MISSING, kw_only: bool = False, **range_: Any) -> Any:
    """Mark an option of a method as structure: changing it compiles anew, and it is never traced.

    The rest are the arguments of `validation.Range`, such as ``at_least=1``: where its values may
    lie. With `kw_only` it is no positional argument, so that an inherited option may follow others.
    """
    metadata = {"static": True, **_range(range_)}
    return dataclasses.field(default=default, kw_only=kw_only, metadata=metadata)


def option(default: Any = dataclasses.MISSING, **range_: Any) -> Any:
    """Declare an option of a method that is a pytree leaf, and where its values may lie:
    ``option(1.0, above=0)``.
    """
    return dataclasses.field(default=default, metadata=_range(range_))


def _range(given: dict[str, Any]) -> dict[str, Range]:
    return {"range": Range(**given)} if given else {}


@dataclass_transform(frozen_default=True, field_specifiers=(option, static))
def method(cls: type[T]) -> type[T]:
    """Make a class of options a frozen dataclass and a pytree, whose numbers and arrays are leaves.

    Options are held against their declared types and ranges when a user makes the method, never
    when JAX rebuilds it.
    """
    further = getattr(cls, "__post_init__", None)

    def validate(self: Any) -> None:
        check_fields(self)
        if further is not None:
            further(self)

    cls.__post_init__ = validate  # type: ignore[attr-defined]
    cls = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaves = [f.name for f in fields if not f.metadata.get("static")]
    structure = [f.name for f in fields if f.metadata.get("static")]

    # Not `register_dataclass`: its structures compare equal across classes (JAX 0.10.2), so that a
    # compiled step of one kernel could be handed to another; here the class is part of the
    # structure.
    def flatten_with_keys(options):
        children = [(jax.tree_util.GetAttrKey(name), getattr(options, name)) for name in leaves]
        return children, (cls, *(getattr(options, name) for name in structure))

    def unflatten(aux, children):
        options = object.__new__(cls)
        for name, value in zip([*leaves, *structure], [*children, *aux[1:]], strict=True):
            object.__setattr__(options, name, value)
        return options

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    return cls


def registry_name(cls: type) -> str:
    """The class name in snake case: RandomWalkMH is random_walk_mh, ULA is ula; or what the class
    is `known_as`, where capitals mark no words.
    """
    known_as = getattr(cls, "known_as", None)
    return (
        known_as
        or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()
    )


def look_up(given: Any, registry: Mapping[str, type], kind: str, contract: str) -> Any:
    """Return the method that a name or an object stands for; the object need only keep the
    contract.
    """
    if isinstance(given, str):
        name = given.lower().replace("-", "_")
        if name not in registry:
            raise ValueError(f"{kind} {given!r} is not known; {choose_from(name, registry)}.")
        given = registry[name]
    if isinstance(given, type):
        try:
            return given()
        except TypeError:
            raise ValueError(
                f"{kind} {given.__name__} has options without defaults; expected an object; pass "
                f"{given.__name__}(...)."
            ) from None
    if not any(hasattr(given, part) for part in contract.split("|")):
        raise ValueError(
            f"{kind} is {given!r}; expected a name, or an object with the method "
            f"{contract.replace('|', ' or ')}."
        )
    return given

"""Reading a declaration: which argument plays which part, and the sentences where one does not
fit.
"""

import contextlib
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin

from unnorm.core.containers import is_finite_number
from unnorm.core.messages import shown
from unnorm.declaration.slots import (
    CONSTANT,
    COVARIATE,
    PARAMETER,
    VARIABLE,
    ClosedForm,
    Slot,
    refuse_clashes,
)
from unnorm.supports.base import Annotation, ConstantAnnotation, CovariateAnnotation, Support


def from_function(
    function: Callable, local: Mapping[str, Any]
) -> tuple[tuple[Slot, ...], dict[str, Any]]:
    """Read the slots and the default values from a function's signature; `local`: the names where
    it is defined.
    """
    slots, values = [], {}
    owner = function_name(function)
    for parameter in _signature(function, local).parameters.values():
        slot = _slot(owner, parameter)
        slots.append(slot)
        if parameter.default is not parameter.empty:
            values[slot.name] = parameter.default
        elif slot.role == CONSTANT:
            raise ValueError(
                f"Constant {slot.name} of {owner} has no value; expected one; give it a default."
            )
    return _complete(owner, slots), values


def function_name(function: Callable) -> str:
    """The name of a function, or of the class of what is called in its place."""
    return getattr(function, "__name__", type(function).__name__)


def from_mappings(
    function, variables, parameters, constants, covariates
) -> tuple[tuple[Slot, ...], dict[str, Any]]:
    """Read the slots and values from the mappings of the plain form."""
    _refuse_uncallable(function)
    mappings = {
        "variables": variables,
        "parameters": parameters,
        "constants": constants,
        "covariates": covariates,
    }
    for role, given in mappings.items():
        if given is not None and not (
            isinstance(given, Mapping) and all(isinstance(name, str) for name in given)
        ):
            raise TypeError(
                f"{role} is {shown(given)}; expected a dict by name; pass, for example, {{'x': "
                "un.Real}."
            )
    slots: list[Slot] = []
    values: dict[str, Any] = {}
    for name, support in (variables or {}).items():
        slots.append(Slot(name, name, VARIABLE, _support(name, VARIABLE, support), positional=True))
    slots = _in_argument_order(function, slots)
    for name, declared in (parameters or {}).items():
        support, *start = declared if isinstance(declared, tuple) and declared else (declared,)
        if len(start) > 1:
            raise ValueError(
                f"Parameter {name} was declared with {len(start) + 1} values; expected two; pass "
                "(support, start)."
            )
        slots.append(Slot(name, name, PARAMETER, _support(name, PARAMETER, support)))
        values |= {name: start[0]} if start else {}
    for name, value in (constants or {}).items():
        declared = (
            isinstance(value, tuple)
            and len(value) == 2
            and isinstance(value[0], ConstantAnnotation)
        )
        slots.append(Slot(name, name, CONSTANT, value[0] if declared else None))
        values[name] = value[1] if declared else value
    for name, declared in (covariates or {}).items():
        if not isinstance(declared, CovariateAnnotation):
            raise ValueError(
                f"Covariate {name} was declared with {shown(declared)}; expected un.Covariate "
                "with its dimensions, if any; write un.Covariate or un.Covariate['k']."
            )
        slots.append(Slot(name, name, COVARIATE, declared))
    return _complete("density", slots), values


def _in_argument_order(function: Callable, slots: list[Slot]) -> list[Slot]:
    """Order variables as the function's positional arguments of the same names.

    Variables are passed by position, so that a function may name its arguments otherwise. Where the
    names agree the order of the dict must not decide which value an argument gets.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return slots
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in by_position]
    named = {slot.name: slot for slot in slots}
    if all(name not in names or names.index(name) == at for at, name in enumerate(named)):
        return slots
    if set(named) == set(names[: len(slots)]):
        return [named[name] for name in names[: len(slots)]]
    raise ValueError(
        f"The variables of {function_name(function)} are declared in the order "
        f"({', '.join(named)}), and its positional arguments are ({', '.join(names)}); expected "
        "each variable at the place of the argument of its name; reorder variables=."
    )


def closed_form(owner: str, given: Any, slots: tuple[Slot, ...]) -> ClosedForm | float | None:
    """Read the closed form of log Z that a declaration was given: a number, or a function of what
    it names.
    """
    if given is None:
        return None
    if not callable(given):
        if not is_finite_number(given):
            raise ValueError(
                f"log_z of {owner} is {shown(given)}; expected a finite number or a function of "
                "the density's parameters; pass 0.0 for a density that is normalized."
            )
        return float(given)
    try:
        parameters = inspect.signature(given).parameters.values()
    except (TypeError, ValueError):
        raise ValueError(
            f"log_z of {owner} is {shown(given)}, whose arguments cannot be read; expected a "
            "function with named arguments; wrap it in one."
        ) from None
    known = {slot.argument for slot in slots if slot.role != VARIABLE}
    for parameter in parameters:
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not by_name or parameter.name not in known:
            raise ValueError(
                f"log_z of {owner} takes {str(parameter).split(':')[0].split('=')[0]!r}; expected "
                "names of its parameters, constants and covariates alone "
                f"({', '.join(sorted(known)) or 'there are none'}); name only those, because log "
                "Z depends on nothing else."
            )
    return ClosedForm(given, tuple(parameter.name for parameter in parameters))


def _refuse_uncallable(function: Any) -> None:
    if not callable(function):
        raise TypeError(
            f"A density was given {shown(function)}; expected a function of one event; pass it as "
            "the first argument."
        )


def _signature(function: Callable, local: Mapping[str, Any]) -> inspect.Signature:
    _refuse_uncallable(function)
    # A function of a module's top level knows its own module only, wherever it is decorated.
    local = local if "<locals>" in getattr(function, "__qualname__", "") else {}
    try:
        return inspect.signature(function, eval_str=True, locals=dict(local) | _enclosing(function))
    except NameError as error:
        raise ValueError(
            f"The annotations of {function_name(function)} use the name {error.name!r}, which "
            "cannot be resolved where the function is defined; import it at the top of the "
            "module, or use un.Density(...)."
        ) from None


def _enclosing(function: Callable) -> dict[str, Any]:
    """What the function closes over; a name not assigned yet (such as its own) is left out."""
    if not isinstance(function, types.FunctionType):
        return {}
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def _slot(owner: str, parameter: inspect.Parameter) -> Slot:
    name, declared = parameter.name, parameter.annotation
    if get_origin(declared) is Annotated:
        declared = next(
            (part for part in get_args(declared)[1:] if isinstance(part, Annotation)), declared
        )
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise ValueError(
            f"Argument {name} of {owner} collects arguments; expected named ones; write out each "
            "variable and parameter."
        )
    if parameter.kind is not parameter.KEYWORD_ONLY:
        if parameter.default is not parameter.empty:
            raise ValueError(
                f"Variable {name} of {owner} has a default; a variable must have none, because it "
                "is sampled; put * before the parameters."
            )
        return Slot(name, name, VARIABLE, _support(name, VARIABLE, declared), positional=True)
    if declared is parameter.empty:
        return Slot(name, name, CONSTANT, None)
    if isinstance(declared, ConstantAnnotation | CovariateAnnotation):
        return Slot(
            name,
            name,
            COVARIATE if isinstance(declared, CovariateAnnotation) else CONSTANT,
            declared,
        )
    return Slot(name, name, PARAMETER, _support(name, PARAMETER, declared))


def _support(name: str, role: str, declared: Any) -> Support:
    if not isinstance(declared, Support):
        found = "no annotation" if declared is inspect.Parameter.empty else shown(declared)
        raise ValueError(
            f"{role.capitalize()} {name} was declared with {found}; expected a support; write, "
            "for example, un.Real['d'] or un.Interval(0, 1)."
        )
    if declared.needs_axis and not declared.shape_axes:
        raise ValueError(
            f"{role.capitalize()} {name} was declared as {shown(declared)} without a dimension; "
            f"expected one in brackets; write {shown(declared)}['d']."
        )
    if role == VARIABLE and not declared.samplable:
        raise ValueError(
            f"Variable {name} was declared as {shown(declared)}, which is a support of parameters "
            "only; expected a support of variables; use another."
        )
    if role == PARAMETER and not declared.learnable:
        raise ValueError(
            f"Parameter {name} was declared as {shown(declared)}, which is a support of variables "
            "only; expected a support of parameters; use another."
        )
    return declared


def _complete(owner: str, slots: Iterable[Slot]) -> tuple[Slot, ...]:
    slots = tuple(slots)
    if not any(slot.role == VARIABLE for slot in slots):
        raise ValueError(
            f"Density {owner} has no variables; expected at least one; declare what is sampled as "
            "positional arguments."
        )
    refuse_clashes(slots)
    return slots


def by_name(
    owner: str, variables: list[str], events: tuple, named: Mapping[str, Any]
) -> dict[str, Any]:
    """Sort what a call was given by name; one dict may stand for all variables."""
    if len(events) == 1 and isinstance(events[0], Mapping):
        return dict(events[0]) | dict(named)
    if len(events) > len(variables):
        raise ValueError(
            f"{owner} was called with {len(events)} positional values, and it has {len(variables)} "
            f"variables ({', '.join(variables)}); pass parameters by name."
        )
    positional = dict(zip(variables, events, strict=False))
    twice = sorted(set(positional) & set(named))
    if twice:
        raise ValueError(
            f"{owner} was given {twice[0]} twice, by position and by name; expected one value; "
            "pass it once."
        )
    return positional | dict(named)


__all__ = ["by_name", "closed_form", "from_function", "from_mappings", "function_name"]

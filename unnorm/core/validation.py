"""One layer of checks for what users give: ranges are declared where an option is, and the sentence
is generated.

A method declares the range of an option at its field (`option(1.0, above=0)`), a verb by the name
of its argument in `SHARED`; the type is the annotation's. Checks run when a method is made and when
a verb is called, on concrete values only: a traced value, and a method that JAX rebuilds inside
compiled code, are taken as they are.
"""

import dataclasses
import functools
import importlib.util
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from unnorm.core.compilation.program_store import kept_programs
from unnorm.core.containers import to_numbers
from unnorm.core.interrupts import interrupts_kept
from unnorm.core.jax_compat import plain_jax
from unnorm.core.messages import choose_from, shown
from unnorm.core.trace_errors import explain_derivative_errors


@dataclasses.dataclass(frozen=True)
class Range:
    """Where the values of an option lie.

    Attributes:
        at_least, at_most: the closed ends.
        above, below: the open ends.
        choices: the words that are allowed.
        array: whether an array of such numbers will do as well.
        most: the largest integer of an option.
    """

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    array: bool = False
    most: ClassVar[int] = 2**31 - 1  # JAX counts in 32 bits

    def holds(self, values: np.ndarray) -> bool:
        """Whether all of these numbers are finite and lie in the range."""
        good = np.isfinite(values)
        good &= True if self.at_least is None else values >= self.at_least
        good &= True if self.at_most is None else values <= self.at_most
        good &= True if self.above is None else values > self.above
        good &= True if self.below is None else values < self.below
        return bool(good.all())

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least} to {self.at_most}"
        low = f"of at least {self.at_least}" if self.at_least is not None else ""
        low = f"above {self.above}" if self.above is not None else low
        high = f"at most {self.at_most}" if self.at_most is not None else ""
        high = f"below {self.below}" if self.below is not None else high
        return " ".join(filter(None, [low, "and" if low and high else "", high]))


FINITE = Range()
POSITIVE, SHARE = Range(above=0), Range(above=0, below=1)
SEED = Range(at_least=0, at_most=Range.most)
# What an argument of this name may be, in every verb that has it and annotates its type.
SHARED = {
    "seed": SEED,
    "draws": Range(at_least=1, at_most=Range.most),
    "warmup": Range(at_least=0, at_most=Range.most),
    "chains": Range(at_least=1, at_most=Range.most),
    "thin": Range(at_least=1, at_most=Range.most),
    "replicates": Range(at_least=1, at_most=Range.most),
    "rows": Range(at_least=1, at_most=Range.most),
    "n": Range(at_least=2, at_most=Range.most),
    "restarts": Range(at_least=0, at_most=Range.most),
    "steps": Range(at_least=1, at_most=Range.most),
    "batch_size": Range(at_least=2, at_most=Range.most),
    "target_error": POSITIVE,
    "max_evaluations": POSITIVE,
    "level": SHARE,
}


MADE_BY = {
    "Density": "declare one with @un.density or un.Density(...)"
}  # classes that every verb knows, by name


# -- one value -------------------------------------------------------------------------------------
def problem(value: Any, kinds: tuple, range_: Range | None) -> str | None:
    """What was expected in place of a value, or None where it serves.

    Args:
        value: what was given.
        kinds: the declared types; of bool, int, float, str and None at least one, else nothing is
            checked.
        range_: where numbers must lie, or which words are known; None: anywhere.
    """
    if isinstance(value, jax.core.Tracer) or (value is None and type(None) in kinds):
        return None
    if Path in kinds:
        return None if isinstance(value, str | Path) else "a path"
    known = [kind for kind in kinds if kind in (bool, int, float, str)]
    if not known or any(
        kind is Any or kind not in (bool, int, float, str, type(None)) for kind in kinds
    ):
        return (
            None if range_ is None or value is None else _number_problem(value, float, range_, True)
        )
    if bool in known:
        return None if isinstance(value, bool | np.bool_) else "True or False"
    if str in known:
        return _word_problem(value, range_)
    return _number_problem(
        value, float if float in known else int, range_ or FINITE, type(None) in kinds
    )


def _word_problem(value: Any, range_: Range | None) -> str | None:
    if range_ is None or not range_.choices:
        return None if isinstance(value, str) else "a word"
    if isinstance(value, str) and value in range_.choices:
        return None
    words = f"one of {', '.join(map(repr, range_.choices))}"
    near = (
        choose_from(value, range_.choices).partition("Known")[0] if isinstance(value, str) else ""
    )
    return f"{words} ({near.strip()})" if near else words


def _number_problem(value: Any, kind: type, range_: Range, optional: bool) -> str | None:
    noun = "an integer" if kind is int else "a finite number"
    ends = range_
    if range_.at_most == Range.most and not (isinstance(value, int | float) and value > Range.most):
        ends = dataclasses.replace(range_, at_most=None)  # the violated end is the lower one
    expected = " ".join(filter(None, [noun, str(ends)])) + (
        ", or an array of such" if range_.array else ""
    )
    expected += ", or None" if optional else ""
    if value is None or isinstance(value, bool | np.bool_ | str | bytes):
        return expected
    try:
        numbers = to_numbers(value, "it")
    except (ValueError, TypeError):
        return expected
    whole = numbers.dtype.kind in "iu" or isinstance(value, int)
    fits = numbers.size > 0 if range_.array else numbers.ndim == 0
    good = fits and numbers.dtype.kind in "iuf" and (whole or kind is float)
    return None if good and range_.holds(np.asarray(numbers, float)) else expected


# -- the options of a method -----------------------------------------------------------------------
def check_fields(method: Any) -> None:
    """Refuse options outside their declared types and ranges, with a sentence; called when a method
    is made.
    """
    fields = _field_types(type(method))  # type: ignore[arg-type]
    for name, (kinds, range_, default) in fields.items():
        value = getattr(method, name)
        expected = problem(value, kinds, range_)
        if expected is not None:
            raise ValueError(
                f"{name} is {shown(value)} in {type(method).__name__}; expected {expected}; "
                f"{_example(name, default)}."
            )


def _example(name: str, default: Any) -> str:
    if default is dataclasses.MISSING:
        return "pass a value that is"
    return f"leave {name} out" if default is None else f"pass, for example, {name}={default!r}"


@functools.cache
def _field_types(cls: type) -> dict[str, tuple[tuple, Range | None, Any]]:
    """The types, the range and the default of every field."""
    hints = _hints(cls)
    return {
        field.name: (_kinds(hints.get(field.name, Any)), field.metadata.get("range"), field.default)
        for field in dataclasses.fields(cls)
    }


def _hints(owner: Any) -> dict[str, Any]:
    """The types of fields or arguments; a name that is imported for checkers alone is any type."""
    unknown: dict[str, Any] = {}
    while True:
        try:
            return typing.get_type_hints(owner, localns=unknown or None)
        except NameError as error:
            if error.name is None or error.name in unknown:
                raise
            unknown[error.name] = Any
        except TypeError:  # no annotations that Python can evaluate
            return {}


def _kinds(annotation: Any) -> tuple:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


# -- the arguments of a verb -----------------------------------------------------------------------
def verb(function: Callable) -> Callable:
    """Make a function a verb: its arguments are checked by their annotated types and by `SHARED`,
    JAX runs plainly.
    """
    signature, hints = inspect.signature(function), _hints(function)
    single = [
        n
        for n, one in signature.parameters.items()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    kinds = {argument: _kinds(hints.get(argument, Any)) for argument in single}
    name = function.__name__

    def run(args: tuple, kwargs: dict[str, Any]) -> Any:
        for given in kwargs:
            if given not in kinds and len(single) == len(signature.parameters):
                raise TypeError(
                    f"{name} got an unexpected argument {given!r}; {choose_from(given, kinds)}."
                )
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(
                f"{name} was called with the wrong arguments: {error}; see help(un.{name})."
            ) from None
        for given in kinds.keys() & arguments.keys():
            value = arguments[given]
            check_argument(given, value, kinds[given], signature.parameters[given].default)
        name_of_density = getattr(arguments.get("p"), "name", "")
        quiet = explain_derivative_errors(name_of_density)
        with plain_jax(), kept_programs(), interrupts_kept(), quiet:
            return function(*args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        return run(args, kwargs)

    # A function of the verb's own module: doctest looks for examples in no other.
    call = types.FunctionType(call.__code__, function.__globals__, name, None, call.__closure__)
    return functools.wraps(function)(call)


def check_argument(name: str, value: Any, kinds: tuple, default: Any = None) -> None:
    """Refuse an argument of a verb outside its type and range."""
    if name == "dtype":
        check_dtype(value)
        return
    own = [kind for kind in kinds if isinstance(kind, type) and kind.__name__ in MADE_BY]
    if own and all(isinstance(kind, type) for kind in kinds) and not isinstance(value, kinds):
        made = MADE_BY.get(own[0].__name__, "pass one")
        raise TypeError(f"{name} is {shown(value)}; expected a {own[0].__name__}; {made}.")
    # An argument of any type that shares a name, such as the draws of `diagnose`, is another thing.
    expected = None if Any in kinds else problem(value, kinds, SHARED.get(name))
    if expected is not None:
        default = dataclasses.MISSING if default is inspect.Parameter.empty else default
        raise ValueError(
            f"{name} is {shown(value)}; expected {expected}; {_example(name, default)}."
        )


def check_dtype(dtype: Any) -> None:
    """Refuse what is neither of the two precisions that a verb runs in."""
    try:
        good = dtype is None or np.dtype(dtype) in (np.float32, np.float64)
    except TypeError:
        good = False
    if not good:
        raise ValueError(
            f"dtype is {shown(dtype)}; expected float32 or float64; pass one of the two."
        )


def refuse_other_measure(what: str, name: str, support: Any, distribution: Any) -> None:
    """Refuse a discrete distribution for a continuous value and the reverse: one has no density in
    the other's measure.

    Args:
        what: the part that the distribution plays, in the message.
        name: the variable.
        support: the declared support of the variable.
        distribution: a NumPyro distribution; others do not say what they are.
    """
    discrete = getattr(getattr(distribution, "support", None), "is_discrete", None)
    if discrete is None or bool(discrete) == support.discrete:
        return
    found, expected = ("discrete", "continuous") if discrete else ("continuous", "discrete")
    example = "Normal(0, 1)" if discrete else "Poisson(1)"
    raise ValueError(
        f"The {what} {name} is {type(distribution).__name__}, which is {found}, and {name} is "
        f"{support!r}; expected a {expected} distribution; pass, for example, "
        f"numpyro.distributions.{example}."
    )


def require_flowjax(who: str) -> None:
    """Raise if flowjax is not installed."""
    if importlib.util.find_spec("flowjax") is None:
        raise ImportError(f"{who} needs flowjax, which is not installed; run pip install flowjax.")

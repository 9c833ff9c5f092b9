"""Bad input to every public function ends in one sentence of ours or in a right answer: a table,
and random values."""

import inspect
import math
import typing

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from bad_inputs import GROUPS, METHODS, REQUIRED, VERBS, bits, kinds_of, line, plane, table, verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unnorm as un
from unnorm.core.trace_errors import is_ours
from unnorm.core.validation import _field_types, verb
from unnorm.fitting.data.read import read_data

QUICK = settings(
    deadline=None, max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_row_ends_in_a_sentence(group):
    wrong = {name: found for name, call in group() if (found := verdict(call)) != "sentence"}
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())


def test_the_table_is_large_and_covers_every_method_and_verb():
    rows = table()
    assert len(rows) >= 600 and len({(group, name) for group, name, _ in rows}) > 0.9 * len(rows)
    told = " ".join(name for _, name, _ in rows)
    assert not [verb for verb in VERBS if f"{verb}(" not in told]
    with_options = [name for name, cls in METHODS.items() if hasattr(cls, "__dataclass_fields__")]
    checked = [name for name in with_options if f"{name}(" in told]
    assert len(checked) > 0.7 * len(with_options)  # the others have options of other types, or none


def test_what_is_right_is_taken():
    """The same judge calls right input an answer: it does not pass because everything is
    refused."""
    right = {
        "options": lambda: [
            cls() for name, cls in METHODS.items() if name in ("nuts", "hmc", "nce", "smc", "ais")
        ],
        "NumPy's numbers": lambda: un.kernels.HMC(
            step_size=np.float32(0.1), leapfrogs=np.int64(3), jitter=0
        ),
        "an array": lambda: un.kernels.NUTS(inverse_mass_matrix=np.ones(3)),
        "bind": lambda: line.bind(m=np.int8(3)),
        "a call": lambda: line(1.0),
        "draws": lambda: un.diagnose(
            {"x": np.random.default_rng(0).normal(size=(4, 200))}, strict=True
        ),
    }
    assert {name: verdict(call) for name, call in right.items()} == dict.fromkeys(right, "answer")


# -- random values ---------------------------------------------------------------------------------
numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
    st.complex_numbers(),
    st.booleans(),
)
arrays = hnp.arrays(
    st.sampled_from(
        [
            np.float64,
            np.float32,
            np.float16,
            np.int64,
            np.uint64,
            np.bool_,
            np.complex128,
            "U3",
            object,
        ]
    ),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
anything = st.one_of(
    st.none(),
    numbers,
    st.text(max_size=5),
    st.binary(max_size=3),
    arrays,
    st.lists(numbers, max_size=3),
    st.dictionaries(st.text(max_size=2), numbers, max_size=2),
    st.just(un.Real),
)


def is_number(value):
    if isinstance(value, int):
        return not isinstance(value, bool)
    return np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf" and math.isfinite(value)


def of_type(value, kinds):
    """Whether a value is what a declared type says, by other means than the library's."""
    if value is None:
        return type(None) in kinds
    if bool in kinds:
        return isinstance(value, bool | np.bool_)
    if str in kinds:
        return isinstance(value, str)
    whole = is_number(value) and (isinstance(value, int) or np.asarray(value).dtype.kind in "iu")
    return is_number(value) if float in kinds else whole


def simple_options():
    for cls in METHODS.values():
        if hasattr(cls, "__dataclass_fields__"):
            for name, (kinds, range_, _) in _field_types(cls).items():
                if set(kinds) <= {bool, int, float, str, type(None)}:
                    yield cls, name, kinds, range_


@QUICK
@given(st.data())
def test_options_are_what_they_are_declared_to_be(data):
    cls, name, kinds, range_ = data.draw(st.sampled_from(list(simple_options())))
    value = data.draw(anything)
    made = []
    found = verdict(lambda: made.append(cls(**REQUIRED.get(cls.__name__, {}) | {name: value})))
    assert found in ("sentence", "answer"), (cls, name, value, found)
    if made:
        assert of_type(value, kinds), (cls, name, value)
        assert range_ is None or range_.above is None or value is None or value > range_.above
        assert (
            range_ is None or range_.at_least is None or value is None or value >= range_.at_least
        )


@QUICK
@given(anything)
def test_values_of_parameters(value):
    bound = []
    found = verdict(lambda: bound.append(line.bind(m=value)))
    assert found in ("sentence", "answer"), (value, found)
    if bound:
        kept = bound[0].parameters["m"]
        assert np.shape(kept) == () and float(kept) == float(value)


def half(x, **_):
    return -0.5 * x**2


REAL = {"x": un.Real}
CALLS = {
    "with_dimensions": lambda v: plane.with_dimensions(d=v),
    "Categorical": un.Categorical,
    "Interval, lower": lambda v: un.Interval(v, 3.0),
    "Interval, upper": lambda v: un.Interval(-1.0, v),
    "an axis": lambda v: un.Real[v],
    "a power": lambda v: line**v,
    "a product": lambda v: line * v,
    "density": un.density,
    "a function": lambda v: un.Density(v, REAL),
    "variables": lambda v: un.Density(half, v),
    "a variable": lambda v: un.Density(half, {"x": v}),
    "parameters": lambda v: un.Density(half, REAL, v),
    "a parameter": lambda v: un.Density(half, REAL, {"a": v}),
    "a start": lambda v: un.Density(half, REAL, {"a": (un.Positive["k"], v)}),
    "constants": lambda v: un.Density(half, REAL, constants=v),
    "a constant": lambda v: un.Density(half, REAL, constants={"c": v}),
    "a declared constant": lambda v: un.Density(half, REAL, constants={"c": (un.Constant["d"], v)}),
    "a covariate": lambda v: un.Density(half, REAL, covariates={"z": v}),
    "log_z": lambda v: un.Density(half, REAL, log_z=v),
    "bind": lambda v: plane.bind(m=v),
    "fix": lambda v: line.fix(m=v),
    "given": lambda v: line.given(x=v),
    "rename": lambda v: line.rename(x=v),
    "at": line.at,
    "a call": line,
    "truncate": lambda v: un.truncate(line, x=v),
    "normalized": lambda v: line.normalized("z" if v is None else v),
    "diagnose": un.diagnose,
    "diagnose a variable": lambda v: un.diagnose({"x": v}),
    "load": lambda v: un.load(v, line),
    "resume": lambda v: un.resume(v, line, progress=False),
    "compare": lambda v: un.compare(v, [1.0]),
    "simulate": un.simulate,
    "from_numpyro": un.from_numpyro,
    "a data set": un.models.load,
    "potts": un.models.potts,
}


@settings(QUICK, max_examples=40)
@given(st.one_of(anything, arrays))
def test_values_of_everything_else(value):
    ends = {name: verdict(lambda call=call: call(value)) for name, call in CALLS.items()}
    wrong = {name: found for name, found in ends.items() if found not in ("sentence", "answer")}
    assert not wrong, (value, wrong)


@QUICK
@given(st.one_of(arrays, anything), st.sampled_from([line, plane, bits]))
def test_data(value, p):
    """What is taken as data has the numbers of the input, all of them finite and in the support."""
    try:
        _, events = read_data(p, value)
    except (ValueError, TypeError) as error:
        assert is_ours(error), (value, error)
        assert "\n" not in str(error) and str(error).endswith((".", "?"))
        return
    (kept,) = events.values()
    assert kept.dtype == np.float64 or kept.dtype.kind == "f"
    np.testing.assert_array_equal(
        kept, np.asarray(next(iter(value.values())) if isinstance(value, dict) else value)
    )
    assert np.isfinite(kept).all() and (p is not bits or np.isin(kept, [0, 1]).all())


@QUICK
@given(st.data())
def test_arguments_of_verbs(data):
    """A verb refuses every value of another type before it starts; of the right type none is tried
    here."""
    name = data.draw(st.sampled_from(sorted(VERBS)))
    function, positional, options = VERBS[name]
    hints = typing.get_type_hints(function)
    simple = {
        argument: kinds_of(hints[argument])
        for argument in list(inspect.signature(function).parameters)[len(positional) :]
        if set(kinds_of(hints.get(argument))) <= {bool, int, float, str, type(None)}
    }
    argument = data.draw(st.sampled_from(sorted(simple)))
    value = data.draw(anything)
    if of_type(value, simple[argument]) or argument == "keep":
        return
    found = verdict(lambda: function(*positional, **options | {argument: value}))
    assert found == "sentence", (name, argument, value, found)


def test_a_type_that_checkers_alone_import_leaves_the_others_checked():
    @verb
    def count(number: int, other: "Unknown" = None) -> "AlsoUnknown":
        return number

    assert count(3, other="anything") == 3
    with pytest.raises(ValueError, match="number is 'a'"):
        count("a")

"""Equal lambdas share compiled programs; whatever could make them differ keeps them apart."""

import dataclasses
import functools
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.core.compilation.program_cache import program_key
from unnorm.sampling.engine import scan

SCALE = 1.0
NUMBERS = np.ones(3)
helpers = types.ModuleType("helpers")  # a module of the user's
helpers.scale = 1.0


def scaled(x):
    return SCALE * x


def run(p, **options):
    return (
        un.sample(p, "mala", draws=20, warmup=0, chains=2, seed=0, progress=False, **options)
        .posterior["x"]
        .values
    )


def closing(scale):
    return un.Density(
        lambda x, *, a: -0.5 * scale * a * x**2, {"x": un.Real}, {"a": (un.Positive, 1.0)}
    )


def test_a_new_lambda_at_each_turn_compiles_nothing_and_another_value_does():
    first, count = run(closing(1.0)), scan.sample_chunk._cache_size()
    for _ in range(3):
        assert np.array_equal(run(closing(1.0)), first)
    assert scan.sample_chunk._cache_size() == count
    other = run(closing(4.0))
    assert scan.sample_chunk._cache_size() == count + 1 and not np.array_equal(other, first)


def test_globals_and_arrays_that_change_are_seen(monkeypatch):
    """A stale program would be a wrong answer: the draws must be those of the values at the
    call."""
    before = run(un.Density(lambda x: -0.5 * SCALE * x**2, {"x": un.Real}))
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    after = run(un.Density(lambda x: -0.5 * SCALE * x**2, {"x": un.Real}))
    assert np.array_equal(after, run(closing(4.0))) and not np.array_equal(before, after)


def test_tracked_functions_share_as_well():
    def tracked(k):
        return {"f": lambda x: k * x}

    run(closing(1.0), track=tracked(2.0))
    count = scan.sample_chunk._cache_size()
    run(closing(1.0), track=tracked(2.0))
    assert scan.sample_chunk._cache_size() == count


def made(value):
    return lambda x: value * x


@pytest.mark.parametrize(
    "value",
    [1, 1.0, "a", None, (1, 2.0), np.float32(2), jnp.float32(2), scaled, jnp.log, jax.jit(scaled)],
)
def test_equal_values_give_equal_keys(value):
    first, second = program_key(made(value)), program_key(made(value))
    assert first == second and hash(first) == hash(second) and first != program_key(made(7))


@pytest.mark.parametrize(
    "pair", [(1, 1.0), (0.0, -0.0), (True, 1), (jnp.float32(1), np.float32(1)), ((1,), (1.0,))]
)
def test_values_that_compare_equal_and_compute_differently_are_kept_apart(pair):
    assert program_key(made(pair[0])) != program_key(made(pair[1]))


class Config:
    scale = 1.0


HIDDEN = {  # what a call reads cannot be found: the function shares with nobody
    "import": lambda: _importing(),
    "look-up by name": lambda: lambda x: globals()["SCALE"] * x,
    "counter": lambda: _counting(),
}


def _counting():
    count = 0

    def counting(x):
        nonlocal count
        count += 1
        return x

    return counting


def _with_attribute():
    def attributed(x):
        return attributed.scale * x

    attributed.scale = 1.0
    return attributed


def _importing():
    def importing(x):
        import helpers

        return helpers.scale * x

    return importing


@pytest.mark.parametrize("case", HIDDEN)
def test_what_cannot_be_seen_is_not_shared(case):
    first, second = HIDDEN[case](), HIDDEN[case]()
    assert program_key(first) == program_key(first) and program_key(first) != program_key(second)


class Model:
    def __init__(self, scale):
        self.scale = scale

    def log_density(self, x):
        return -0.5 * (x / self.scale) ** 2

    __call__ = log_density


class EqualToAll(Model):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str
    scale: np.ndarray = dataclasses.field(compare=False)

    def __call__(self, x):
        return -0.5 * jnp.sum(jnp.asarray(self.scale)) * x**2


def _changes():
    """Functions, and how what they read is changed in place."""
    array, listed, table = np.ones(3), [1.0], {"scale": 1.0}
    space, model, inner = types.SimpleNamespace(scale=1.0), Model(1.0), Model(np.ones(2))
    attributed = _with_attribute()
    yield "array of NumPy", made(array), lambda: array.__setitem__(0, 2.0)
    yield "list", made(listed), lambda: listed.append(2.0)
    yield "dict", lambda x: table["scale"] * x, lambda: table.update(scale=2.0)
    yield "namespace", lambda x: space.scale * x, lambda: setattr(space, "scale", 2.0)
    yield "bound method", model.log_density, lambda: setattr(model, "scale", 2.0)
    yield "callable object", inner, lambda: inner.scale.__setitem__(0, 2.0)
    yield "function's attribute", attributed, lambda: setattr(attributed, "scale", 2.0)
    yield "partial", functools.partial(scaled_by, array), lambda: array.__setitem__(1, 5.0)


def scaled_by(scale, x):
    return scale * x


CHANGES = {name: rest for name, *rest in _changes()}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_in_place_is_seen(case):
    function, change = CHANGES[case]
    before = program_key(function)
    assert before == program_key(function) and hash(before) == hash(program_key(function))
    change()
    assert before != program_key(function)


def test_a_class_attribute_that_changes_is_seen(monkeypatch):
    def reads(x):
        return Config.scale * x

    before = program_key(reads)
    assert before == program_key(reads)
    monkeypatch.setattr(Config, "scale", 2.0)
    assert before != program_key(reads)


@pytest.mark.parametrize("kind", [EqualToAll, functools.partial(Frozen, "same"), eqx.nn.Identity])
def test_callables_that_call_themselves_equal_are_told_apart(kind):
    if kind is eqx.nn.Identity:
        first, second = (eqx.nn.Linear(2, 1, key=jax.random.key(k)) for k in (0, 1))
    else:
        first, second = kind(np.ones(2)), kind(np.array([1.0, 2.0]))
    assert program_key(first) == program_key(first) and program_key(first) != program_key(second)


def test_log_z_is_that_of_the_present_state():
    """The closed form: half of log 2 pi, and the log of the scale."""
    scale = np.array([1.0])
    p = un.Density(lambda x: -0.5 * (x / scale[0]) ** 2, {"x": un.Real})
    for value in (1.0, 2.0):
        scale[0] = value
        z = un.log_z(p, seed=0, progress=False)
        assert z.passed and abs(z.value - 0.5 * np.log(2 * np.pi) - np.log(value)) < 1e-6


def test_values_read_through_helpers_and_modules_count(monkeypatch):
    def keys():
        return program_key(lambda x: scaled(x)), program_key(lambda x: helpers.scale * x)

    before = keys()
    assert before == keys()
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    monkeypatch.setattr(helpers, "scale", 2.0)
    after = keys()
    assert before[0] != after[0] and before[1] != after[1]

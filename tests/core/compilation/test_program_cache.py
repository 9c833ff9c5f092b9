"""Equal lambdas share compiled programs; whatever could make them differ keeps them apart."""

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


UNSHARED = {
    "array of NumPy": lambda: made(np.ones(3)),
    "list": lambda: made([1.0]),
    "object": lambda: made(Config()),
    "class": lambda: lambda x: Config.scale * x,
    "global array": lambda: lambda x: NUMBERS @ x,
    "import": lambda: _importing(),
    "look-up by name": lambda: lambda x: globals()["SCALE"] * x,
    "counter": lambda: _counting(),
    "attribute": lambda: _with_attribute(),
    "network": lambda: made(eqx.nn.MLP(2, 1, 2, 1, key=jax.random.key(0))),
    "large array": lambda: made(jnp.ones(2000)),
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


@pytest.mark.parametrize("case", UNSHARED)
def test_what_may_change_is_its_own_key(case):
    first, second = UNSHARED[case](), UNSHARED[case]()
    assert program_key(first) is first and program_key(second) is second


def test_values_read_through_helpers_and_modules_count(monkeypatch):
    def keys():
        return program_key(lambda x: scaled(x)), program_key(lambda x: helpers.scale * x)

    before = keys()
    assert before == keys()
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    monkeypatch.setattr(helpers, "scale", 2.0)
    after = keys()
    assert before[0] != after[0] and before[1] != after[1]

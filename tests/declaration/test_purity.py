"""A log-density that draws random numbers inside is refused by every verb, in a sentence; a pure
one is not."""

import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import counting

import unnorm as un

GENERATOR, CALLS, TABLE = np.random.default_rng(0), [], []


def counter():
    CALLS.append(1)
    return len(CALLS)


IMPURE = {
    "numpy.random": np.random.rand,
    "an array of numpy.random": lambda: np.random.normal(size=3).sum(),
    "random": random.random,
    "a generator of its own": GENERATOR.random,
    "fresh entropy": lambda: np.random.default_rng().random(),
    "the clock": time.perf_counter,
    "the date": time.time,
    "a counter": counter,
    "inside jit": lambda: jax.jit(lambda: jnp.asarray(np.random.rand()))(),
    "inside a loop": lambda: jax.lax.fori_loop(
        0, 2, lambda i, total: total + np.random.rand(), 0.0
    ),
    "a branch": lambda: 1.0 if random.random() < 0.5 else jnp.sin(1.0),
}


def with_noise(noise):
    return un.Density(
        lambda x, *, a: -0.5 * a * (1 + noise()) * x @ x,
        {"x": un.Real[4]},
        {"a": (un.Positive, 1.0)},
    ).bind(a=1.0)


VERBS = {
    "log_z": lambda p: un.log_z(p, un.estimators.ImportanceSampling(), progress=False),
    "sample": lambda p: un.sample(p, draws=10, warmup=10, progress=False),
    "fit": lambda p: un.fit(p, np.ones((20, 4)), "score_matching", progress=False),
    "diagnose": lambda p: un.diagnose({"x": np.random.default_rng(0).normal(size=(4, 50, 4))}, p),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("noise", IMPURE)
def test_what_varies_from_call_to_call_is_refused(verb, noise):
    with pytest.raises(ValueError, match="not a function of its arguments alone") as caught:
        VERBS[verb](with_noise(IMPURE[noise]))
    assert "\n" not in str(caught.value)


def test_a_factor_of_a_product_is_looked_at():
    pure = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[4]})
    with pytest.raises(ValueError, match="not a function of its arguments alone"):
        un.log_z(pure * with_noise(np.random.rand), progress=False)


def test_the_exact_routes_refuse_too():
    with pytest.raises(ValueError, match="not a function of its arguments alone"):
        un.log_z(
            un.Density(lambda x: -0.5 * (1 + np.random.rand()) * x**2, {"x": un.Real}),
            progress=False,
        )


def prepared():
    """A table that the first call makes, as lazily loaded weights are."""
    if not TABLE:
        TABLE.append(np.random.default_rng(3).normal())
    return TABLE[0] ** 2


@pytest.mark.parametrize(
    "noise",
    [
        lambda: np.random.default_rng(7).random(),
        lambda: jax.random.uniform(jax.random.key(0)),
        prepared,
        lambda: jnp.nan_to_num(jnp.asarray([np.nan, 1.0])).sum(),
    ],
)
def test_fixed_seeds_and_tables_pass(noise):
    un.diagnose({"x": np.random.default_rng(0).normal(size=(4, 50, 4))}, with_noise(noise))


def test_a_function_is_traced_for_it_once():
    function = counting(lambda x: -0.5 * x @ x)
    p = un.Density(function, {"x": un.Real[4]})
    draws = {"x": np.random.default_rng(0).normal(size=(4, 50, 4))}
    un.diagnose(draws, p)
    before = function.traces
    un.diagnose(draws, p)
    assert function.traces == before

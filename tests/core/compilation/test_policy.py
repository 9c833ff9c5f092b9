"""The policy of compilation: which programs are compiled how, by any version of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unnorm.core.compilation import policy as compilation
from unnorm.core.compilation.policy import (
    CompilationOptions,
    compiled,
    count_elements,
    known_options,
)


def options_of(function, *args):
    """The names and values of compiler options that a call would be compiled with."""
    effort = function._effort(args, {})
    return effort, dict(compilation._compiler_options(effort))


def test_an_option_that_jax_does_not_know_is_dropped_and_the_others_kept():
    found = known_options({"xla_no_such_option": 3, "xla_backend_optimization_level": 0})
    assert found == {"xla_backend_optimization_level": 0}


def test_a_compiler_that_knows_no_option_compiles_all_the_same(monkeypatch):
    monkeypatch.setattr(compilation, "_QUICK", {"xla_no_such_option": 1})
    compilation._compiler_options.cache_clear()
    try:
        assert float(compiled(lambda x: 2 * x)(3.0)) == 6.0
    finally:
        compilation._compiler_options.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the policy is of CPUs")
def test_work_and_size_decide():
    few = CompilationOptions(quick_elements=150_000, balanced_elements=5, small_elements=5)
    once, loop = compiled(jnp.exp, options=few), compiled(jnp.exp, work="loop", options=few)
    small, large = np.zeros(10), np.zeros(200_000)
    assert [once._effort((x,), {}) for x in (small, large)] == ["quick", "balanced"]
    assert [loop._effort((x,), {}) for x in (small, large)] == ["narrow", "wide"]
    assert compiled(jnp.exp, work="loop")._effort((large,), {}) == "balanced"


def test_options_that_the_user_chose_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    compilation._compiler_options.cache_clear()
    level = "xla_backend_optimization_level"
    assert options_of(compiled(jnp.exp), np.zeros(10))[1][level] == 0
    assert level not in options_of(compiled(jnp.exp, work="loop", sized_by="x"), np.zeros(10**4))[1]
    monkeypatch.setenv("XLA_FLAGS", f"--{level}=2")
    compilation._compiler_options.cache_clear()
    try:
        assert level not in options_of(compiled(jnp.exp), np.zeros(10))[1]
    finally:
        compilation._compiler_options.cache_clear()


def test_loops_count_by_their_length_and_unknown_ones_by_an_assumed_one():
    def scanned(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=7)[0]

    def searched(x):
        return jax.lax.while_loop(lambda c: c[0] > 0.5, jnp.sin, x)

    x = jnp.ones(100)
    assert count_elements(jax.make_jaxpr(scanned)(x).jaxpr, passes=10) == 700
    assert 1000 <= count_elements(jax.make_jaxpr(jax.jit(searched))(x).jaxpr, passes=10) < 1100


def test_few_signatures_are_remembered():
    kept = compiled(jnp.exp, options=CompilationOptions(signatures=3))
    for size in range(10):
        kept._effort((np.zeros(size),), {})
    assert len(kept._efforts) <= 3


def test_only_the_named_argument_is_counted():
    @compiled(work="loop", sized_by="state")
    def step(data, state):
        return data.sum() + state

    assert step._effort((np.zeros(200_000), np.zeros(3)), {}) == "balanced"
    assert step._effort((np.zeros(200_000), np.zeros(700)), {}) == "narrow"
    assert step._effort((), {"data": np.zeros(3), "state": np.zeros(200_000)}) == "wide"


def test_on_a_gpu_jax_decides(monkeypatch):
    monkeypatch.setattr(compilation, "_platform", lambda: "gpu")
    assert options_of(compiled(jnp.sum), np.zeros(3)) == ("platform", {})


def test_inside_of_other_programs_it_is_a_plain_call():
    square = compiled(lambda x: x**2)
    assert float(jax.jit(square)(3.0)) == 9.0
    assert float(jax.grad(square)(3.0)) == 6.0
    np.testing.assert_array_equal(jax.vmap(square)(jnp.arange(3.0)), [0, 1, 4])
    assert float(compiled(lambda x: square(x) + 1)(3.0)) == 10.0


def test_equal_calls_share_a_program():
    traced = []

    @compiled(static_argnames="times")
    def repeat(x, times):
        traced.append(times)
        return x * times

    for value in (1.0, 2.0):
        repeat(value, times=3)
    assert traced == [3]
    repeat(value, times=4)
    assert traced == [3, 4]

"""Damped Newton's method: minima that are known, from starts where the plain method fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unnorm.numerics.newton import newton


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def pseudo_huber(x):
    """Newton's step from 3 leaps to −27, and farther each time: x ↦ −x³."""
    return jnp.sum(jnp.sqrt(1 + x**2))


def two_wells(x):
    return jnp.sum((x**2 - 1) ** 2) + 0.1 * jnp.sum(x)


WELLS = np.sort(np.roots([4, 0, -4, 0.1]).real)[[0, 2]]


@pytest.mark.parametrize(
    ("function", "start", "minimum", "most"),
    [
        (rosenbrock, [-1.2, 1.0], [1.0, 1.0], 40),
        (pseudo_huber, [3.0, -1e-3, 1e3], [0.0, 0.0, 0.0], 30),
        (two_wells, [0.0, 2.0], WELLS, 20),  # from a place that is not convex
    ],
)
def test_minima_are_found_in_few_steps(function, start, minimum, most, x64):
    found = jax.jit(lambda x: newton(function, x))(jnp.array(start))
    np.testing.assert_allclose(found.vector, minimum, atol=1e-7)
    assert np.abs(jax.grad(function)(found.vector)).max() < 1e-8
    assert found.decrement < 1e-18 and int(found.steps) <= most

"""Damped Newton's method for a smooth function of a vector, and Hessians by a few columns at a
time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.numerics.diagonal_scaling import scale_by_diagonal


@dataclass(frozen=True)
class NewtonOptions:
    """When the iterations stop.

    Attributes:
        parameters: beyond which a Hessian costs more than it saves.
        steps: iterations at most.
        smallest_unit: of a coordinate, relative to the largest. A coordinate in which the function
            is flat at the start is not sent to the other end of the numbers; with units farther
            apart than this, minimize in whitened coordinates.
        first_damping: of a step that is shortened, in units of the curvature.
        smallest_damping: below which there is none. In a curved valley both must be small: with
            1e-2 the quartic's maximum on waits of 90 minutes was not reached in 400 steps.
        largest_damping: in units of the curvature. Steps that leap over forty orders of magnitude
            are still shortened.
    """

    parameters: int = 300
    steps: int = 400
    smallest_unit: float = 1e-8
    first_damping: float = 1e-3
    smallest_damping: float = 1e-5
    largest_damping: float = 1e40


class Minimum(NamedTuple):
    """Where a minimizer stopped."""

    vector: jax.Array
    loss: jax.Array
    decrement: jax.Array  # g'H⁻¹g: the squared distance to the optimum in the curvature's metric
    steps: Any
    history: Any
    condition: Any = 1.0  # smallest eigenvalue of the scaled Hessian, relative to the largest


def hessian(function: Callable, x: jax.Array, columns: int = 8) -> jax.Array:
    """The Hessian by a few columns at a time, so that memory stays bounded."""
    return _columns_of(jax.linearize(jax.grad(function), x)[1], x, columns)


def _columns_of(push: Callable, x: jax.Array, columns: int = 8) -> jax.Array:
    return jax.lax.map(push, jnp.eye(x.size, dtype=x.dtype), batch_size=columns)


def tolerance_of(x: jax.Array, rounding: float) -> float:
    """The decrement, relative to the function's value, that is rounding: by the precision of x."""
    return rounding * (1e-20 if x.dtype == jnp.float64 else 1e-10)


def _direction(
    gradient: jax.Array, curvature: jax.Array, damping: jax.Array, smallest_unit: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The step, whether the function is convex here (where it is not, |eigenvalues| still point
    downhill), and the smallest eigenvalue relative to the largest.
    """
    inside, scale = scale_by_diagonal(curvature)
    if smallest_unit:
        scale = jnp.maximum(scale, smallest_unit * jnp.max(scale))
        inside = curvature / scale[:, None] / scale[None, :]
    values, vectors = jnp.linalg.eigh(inside)
    rounding = len(scale) * jnp.finfo(scale.dtype).eps * jnp.max(jnp.abs(values))
    lengths = jnp.maximum(jnp.abs(values), rounding) + damping
    step = -(vectors @ (vectors.T @ (gradient / scale) / lengths)) / scale
    return step, values[0] > -rounding, values[0] / values[-1]


def _next_damping(damping: jax.Array, better: jax.Array, options: NewtonOptions) -> jax.Array:
    """More after a step that failed, less after one that was taken; tiny ones would only postpone
    the quadratic convergence.
    """
    leap = jnp.where(damping < 1e6, 10.0, 1e3)
    less = jnp.where(damping / leap < options.smallest_damping, 0.0, damping / leap)
    return jnp.where(better, less, jnp.maximum(leap * damping, options.first_damping))


def newton(
    function: Callable,
    x: jax.Array,
    rounding: float = 1.0,
    offset: float = 1.0,
    options: NewtonOptions = NewtonOptions(),
    steps: jax.Array | int | None = None,
) -> Minimum:
    """Newton's method with |eigenvalues| and Levenberg's damping, until the decrement is at
    rounding level.

    Args:
        function: of a vector; smooth. It is differentiated by JAX, and is called under `jit`.
        x: the start.
        rounding: by how much the function magnifies rounding.
        offset: decrements are measured in |function| + offset: 1 for a log-likelihood, in nats; 0
            for a function in units of the data.
        options: when to stop.
        steps: fewer than those of the options; may be traced.

    References: Nocedal and Wright (2006), section 3.4 (modified Newton).
    """
    tolerance = tolerance_of(x, rounding)
    limit = options.steps if steps is None else jnp.minimum(options.steps, steps)

    def unit(value):
        return jnp.abs(value) + offset

    def derivatives(x):
        (value, gradient), push = jax.linearize(jax.value_and_grad(function), x)
        return value, gradient, _columns_of(lambda tangent: push(tangent)[1], x)

    def go_on(carry):
        _, value, _, _, _, decrement, damping, step, *_ = carry
        # written so that a NaN decrement goes on with more damping
        unfinished = ~(decrement < tolerance * unit(value))
        return unfinished & (step < limit) & (damping < options.largest_damping)

    def iterate(carry):
        x, *known, moved, _, damping, step, history, _ = carry
        # here and not after the step, so that they stand in the program once
        value, gradient, curvature = jax.lax.cond(
            moved, lambda: derivatives(x), lambda: tuple(known)
        )
        move, convex, condition = _direction(gradient, curvature, damping, options.smallest_unit)
        trial = x + move
        trial_value = function(trial)
        decrement = jnp.where(convex & (damping == 0), -gradient @ move, jnp.inf)
        slack = 1e-14 * rounding * unit(value)
        lower = jnp.isfinite(trial_value) & (trial_value <= value + slack)
        better = lower & jnp.all(jnp.isfinite(move))
        # the value after so short a step is rounding
        arrived = better | (decrement < tolerance * unit(value))
        damping = _next_damping(damping, better, options)
        x, value = jnp.where(better, trial, x), jnp.where(better, trial_value, value)
        decrement = jnp.where(arrived, decrement, jnp.inf)
        history = history.at[step].set(value)
        known = value, gradient, curvature, better, decrement
        return x, *known, damping, step + 1, history, condition

    history = jnp.full(options.steps, jnp.nan, x.dtype)
    zero, infinite = jnp.zeros((), x.dtype), jnp.asarray(jnp.inf, x.dtype)
    unknown = infinite, jnp.zeros_like(x), jnp.zeros((x.size, x.size), x.dtype)
    start = (x, *unknown, True, infinite, zero, 0, history, zero)
    x, value, _, _, _, decrement, _, steps, history, condition = jax.lax.while_loop(
        go_on, iterate, start
    )
    return Minimum(x, value, decrement, steps, history, condition)

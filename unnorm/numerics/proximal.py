"""Minimizers of f(x) + Σ_j λ_j |x_j|, f smooth; zero entries are exactly zero.

Both stop by the subgradient of minimum norm: r_j = ∂_j f + λ_j sign(x_j) where x_j ≠ 0, and ∂_j f
soft-thresholded at λ_j where x_j = 0. All r_j vanish at a minimum.

References: Lee, Sun and Saunders (2014), doi:10.1137/130921428 (proximal Newton); Friedman, Hastie
and Tibshirani (2010), doi:10.18637/jss.v033.i01 (coordinate descent); Beck and Teboulle (2009),
doi:10.1137/080716542 (FISTA); O'Donoghue and Candès (2015), doi:10.1007/s10208-013-9150-3
(restarts).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.numerics.diagonal_scaling import scale_by_diagonal


def soft_threshold(x: jax.Array, by: jax.Array) -> jax.Array:
    """sign(x) max(|x| − by, 0)."""
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - by, 0.0) + 0.0  # + 0.0: never -0.0


def minimum_norm_subgradient(x: jax.Array, gradient: jax.Array, strengths: jax.Array) -> jax.Array:
    """The subgradient of f + Σ λ_j |x_j| that is nearest to 0."""
    return jnp.where(
        x != 0, gradient + strengths * jnp.sign(x), soft_threshold(gradient, strengths)
    )


def newton_steps(
    loss: Callable,
    hessian: Callable,
    x: jax.Array,
    strengths: jax.Array,
    tolerance: float,
    rounding: float,
    units: float,
    *,
    max_steps: int = 200,
) -> tuple[Any, ...]:
    """Proximal Newton steps with Levenberg's damping, until Σ r_j² / H_jj is at rounding level.

    Args:
        loss: f.
        hessian: its second derivatives, as a function of x.
        x: the starting point, (p,).
        strengths: λ, (p,).
        tolerance: of Σ r_j² / H_jj, relative to |loss| + units.
        rounding: the factor by which the loss magnifies rounding errors.
        units: 1 for a loss in nats, 0 for one in the units of the data.
        max_steps: the limit on steps.

    Returns:
        x, the penalized loss, Σ r_j² / H_jj (infinite if it is not small enough), the number of
        steps, and the penalized loss by step.
    """

    def penalized(x):
        return loss(x) + strengths @ jnp.abs(x)

    def gap(x, gradient, curvature):
        diagonal = jnp.abs(jnp.diagonal(curvature))
        # the unit of a coordinate without curvature
        flat = jnp.max(diagonal) + jnp.finfo(x.dtype).tiny
        return jnp.sum(
            minimum_norm_subgradient(x, gradient, strengths) ** 2
            / jnp.where(diagonal > 0, diagonal, flat)
        )

    def go_on(carry):
        _, _, left, damping, step, _ = carry
        return ~(left < jnp.inf) & (step < max_steps) & (damping < 1e12)

    def iterate(carry):
        x, value, _, damping, step, history = carry
        # evaluated at one place: each further place would be compiled again
        gradient, curvature = jax.grad(loss)(x), hessian(x)
        left = gap(x, gradient, curvature)
        at_rest = left < tolerance * (jnp.abs(value) + units)
        convex = _convexify(curvature)
        convex += jnp.diag(damping * jnp.diagonal(convex))
        trial = minimize_quadratic(convex, gradient - convex @ x, x, strengths)
        trial_value = penalized(trial)
        slack = 1e-14 * rounding * (jnp.abs(value) + units)
        better = jnp.isfinite(trial_value) & (trial_value <= value + slack)
        damping = jnp.where(
            better, jnp.where(damping <= 1e-7, 0.0, damping / 10), jnp.maximum(10 * damping, 1e-4)
        )
        moves = better & ~at_rest
        x, value = jnp.where(moves, trial, x), jnp.where(moves, trial_value, value)
        return (
            x,
            value,
            jnp.where(at_rest, left, jnp.inf),
            damping,
            step + 1,
            history.at[step].set(value),
        )

    history, infinite = jnp.full(max_steps, jnp.nan, x.dtype), jnp.asarray(jnp.inf, x.dtype)
    start = (x, penalized(x), infinite, jnp.zeros((), x.dtype), 0, history)
    x, value, left, _, step, history = jax.lax.while_loop(go_on, iterate, start)
    return x, value, left, step, history


def _convexify(curvature: jax.Array) -> jax.Array:
    """The scaled matrix's eigenvalues by absolute value, at least at rounding: steps descend."""
    inside, scale = scale_by_diagonal(curvature)
    values, vectors = jnp.linalg.eigh(inside)
    floor = len(values) * jnp.finfo(curvature.dtype).eps * jnp.max(jnp.abs(values))
    convex = (vectors * jnp.maximum(jnp.abs(values), floor)) @ vectors.T * jnp.outer(scale, scale)
    return jnp.where(values[0] > floor, curvature, convex)


@compiled(static_argnames=("sweeps", "max_rounds"))
def minimize_quadratic(
    curvature: jax.Array,
    slope: jax.Array,
    x: jax.Array,
    strengths: jax.Array,
    *,
    sweeps: int = 10,
    max_rounds: int = 50,
) -> jax.Array:
    """The minimizer of ½ z'Hz + b'z + Σ λ_j |z_j|.

    Rounds of `sweeps` coordinate sweeps, which find the support, and a solve on the support.
    """
    diagonal = jnp.diagonal(curvature)

    def coordinate(j, carry):
        z, gradient = carry
        new = soft_threshold(z[j] - gradient[j] / diagonal[j], strengths[j] / diagonal[j])
        return z.at[j].set(new), gradient + curvature[j] * (new - z[j])

    def on_support(z):
        """Move towards the minimum with these signs, until the first entry reaches 0."""
        support = (z != 0) | (strengths == 0)
        both = jnp.outer(support, support)
        system = jnp.where(both, curvature, jnp.diag(jnp.where(support, 0.0, diagonal)))
        right = jnp.where(support, -(slope + strengths * jnp.sign(z)), 0.0)
        # NaN if it is not positive definite: then the sweeps alone are used
        solved = jax.scipy.linalg.solve(system, right, assume_a="pos")
        solved = jnp.where(support & jnp.all(jnp.isfinite(solved)), solved, z)
        turned = (strengths > 0) & (solved * jnp.sign(z) < 0)
        reach = jnp.where(turned, z / jnp.where(turned, z - solved, 1.0), 1.0)
        return jnp.where(turned & (reach == reach.min()), 0.0, z + reach.min() * (solved - z))

    def one(carry):
        z, _, count = carry
        swept, _ = jax.lax.fori_loop(
            0, sweeps * z.size, lambda i, c: coordinate(i % z.size, c), (z, curvature @ z + slope)
        )
        new = on_support(swept)
        moved = jnp.sum(diagonal * (new - z) ** 2)
        return new, moved, count + 1

    def go_on(carry):
        z, moved, count = carry
        size = jnp.sum(diagonal * z**2)
        return (moved > (10 * jnp.finfo(z.dtype).eps) ** 2 * size) & (count < max_rounds)

    return jax.lax.while_loop(go_on, one, (x, jnp.asarray(jnp.inf, x.dtype), 0))[0]


def gradient_steps(
    loss: Callable,
    x: jax.Array,
    strengths: jax.Array,
    tolerance: float,
    *,
    max_steps: int = 20_000,
) -> tuple[Any, ...]:
    """Accelerated proximal gradient steps with backtracking, until no |r_j| exceeds the tolerance.

    Arguments and results are those of `newton_steps`; the third result is 0 at a minimum, else
    infinite.
    """

    def shorter(point, value, gradient, length):
        """The step, halved until the quadratic model lies above f."""

        def move(length):
            return soft_threshold(point - length * gradient, length * strengths)

        def too_long(length):
            step = move(length) - point
            model = value + gradient @ step + step @ step / (2 * length)
            return ~(loss(move(length)) <= model + 1e-14 * jnp.abs(value)) & (length > 1e-18)

        length = jax.lax.while_loop(too_long, lambda length: length / 2, length)
        return move(length), length

    def iterate(carry):
        x, before, speed, length, _, step, history = carry
        faster = (1 + jnp.sqrt(1 + 4 * speed**2)) / 2
        point = x + (speed - 1) / faster * (x - before)
        value, gradient = jax.value_and_grad(loss)(point)
        new, length = shorter(point, value, gradient, length * 1.5)
        again = (point - new) @ (new - x) > 0  # the momentum points uphill: restart it
        slopes = minimum_norm_subgradient(new, jax.grad(loss)(new), strengths)
        history = history.at[step].set(value + strengths @ jnp.abs(new))
        return (
            new,
            x,
            jnp.where(again, 1.0, faster),
            length,
            jnp.max(jnp.abs(slopes)),
            step + 1,
            history,
        )

    def go_on(carry):
        return ~(carry[4] <= tolerance) & (carry[5] < max_steps)

    one, infinite = jnp.ones((), x.dtype), jnp.asarray(jnp.inf, x.dtype)
    history = jnp.full(max_steps + 1, jnp.nan, x.dtype)
    x, _, _, _, slope, step, history = jax.lax.while_loop(
        go_on, iterate, (x, x, one, one, infinite, 0, history)
    )
    value = loss(x) + strengths @ jnp.abs(x)
    return x, value, jnp.where(slope <= tolerance, 0.0, jnp.inf), step, history.at[step].set(value)

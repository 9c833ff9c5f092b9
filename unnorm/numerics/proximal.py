"""Minimisers of f(x) + Σ_j λ_j |x_j|, f smooth: entries come out as zero exactly.

Both end by the subgradient condition: r_j = ∂_j f + λ_j sign(x_j) where x_j ≠ 0, and what of |∂_j
f| exceeds λ_j where x_j = 0, are the least slopes in each coordinate; all of them vanish at a
minimum.

References: Lee, Sun and Saunders (2014), doi:10.1137/130921428 (proximal Newton); Friedman, Hastie
and Tibshirani (2010), doi:10.18637/jss.v033.i01 (coordinate descent); Beck and Teboulle (2009),
doi:10.1137/080716542 (FISTA); O'Donoghue and Candès (2015), doi:10.1007/s10208-013-9150-3
(restarts).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from unnorm.numerics.diagonal_scaling import scaled

NEWTON_STEPS, GRADIENT_STEPS = 200, 20_000
_SWEEPS, _ROUNDS = 10, 50  # coordinate sweeps between two solves on the support; such rounds


def shrunk(x: jax.Array, by: jax.Array) -> jax.Array:
    """x moved towards 0 by so much, and not beyond."""
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - by, 0.0) + 0.0  # + 0.0: never -0.0


def least_slopes(x: jax.Array, gradient: jax.Array, strengths: jax.Array) -> jax.Array:
    """The subgradient of f + Σ λ_j |x_j| that is nearest to 0."""
    return jnp.where(x != 0, gradient + strengths * jnp.sign(x), shrunk(gradient, strengths))


def newton_steps(
    loss: Callable, hessian: Callable, x, strengths, tolerance: float, rounding: float, units: float
) -> tuple[Any, ...]:
    """Proximal Newton steps with Levenberg's damping, until Σ r_j² / H_jj is at rounding level.

    Args:
        loss, hessian: f and its second derivatives. x, strengths: where to start; λ, both (p,).
        tolerance, rounding: of Σ r_j² / H_jj in the loss's units; by how much the loss magnifies
        rounding.
        units: 1 for a loss in nats, 0 for one in the data's own units.

    Returns:
        x, the whole loss, Σ r_j² / H_jj (infinite where it is not small enough), steps, and the
        whole loss by step.
    """

    def whole(x):
        return loss(x) + strengths @ jnp.abs(x)

    def gap(x, gradient, curvature):
        diagonal = jnp.abs(jnp.diagonal(curvature))
        flat = (
            jnp.max(diagonal) + jnp.finfo(x.dtype).tiny
        )  # the unit of a coordinate without curvature
        return jnp.sum(
            least_slopes(x, gradient, strengths) ** 2 / jnp.where(diagonal > 0, diagonal, flat)
        )

    def go_on(carry):
        _, _, left, damping, step, _ = carry
        return ~(left < jnp.inf) & (step < NEWTON_STEPS) & (damping < 1e12)

    def iterate(carry):
        x, value, _, damping, step, history = carry
        gradient, curvature = (
            jax.grad(loss)(x),
            hessian(x),
        )  # in one place, for a place costs its compilation
        left = gap(x, gradient, curvature)
        at_rest = left < tolerance * (jnp.abs(value) + units)
        convex = _made_convex(curvature)
        convex += jnp.diag(damping * jnp.diagonal(convex))
        trial = of_quadratic(convex, gradient - convex @ x, x, strengths)
        trial_value = whole(trial)
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

    history, infinite = jnp.full(NEWTON_STEPS, jnp.nan, x.dtype), jnp.asarray(jnp.inf, x.dtype)
    start = (x, whole(x), infinite, jnp.zeros((), x.dtype), 0, history)
    x, value, left, _, step, history = jax.lax.while_loop(go_on, iterate, start)
    return x, value, left, step, history


def _made_convex(curvature: jax.Array) -> jax.Array:
    """|eigenvalues| in units of the diagonal, none smaller than rounding: downhill all the same."""
    inside, scale = scaled(curvature)
    values, vectors = jnp.linalg.eigh(inside)
    floor = len(values) * jnp.finfo(curvature.dtype).eps * jnp.max(jnp.abs(values))
    convex = (vectors * jnp.maximum(jnp.abs(values), floor)) @ vectors.T * jnp.outer(scale, scale)
    return jnp.where(values[0] > floor, curvature, convex)


@jax.jit
def of_quadratic(curvature, slope, x, strengths) -> jax.Array:
    """The minimum of ½ z'Hz + b'z + Σ λ_j |z_j|: sweeps over the coordinates find the support, a
    solve the values.
    """
    diagonal = jnp.diagonal(curvature)

    def coordinate(j, carry):
        z, gradient = carry
        new = shrunk(z[j] - gradient[j] / diagonal[j], strengths[j] / diagonal[j])
        return z.at[j].set(new), gradient + curvature[j] * (new - z[j])

    def on_support(z):
        """Towards the minimum with these signs, as far as all of them are kept: the first to reach
        0 stays there.
        """
        support = (z != 0) | (strengths == 0)
        both = jnp.outer(support, support)
        system = jnp.where(both, curvature, jnp.diag(jnp.where(support, 0.0, diagonal)))
        right = jnp.where(support, -(slope + strengths * jnp.sign(z)), 0.0)
        solved = jax.scipy.linalg.solve(
            system, right, assume_a="pos"
        )  # NaN where it is not: sweeps alone serve then
        solved = jnp.where(support & jnp.all(jnp.isfinite(solved)), solved, z)
        turned = (strengths > 0) & (solved * jnp.sign(z) < 0)
        reach = jnp.where(turned, z / jnp.where(turned, z - solved, 1.0), 1.0)
        return jnp.where(turned & (reach == reach.min()), 0.0, z + reach.min() * (solved - z))

    def one(carry):
        z, _, count = carry
        swept, _ = jax.lax.fori_loop(
            0, _SWEEPS * z.size, lambda i, c: coordinate(i % z.size, c), (z, curvature @ z + slope)
        )
        new = on_support(swept)
        moved = jnp.sum(diagonal * (new - z) ** 2)
        return new, moved, count + 1

    def go_on(carry):
        z, moved, count = carry
        size = jnp.sum(diagonal * z**2)
        return (moved > (10 * jnp.finfo(z.dtype).eps) ** 2 * size) & (count < _ROUNDS)

    return jax.lax.while_loop(go_on, one, (x, jnp.asarray(jnp.inf, x.dtype), 0))[0]


def gradient_steps(loss: Callable, x, strengths, tolerance: float) -> tuple[Any, ...]:
    """Accelerated proximal gradient steps whose length is found by trying, until no |r_j| is above
    the tolerance.

    Args and Returns: as `newton_steps`; the third number returned is 0 at a minimum, else infinite.
    """

    def shorter(point, value, gradient, length):
        """The step, halved until the quadratic model lies above f."""

        def move(length):
            return shrunk(point - length * gradient, length * strengths)

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
        again = (point - new) @ (new - x) > 0  # the momentum points uphill: start it anew
        slopes = least_slopes(new, jax.grad(loss)(new), strengths)
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
        return ~(carry[4] <= tolerance) & (carry[5] < GRADIENT_STEPS)

    one, infinite = jnp.ones((), x.dtype), jnp.asarray(jnp.inf, x.dtype)
    history = jnp.full(GRADIENT_STEPS + 1, jnp.nan, x.dtype)
    x, _, _, _, slope, step, history = jax.lax.while_loop(
        go_on, iterate, (x, x, one, one, infinite, 0, history)
    )
    value = loss(x) + strengths @ jnp.abs(x)
    return x, value, jnp.where(slope <= tolerance, 0.0, jnp.inf), step, history.at[step].set(value)

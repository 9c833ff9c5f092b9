"""Climbs to modes: BFGS, then Newton's steps."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.optimize import minimize

from unnorm.core.compilation.policy import CompilationOptions, compiled
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.integration.options import QUADRATURE
from unnorm.partition.options import MIXTURE


@dataclass(frozen=True)
class ModeSearchOptions:
    """How widely modes are searched for, and when the end of a climb counts as a mode."""

    starts: int = 64  # of every round of climbs
    # multiples of the distance of a random position from the origin, in turn
    start_scales: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    iterations: int = 100  # of BFGS
    newton_steps: int = 20  # at most after a climb, because BFGS may stop short of the mode
    newton_shares: tuple[float, ...] = (1.0, 0.3, 0.03, 0.001, 0.0)  # of a Newton step, tried
    converged_gain: float = 1e-4  # nats: of the last Newton step, where a climb has converged
    # nats: of the last Newton step where a climb creeps along a ridge, which still shows the mass
    ridge_gain: float = 0.05
    block: int = 1024  # points that are evaluated together, so that few shapes are compiled
    extra_rounds: int = 16  # where a few modes were found: then there may be narrower ones
    # half side of the box where every other extra round starts, relative to the extent of the modes
    box_scale: float = 3.0
    far_rounds: int = 3  # of climbs from starts at every scale about the modes
    spare: int = 4  # as many points as starts are drawn, because log p̃ is not finite everywhere
    scan_points: int = 4096  # at which a mode may show; the best of them are climbed from
    # times as many in few dimensions, where they fill a box that a narrow mode is seen in
    dense_scan: int = 8
    few_dimensions: int = 5
    escaped: int = 16  # climbs at most whose direction is examined where they left all bounds
    # draws of the first proposal, the heaviest of which are climbed from: a narrow mode may hold
    # most of the mass
    draws: int = 4096


SEARCH = ModeSearchOptions()


class Ends(NamedTuple):
    """Where climbs ended, (K, ...) of each: JAX arrays under jit, NumPy arrays outside."""

    places: Any  # (K, D)
    heights: Any
    curves: Any  # (K, D, D), minus the Hessians
    gains: Any  # of the last Newton step, in nats
    promised: Any  # gains by the quadratic model; not kept where every step overshoots
    rose: Any  # beyond all bounds
    ways: Any  # (K, D), by how much BFGS moved


@compiled(options=CompilationOptions(quick_elements=0))
def climb(
    view: Unconstrained, positions: Position, factor: jax.Array
) -> tuple[Ends, jax.Array, jax.Array]:
    """BFGS ascents from positions, in coordinates z with u = factor · z: `Ends`, and the steps of
    each method.
    """
    scaled = (lambda z: factor @ z) if factor.ndim == 2 else (lambda z: factor * z)
    inverse = jnp.linalg.inv(factor) if factor.ndim == 2 else 1 / factor

    def one(position):
        start, discrete = view.flatten(position), view.discrete(position)

        def loss(flat):
            return -view.log_density(view.split(flat) | discrete)

        first = inverse @ start if inverse.ndim == 2 else inverse * start
        options = {"maxiter": SEARCH.iterations}
        found = minimize(lambda z: loss(scaled(z)), first, method="BFGS", options=options)
        reached = scaled(found.x)
        beyond = jnp.any(jnp.abs(reached) > QUADRATURE.centering.far)
        rose = jnp.isneginf(found.fun) | beyond & (found.fun < loss(start))
        end = jnp.where(jnp.isfinite(found.fun), reached, start)
        if end.size > MIXTURE.max_dense_dimension:
            assert found.hess_inv is not None
            curve = jnp.diag(1 / (factor**2 * jnp.diag(found.hess_inv)))
            return Ends(end, -loss(end), curve, 0.0, 0.0, rose, reached - start), found.nfev, 0
        end, gain, promised, steps = _polish(loss, end)
        ends = Ends(end, -loss(end), jax.hessian(loss)(end), gain, promised, rose, reached - start)
        return ends, found.nfev, steps

    return jax.vmap(one)(positions)


def _polish(loss, end: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, int]:
    """The best shares of Newton steps with |eigenvalues| until one gains next to nothing.

    Returns:
        The end, what the last step gained, what it promised, and the number of steps.
    """

    def step(carry):
        flat, _, _, count = carry
        values, vectors = jnp.linalg.eigh(jax.hessian(loss)(flat))
        lengths = jnp.maximum(jnp.abs(values), 1e-8 * jnp.max(jnp.abs(values)))
        slope = vectors.T @ jax.grad(loss)(flat)
        way = vectors @ (slope / lengths)
        tried = flat - jnp.asarray(SEARCH.newton_shares)[:, None] * way
        tried = tried.at[-1].set(flat)  # where it stands, were the step NaN
        losses = jax.vmap(loss)(tried)
        best = jnp.nanargmin(jnp.where(jnp.isfinite(losses), losses, jnp.nan))
        return tried[best], losses[-1] - losses[best], 0.5 * jnp.sum(slope**2 / lengths), count + 1

    def going(carry):
        return (carry[3] < SEARCH.newton_steps) & ~(carry[1] < SEARCH.converged_gain)

    # Of a gain: none outside.
    hope = jnp.where(jnp.isfinite(loss(end)), jnp.inf, -jnp.inf).astype(end.dtype)
    return jax.lax.while_loop(going, step, (end, hope, hope, 0))

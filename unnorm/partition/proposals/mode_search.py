"""Climbs to the modes of a density: from random starts, starts at every scale, and the heaviest
draws of a proposal.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.optimize import minimize

from unnorm.core.compilation.policy import CompilationOptions, compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.integration.options import QUADRATURE
from unnorm.integration.quadrature.integrability import improper_direction
from unnorm.integration.quadrature.modes import Mode, distinct_modes
from unnorm.partition.options import MIXTURE
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.proposals.flat_directions import curve_flat_directions
from unnorm.partition.proposals.mixture import mixture_of_modes, proposal_of_modes
from unnorm.partition.proposals.scattered_starts import (
    anomalies,
    far_points,
    log_mixture,
    scan_points,
)


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
        found = minimize(
            lambda z: loss(scaled(z)), first, method="BFGS", options={"maxiter": SEARCH.iterations}
        )
        reached = scaled(found.x)
        rose = jnp.isneginf(found.fun) | jnp.any(jnp.abs(reached) > QUADRATURE.centering.far) & (
            found.fun < loss(start)
        )
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
        tried = (
            (flat - jnp.asarray(SEARCH.newton_shares)[:, None] * way).at[-1].set(flat)
        )  # where it stands, were the step NaN
        losses = jax.vmap(loss)(tried)
        best = jnp.nanargmin(jnp.where(jnp.isfinite(losses), losses, jnp.nan))
        return tried[best], losses[-1] - losses[best], 0.5 * jnp.sum(slope**2 / lengths), count + 1

    def going(carry):
        return (carry[3] < SEARCH.newton_steps) & ~(carry[1] < SEARCH.converged_gain)

    hope = jnp.where(jnp.isfinite(loss(end)), jnp.inf, -jnp.inf).astype(
        end.dtype
    )  # of a gain: none outside
    return jax.lax.while_loop(going, step, (end, hope, hope, 0))


def positions_at_scales(view: Unconstrained, keys: jax.Array, dtype: Any) -> Position:
    """Random positions, near and far: few of them may lead to a narrow mode beside a wide one."""

    def one(key, scale):
        position = view.random_position(key, dtype)
        return view.split(scale * view.flatten(position)) | view.discrete(position)

    scales = jnp.resize(jnp.asarray(SEARCH.start_scales, dtype), (len(keys),))
    return jax.vmap(one)(keys, scales)


@compiled
def _random_starts(view: Unconstrained, key: jax.Array) -> Position:
    keys = key_array(key, SEARCH.starts)
    return positions_at_scales(view, keys, jnp.result_type(float))


@compiled
def _in_box(view: Unconstrained, key: jax.Array, centre: jax.Array, reach: jax.Array) -> Position:
    """Positions in a box, of a density whose variables are all continuous."""
    shape = (SEARCH.starts, centre.size)
    uniform = jax.random.uniform(key, shape, centre.dtype, -1.0, 1.0)
    return jax.vmap(view.split)(centre + reach * uniform)


@compiled
def _heaviest(view: Unconstrained, proposal: Proposal, key: jax.Array) -> Position:
    """Positions drawn from the proposal and resampled by their importance weights."""
    draw_key, choose = split_keys(key)
    positions = proposal.sample(draw_key, SEARCH.draws)
    ratios = jax.vmap(lambda here: view.log_density(here) - proposal.log_prob(here))(positions)
    ratios = jnp.where(jnp.isnan(ratios) | jnp.isposinf(ratios), -jnp.inf, ratios)
    ratios = jnp.where(jnp.isneginf(ratios).all(), 0.0, ratios)
    chosen = jax.random.categorical(choose, ratios, shape=(SEARCH.starts,))
    return jax.tree.map(lambda leaf: leaf[chosen], positions)


@compiled
def _with_random_states(view: Unconstrained, key: jax.Array, points: jax.Array) -> Position:
    """Positions with these continuous coordinates (N, D), the discrete variables at random
    states.
    """

    def one(point, key):
        return view.split(point) | view.discrete(view.random_position(key, point.dtype))

    return jax.vmap(one)(points, key_array(key, len(points)))


@compiled
def heights_at(view: Unconstrained, key: jax.Array, points: jax.Array) -> jax.Array:
    """log p̃ in unconstrained coordinates at the points (S, D), the discrete variables at one
    random state.
    """
    discrete = view.discrete(view.random_position(key, points.dtype))
    return jax.vmap(lambda flat: view.log_density(view.split(flat) | discrete))(points)


class ModeSearch:
    """The proposal that climbs suggest, the modes they found, and the evaluations.

    Climbs start at random, then at the heaviest of many draws from the proposal that these suggest,
    then as far as 10⁴ widths from the modes found, and where a scan of as many scales shows more
    mass than the proposal; where that finds a few modes, many more follow.

    Attributes:
        proposal: over the modes.
        modes: the distinct ones.
        improper_direction: along which p̃ provably does not fall, so that Z is infinite; or None.
        evaluations: of log p̃ and its gradient.
    """

    def __init__(
        self, view: Unconstrained, key: jax.Array, counts: dict[str, jax.Array] | None = None
    ) -> None:
        self.evaluations = {"values": 0, "gradients": 0}
        start, again, further = split_keys(key, 3)
        self._view, self._key, self._size = view, key, view.dimension
        self._found = self._climb(_random_starts(view, start))
        self.modes = self._distinct()
        self.improper_direction = self._improper_direction()
        self.proposal = proposal_of_modes(view, self.modes, counts=counts)
        if self.improper_direction is not None:
            return
        heavy = _heaviest(view, self.proposal, again)
        self._count(values=SEARCH.draws)
        self._add(self._climb(heavy))
        flat = np.asarray(jax.vmap(view.flatten)(heavy), float)
        if self._few_modes(1):
            self._explore(np.random.default_rng(np.asarray(jax.random.key_data(further))))
        if self._few_modes(2) and not self._has_discrete:
            self._add(*self._more_climbs(further))
        mixture = mixture_of_modes(self._size, self.modes, flat)
        self.proposal = replace(self.proposal, continuous=mixture)

    def _few_modes(self, least: int) -> bool:
        return least <= len(self.modes) < MIXTURE.capacities[-1]

    def _count(self, values: int = 0, gradients: int = 0) -> None:
        self.evaluations["values"] += values
        self.evaluations["gradients"] += gradients

    @property
    def _has_discrete(self) -> bool:
        return any(support.discrete for support in self._view.supports.values())

    def _explore(self, generator: np.random.Generator) -> None:
        """Climbs from starts at every scale, then from where a scan exceeds the mixture."""
        for _ in range(SEARCH.far_rounds):
            points = far_points(self.modes, generator, SEARCH.spare * SEARCH.starts)
            finite = np.isfinite(self._heights(points))
            chosen = points[np.argsort(~finite, kind="stable")[: SEARCH.starts]]
            self._add(self._climb_in_scale(chosen))
        if self._has_discrete or len(self.modes) >= MIXTURE.capacities[-1]:
            return
        count = SEARCH.scan_points * (
            SEARCH.dense_scan if self._size <= SEARCH.few_dimensions else 1
        )
        points = scan_points(self.modes, generator, count)
        mixture = mixture_of_modes(self._size, self.modes)
        heights = self._heights(points)
        excess = heights - log_mixture(mixture, points)
        excess = np.where(np.isfinite(excess), excess, -np.inf)
        heaviest = np.argsort(-excess)[: SEARCH.starts // 2]
        outliers = anomalies(self.modes, points, heights)
        outliers[heaviest] = -np.inf
        chosen = np.concatenate([heaviest, np.argsort(-outliers)[: SEARCH.starts // 2]])
        self._add(self._climb_in_scale(points[chosen]))

    def _climb_in_scale(self, points: np.ndarray) -> Ends:
        """Climbs in units of the heaviest mode, which take few steps; one that creeps at its end
        shows no new mode.
        """
        covariance = max(self.modes, key=lambda mode: mode.log_mass).covariance
        factor = (
            np.linalg.cholesky(covariance)
            if len(covariance) <= MIXTURE.max_dense_dimension
            else np.sqrt(np.diag(covariance))
        )
        free = jnp.asarray(points, jnp.result_type(float))
        positions = _with_random_states(self._view, self._key, free)
        found = self._climb(positions, factor)
        at_rest = (found.gains < SEARCH.converged_gain) & (found.promised < SEARCH.ridge_gain)
        return found._replace(gains=np.where(at_rest, found.gains, np.inf))

    def _improper_direction(self) -> np.ndarray | None:
        """A proof that Z is infinite: along axes from the highest ends, and where climbs left all
        bounds.
        """
        found = self._found
        order = np.argsort(-np.nan_to_num(found.heights, nan=-np.inf), kind="stable")
        lengths = np.linalg.norm(found.ways, axis=1)
        ran = np.flatnonzero(found.rose & (lengths > 0) & np.isfinite(lengths))[: SEARCH.escaped]
        ways = found.ways[ran] / lengths[ran, None]
        return improper_direction(self._heights, found.places[order], found.curves[order], ways)

    def _more_climbs(self, key: jax.Array) -> Iterator[Ends]:
        """Climbs from near and far, and from a box about the modes found, in turn."""
        places = np.array([mode.place for mode in self.modes])
        widths = np.max([np.sqrt(np.diag(mode.covariance)) for mode in self.modes], axis=0)
        centre = jnp.asarray(places.mean(0), jnp.result_type(float))
        reach = jnp.asarray(SEARCH.box_scale * (np.ptp(places, 0) / 2 + widths), centre.dtype)
        for i, one in enumerate(key_array(key, SEARCH.extra_rounds)):
            starts = (
                _in_box(self._view, one, centre, reach)
                if i % 2
                else _random_starts(self._view, one)
            )
            yield self._climb(starts)

    def _climb(self, positions: dict, factor: np.ndarray | None = None) -> Ends:
        size, dense = self._size, self._size <= MIXTURE.max_dense_dimension
        if factor is None:
            factor = np.eye(size) if dense else np.ones(size)
        found = climb(self._view, positions, jnp.asarray(factor, jnp.result_type(float)))
        ends, climbing, polishing = jax.tree.map(np.asarray, found)
        bfgs, newton = int(climbing.sum()), int(polishing.sum())
        self._count(
            bfgs + len(SEARCH.newton_shares) * newton,
            bfgs + newton * (size + 1) + SEARCH.starts * size * dense,
        )
        return ends

    def _add(self, *found: Ends) -> None:
        self._found = Ends(
            *(np.concatenate(kind) for kind in zip(self._found, *found, strict=True))
        )
        self.modes = self._distinct()

    def _distinct(self) -> list[Mode]:
        """The modes among the ends of climbs; one that still rises is at none, and would widen the
        proposal.
        """
        ends, heights, curves, gains, *_ = self._found
        if ends.shape[1] <= MIXTURE.max_dense_dimension:
            curves = curve_flat_directions(self._heights, ends, heights, curves)
        return distinct_modes(ends, np.where(gains < SEARCH.ridge_gain, heights, -np.inf), curves)

    def _heights(self, points: np.ndarray) -> np.ndarray:
        """log p̃ in unconstrained coordinates at points (S, D)."""
        self._count(values=len(points))
        padded = np.resize(
            points, (-(-len(points) // SEARCH.block) * SEARCH.block, points.shape[1])
        )
        blocks = np.asarray(padded, jnp.result_type(float)).reshape(
            -1, SEARCH.block, points.shape[1]
        )
        found = [np.asarray(heights_at(self._view, self._key, block), float) for block in blocks]
        return np.concatenate(found)[: len(points)]


__all__ = ["SEARCH", "ModeSearch", "ModeSearchOptions"]

"""The search for the modes of a density, by climbs from many starts."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.integration.quadrature.integrability import improper_direction
from unnorm.integration.quadrature.laplace import Mode, distinct_modes
from unnorm.partition.options import MIXTURE
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.proposals.flat_directions import curve_flat_directions
from unnorm.partition.proposals.mixture import mixture_of_modes, proposal_of_modes
from unnorm.partition.proposals.modes.climb import SEARCH, Ends, ModeSearchOptions, climb
from unnorm.partition.proposals.modes.scattered_starts import (
    anomalies,
    far_points,
    log_mixture,
    scan_points,
)


def positions_at_scales(view: Unconstrained, keys: jax.Array, dtype: Any) -> Position:
    """Random positions, near and far: few of them may lead to a narrow mode beside a wide one."""

    def one(key, scale):
        position = view.random_position(key, dtype)
        return view.split(scale * view.flatten(position)) | view.discrete(position)

    scales = jnp.resize(jnp.asarray(SEARCH.start_scales, dtype), (len(keys),))
    return jax.vmap(one)(keys, scales)


@compiled
def random_starts(view: Unconstrained, key: jax.Array) -> Position:
    """Random positions at all scales."""
    keys = key_array(key, SEARCH.starts)
    return positions_at_scales(view, keys, jnp.result_type(float))


@compiled
def starts_in_box(
    view: Unconstrained, key: jax.Array, centre: jax.Array, reach: jax.Array
) -> Position:
    """Positions in a box, of a density whose variables are all continuous."""
    shape = (SEARCH.starts, centre.size)
    uniform = jax.random.uniform(key, shape, centre.dtype, -1.0, 1.0)
    return jax.vmap(view.split)(centre + reach * uniform)


@compiled
def heaviest_draws(view: Unconstrained, proposal: Proposal, key: jax.Array) -> Position:
    """Positions drawn from the proposal and resampled by their importance weights."""
    draw_key, choose = split_keys(key)
    positions = proposal.sample(draw_key, SEARCH.draws)
    ratios = jax.vmap(lambda here: view.log_density(here) - proposal.log_prob(here))(positions)
    ratios = jnp.where(jnp.isnan(ratios) | jnp.isposinf(ratios), -jnp.inf, ratios)
    ratios = jnp.where(jnp.isneginf(ratios).all(), 0.0, ratios)
    chosen = jax.random.categorical(choose, ratios, shape=(SEARCH.starts,))
    return jax.tree.map(lambda leaf: leaf[chosen], positions)


@compiled
def with_random_states(view: Unconstrained, key: jax.Array, points: jax.Array) -> Position:
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
        self._found = self._climb(random_starts(view, start))
        self.modes = self._distinct()
        self.improper_direction = self._improper_direction()
        self.proposal = proposal_of_modes(view, self.modes, counts=counts)
        if self.improper_direction is not None:
            return
        heavy = heaviest_draws(view, self.proposal, again)
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
        density = SEARCH.dense_scan if self._size <= SEARCH.few_dimensions else 1
        points = scan_points(self.modes, generator, SEARCH.scan_points * density)
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
        positions = with_random_states(self._view, self._key, free)
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
                starts_in_box(self._view, one, centre, reach)
                if i % 2
                else random_starts(self._view, one)
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

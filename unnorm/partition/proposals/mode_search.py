"""Climbs to the modes of a density: from random starts, starts at every scale, and the heaviest
draws of a base.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.optimize import minimize

from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.options import QUADRATURE
from unnorm.integration.quadrature.integrability import improper_direction
from unnorm.integration.quadrature.modes import Mode, distinct_modes
from unnorm.partition.proposals.flat_directions import bent
from unnorm.partition.proposals.mixture import (
    DENSE,
    SIZES,
    Base,
    base_over,
    blank,
    draw,
    log_base,
    parts,
)
from unnorm.partition.proposals.scattered_starts import (
    anomalies,
    far_points,
    log_mixture,
    scanned_points,
)

STARTS = 64
FAR_OUT = (
    1.0,
    2.0,
    3.0,
    5.0,
)  # how many times as far from the origin as a random position starts are
ITERATIONS = 100
POLISH = 20  # Newton steps at most after a climb, for BFGS may stop short of the mode that it is on
AT_REST = 1e-4  # nats: what one of them gains where a climb has ended
# nats: what the last may gain where a climb creeps along a ridge, and shows where the mass is
ON_RIDGE = 0.05
TRIES = (1.0, 0.3, 0.03, 0.001, 0.0)  # shares of a Newton step
BLOCK = 1024  # points that are looked at together, so that few shapes are compiled
ROUNDS = 16  # of STARTS more where a few modes were found: then there may be narrower ones
# the half side of the box where every other round starts, in units of how far the modes found reach
FURTHER = 3.0
FAR_ROUNDS = 3  # of STARTS climbs from starts at every scale about the modes found
SPARE = 4  # as many points as starts are drawn, for log p̃ is not finite everywhere
SCANNED, FEW = (
    4096,
    5,
)  # points at which a mode may show that no climb has come to; the best STARTS of them climb
DENSELY = (
    8  # times as many in up to FEW dimensions, where they fill a box that a narrow mode is seen in
)
RAN = 16  # climbs at most whose direction is looked at where they left all bounds
# draws of the first base, the heaviest of which climb too: a narrow mode may hold most of the mass
LOOKS = 4096


class Ends(NamedTuple):
    """Where climbs ended, (K, ...) of each."""

    places: np.ndarray  # (K, D)
    heights: np.ndarray
    curves: np.ndarray  # (K, D, D), minus the Hessians
    gains: np.ndarray  # of the last Newton step, in nats
    promised: (
        np.ndarray
    )  # gains by the quadratic model; not kept where a step of every length overshoots
    rose: np.ndarray  # beyond all bounds
    ways: np.ndarray  # (K, D), by how much BFGS moved


@jax.jit
def climb(density: Density, positions: dict, factor: jax.Array):
    """BFGS ascents from positions, in coordinates z with u = factor · z: `Ends`, and the steps of
    each method.
    """
    target = Unconstrained(density)
    scaled = (lambda z: factor @ z) if factor.ndim == 2 else (lambda z: factor * z)
    inverse = jnp.linalg.inv(factor) if factor.ndim == 2 else 1 / factor

    def one(position):
        continuous, discrete = parts(density, position)
        start, unravel = ravel_pytree(continuous)

        def loss(flat):
            return -target.log_density(unravel(flat) | discrete)

        first = inverse @ start if inverse.ndim == 2 else inverse * start
        found = minimize(
            lambda z: loss(scaled(z)), first, method="BFGS", options={"maxiter": ITERATIONS}
        )
        reached = scaled(found.x)
        rose = jnp.isneginf(found.fun) | jnp.any(jnp.abs(reached) > QUADRATURE.centering.far) & (found.fun < loss(start))
        end = jnp.where(jnp.isfinite(found.fun), reached, start)
        if end.size > DENSE:
            curve = jnp.diag(1 / (factor**2 * jnp.diag(found.hess_inv)))
            return Ends(end, -loss(end), curve, 0.0, 0.0, rose, reached - start), found.nfev, 0
        end, gain, promised, steps = _polished(loss, end)
        ends = Ends(end, -loss(end), jax.hessian(loss)(end), gain, promised, rose, reached - start)
        return ends, found.nfev, steps

    return jax.vmap(one)(positions)


def _polished(loss, end: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
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
            (flat - jnp.asarray(TRIES)[:, None] * way).at[-1].set(flat)
        )  # where it stands, were the step NaN
        losses = jax.vmap(loss)(tried)
        best = jnp.nanargmin(jnp.where(jnp.isfinite(losses), losses, jnp.nan))
        return tried[best], losses[-1] - losses[best], 0.5 * jnp.sum(slope**2 / lengths), count + 1

    def going(carry):
        return (carry[3] < POLISH) & ~(carry[1] < AT_REST)

    hope = jnp.where(jnp.isfinite(loss(end)), jnp.inf, -jnp.inf).astype(
        end.dtype
    )  # of a gain: none outside
    return jax.lax.while_loop(going, step, (end, hope, hope, 0))


@jax.jit
def _scattered(density: Density, key: jax.Array) -> dict:
    """Random positions, near and far: a narrow mode beside a wide one may be climbed to from few of
    them.
    """

    def one(key, width):
        continuous, discrete = parts(
            density, Unconstrained(density).random_position(key, width.dtype)
        )
        return jax.tree.map(lambda leaf: width * leaf, continuous) | discrete

    widths = jnp.resize(jnp.asarray(FAR_OUT, jnp.result_type(float)), STARTS)
    return jax.vmap(one)(jax.random.split(key, STARTS), widths)


@jax.jit
def _around(density: Density, key: jax.Array, centre: jax.Array, reach: jax.Array) -> dict:
    """Positions in a box, of a density whose variables are all continuous."""
    _, unravel = blank(density, centre.dtype)
    return jax.vmap(unravel)(
        centre + reach * jax.random.uniform(key, (STARTS, centre.size), centre.dtype, -1.0, 1.0)
    )


@jax.jit
def _heaviest(density: Density, base: Base, key: jax.Array) -> dict:
    """Positions drawn from the base and drawn again by their weights."""
    walk, choose = jax.random.split(key)
    positions = jax.vmap(lambda one: draw(density, base, one))(jax.random.split(walk, LOOKS))
    ratios = jax.vmap(
        lambda here: Unconstrained(density).log_density(here) - log_base(density, base, here)
    )(positions)
    ratios = jnp.where(jnp.isnan(ratios) | jnp.isposinf(ratios), -jnp.inf, ratios)
    ratios = jnp.where(jnp.isneginf(ratios).all(), 0.0, ratios)
    chosen = jax.random.categorical(choose, ratios, shape=(STARTS,))
    return jax.tree.map(lambda leaf: leaf[chosen], positions)


@jax.jit
def _completed(density: Density, key: jax.Array, points: jax.Array) -> dict:
    """Positions with these continuous coordinates (N, D), the discrete variables at random
    states.
    """
    target = Unconstrained(density)

    def one(point, key):
        continuous, discrete = parts(density, target.random_position(key, point.dtype))
        return ravel_pytree(continuous)[1](point) | discrete

    return jax.vmap(one)(points, jax.random.split(key, len(points)))


@jax.jit
def heights_at(density: Density, key: jax.Array, points: jax.Array):
    """log p̃ in unconstrained coordinates at the points (S, D), the discrete variables at one
    random state.
    """
    target = Unconstrained(density)
    continuous, discrete = parts(density, target.random_position(key, points.dtype))
    _, unravel = ravel_pytree(continuous)
    return jax.vmap(lambda flat: target.log_density(unravel(flat) | discrete))(points)


class Climbs:
    """The base that climbs suggest, the modes they found, and what they cost.

    Climbs start at random, then at the heaviest of many draws from the base that these suggest,
    then as far as 10⁴ widths from the modes found, and where a scan of as many scales shows more
    than the base holds; where that finds a few modes, many more follow.

    Attributes:
        base: over the modes.
        modes: the distinct ones.
        endless: a direction along which p̃ provably does not fall, so that Z is infinite; or None.
        evaluations, gradients: of log p̃.
    """

    def __init__(self, density: Density, key: jax.Array, counts: dict | None = None):
        self.evaluations, self.gradients = 0, 0
        start, again, further = jax.random.split(key, 3)
        self._density, self._key = density, key
        self._found = self._climbed(_scattered(density, start))
        self.modes = self._distinct()
        self.endless = self._endless()
        self.base = base_over(density, self.modes, counts)
        if self.endless is not None:
            return
        heavy = _heaviest(density, self.base, again)
        self.evaluations += LOOKS
        self._add(self._climbed(heavy))
        flat = np.asarray(
            jax.vmap(lambda place: ravel_pytree(parts(density, place)[0])[0])(heavy), float
        )
        if 0 < len(self.modes) < SIZES[-1]:
            self._explore(np.random.default_rng(np.asarray(jax.random.key_data(further))), counts)
        if 1 < len(self.modes) < SIZES[-1] and not self._mixed:
            self._add(*self._more(density, further))
        self.base = base_over(density, self.modes, counts, flat)

    @property
    def _mixed(self) -> bool:
        return any(support.discrete for support in self._density.variables.values())

    def _explore(self, generator: np.random.Generator, counts: dict | None) -> None:
        """Climbs from starts at every scale, then from where a scan shows more than the base
        does.
        """
        for _ in range(FAR_ROUNDS):
            points = far_points(self.modes, generator, SPARE * STARTS)
            finite = np.isfinite(self._heights(points))
            chosen = points[np.argsort(~finite, kind="stable")[:STARTS]]
            self._add(self._climbed_in_scale(chosen))
        if self._mixed or len(self.modes) >= SIZES[-1]:
            return
        count = SCANNED * (DENSELY if Unconstrained(self._density).dimension <= FEW else 1)
        points = scanned_points(self.modes, generator, count)
        heights = self._heights(points)
        excess = heights - log_mixture(base_over(self._density, self.modes, counts), points)
        excess = np.where(np.isfinite(excess), excess, -np.inf)
        heaviest = np.argsort(-excess)[: STARTS // 2]
        stands_out = anomalies(self.modes, points, heights)
        stands_out[heaviest] = -np.inf
        chosen = np.concatenate([heaviest, np.argsort(-stands_out)[: STARTS // 2]])
        self._add(self._climbed_in_scale(points[chosen]))

    def _climbed_in_scale(self, points: np.ndarray) -> Ends:
        """Climbs in units of the heaviest mode, which take few steps; one that creeps at its end
        shows no new mode.
        """
        covariance = max(self.modes, key=lambda mode: mode.log_mass).covariance
        factor = (
            np.linalg.cholesky(covariance)
            if len(covariance) <= DENSE
            else np.sqrt(np.diag(covariance))
        )
        positions = _completed(
            self._density, self._key, jnp.asarray(points, jnp.result_type(float))
        )
        found = self._climbed(positions, factor)
        at_rest = (found.gains < AT_REST) & (found.promised < ON_RIDGE)
        return found._replace(gains=np.where(at_rest, found.gains, np.inf))

    def _endless(self) -> np.ndarray | None:
        """A proof that Z is infinite: along axes from the highest ends, and where climbs left all
        bounds.
        """
        found = self._found
        order = np.argsort(-np.nan_to_num(found.heights, nan=-np.inf), kind="stable")
        lengths = np.linalg.norm(found.ways, axis=1)
        ran = np.flatnonzero(found.rose & (lengths > 0) & np.isfinite(lengths))[:RAN]
        ways = found.ways[ran] / lengths[ran, None]
        return improper_direction(self._heights, found.places[order], found.curves[order], ways)

    def _more(self, density: Density, key: jax.Array) -> Iterator[tuple[np.ndarray, ...]]:
        """Climbs from near and far, and from a box about the modes found, in turn."""
        places = np.array([mode.place for mode in self.modes])
        widths = np.max([np.sqrt(np.diag(mode.covariance)) for mode in self.modes], axis=0)
        centre = jnp.asarray(places.mean(0), jnp.result_type(float))
        reach = jnp.asarray(FURTHER * (np.ptp(places, 0) / 2 + widths), centre.dtype)
        for i, one in enumerate(jax.random.split(key, ROUNDS)):
            starts = _around(density, one, centre, reach) if i % 2 else _scattered(density, one)
            yield self._climbed(starts)

    def _climbed(self, positions: dict, factor: np.ndarray | None = None) -> Ends:
        if factor is None:
            size = Unconstrained(self._density).dimension
            factor = np.eye(size) if size <= DENSE else np.ones(size)
        found = climb(self._density, positions, jnp.asarray(factor, jnp.result_type(float)))
        ends, climbing, polishing = jax.tree.map(np.asarray, found)
        size = ends.places.shape[1]
        self.evaluations += int(climbing.sum()) + len(TRIES) * int(polishing.sum())
        self.gradients += (
            int(climbing.sum())
            + int(polishing.sum()) * (size + 1)
            + STARTS * size * (size <= DENSE)
        )
        return ends

    def _add(self, *found: Ends) -> None:
        self._found = Ends(
            *(np.concatenate(kind) for kind in zip(self._found, *found, strict=True))
        )
        self.modes = self._distinct()

    def _distinct(self) -> list[Mode]:
        """The modes among the ends of climbs; one that still climbs is on none, and would widen the
        base.
        """
        ends, heights, curves, gains, *_ = self._found
        if ends.shape[1] <= DENSE:
            curves = bent(self._heights, ends, heights, curves)
        return distinct_modes(ends, np.where(gains < ON_RIDGE, heights, -np.inf), curves)

    def _heights(self, points: np.ndarray) -> np.ndarray:
        """log p̃ in unconstrained coordinates at points (S, D)."""
        self.evaluations += len(points)
        padded = np.resize(points, (-(-len(points) // BLOCK) * BLOCK, points.shape[1]))
        blocks = jnp.asarray(padded, jnp.result_type(float)).reshape(-1, BLOCK, points.shape[1])
        found = [np.asarray(heights_at(self._density, self._key, block), float) for block in blocks]
        return np.concatenate(found)[: len(points)]


__all__ = ["FAR_OUT", "STARTS", "Climbs"]

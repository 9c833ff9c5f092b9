"""A look for modes that no chain has visited: climbs from scattered starts, their mass by Laplace's
approximation.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import Finding, FindingCode
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import flat, positions_of
from unnorm.diagnostics.draws import Drawn

MAX_SIZE = 50  # coordinates; beyond, the Hessians cost more than the look is worth
MAX_DRAWS = 4000
FROM_DRAWS, FAR, RANDOM, MIRRORED = 8, 24, 8, 4  # climbs by where they start
FARTHEST = 1e4  # standard deviations of the draws
CLIMB, NEWTON = 200, 20  # iterations at most
CANDIDATES = 4  # ends of climbs that are looked at closely, the highest first
SAME = 0.3  # standard deviations of the draws within which two climbs end at one place
LEAST_SHARE = 0.01  # of the draws' mass, for a mode to matter
FLATTEST = 1e-12  # of a mode's largest curvature: below, it is singular in double precision
LOST = 1e8  # standard deviations: a climb that far out runs away
VISITED = 0.05  # of the draws that a mode of its mass should hold: with more it counts as visited


class Mode(NamedTuple):
    """A mode in coordinates in which the draws have mean 0 and covariance I."""

    place: np.ndarray
    height: float
    precision: np.ndarray  # minus the Hessian

    @property
    def log_mass(self) -> float:
        """Laplace's approximation."""
        return self.height + 0.5 * (
            len(self.place) * np.log(2 * np.pi) - np.linalg.slogdet(self.precision)[1]
        )

    def squared(self, offsets: np.ndarray) -> np.ndarray:
        """Squared distances in the mode's own standard deviations."""
        return np.einsum("...i,ij,...j->...", offsets, self.precision, offsets)


def mode_findings(drawn: Drawn, p: Density) -> list[Finding]:
    """Return the heaviest mode that the draws have not visited, if one holds a share of the mass
    that matters.

    The draws' own mass is at most exp(E log p̃ + ½ log det 2πeΣ): the normal density has the
    largest entropy of all with their covariance. What lies where no climb starts is not found.

    References:
        Tierney and Kadane (1986), doi:10.1080/01621459.1986.10478240 (Laplace's approximation).
    """
    if p.covariates or any(support.discrete for support in p.variables.values()):
        return []
    with jax.enable_x64(True):
        free = positions_of(p, drawn.values)
        u = np.concatenate([flat(free[name]) for name in p.variables], -1)
        u = u.reshape(-1, u.shape[-1])
        size = u.shape[-1]
        if (
            size > MAX_SIZE
            or len(u) <= 2 * size
            or not np.isfinite(u).all()
            or (np.ptp(u, 0) == 0).any()
        ):
            return []
        shapes = tuple((name, free[name].shape[2:]) for name in p.variables)
        surface = Surface(p, shapes, u[0] + _short_way(p, shapes, u - u[0]))
        found = surface.unvisited()
        if found is None:
            return []
        mode, log_share = found
        event = surface.event(mode.place)
    share = 1 / (1 + np.exp(-log_share))
    place = ", ".join(f"{name} = {_short(value)}" for name, value in event.items())
    return [
        Finding(
            f"{p.name} has a mode that no chain has visited, at {place}, with about {share:.0%} "
            "of the mass of both",
            "start chains there, or use un.kernels.ReplicaExchange, which crosses between modes",
            code=FindingCode.OTHER_MODES,
        )
    ]


def _short(value: np.ndarray) -> str:
    return " ".join(np.array2string(np.asarray(value), precision=3, threshold=6).split())


class Surface:
    """The log-density over whitened coordinates of the draws."""

    def __init__(self, p: Density, shapes: tuple, u: np.ndarray):
        self.p, self.shapes = cast(p.bare(), float), shapes
        self.centre = u.mean(0)
        self.factor = np.linalg.cholesky(
            np.cov(u.T).reshape(len(u.T), -1) + 1e-12 * np.diag(u.var(0))
        )
        self.rng = np.random.default_rng(0)
        self.draws = self.white(u[self.rng.choice(len(u), min(len(u), MAX_DRAWS), replace=False)])

    def white(self, u: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.factor, (u - self.centre).T).T

    def offsets(self, places: np.ndarray, place: np.ndarray) -> np.ndarray:
        """From one place to others, the short way round where coordinates wrap."""
        apart = _short_way(self.p, self.shapes, (places - place) @ self.factor.T)
        return np.linalg.solve(self.factor, apart.T).T

    def event(self, place: np.ndarray) -> dict[str, np.ndarray]:
        position = _position(jnp.asarray(self.centre + self.factor @ place), self.shapes)
        return {
            name: np.asarray(support.constrain(position[name]))
            for name, support in self.p.variables.items()
        }

    def _starts(self) -> np.ndarray:
        """Some draws, then places far away in all directions, random positions, and draws mirrored
        at the origin.
        """
        size = len(self.centre)
        far = self.rng.normal(size=(FAR, size)) * np.geomspace(2.0, FARTHEST, FAR)[:, None]
        keys = jax.random.split(jax.random.key(0), RANDOM)
        supports = self.p.variables.items()
        shapes = self.p.shapes()
        random = np.stack(
            [
                np.concatenate(
                    [
                        np.ravel(s.random_free(key, shapes[name], jnp.dtype(float)))
                        for name, s in supports
                    ]
                )
                for key in keys
            ]
        )
        mirrored = -(self.centre + self.draws[:MIRRORED] @ self.factor.T)
        return np.concatenate(
            [self.draws[:FROM_DRAWS], far, self.white(random), self.white(mirrored)]
        )

    def unvisited(self) -> tuple[Mode, float] | None:
        """The heaviest mode that no draw is near, and the log of its mass over the draws'; None
        where there is none.
        """
        given = self.p, self.centre, self.factor
        ends, heights = map(np.asarray, _climbed(*given, self._starts(), shapes=self.shapes))
        reached, candidates = ends[:FROM_DRAWS], []
        for i in np.argsort(-heights[FROM_DRAWS:]) + FROM_DRAWS:
            known = np.concatenate(
                [reached, np.reshape([ends[j] for j in candidates], (-1, ends.shape[1]))]
            )
            if not (np.isfinite(heights[i]) and np.abs(ends[i]).max() < LOST):
                continue
            if np.linalg.norm(self.offsets(known, ends[i]), axis=1).min() > SAME:
                candidates.append(i)
        if not candidates:
            return None
        own = self._own_mass()
        modes = [self._refined(ends[i]) for i in candidates[:CANDIDATES]]
        shares = [(mode, mode.log_mass - own) for mode in modes if mode is not None]
        new = [(mode, share) for mode, share in shares if self._new(mode, share, reached)]
        return max(new, key=lambda pair: pair[1], default=None)

    def _new(self, mode: Mode, log_share: float, reached: np.ndarray) -> bool:
        """Whether a mode matters, no climb from a draw ends in it, and next to no draws lie in its
        inner half.
        """
        if (
            log_share < np.log(LEAST_SHARE)
            or mode.squared(self.offsets(reached, mode.place)).min() <= 1
        ):
            return False
        inside = np.mean(mode.squared(self.offsets(self.draws, mode.place)) < len(mode.place))
        return inside < VISITED * 0.5 / (1 + np.exp(-log_share))

    def _own_mass(self) -> float:
        values = np.asarray(
            _heights(self.p, self.centre, self.factor, self.draws, shapes=self.shapes)
        )
        size, covariance = len(self.centre), np.cov(self.draws.T).reshape(len(self.centre), -1)
        return float(
            values.mean()
            + 0.5 * (size * np.log(2 * np.pi * np.e) + np.linalg.slogdet(covariance)[1])
        )

    def _refined(self, place: np.ndarray) -> Mode | None:
        """Newton's iterations to the mode itself; None where they do not end at a maximum."""
        for _ in range(NEWTON):
            height, slope, hessian = map(
                np.asarray, _local(self.p, self.centre, self.factor, place, shapes=self.shapes)
            )
            if not (
                np.isfinite(height) and np.isfinite(hessian).all() and np.isfinite(slope).all()
            ):
                return None
            curvatures = np.linalg.eigvalsh(-hessian)
            if (
                curvatures.min() <= FLATTEST * curvatures.max()
            ):  # no maximum, or flat but for rounding
                return None
            step = np.linalg.solve(-hessian, slope)
            if slope @ step < 1e-6:
                return Mode(place, float(height), -hessian)
            place = place + step / max(1.0, np.sqrt(slope @ step))
        return None


def _position(u: jax.Array, shapes: tuple) -> dict[str, jax.Array]:
    sizes = np.cumsum([int(np.prod(shape)) for _, shape in shapes])[:-1]
    parts = jnp.split(u, sizes)
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes, parts, strict=True)}


def _short_way(p: Density, shapes: tuple, apart: np.ndarray) -> np.ndarray:
    """Differences of coordinates, the short way round where these wrap."""
    parts = jax.vmap(lambda u: _position(u, shapes))(jnp.asarray(apart))
    short = [
        np.asarray(s.canonical(parts[name])).reshape(len(apart), -1)
        for name, s in p.variables.items()
    ]
    return np.concatenate(short, -1)


def _height(p: Density, centre: jax.Array, factor: jax.Array, shapes: tuple):
    return lambda place: Unconstrained(p).log_density(_position(centre + factor @ place, shapes))


@functools.partial(jax.jit, static_argnames="shapes")
def _heights(p, centre, factor, places, *, shapes):
    return jax.lax.map(_height(p, centre, factor, shapes), places, batch_size=64)


@functools.partial(jax.jit, static_argnames="shapes")
def _local(p, centre, factor, place, *, shapes):
    height = _height(p, centre, factor, shapes)
    return height(place), jax.grad(height)(place), jax.hessian(height)(place)


@functools.partial(jax.jit, static_argnames="shapes")
def _climbed(p, centre, factor, starts, *, shapes):
    """Ascent along the gradient, whose step grows while it succeeds and shrinks where it does
    not.
    """
    slopes = jax.vmap(jax.value_and_grad(_height(p, centre, factor, shapes)))

    def rises(carry):
        iteration, _, _, _, _, gains = carry
        return (iteration < CLIMB) & jnp.any(gains > 1e-4)

    def climb(carry):
        iteration, places, heights, gradients, rates, gains = carry
        tried = places + rates[:, None] * gradients
        above, slope = slopes(tried)
        good = above > heights
        gain = jnp.where(good, jnp.where(jnp.isfinite(heights), above - heights, jnp.inf), 0.0)
        return (
            iteration + 1,
            jnp.where(good[:, None], tried, places),
            jnp.where(good, above, heights),
            jnp.where(good[:, None], slope, gradients),
            rates * jnp.where(good, 1.6, 0.4),
            0.8 * jnp.minimum(gains, 1.0) + 0.2 * jnp.minimum(gain, 1.0),
        )

    heights, gradients = slopes(starts)
    heights = jnp.where(jnp.isnan(heights), -jnp.inf, heights)
    count = len(starts)
    carry = (0, starts, heights, gradients, jnp.full(count, 0.1), jnp.ones(count))
    _, places, heights, _, _, _ = jax.lax.while_loop(rises, climb, carry)
    return places, heights

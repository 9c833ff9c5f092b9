"""A search for modes that no chain has visited: ascents from scattered starts, their mass by
Laplace's approximation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import Finding, FindingCode
from unnorm.core.random_keys import key_array, make_key
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import flat_vectors, positions_of
from unnorm.diagnostics.draws import Draws
from unnorm.diagnostics.options import MODES, ModeCriteria


class Mode(NamedTuple):
    """A mode in coordinates in which the draws have mean 0 and covariance I."""

    place: np.ndarray
    height: float
    precision: np.ndarray  # minus the Hessian

    @property
    def log_mass(self) -> float:
        """Laplace's approximation."""
        log_det = np.linalg.slogdet(self.precision)[1]
        return self.height + 0.5 * (len(self.place) * np.log(2 * np.pi) - log_det)

    def squared_distance(self, offsets: np.ndarray) -> np.ndarray:
        """In the mode's own standard deviations."""
        return np.einsum("...i,ij,...j->...", offsets, self.precision, offsets)


def mode_findings(draws: Draws, p: Density, criteria: ModeCriteria = MODES) -> list[Finding]:
    """Return the heaviest mode that the draws have not visited, if one holds a share of the mass
    that matters.

    The draws' own mass is at most exp(E log p̃ + ½ log det 2πeΣ): the normal density has the
    largest entropy of all with their covariance. A mode in whose basin no ascent starts is not
    found.

    References:
        Tierney and Kadane (1986), doi:10.1080/01621459.1986.10478240 (Laplace's approximation).
    """
    if p.covariates or any(support.discrete for support in p.variables.values()):
        return []
    with jax.enable_x64(True):
        u = flat_vectors(Unconstrained(p), positions_of(Unconstrained(p), draws.values))
        u = u.reshape(-1, u.shape[-1])
        size = u.shape[-1]
        degenerate = len(u) <= 2 * size or not np.isfinite(u).all() or (np.ptp(u, 0) == 0).any()
        if size > criteria.max_dimension or degenerate:
            return []
        surface = Surface(Unconstrained(cast(p.for_jit(), float)), u, criteria)
        found = surface.find_mode()
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
    """The log-density over whitened coordinates of the draws.

    Args:
        view: of a density of continuous variables, in double precision.
        u: draws in unconstrained coordinates (N, D).
        criteria: of the search.
    """

    def __init__(self, view: Unconstrained, u: np.ndarray, criteria: ModeCriteria) -> None:
        self.view, self.criteria = view, criteria
        u = u[0] + self._short_way(u - u[0])
        self.centre = u.mean(0)
        covariance = np.cov(u.T).reshape(len(u.T), -1)
        self.factor = np.linalg.cholesky(covariance + 1e-12 * np.diag(u.var(0)))
        self.rng = np.random.default_rng(0)
        count = min(len(u), criteria.max_draws)
        self.draws = self.white(u[self.rng.choice(len(u), count, replace=False)])

    def white(self, u: np.ndarray) -> np.ndarray:
        """Whitened coordinates."""
        return np.linalg.solve(self.factor, (u - self.centre).T).T

    def offsets(self, places: np.ndarray, place: np.ndarray) -> np.ndarray:
        """From one place to others, the short way round where coordinates wrap."""
        offsets = self._short_way((places - place) @ self.factor.T)
        return np.linalg.solve(self.factor, offsets.T).T

    def _short_way(self, offsets: np.ndarray) -> np.ndarray:
        """Differences of coordinates, the short way round where these wrap."""
        positions = jax.vmap(self.view.split)(jnp.asarray(offsets))
        wrapped = [
            np.asarray(self.view.supports[name].canonical(part)).reshape(len(offsets), -1)
            for name, part in positions.items()
        ]
        return np.concatenate(wrapped, -1)

    def event(self, place: np.ndarray) -> dict[str, np.ndarray]:
        """The event at a place."""
        position = self.view.split(jnp.asarray(self.centre + self.factor @ place))
        event = self.view.constrain(position)
        return {name: np.asarray(event[name]) for name in self.view.supports}

    def _starts(self) -> np.ndarray:
        """Some draws, then places far away in all directions, random positions, and draws mirrored
        at the origin.
        """
        criteria, size, view = self.criteria, len(self.centre), self.view
        radii = np.geomspace(2.0, criteria.farthest, criteria.far)
        far = self.rng.normal(size=(criteria.far, size)) * radii[:, None]
        random = _random_places(view, key_array(make_key(0), criteria.random))
        mirrored = -(self.centre + self.draws[: criteria.mirrored] @ self.factor.T)
        return np.concatenate(
            [
                self.draws[: criteria.from_draws],
                far,
                self.white(np.asarray(random)),
                self.white(mirrored),
            ]
        )

    def find_mode(self) -> tuple[Mode, float] | None:
        """The heaviest mode without draws, and its log mass relative to the draws'; or None."""
        criteria, start = self.criteria, self.criteria.from_draws
        given = self.view, self.centre, self.factor
        found = _gradient_ascents(*given, self._starts(), steps=criteria.ascent_steps)
        ends, heights = map(np.asarray, found)
        candidates: list
        reached, candidates = ends[:start], []
        for i in np.argsort(-heights[start:]) + start:
            others = np.reshape([ends[j] for j in candidates], (-1, ends.shape[1]))
            known = np.concatenate([reached, others])
            if not (np.isfinite(heights[i]) and np.abs(ends[i]).max() < criteria.lost):
                continue
            if np.linalg.norm(self.offsets(known, ends[i]), axis=1).min() > criteria.same:
                candidates.append(i)
        if not candidates:
            return None
        own = self._own_mass()
        modes = [self._newton(ends[i]) for i in candidates[: criteria.candidates]]
        shares = [(mode, mode.log_mass - own) for mode in modes if mode is not None]
        new = [(mode, share) for mode, share in shares if self._is_new(mode, share, reached)]
        return max(new, key=lambda pair: pair[1], default=None)

    def _is_new(self, mode: Mode, log_share: float, reached: np.ndarray) -> bool:
        """Whether a mode matters, no ascent from a draw ends in it, and hardly any draws lie in its
        inner half.
        """
        if log_share < np.log(self.criteria.min_share):
            return False
        if mode.squared_distance(self.offsets(reached, mode.place)).min() <= 1:
            return False
        distances = mode.squared_distance(self.offsets(self.draws, mode.place))
        inside = np.mean(distances < len(mode.place))
        return inside < self.criteria.visited * 0.5 / (1 + np.exp(-log_share))

    def _own_mass(self) -> float:
        values = np.asarray(_heights(self.view, self.centre, self.factor, self.draws))
        size, covariance = len(self.centre), np.cov(self.draws.T).reshape(len(self.centre), -1)
        log_det = np.linalg.slogdet(covariance)[1]
        return float(values.mean() + 0.5 * (size * np.log(2 * np.pi * np.e) + log_det))

    def _newton(self, place: np.ndarray) -> Mode | None:
        """Newton's iterations to the mode itself; None where they do not end at a maximum."""
        for _ in range(self.criteria.newton_steps):
            found = map(np.asarray, _derivatives(self.view, self.centre, self.factor, place))
            height, gradient, hessian = found
            if not all(np.isfinite(part).all() for part in (height, gradient, hessian)):
                return None
            curvatures = np.linalg.eigvalsh(-hessian)
            if curvatures.min() <= self.criteria.min_curvature * curvatures.max():
                return None  # no maximum, or flat up to rounding
            step = np.linalg.solve(-hessian, gradient)
            if gradient @ step < 1e-6:
                return Mode(place, float(height), -hessian)
            place = place + step / max(1.0, np.sqrt(gradient @ step))
        return None


def _height(view: Unconstrained, centre: jax.Array, factor: jax.Array):
    return lambda place: view.log_density(view.split(centre + factor @ place))


@compiled
def _random_places(view, keys):
    """Random positions (K, D)."""
    shapes, dtype = view.density.shapes(), jnp.dtype(float)

    def one(key):
        free = {n: s.random_free(key, shapes[n], dtype) for n, s in view.supports.items()}
        return view.flatten(free)

    return jax.vmap(one)(keys)


@compiled
def _heights(view, centre, factor, places):
    return jax.lax.map(_height(view, centre, factor), places, batch_size=64)


@compiled
def _derivatives(view, centre, factor, place):
    height = _height(view, centre, factor)
    return height(place), jax.grad(height)(place), jax.hessian(height)(place)


@compiled(static_argnames="steps")
def _gradient_ascents(view, centre, factor, starts, *, steps):
    """Ascents along the gradient, whose step grows while it succeeds and shrinks where it does
    not.
    """
    evaluate = jax.vmap(jax.value_and_grad(_height(view, centre, factor)))

    def rises(carry):
        iteration, _, _, _, _, gains = carry
        return (iteration < steps) & jnp.any(gains > 1e-4)

    def ascend(carry):
        iteration, places, heights, gradients, rates, gains = carry
        trials = places + rates[:, None] * gradients
        above, slopes = evaluate(trials)
        good = above > heights
        gain = jnp.where(good, jnp.where(jnp.isfinite(heights), above - heights, jnp.inf), 0.0)
        return (
            iteration + 1,
            jnp.where(good[:, None], trials, places),
            jnp.where(good, above, heights),
            jnp.where(good[:, None], slopes, gradients),
            rates * jnp.where(good, 1.6, 0.4),
            0.8 * jnp.minimum(gains, 1.0) + 0.2 * jnp.minimum(gain, 1.0),
        )

    heights, gradients = evaluate(starts)
    heights = jnp.where(jnp.isnan(heights), -jnp.inf, heights)
    count = len(starts)
    carry = (0, starts, heights, gradients, jnp.full(count, 0.1), jnp.ones(count))
    _, places, heights, _, _, _ = jax.lax.while_loop(rises, ascend, carry)
    return places, heights

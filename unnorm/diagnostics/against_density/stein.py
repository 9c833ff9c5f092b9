"""Stein's identity as a check of draws against a density known up to a constant."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import (
    as_events,
    coordinate_labels,
    flat,
    flat_vectors,
    positions_of,
)
from unnorm.diagnostics.against_density.stein_pairs import (
    Mismatch,
    pair_mismatches,
    space_evenly,
)
from unnorm.diagnostics.options import PAIRS, STEIN, SteinCriteria


@dataclass(frozen=True)
class SteinCheck:
    """Means that are zero under the density, by unconstrained coordinate.

    Attributes:
        labels: the coordinates.
        location: mean of s_j ∂_j log p(u); for a Gaussian, minus the bias of the mean over the
            standard deviation.
        location_error: its Monte Carlo standard error.
        spread: mean of 1 + (u_j − m_j) ∂_j log p(u); for independent Gaussians, minus the
            variance's relative bias.
        spread_error: its Monte Carlo standard error.
        limit: how many standard errors are allowed.
        further: mismatches of the coordinates' shapes, and of two coordinates together.
    """

    labels: list[str]
    location: np.ndarray
    location_error: np.ndarray
    spread: np.ndarray
    spread_error: np.ndarray
    limit: float
    further: tuple[Mismatch, ...] = ()

    @property
    def mismatches(self) -> list[Mismatch]:
        """(coordinate, kind of identity, mean, standard error) of each mean that is not within the
        limit.
        """
        single = [
            (label, kind, float(mean), float(error))
            for kind in ("location", "spread")
            for label, mean, error in zip(
                self.labels, getattr(self, kind), getattr(self, f"{kind}_error"), strict=True
            )
            if not (abs(mean) <= self.limit * error and np.isfinite(error))
        ]
        return [*single, *self.further]

    @property
    def largest_z(self) -> float:
        """The largest z-score of a mismatch; infinite where it has no standard error."""
        scores = [abs(mean) / e if e > 0 else np.inf for _, _, mean, e in self.mismatches]
        return max((one if np.isfinite(one) else np.inf for one in scores), default=0.0)

    @property
    def resolution(self) -> float:
        """The largest relative mismatch that could have passed."""
        return float(self.limit * max(self.location_error.max(), self.spread_error.max()))


def stein_check(
    p: Density,
    values: Mapping[str, np.ndarray],
    labels: Mapping[str, list[str]],
    criteria: SteinCriteria = STEIN,
) -> SteinCheck:
    """Check draws against a density by Stein's identity, coordinate by coordinate.

    In unconstrained coordinates u, with the Jacobian in log p, E[∂_j log p(u)] = 0 and E[1 + u_j
    ∂_j log p(u)] = 0 for every density that vanishes at infinity and has no jumps; for two
    coordinates E[u_k ∂_j log p(u)] = 0, and bounded functions of u_j in the place of 1 see the
    shape. They are taken about the draws' mean m_j, which follows from the first and does not
    depend on the origin; the first is scaled by the draws' standard deviation s_j. Discrete
    variables are held fixed: the identities are conditional on them. No constant of p is needed.

    Args:
        p: the density, its dimensions resolved.
        values: draws inside the support, by variable, with the axes (chain, draw, *event).
        labels: the names of the entries of each variable.
        criteria: limits and budgets.

    Returns:
        The means with their Monte Carlo errors, which come from the effective sample size of each
        sequence.

    Raises:
        ValueError: no variable is continuous.

    References:
        Gorham and Mackey (2015), Measuring sample quality with Stein's method, arXiv:1506.03039;
        Stein (1972).
    """
    view = Unconstrained(p)
    names = list(view.free_shapes)
    if not names:
        raise ValueError(
            f"Density {p.name} has discrete variables only; expected at least one continuous "
            "variable; check the draws by enumeration."
        )
    with jax.enable_x64(True):
        positions = positions_of(view, values)
        double = Unconstrained(cast(p.for_jit(), float))
        gradient = np.asarray(_gradients(double, as_events(positions), batch=criteria.batch))
        parts = [_deviations(p.variables[name], positions[name]) for name in names]
    u = flat_vectors(view, positions)
    gradient = gradient.reshape(u.shape)
    deviation, slope = (
        np.concatenate([flat(part) for part in pair], -1) for pair in zip(*parts, strict=True)
    )
    coordinates = [
        label
        for name in names
        for label in coordinate_labels(name, positions[name].shape[2:], labels[name])
    ]
    scale = u.std((0, 1))
    location, spread = scale * gradient, slope + deviation * gradient
    check = make_check(coordinates, location, spread, criteria)
    kept = space_evenly(len(coordinates), PAIRS.most)
    units = np.where(scale > 0, scale, 1.0)
    pairs = pair_mismatches(
        location[..., kept], (deviation / units)[..., kept],
        [(coordinates[k], i) for i, k in enumerate(kept)],
    )  # fmt: skip
    shapes = _shape_mismatches(coordinates, location, deviation / units, slope, criteria)
    return replace(check, further=(*shapes, *pairs))


def _shape_mismatches(
    labels: list[str],
    slope_of_log: np.ndarray,
    z: np.ndarray,
    slope: np.ndarray,
    criteria: SteinCriteria,
) -> list[Mismatch]:
    """The coordinates whose shape is not the density's: E[ψ(z) s ∂ log p + ψ'(z)] = 0 with the
    bounded ψ = e^(−z²/2), which sees skewness, and z e^(−z²/2), which sees tails.
    """
    bell = np.exp(-0.5 * z**2)
    limit = max(criteria.z_limit, _bonferroni(criteria, 2 * len(labels)))
    found: list[Mismatch] = []
    for kind, value, derivative in (
        ("skewness", bell, -z * bell),
        ("tails", z * bell, (1 - z**2) * bell),
    ):
        sequence = value * slope_of_log + derivative * slope
        means, errors = sequence.mean((0, 1)), mcse(sequence)
        found += [
            (label, kind, float(mean), float(error))
            for label, mean, error in zip(labels, means, errors, strict=True)
            if error > 0 and abs(mean) > limit * error
        ]
    return found


def make_check(
    labels: list[str], location: np.ndarray, spread: np.ndarray, criteria: SteinCriteria = STEIN
) -> SteinCheck:
    """The check of two sequences (chain, draw, coordinate) whose means are zero under the
    density.
    """
    bonferroni = _bonferroni(criteria, 2 * len(labels))
    return SteinCheck(
        labels,
        location.mean((0, 1)),
        mcse(location),
        spread.mean((0, 1)),
        mcse(spread),
        max(criteria.z_limit, bonferroni),
    )


def _bonferroni(criteria: SteinCriteria, tests: int) -> float:
    return NormalDist().inv_cdf(1 - criteria.false_alarm / 2 / tests)


def _deviations(support: Any, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates about the draws' mean, and the derivative of that: not 1 where the
    coordinates wrap.
    """
    deviation, slope = support.deviation(free, free.mean((0, 1)))
    return np.asarray(deviation), np.asarray(slope)


def mcse(sequence: np.ndarray) -> np.ndarray:
    """The Monte Carlo standard error of the mean of each column (chain, draw, column)."""
    from arviz_stats.base import array_stats

    with np.errstate(all="ignore"):
        return np.asarray(
            array_stats.mcse(sequence, chain_axis=0, draw_axis=1, method="mean"), float
        )


@compiled(static_argnames="batch")
def _gradients(view: Unconstrained, events: dict[str, jax.Array], *, batch: int) -> jax.Array:
    """∂ log p in the flat vector (events, D), event by event."""

    def one(position):
        discrete = view.discrete(position)

        def log_density(vector):
            return view.log_density(view.split(vector) | discrete)

        return jax.grad(log_density)(view.flatten(position))

    return jax.lax.map(one, events, batch_size=batch)

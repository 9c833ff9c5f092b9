"""Stein's identity as a check of draws against a density known up to a constant."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import flat, named, positions_of

Z_LIMIT = 4.0  # standard errors that a mean may lie off zero
# chance of a false alarm over all coordinates (Bonferroni); Z_LIMIT rises where this asks for it
FAMILY_LEVEL = 1e-3
# events whose gradients are taken at once: bounds the memory where one event involves much data
BATCH = 64


@dataclass(frozen=True)
class SteinCheck:
    """Means that are zero under the density, by unconstrained coordinate.

    Attributes:
        labels: the coordinates.
        location: mean of s_j ∂_j log p(u); for a Gaussian, minus the bias of the mean over the
            standard deviation.
        spread: mean of 1 + (u_j − m_j) ∂_j log p(u); for independent Gaussians, minus the
        variance's relative bias. location_error, spread_error: their Monte Carlo standard errors.
        limit: how many standard errors are allowed.
    """

    labels: list[str]
    location: np.ndarray
    location_error: np.ndarray
    spread: np.ndarray
    spread_error: np.ndarray
    limit: float

    @property
    def failed(self) -> list[tuple[str, str, float, float]]:
        """(coordinate, "location" or "spread", mean, standard error) of each mean that is not
        within the limit.
        """
        return [
            (label, kind, float(mean), float(error))
            for kind in ("location", "spread")
            for label, mean, error in zip(
                self.labels, getattr(self, kind), getattr(self, f"{kind}_error"), strict=True
            )
            if not (abs(mean) <= self.limit * error and np.isfinite(error))
        ]

    @property
    def surest(self) -> float:
        """How many standard errors the surest mismatch lies off zero; infinite where there is no
        error to judge by.
        """
        off = [abs(mean) / error if error > 0 else np.inf for _, _, mean, error in self.failed]
        return max((one if np.isfinite(one) else np.inf for one in off), default=0.0)

    @property
    def resolution(self) -> float:
        """The largest relative mismatch that could have passed."""
        return float(self.limit * max(self.location_error.max(), self.spread_error.max()))


def stein_check(
    p: Density, values: Mapping[str, np.ndarray], labels: Mapping[str, list[str]]
) -> SteinCheck:
    """Check draws against a density by Stein's identity, coordinate by coordinate.

    In unconstrained coordinates u, with the Jacobian in log p, E[∂_j log p(u)] = 0 and E[1 + u_j
    ∂_j log p(u)] = 0 for every density that falls off at infinity and has no jumps. The second is
    taken about the draws' mean m_j, which follows from the two and does not depend on where the
    origin is; the first is scaled by the draws' standard deviation s_j. Discrete variables are
    held: the identities are conditional on them. No constant of p is needed.

    Args:
        p: the density, its dimensions resolved.
        values: draws inside the support, by variable, with the axes (chain, draw, *event).
        labels: the names of the entries of each variable.

    Returns:
        The means with their Monte Carlo errors, which come from the effective sample size of each
        sequence.

    Raises:
        ValueError: no variable is continuous.

    References:
        Gorham and Mackey (2015), Measuring sample quality with Stein's method, arXiv:1506.03039;
        Stein (1972).
    """
    continuous = [name for name, support in p.variables.items() if not support.discrete]
    if not continuous:
        raise ValueError(
            f"Density {p.name} has discrete variables only; expected a continuous one; check it "
            "by enumeration."
        )
    free, gradient = _gradients(p, values)
    u, g = (
        np.concatenate([flat(part[name]) for name in continuous], -1) for part in (free, gradient)
    )
    spread = u.std((0, 1))
    names = [
        label for name in continuous for label in named(name, free[name].shape[2:], labels[name])
    ]
    apart, slope = (
        np.concatenate([flat(part) for part in parts], -1)
        for parts in zip(
            *(_deviations(p.variables[name], free[name]) for name in continuous), strict=True
        )
    )
    location, about = spread * g, slope + apart * g
    return check_of(names, location, about)


def check_of(labels: list[str], location: np.ndarray, spread: np.ndarray) -> SteinCheck:
    """The check of two sequences (chain, draw, coordinate) whose means are zero under the
    density.
    """
    limit = max(Z_LIMIT, NormalDist().inv_cdf(1 - FAMILY_LEVEL / 4 / len(labels)))
    return SteinCheck(
        labels, location.mean((0, 1)), mcse(location), spread.mean((0, 1)), mcse(spread), limit
    )


def _deviations(support: Any, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates about the draws' mean, and the derivative of that: not 1 where the
    coordinates wrap.
    """
    with jax.enable_x64(True):
        return tuple(map(np.asarray, support.deviation(free, free.mean((0, 1)))))


def mcse(sequence: np.ndarray) -> np.ndarray:
    from arviz_stats.base import array_stats

    with np.errstate(all="ignore"):
        return np.asarray(
            array_stats.mcse(sequence, chain_axis=0, draw_axis=1, method="mean"), float
        )


def _gradients(
    p: Density, values: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Unconstrained draws and the gradients of log p there, both with the axes (chain, draw,
    ...).
    """
    with jax.enable_x64(True):
        free = positions_of(p, values)
        leading = next(iter(free.values())).shape[:2]
        events = {name: value.reshape(-1, *value.shape[2:]) for name, value in free.items()}
        gradient = _free_gradient(cast(p.bare(), float), events)
    return free, jax.tree.map(
        lambda part: np.asarray(part).reshape(*leading, *part.shape[1:]), gradient
    )


@jax.jit
def _free_gradient(p: Density, free: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """∂ log p of every continuous coordinate, event by event."""
    discrete = {name for name, support in p.variables.items() if support.discrete}

    def one(position):
        held = {name: value for name, value in position.items() if name in discrete}
        moving = {name: value for name, value in position.items() if name not in discrete}
        return jax.grad(lambda moving: Unconstrained(p).log_density(moving | held))(moving)

    return jax.lax.map(one, free, batch_size=BATCH)

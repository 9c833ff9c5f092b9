"""Whether a precision resolves a log-density: a large constant leaves no digits for its
differences, and near an end of an interval other than 0 values round onto the end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from unnorm.core.findings import ERROR, NOTE, Finding, FindingCode
from unnorm.supports import Interval, Support

LogDensities = Callable[[dict[str, Any], Any], np.ndarray]  # of positions, in a dtype


@dataclass(frozen=True)
class PrecisionCriteria:
    """When rounding of log p̃ matters.

    Args:
        noise: of log p̃ at draws, from which on acceptance rates are off by percents.
        relative_noise: at random starts, as a share of the spread of log p̃ between them: far from
            the mass log p̃ is huge, and its rounding harmless.
        points: at which both precisions are compared.
        share_at_ends: of the mass of a coordinate, that is near an end of its interval: a tail
            that is lost is then seen in 10,000 effective draws.
        spacings: from an end, in those of the precision there, that count as near: beyond, the
            distance keeps two bits, and log p̃ is off by less than a tenth.
        nodes: of a coordinate's conditional, in batches of `points`.
        reach: the last node, in unconstrained coordinates: beyond float64's spacing at an end.
        coordinates: whose conditionals are computed, those nearest to an end.
        chains: at whose positions, on average.
    """

    noise: float = 0.05
    relative_noise: float = 1e-3
    points: int = 8
    share_at_ends: float = 1e-3
    spacings: float = 4.0
    nodes: int = 48
    reach: float = 50.0
    coordinates: int = 8
    chains: int = 4


class Lost(NamedTuple):
    """What a precision loses, as a clause, and what avoids it."""

    what: str
    advice: str = "leave the constant out of the density"


def rounding_at_starts(
    log_densities: LogDensities, positions: dict, criteria: PrecisionCriteria = PrecisionCriteria()
) -> Lost | None:
    """What float32 loses at starts, as a clause; None where it suffices."""
    noise, spread, size = _rounding(log_densities, positions)
    limit = max(criteria.noise, criteria.relative_noise * spread)
    return _clause(noise, size) if noise > limit else None


def rounding_at_draws(
    log_densities: LogDensities,
    positions: dict,
    dtype: np.dtype,
    criteria: PrecisionCriteria = PrecisionCriteria(),
) -> Lost | None:
    """What a dtype loses at the positions of chains after warm-up, as a clause, or None; in
    float64, what its own digits leave.
    """
    count = criteria.points
    repeated = {
        name: np.resize(np.asarray(value), (count, *value.shape[1:]))
        for name, value in positions.items()
    }
    if dtype == np.float64:
        size = float(np.median(np.abs(log_densities(repeated, dtype))))
        noise = size * float(np.finfo(dtype).eps) / 2
    else:
        noise, _, size = _rounding(log_densities, repeated)
    return _clause(noise, size) if noise > criteria.noise else None


def _rounding(log_densities: LogDensities, positions: dict) -> tuple[float, float, float]:
    """By how much float32 misses differences of log p̃ between positions, how large these are, and
    |log p̃|.
    """
    values, exact = (log_densities(positions, np.dtype(t)) for t in (np.float32, np.float64))
    good = np.isfinite(values) & np.isfinite(exact)
    if good.sum() < 2:
        return 0.0, 0.0, 0.0
    values, exact = values[good], exact[good]
    size = float(np.median(np.abs(exact)))
    noise = max(float(np.ptp(values - exact)) / 2, size * float(np.finfo(np.float32).eps) / 2)
    return noise, float(np.ptp(exact)), size


def _clause(noise: float, size: float) -> Lost:
    return Lost(f"rounding moves log p̃ by about {noise:.2g}, because its size is near {size:.2g}")


def mass_at_ends(
    log_densities: LogDensities,
    supports: Mapping[str, Support],
    positions: dict,
    dtype: np.dtype,
    criteria: PrecisionCriteria = PrecisionCriteria(),
) -> Lost | None:
    """The mass that a dtype does not resolve near an end of an interval, or None.

    At the positions of chains it is the mean of the mass of a coordinate's conditional there,
    which is computed in float64.
    """
    chains = {name: np.asarray(value, float) for name, value in positions.items()}
    intervals = {name: s for name, s in supports.items() if isinstance(s, Interval)}
    places = [(name, index) for name in intervals for index in np.ndindex(chains[name].shape[1:])]
    places.sort(key=lambda place: -np.abs(chains[place[0]][:, *place[1]]).max())
    worst, where = criteria.share_at_ends, ""
    for name, index in places[: criteria.coordinates]:
        share = _share_at_ends(
            log_densities, chains, (name, index), intervals[name], dtype, criteria
        )
        if share > worst:
            worst, where = share, f"{name}[{', '.join(map(str, index))}]" if index else name
    if not where:
        return None
    what = f"{worst:.1%} of the mass of {where} lies where its values round onto an end"
    return Lost(what, "let the variable be the distance from that end, which is then 0")


def _share_at_ends(
    log_densities: LogDensities,
    chains: dict,
    place: tuple,
    support: Interval,
    dtype: np.dtype,
    criteria: PrecisionCriteria,
) -> float:
    """The mass of a coordinate's conditional near an end, on average over chains."""
    t = np.linspace(-1, 1, criteria.nodes) * np.arcsinh(criteria.reach)
    u = np.sinh(t)
    near, beyond = (_near_ends(support, u, np.finfo(d).eps, criteria) for d in (dtype, float))
    shares = []
    for chain in range(min(criteria.chains, len(chains[place[0]]))):
        at = {name: value[chain] for name, value in chains.items()}
        values = _continued(u, _along(log_densities, at, place, u, criteria.points), beyond)
        masses = values + np.log(np.cosh(t))
        masses = np.exp(masses - max(masses.max(), -1e300))
        shares.append(masses[near].sum() / max(masses.sum(), 1e-300))
    return float(np.mean(shares))


def _near_ends(
    support: Interval, u: np.ndarray, eps: float, criteria: PrecisionCriteria
) -> np.ndarray:
    """Which nodes a precision does not tell from an end; 0 is approached without rounding."""
    width = support.upper - support.lower
    limits = [criteria.spacings * eps * abs(end) for end in (support.lower, support.upper)]
    return (width / (1 + np.exp(-u)) < limits[0]) | (width / (1 + np.exp(u)) < limits[1])


def _along(
    log_densities: LogDensities, at: dict, place: tuple, u: np.ndarray, points: int
) -> np.ndarray:
    """The log-density along one coordinate of a position, in float64; -inf where not finite."""
    name, index = place
    found = []
    for nodes in u.reshape(-1, points):
        line: Any = {k: np.repeat(value[None], points, 0) for k, value in at.items()}
        line[name][:, *index] = nodes
        found.append(log_densities(line, np.dtype(np.float64)))
    values = np.concatenate(found)
    return np.where(np.isfinite(values), values, -np.inf)


def _continued(u: np.ndarray, values: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """The values with those that float64 does not resolve from the slope before, a power law in the
    distance from the end.
    """
    values = values.copy()
    for step in (1, -1):
        inside = np.flatnonzero(~beyond)[::step]
        last, before = inside[-1], inside[-2]
        if not np.isfinite(values[[last, before]]).all():
            continue
        slope = (values[last] - values[before]) / (u[last] - u[before])
        out = beyond & (step * (u - u[last]) > 0)
        values[out] = values[last] + slope * (u[out] - u[last])
    return values


def note_float64(lost: Lost) -> Finding:
    """That the run was made in double precision, and why."""
    advice = f"{lost.advice}, or pass dtype='float64'"
    what = f"float64 was used, because in float32 {lost.what}"
    return Finding(what, advice, NOTE, FindingCode.PRECISION)


def error_of_rounding(dtype: np.dtype, lost: Lost) -> Finding:
    """That the precision of the run does not suffice."""
    advice = lost.advice + ", or pass dtype='float64'" * (dtype == np.float32)
    what = f"{dtype.name} does not resolve the density's differences: {lost.what}"
    return Finding(what, advice, ERROR, FindingCode.PRECISION)


__all__ = [
    "Lost",
    "PrecisionCriteria",
    "error_of_rounding",
    "mass_at_ends",
    "note_float64",
    "rounding_at_draws",
    "rounding_at_starts",
]

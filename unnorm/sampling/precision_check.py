"""Whether a precision resolves the differences of a log-density: a large constant leaves no digits
for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unnorm.core.findings import ERROR, NOTE, Finding, FindingCode

LogDensities = Callable[[dict[str, Any], Any], np.ndarray]  # of positions, in a dtype


@dataclass(frozen=True)
class PrecisionCriteria:
    """When rounding of log p̃ matters.

    Args:
        noise: of log p̃ at draws, from which on acceptance rates are off by percents.
        relative_noise: at random starts, as a share of the spread of log p̃ between them: far from
            the mass log p̃ is huge, and its rounding harmless.
        points: at which both precisions are compared.
    """

    noise: float = 0.05
    relative_noise: float = 1e-3
    points: int = 8


def rounding_at_starts(
    log_densities: LogDensities, positions: dict, criteria: PrecisionCriteria = PrecisionCriteria()
) -> str | None:
    """What float32 loses at starts, as a clause; None where it suffices."""
    noise, spread, size = _rounding(log_densities, positions)
    limit = max(criteria.noise, criteria.relative_noise * spread)
    return _clause(noise, size) if noise > limit else None


def rounding_at_draws(
    log_densities: LogDensities,
    positions: dict,
    dtype: np.dtype,
    criteria: PrecisionCriteria = PrecisionCriteria(),
) -> str | None:
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


def _clause(noise: float, size: float) -> str:
    return f"rounding moves log p̃ by about {noise:.2g}, because its size is near {size:.2g}"


def note_float64(lost: str) -> Finding:
    """That the run was made in double precision, and why."""
    advice = "leave the constant out of the density, or pass dtype='float64'"
    what = f"float64 was used, because in float32 {lost}"
    return Finding(what, advice, NOTE, FindingCode.PRECISION)


def error_of_rounding(dtype: np.dtype, lost: str) -> Finding:
    """That the precision of the run does not suffice."""
    advice = "leave the constant out of the density"
    advice += ", or pass dtype='float64'" * (dtype == np.float32)
    what = f"{dtype.name} does not resolve the density's differences: {lost}"
    return Finding(what, advice, ERROR, FindingCode.PRECISION)


__all__ = [
    "PrecisionCriteria",
    "error_of_rounding",
    "note_float64",
    "rounding_at_draws",
    "rounding_at_starts",
]

"""log Z of a density of one count: the sum over the stretches that hold its mass, and plans of
them.
"""

import math
from enum import StrEnum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.integration.count_windows import (
    Ladder,
    Windows,
    as_events,
    from_zero,
    log_terms,
    lone_count,
    scan_counts,
    thin_out,
    union,
    windows_of,
)
from unnorm.integration.nodes import Plan
from unnorm.integration.options import COUNTS, ENUMERATION


# -- log Z -----------------------------------------------------------------------------
class SumOutcome(StrEnum):
    """How a sum over a count ended."""

    CONVERGED = "converged"
    NOT_CONVERGED = "not converged"  # too many states; `beyond` is the share of Z that is left out
    DIVERGES = "diverges"
    NOT_FINITE = "NaN or +infinity"  # at a count
    NO_MASS = "minus infinity"  # at every count


class CountSum(NamedTuple):
    """log Z of a count, its error, the number of states evaluated, and how the sum ended."""

    log_z: float
    error: float
    states: int
    outcome: SumOutcome
    last: float  # the largest count evaluated
    terms: int = 0  # of the sum
    beyond: float = 0.0


def sum_over_count(density: Density) -> CountSum:
    """log Z = log Σ_y p̃(y) of a density of one count; what is left out counts as error."""
    ladder = scan_counts(density)
    states, last = len(ladder.counts), float(ladder.counts[-1])
    if not np.all(ladder.values < np.inf):  # a NaN too
        return CountSum(math.nan, math.nan, states, SumOutcome.NOT_FINITE, last)
    if np.all(np.isneginf(ladder.values)):
        return CountSum(-math.inf, math.nan, states, SumOutcome.NO_MASS, last)
    if not _falls(ladder):
        return CountSum(math.inf, math.nan, states, SumOutcome.DIVERGES, last)
    value, error, windows = _sum_of(density, ladder)
    beyond = _outside(ladder, windows, value)
    converged = windows.stride > 1 or beyond <= COUNTS.tail
    outcome = SumOutcome.CONVERGED if converged else SumOutcome.NOT_CONVERGED
    return CountSum(value, error, states + windows.states, outcome, last, windows.states, beyond)


def _last_octaves(ladder: Ladder) -> tuple[float, float]:
    """The log masses of the last octave of the ladder and of the one before."""
    masses, counts, last = ladder.log_masses, ladder.counts[1:], ladder.counts[-1]
    before = (counts > last / 4) & (counts <= last / 2)
    outer = np.logaddexp.reduce(masses[counts > last / 2])
    return float(outer), float(np.logaddexp.reduce(masses[before]))


def _falls(ladder: Ladder) -> bool:
    """Whether the masses of the last two octaves fall, or are negligible."""
    outer, inner = _last_octaves(ladder)
    total = np.logaddexp.reduce(ladder.log_masses)
    return outer < inner or outer < total + math.log(COUNTS.tail)


def _sum_of(density: Density, ladder: Ladder) -> tuple[float, float, Windows]:
    """The log of the sum, its error, and the windows that were summed."""
    windows, most = windows_of(ladder), ENUMERATION.max_states
    if windows.states > most:
        thin = thin_out(windows, most)
        values = log_terms(density, thin.counts())
        value = float(np.logaddexp.reduce(values) + math.log(thin.stride))
        triple = float(np.logaddexp.reduce(values[1::3]) + math.log(3 * thin.stride))
        error = abs(value - triple)
        good = error < COUNTS.stride_error and _is_smooth(density, thin, values)
        if good and _agrees_between(density, thin, value):
            return value, error + _outside(ladder, thin, value) + _rounding(values), thin
        windows = Windows(((0, most),))
    values = log_terms(density, windows.counts())
    value = float(np.logaddexp.reduce(values))
    outside = _outside(ladder, windows, value)
    return value, (outside if outside > COUNTS.tail else 0.0) + _rounding(values), windows


def _rounding(values: np.ndarray, terms: int = 1024) -> float:
    """The rounding error of many smooth terms, by their sixth differences where they are largest.

    log p̃ of a count about 1e9 is a difference of numbers about 1e10, which float64 rounds to 1e-6.
    """
    top = int(np.argmax(values))
    here = values[max(top - terms // 2, 0) : top + terms // 2]
    if len(here) < terms or not np.all(np.isfinite(here)):
        return 0.0
    squared_coefficients = 924  # of a sixth difference, their sum
    noise = float(np.median(np.abs(np.diff(here, 6)))) / math.sqrt(squared_coefficients)
    return noise if noise < COUNTS.smooth else 0.0  # larger differences are the density's own


def _is_smooth(density: Density, windows: Windows, values: np.ndarray) -> bool:
    """Whether neighbouring terms follow each other smoothly where they are large, so that strides
    may be taken.
    """
    if windows.stride == 1:
        return True
    counts = windows.counts()
    likely = counts[np.argsort(-values, kind="stable")[:: max(len(values) // 256, 1)][:64]]
    there = log_terms(density, np.concatenate([likely, likely + 1, likely + 2])).reshape(3, -1)
    return bool(np.all(np.abs(there[0] - 2 * there[1] + there[2]) < COUNTS.smooth))


def _agrees_between(density: Density, thin: Windows, value: float) -> bool:
    """Whether terms at random places between the strides give the same sum: all multiples of a
    stride see one phase of a period that divides it.
    """
    counts = thin.counts()
    shifts = np.random.default_rng(0).integers(0, thin.stride, len(counts))
    other = np.logaddexp.reduce(log_terms(density, counts + shifts)) + math.log(thin.stride)
    return bool(abs(other - value) < COUNTS.phase_error)


def _outside(ladder: Ladder, windows: Windows, value: float) -> float:
    """The share of the total in the cells of the ladder that were not summed, and beyond it."""
    starts, stops = np.array(windows.stretches).T
    middles = (ladder.counts[:-1] + ladder.counts[1:] - 1) / 2
    place = np.searchsorted(starts, middles, side="right") - 1
    inside = (place >= 0) & (middles < stops[place])
    # the mean of the two ends is what a cell of a tail holds
    means = np.logaddexp(ladder.values[:-1], ladder.values[1:]) - math.log(2)
    masses = means + np.log(np.diff(ladder.counts))
    outer, inner = _last_octaves(ladder)
    rate = math.exp(min(outer - inner, -1e-9)) if inner > -np.inf else 0.0
    # each further octave falls as the last one fell
    beyond = outer + math.log(rate / (1 - rate)) if rate else -np.inf
    with np.errstate(over="ignore"):
        return float(np.exp(np.logaddexp.reduce(np.append(masses[~inside], beyond)) - value))


# -- plans -----------------------------------------------------------------------------
def count_plan(density: Density, centre: dict | None, scale: dict | None, reach: float) -> Plan:
    """The states that hold Z, and at least those within `reach` scales of the centre; a divergent
    sum is cut off.
    """
    return plan_on(density, plan_windows([density], centre, scale, reach))


def plan_windows(
    densities: list[Density], centre: dict | None, scale: dict | None, reach: float
) -> Windows:
    """Windows of a plan for all of the densities, and for parameters near theirs."""
    cheap, most = COUNTS.max_plan_states, ENUMERATION.max_states
    stretches = [(0, COUNTS.min_plan_states)]
    if centre is not None and scale is not None:
        name = lone_count(densities[0])
        middle, width = np.asarray(centre[name]), reach * np.asarray(scale[name])
        low, high = int(max(np.min(middle - width), 0)), int(np.max(middle + width)) + 1
        stretches.append((0 if high <= cheap else low, max(high, low + 1)))
    for density in densities:
        ladder = scan_counts(density)
        usable = np.all(ladder.values < np.inf) and not np.all(np.isneginf(ladder.values))
        if usable and _falls(ladder):
            windows = windows_of(ladder)
            stretches += windows.stretches if windows.states <= most else [(0, most)]
    windows = from_zero(union(stretches))
    fewer = thin_out(windows, cheap)
    if all(_is_smooth(one, fewer, log_terms(one, fewer.counts())) for one in densities):
        return fewer
    return thin_out(windows, most)


def plan_on(density: Density, windows: Windows) -> Plan:
    """The plan of these windows, padded to a power of two by states without weight."""
    counts = windows.counts()
    size = 1 << (len(counts) - 1).bit_length()
    weights = np.full(size, -np.inf)
    weights[: len(counts)] = math.log(windows.stride)
    events = as_events(density, np.pad(counts, (0, size - len(counts)), mode="edge"))
    return Plan(events, jnp.asarray(weights, jnp.result_type(float)))


def finer(windows: Windows, doublings: int) -> Windows:
    """Windows that reach twice as far, with a third of the stride, for each doubling."""
    for _ in range(doublings):
        halves = [(stop - start) // 2 for start, stop in windows.stretches]
        moved = [
            (max(start - half, 0), 2 * stop if start == 0 else stop + half)
            for (start, stop), half in zip(windows.stretches, halves, strict=True)
        ]
        windows = union(moved)._replace(stride=windows.stride // 3 | 1)
    return windows


__all__ = [
    "CountSum",
    "SumOutcome",
    "count_plan",
    "finer",
    "lone_count",
    "plan_on",
    "plan_windows",
    "sum_over_count",
]

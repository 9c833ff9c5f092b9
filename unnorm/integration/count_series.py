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
    Look,
    Windows,
    as_events,
    from_zero,
    joined,
    lone_count,
    look,
    strided,
    terms,
    windows_of,
)
from unnorm.integration.nodes import MAX_STATES, Plan

FEWEST = 2**10  # states of a plan at least, so that it serves other parameters too
CHEAP = (
    2**16
)  # states of a plan, unless the density is rough; where the data end below, it begins at 0
TAIL = 1e-12  # share of Z that may lie outside the states that are summed
# nats: second differences of neighbouring terms below which one count may stand for its neighbours
SMOOTH = 0.05
CLOSE = 1e-4  # of log Z by so many counts and by a third of them, for them to be believed
MANY = 1024  # terms from which their rounding errors are told


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
    summed: int = 0
    beyond: float = 0.0


def sum_over_count(density: Density) -> CountSum:
    """log Z = log Σ_y p̃(y) of a density of one count; what is left out counts as error."""
    seen = look(density)
    states, last = len(seen.counts), float(seen.counts[-1])
    if not np.all(seen.values < np.inf):  # a NaN too
        return CountSum(math.nan, math.nan, states, SumOutcome.NOT_FINITE, last)
    if np.all(np.isneginf(seen.values)):
        return CountSum(-math.inf, math.nan, states, SumOutcome.NO_MASS, last)
    if not _falls(seen):
        return CountSum(math.inf, math.nan, states, SumOutcome.DIVERGES, last)
    value, error, windows = _sum_of(density, seen)
    beyond = _outside(seen, windows, value)
    converged = windows.stride > 1 or beyond <= TAIL
    outcome = SumOutcome.CONVERGED if converged else SumOutcome.NOT_CONVERGED
    return CountSum(value, error, states + windows.states, outcome, last, windows.states, beyond)


def _last_octaves(seen: Look) -> tuple[float, float]:
    """The log masses of the last octave of the ladder and of the one before."""
    masses, counts, last = seen.log_masses, seen.counts[1:], seen.counts[-1]
    before = (counts > last / 4) & (counts <= last / 2)
    return float(np.logaddexp.reduce(masses[counts > last / 2])), float(
        np.logaddexp.reduce(masses[before])
    )


def _falls(seen: Look) -> bool:
    """Whether the masses of the last two octaves fall, or are negligible."""
    outer, inner = _last_octaves(seen)
    return outer < inner or outer < np.logaddexp.reduce(seen.log_masses) + math.log(TAIL)


def _sum_of(density: Density, seen: Look) -> tuple[float, float, Windows]:
    """The log of the sum, its error, and the windows that were summed."""
    windows = windows_of(seen)
    if windows.states > MAX_STATES:
        thinned = strided(windows, MAX_STATES)
        values = terms(density, thinned.counts())
        value = float(np.logaddexp.reduce(values) + math.log(thinned.stride))
        error = abs(value - float(np.logaddexp.reduce(values[1::3]) + math.log(3 * thinned.stride)))
        if error < CLOSE and _stands_for_all(density, thinned, values):
            return value, error + _outside(seen, thinned, value) + _rounding(values), thinned
        windows = Windows(((0, MAX_STATES),))
    values = terms(density, windows.counts())
    value = float(np.logaddexp.reduce(values))
    left_out = _outside(seen, windows, value)
    return value, (left_out if left_out > TAIL else 0.0) + _rounding(values), windows


def _rounding(values: np.ndarray) -> float:
    """The rounding errors of many smooth terms, by their sixth differences where they are largest.

    log p̃ of a count about 1e9 is a difference of numbers about 1e10, which float64 rounds to 1e-6.
    """
    top = int(np.argmax(values))
    here = values[max(top - MANY // 2, 0) : top + MANY // 2]
    if len(here) < MANY or not np.all(np.isfinite(here)):
        return 0.0
    noise = float(np.median(np.abs(np.diff(here, 6)))) / math.sqrt(
        924
    )  # the sum of the squared coefficients
    return noise if noise < SMOOTH else 0.0  # larger differences are the density's own


def _stands_for_all(density: Density, windows: Windows, values: np.ndarray) -> bool:
    """Whether neighbouring counts follow each other smoothly where the terms are large: then
    strides may be taken.
    """
    if windows.stride == 1:
        return True
    counts = windows.counts()
    likely = counts[np.argsort(-values, kind="stable")[:: max(len(values) // 256, 1)][:64]]
    there = terms(density, np.concatenate([likely, likely + 1, likely + 2])).reshape(3, -1)
    return bool(np.all(np.abs(there[0] - 2 * there[1] + there[2]) < SMOOTH))


def _outside(seen: Look, windows: Windows, value: float) -> float:
    """The share of the whole in the cells that were looked at and not summed."""
    starts, stops = np.array(windows.stretches).T
    middles = (seen.counts[:-1] + seen.counts[1:] - 1) / 2
    place = np.searchsorted(starts, middles, side="right") - 1
    inside = (place >= 0) & (middles < stops[place])
    # the mean of the two ends: what a cell of a tail holds
    masses = (
        np.logaddexp(seen.values[:-1], seen.values[1:]) - math.log(2) + np.log(np.diff(seen.counts))
    )
    outer, inner = _last_octaves(seen)
    rate = math.exp(min(outer - inner, -1e-9)) if inner > -np.inf else 0.0
    beyond = (
        outer + math.log(rate / (1 - rate)) if rate else -np.inf
    )  # each further octave falls as the last one fell
    return float(np.exp(np.logaddexp.reduce(np.append(masses[~inside], beyond)) - value))


# -- plans -----------------------------------------------------------------------------
def count_plan(density: Density, centre: dict | None, scale: dict | None, wide: float) -> Plan:
    """The states that hold Z, and at least those within `wide` scales of the centre; a divergent
    sum is cut off.
    """
    return plan_on(density, plan_windows([density], centre, scale, wide))


def plan_windows(
    densities: list[Density], centre: dict | None, scale: dict | None, wide: float
) -> Windows:
    """Windows of a plan for all of the densities, and for parameters near theirs."""
    stretches = [(0, FEWEST)]
    if centre is not None and scale is not None:
        name = lone_count(densities[0])
        middle, reach = np.asarray(centre[name]), wide * np.asarray(scale[name])
        low, high = int(max(np.min(middle - reach), 0)), int(np.max(middle + reach)) + 1
        stretches.append((0 if high <= CHEAP else low, max(high, low + 1)))
    for density in densities:
        seen = look(density)
        if np.all(seen.values < np.inf) and not np.all(np.isneginf(seen.values)) and _falls(seen):
            found = windows_of(seen)
            stretches += found.stretches if found.states <= MAX_STATES else [(0, MAX_STATES)]
    windows = from_zero(joined(stretches))
    fewer = strided(windows, CHEAP)
    if all(_stands_for_all(one, fewer, terms(one, fewer.counts())) for one in densities):
        return fewer
    return strided(windows, MAX_STATES)


def plan_on(density: Density, windows: Windows) -> Plan:
    """The plan of these windows, filled up to a power of two by states without weight."""
    counts = windows.counts()
    size = 1 << (len(counts) - 1).bit_length()
    weights = np.full(size, -np.inf)
    weights[: len(counts)] = math.log(windows.stride)
    events = as_events(density, np.pad(counts, (0, size - len(counts)), mode="edge"))
    return Plan(events, jnp.asarray(weights, jnp.result_type(float)))


def finer(windows: Windows, doublings: int) -> Windows:
    """Windows that reach twice as far, so often, with strides of a third."""
    for _ in range(doublings):
        halves = [(stop - start) // 2 for start, stop in windows.stretches]
        moved = [
            (max(start - half, 0), 2 * stop if start == 0 else stop + half)
            for (start, stop), half in zip(windows.stretches, halves, strict=True)
        ]
        windows = joined(moved)._replace(stride=windows.stride // 3 | 1)
    return windows


__all__ = ["CountSum", "SumOutcome", "count_plan", "finer", "lone_count", "plan_on", "plan_windows", "sum_over_count"]

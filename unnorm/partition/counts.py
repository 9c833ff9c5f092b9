"""log Z of a density of one count: a sum that is followed until its tail is bounded."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import Finding
from unnorm.partition.base import LogZ, measures
from unnorm.partition.nodes import MAX_STATES, Plan

FEWEST = 2**10  # states that are always summed, so that a second mode may lie some way off
TAIL = 1e-12  # share of Z that may lie beyond the last state


class Truncated(NamedTuple):
    """The sum over 0, 1, ..., states − 1, and which share of Z the terms beyond are reckoned to hold."""

    states: int
    log_sum: float
    tail: float  # infinite where the terms do not fall; NaN where one is no number


def lone_count(density: Density) -> str | None:
    """The name of the only variable, if that is one count."""
    (name, support), *others = density.variables.items()
    unlisted = support.discrete and support.states is None
    return name if unlisted and not others and math.prod(density.shapes()[name]) == 1 else None


def truncated(density: Density, least: int = FEWEST) -> Truncated:
    """Sum to the first power of two at which the tail is below `TAIL`.

    The sums over (M/4, M/2] and (M/2, M] fall at a rate q; their geometric continuation, last · q / (1 − q), is what
    lies beyond: near exact for a power law, and far too much for tails that fall faster.
    """
    states = 1 << math.ceil(math.log2(max(least, FEWEST)))
    values = np.asarray(_values(density, _counts(density, 0, states)), float)
    while True:
        total, before, last = (
            _log_sum(part) for part in (values, values[states // 4 : states // 2], values[states // 2 :])
        )
        tail = _beyond(total, before, last)
        if not tail > TAIL or states >= MAX_STATES:
            return Truncated(states, total, tail)
        values = np.concatenate([values, np.asarray(_values(density, _counts(density, states, 2 * states)))])
        states *= 2


def _log_sum(values: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):  # a NaN is told by the caller
        return float(np.logaddexp.reduce(values))


def _beyond(total: float, before: float, last: float) -> float:
    if np.isnan(total) or total == np.inf:
        return math.nan
    if last == -np.inf:
        return 0.0
    rate = math.exp(min(last - before, 0.0))
    return math.inf if rate >= 1 else math.exp(last - total) * rate / (1 - rate)


def _counts(density: Density, start: int, stop: int) -> dict[str, jax.Array]:
    name = lone_count(density)
    counts = jnp.arange(start, stop, dtype=jnp.result_type(float))
    return {name: counts.reshape(-1, *density.shapes()[name])}


@jax.jit
def _values(density: Density, events: dict) -> jax.Array:
    return jax.vmap(density.log_density)(events)


def count_plan(density: Density, centre: dict | None, scale: dict | None, wide: float) -> Plan:
    """The states that hold Z, and at least those within `wide` scales of the centre; a divergent sum is cut off."""
    name, least = lone_count(density), FEWEST
    if centre is not None and scale is not None:
        least = min(int(np.max(np.asarray(centre[name]) + wide * np.asarray(scale[name]))) + 1, MAX_STATES)
    found = truncated(density, least)
    events = _counts(density, 0, found.states if found.tail <= TAIL else max(least, FEWEST))
    return Plan(events, jnp.zeros(len(events[name])))


def summed(density: Density) -> LogZ:
    """log Z with the reckoned tail as its error, and a finding where the sum has not converged."""
    found, name, findings = truncated(density), lone_count(density), []
    value, error = found.log_sum, 0.0 if found.tail <= TAIL else found.tail
    if np.isnan(found.tail):
        findings.append(
            Finding(f"the log-density of {density.name} is NaN or +infinity at a count", "correct the function")
        )
    elif found.tail == np.inf:
        value, error = math.inf, math.nan
        what = f"{density.name} cannot be normalized: its terms do not fall up to {name} = {found.states - 1:,}"
        findings.append(Finding(what, "restrict the parameters so that the tail falls"))
    elif error:
        what = f"the sum over {name} has not converged at {found.states:,} states: about {error:.1e} of Z lies beyond"
        findings.append(Finding(what, "give the density a tail that falls faster"))
    return LogZ(
        value=value,
        standard_error=error if not np.isnan(found.tail) else math.nan,
        evaluations={"values": found.states, "gradients": 0},
        verdict="unreliable" if findings else "exact",
        measure=measures(density),
        estimator="exact",
        findings=findings,
    )

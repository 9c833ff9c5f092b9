"""log Z without chance: enumeration, and fixed plans of events on which fitting differentiates it."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from unnorm.density import Density
from unnorm.diagnostics.verdict import NOTE, Finding, FindingCode
from unnorm.methods import method, static
from unnorm.partition.base import LogZ, measures
from unnorm.partition.counts import count_plan, lone_count, summed
from unnorm.partition.declared import CHEAP, declared
from unnorm.partition.elimination import Pairwise, Refused, eliminated, has_elimination, pairwise
from unnorm.partition.frame import find_frame
from unnorm.partition.grid import Integrand, leaks, open_sides, range_of, reach
from unnorm.partition.nodes import (
    MAX_DIMENSIONS,
    MAX_STATES,
    Frame,
    Plan,
    as_flat,
    count_states,
    dimensions_within_reach,
    enumerate_states,
    free_size,
    listed_states,
    log_integral,
    nodes_on,
    states_at,
)
from unnorm.partition.quadrature import ROUNDING, Quadrature, refine

BLOCK = 4096
MOST_NODES = 2**20  # of a plan: a fit goes through them at every step
WIDE = 40.0  # scales: how far a plan reaches at least, when the caller knows where the mass is
PLENTY = {1: 401, 2: 129, 3: 65}  # points on an axis at least, then


@method
class Exact:
    """log Z by summing over every state; for up to three continuous dimensions by `Quadrature`.

    Z = Σ_x p̃(x), in blocks, so that memory stays bounded. More states are summed by variable elimination where the
    sites interact in pairs and few at a time (a chain, a strip, a small lattice): that is found out by differences of
    log p̃, and checked at other states. The sum over one count ends where less than 1e-12 of Z is reckoned to lie
    beyond; a sum that does not come there is said not to have converged. A closed form that the density declares goes
    first; where a sum or an integral is cheap it is held against that, and a contradiction is the verdict "disagree".

    Args:
        max_states: more states than this are not enumerated.

    Raises:
        ValueError: the states cannot be listed, or are too many and elimination does not serve them.

    Example:
        >>> import unnorm as un
        >>> free_spins = un.Density(lambda x: 0.0 * x.sum(), {"x": un.Spin[3]})
        >>> round(un.log_z(free_spins, Exact(), seed=0).value, 4)  # log 8
        2.0794

    References:
        Besag (1974), doi:10.1111/j.2517-6161.1974.tb00999.x (what it normalizes); Dechter (1999),
        doi:10.1016/S0004-3702(99)00059-4 (elimination).
    """

    max_states: int = static(2**24, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        density = density.charted()
        if density._log_z() is None:
            return self._computed(density, key)
        return declared(density, (lambda: self._computed(density, key)) if _is_cheap(density) else None)

    def _computed(self, density: Density, key: jax.Array) -> LogZ:
        if free_size(density):
            dimensions_within_reach(density)
            return Quadrature()(density, key)
        if lone_count(density):
            return summed(density)
        count = count_states(density)
        if count is None or count <= self.max_states:
            return _summed_states(density, listed_states(density, self.max_states))
        try:
            found = pairwise(density)
        except Refused as why:
            listed_states(density, self.max_states, f", and elimination does not serve it: {why}")
        return _eliminated(density, found)


def _is_cheap(density: Density) -> bool:
    return has_plan(density) and (lone_count(density) is not None or count_states(density) <= CHEAP)


def _summed_states(density: Density, count: int) -> LogZ:
    value, bad = _enumerated(density, count)
    findings = []
    if bad or not np.isfinite(value):
        what = f"NaN or +infinity at {int(bad):,} of {count:,} states" if bad else "minus infinity at every state"
        findings = [
            Finding(f"the log-density of {density.name} is {what}", "correct the function", code=FindingCode.NOT_FINITE)
        ]
    return LogZ(
        value=float("nan") if bad else float(value),
        standard_error=0.0 if not findings else float("nan"),
        evaluations={"values": count, "gradients": 0},
        verdict="unreliable" if findings else "exact",
        measure=measures(density),
        estimator="exact",
        findings=findings,
    )


def _eliminated(density: Density, found: Pairwise) -> LogZ:
    value, largest = eliminated(found)
    what = (
        f"{len(found.sites)} sites in {len(found.pairs)} pairs were eliminated, the largest table having {largest:,} "
        "entries; that log p̃ is a sum over sites and pairs was checked at random and at likely states"
    )
    findings = [Finding(what, "nothing is to be done", NOTE)]
    if not math.isfinite(value):
        findings.insert(
            0,
            Finding(
                f"the sum of {density.name} over its states is {value}",
                "correct the function",
                code=FindingCode.NOT_FINITE,
            ),
        )
    return LogZ(
        value=value,
        standard_error=0.0 if math.isfinite(value) else math.nan,
        evaluations=found.evaluations,
        verdict="exact" if math.isfinite(value) else "unreliable",
        measure=measures(density),
        estimator="exact",
        findings=findings,
    )


@functools.partial(jax.jit, static_argnums=1)
def _enumerated(density: Density, count: int):
    """log Σ_x p̃(x) and the number of states with a value that is no log-density."""

    def block(start):
        index = start + jnp.arange(min(BLOCK, count))
        values = jax.vmap(density.log_density)(states_at(density, jnp.minimum(index, count - 1)))
        bad = (jnp.isnan(values) | jnp.isposinf(values)) & (index < count)
        return logsumexp(jnp.where(index < count, values, -jnp.inf)), jnp.sum(bad)

    sums, bad = jax.lax.map(block, jnp.arange(0, count, BLOCK))
    return logsumexp(sums), jnp.sum(bad)


def has_exact(density: Density) -> bool:
    """Whether `Exact` gives log Z quickly: a declared closed form, a plan's sum or integral, or elimination."""
    return density._log_z() is not None or has_plan(density) or has_elimination(density)


# -- plans -----------------------------------------------------------------------------
def has_plan(density: Density) -> bool:
    """Whether `plan_for` serves the density: few enough states or one count, at most three continuous dimensions."""
    density = density.charted()
    if lone_count(density):
        return True
    size, count = free_size(density), count_states(density)
    return size <= MAX_DIMENSIONS and count is not None and count <= (MAX_STATES if not size else most_states(size))


def most_states(size: int) -> int:
    return MOST_NODES // PLENTY[size] ** size


def plan_for(density: Density, centre: dict | None = None, scale: dict | None = None, tolerance: float = 1e-9) -> Plan:
    """Events and weights fixed once, on which `log_integral` is log Z for parameters near and about the present ones.

    Args:
        density: bare, its arrays in the dtype of the plan.
        centre: ``{name: array of the free shape}``: where the mass will be, in the unconstrained coordinates of the
            supports' charts (the data's mean); for continuous variables and a count. None: it is found from the density
            as it stands.
        scale: as `centre`: how wide (the data's standard deviation).
        tolerance: of log Z, for p̃ and for p̃², which stands for densities narrower than the present one.

    Returns:
        Plan(events, log_weights), for ``log_integral(density, plan.events, plan.log_weights)``.

    Raises:
        ValueError: a variable cannot be enumerated, or there are more than three continuous dimensions.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, a: a * x, {"x": un.Spin}, {"a": (un.Real, 0.0)})
        >>> round(float(log_integral(p, *plan_for(p))), 4)  # log 2
        0.6931
    """
    density = density.charted()
    size = dimensions_within_reach(density)
    if lone_count(density):
        return count_plan(density, centre, scale, WIDE)
    if not size:
        events = enumerate_states(density)
        return Plan(events, jnp.zeros(len(next(iter(events.values())))))
    integrand = Integrand(density, most_states(size))
    tolerance = max(tolerance, ROUNDING * float(jnp.finfo(jnp.result_type(float)).eps))
    known = centre is not None and scale is not None
    if known:
        frame, steps = (
            Frame(as_flat(density, centre, "centre"), np.diag(as_flat(density, scale, "scale"))),
            np.full(size, 0.25),
        )
    else:
        frame, steps, *_ = find_frame(integrand, far=True)
    sides = plan_sides(integrand, frame, steps, known)
    points = _plan_points(integrand, frame, steps, sides, tolerance)
    return nodes_on(density, frame, [np.linspace(*side, n) for side, n in zip(sides, points, strict=True)])


def plan_sides(integrand: Integrand, frame: Frame, steps: np.ndarray, known: bool) -> np.ndarray:
    """Where p̃ and √p̃ have mass: the root stands for wider densities; a density without an integral is not followed."""
    least = np.arcsinh(WIDE if known else 1.0)
    sides = np.array([[-least, least]] * len(frame.centre))
    for power in (1.0, 0.5):
        found = reach(integrand, frame, steps, power=power)
        if np.isfinite(found.total) and not leaks(found, 1e-6):
            wanted = range_of(found)
            sides = np.stack([np.minimum(sides[:, 0], wanted[:, 0]), np.maximum(sides[:, 1], wanted[:, 1])], 1)
    return sides


def _plan_points(
    integrand: Integrand, frame: Frame, steps: np.ndarray, sides: np.ndarray, tolerance: float
) -> list[int]:
    """Points per axis at which p̃ and p̃² have converged, within what a fit can afford."""
    size = len(sides)
    points = [PLENTY[size]] * size
    for power in (1.0, 2.0):
        level, error = refine(integrand, frame, steps, sides, tolerance, MOST_NODES, power)
        if np.isfinite(level.total) and error <= tolerance and not open_sides(level, tolerance).any():
            points = [max(n, len(axis)) for n, axis in zip(points, level.axes, strict=True)]
    return points


__all__ = ["Exact", "Plan", "enumerate_states", "has_exact", "has_plan", "log_integral", "plan_for"]

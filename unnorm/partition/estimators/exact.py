"""log Z without chance: enumeration, and fixed plans of events on which fitting differentiates
it.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.count_series import SumOutcome, lone_count, sum_over_count
from unnorm.integration.nodes import require_low_dimension
from unnorm.integration.plan import has_plan
from unnorm.integration.states import count_states, enumerable_count, states_at
from unnorm.integration.variable_elimination import eliminate, has_elimination
from unnorm.interactions.elimination_order import StructureError
from unnorm.interactions.pairwise import Pairwise, pairwise_form
from unnorm.partition.base import LogZ, measures
from unnorm.partition.estimators.quadrature import Quadrature


@method
class Exact:
    """log Z by summing over every state; for up to three continuous dimensions by `Quadrature`.

    Z = Σ_x p̃(x), in blocks, so that memory stays bounded. More states are summed by variable
    elimination where the sites interact in pairs and few at a time (a chain, a strip, a small
    lattice): that is found out by differences of log p̃, and checked at other states. The sum over
    one count ends where less than 1e-12 of Z is reckoned to lie beyond; a sum that does not come
    there is said not to have converged. A closed form that the density declares goes first; where a
    sum or an integral is cheap it is held against that, and a contradiction is the verdict
    "disagree".

    Args:
        max_states: more states than this are not enumerated.

    Raises:
        ValueError: the states cannot be listed, or are too many and elimination does not serve
            them.

    Example:
        >>> import unnorm as un
        >>> free_spins = un.Density(lambda x: 0.0 * x.sum(), {"x": un.Spin[3]})
        >>> round(un.log_z(free_spins, Exact(), seed=0).value, 4)  # log 8
        2.0794

    References:
        Besag (1974), doi:10.1111/j.2517-6161.1974.tb00999.x (what it normalizes); Dechter (1999),
        doi:10.1016/S0004-3702(99)00059-4 (elimination).
    """

    max_states: int = static(default=2**24, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        density = density.on_chart()
        if density._log_z() is None:
            return self._compute(density, key)
        return _analytic(
            density, (lambda: self._compute(density, key)) if _is_cheap(density) else None
        )

    def _compute(self, density: Density, key: jax.Array) -> LogZ:
        if Unconstrained(density).dimension:
            require_low_dimension(Unconstrained(density))
            return Quadrature()(density, key)
        if lone_count(density):
            return _count_series(density)
        count = count_states(density)
        if count is None or count <= self.max_states:
            return _sum_states(density, enumerable_count(density, self.max_states))
        try:
            found = pairwise_form(density)
        except StructureError as why:
            enumerable_count(
                density, self.max_states, f", and elimination does not serve it: {why}"
            )
        return _eliminate(density, found)


def _is_cheap(density: Density, max_states: int = 2**16) -> bool:
    """Whether a declared closed form is checked."""
    if not has_plan(density):
        return False
    states = count_states(density)
    return lone_count(density) is not None or (states is not None and states <= max_states)


def _count_series(density: Density, exact_below: float = 1e-8) -> LogZ:
    """The sum over one count; an error of at most `exact_below` counts as exact."""
    found, name = sum_over_count(density), lone_count(density)
    correct = "correct the function"
    reasons = {
        SumOutcome.NOT_FINITE: (
            f"the log-density of {density.name} is NaN or +infinity at a count",
            correct,
            FindingCode.NOT_FINITE,
        ),
        SumOutcome.NO_MASS: (
            f"the log-density of {density.name} is minus infinity at every count evaluated",
            correct,
            FindingCode.NOT_FINITE,
        ),
        SumOutcome.DIVERGES: (
            f"{density.name} cannot be normalized: its terms do not fall up to "
            f"{name} = {found.last:.3g}",
            "restrict the parameters so that the tail falls",
            FindingCode.NOT_NORMALIZABLE,
        ),
        SumOutcome.NOT_CONVERGED: (
            f"the sum over {name} has not converged at {found.terms:,} states: about "
            f"{found.beyond:.1e} of Z lies beyond",
            "give the density a tail that falls faster",
            FindingCode.MASS_NOT_SEEN,
        ),
    }
    findings, verdict = [], "exact" if found.error <= exact_below else "ok"
    if found.outcome in reasons:
        what, advice, code = reasons[found.outcome]
        findings, verdict = [Finding(what, advice, code=code)], "unreliable"
    return LogZ(
        value=found.log_z,
        standard_error=found.error,
        evaluations={"values": found.states, "gradients": 0},
        verdict=verdict,
        measure=measures(density),
        estimator="exact",
        findings=findings,
    )


def _sum_states(density: Density, count: int) -> LogZ:
    value, bad = _enumerate(density, count)
    findings = []
    if bad or not np.isfinite(value):
        what = (
            f"NaN or +infinity at {int(bad):,} of {count:,} states"
            if bad
            else "minus infinity at every state"
        )
        findings = [
            Finding(
                f"the log-density of {density.name} is {what}",
                "correct the function",
                code=FindingCode.NOT_FINITE,
            )
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


def _eliminate(density: Density, found: Pairwise) -> LogZ:
    value, largest = eliminate(found)
    what = (
        f"{len(found.sites)} sites in {len(found.pairs)} pairs were eliminated, the largest table "
        f"having {largest:,} entries; that log p̃ is a sum over sites and pairs was checked at "
        "random and at likely states"
    )
    findings = [Finding(what, "", NOTE)]
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


@compiled(static_argnames=("count", "size"))
def _enumerate(density: Density, count: int, size: int = 4096) -> tuple[jax.Array, jax.Array]:
    """log Σ_x p̃(x) and the number of states with a value that is no log-density."""

    def block(start):
        index = start + jnp.arange(min(size, count))
        values = jax.vmap(density.log_density)(states_at(density, jnp.minimum(index, count - 1)))
        bad = (jnp.isnan(values) | jnp.isposinf(values)) & (index < count)
        return logsumexp(jnp.where(index < count, values, -jnp.inf)), jnp.sum(bad)

    sums, bad = jax.lax.map(block, jnp.arange(0, count, size))
    return logsumexp(sums), jnp.sum(bad)


def _analytic(density: Density, computed: Callable[[], LogZ] | None) -> LogZ:
    """The declared closed form; where `computed` contradicts it, that value, and the verdict
    "disagree".

    Args:
        density: has a closed form.
        computed: computes log Z by another exact method; None where that is not cheap.
    """
    declared = density._log_z()
    assert declared is not None
    value, findings, spent = float(declared), [], {"values": 0, "gradients": 0}
    other = None if computed is None else computed()
    if other is not None:
        spent = other.evaluations
        if _contradicts(value, other):
            what = (
                f"the closed form that {density.name} declares is {value:.10g}, and "
                f"{other.estimator} gives {other.value:.10g}"
            )
            contradiction = Finding(
                what,
                "correct log_z= of the declaration, or the function: they contradict each other",
                code=FindingCode.ESTIMATES_DISAGREE,
            )
            return dataclasses.replace(
                other,
                verdict="disagree",
                estimator="exact",
                findings=[contradiction, *other.findings],
            )
    checked = other is not None and other.passed
    how = f"{other.estimator} agrees" if other is not None and checked else "it was not checked"
    findings.append(Finding(f"declared closed form; {how}", "", NOTE))
    if not math.isfinite(value):
        findings.insert(
            0,
            Finding(
                f"the closed form that {density.name} declares is {value}",
                "correct log_z=",
                code=FindingCode.NOT_FINITE,
            ),
        )
    return LogZ(
        value=value,
        standard_error=0.0 if math.isfinite(value) else math.nan,
        evaluations=spent,
        verdict="exact" if math.isfinite(value) else "unreliable",
        measure=measures(density),
        estimator="exact",
        findings=findings,
    )


def _contradicts(
    value: float, other: LogZ, tolerance: float = 1e-6, roundings: float = 1024
) -> bool:
    """Whether another exact method gives another value; one that did not converge shows nothing.

    Args:
        value: the declared log Z.
        other: by the other method.
        tolerance: relative.
        roundings: the same in units of the epsilon of the dtype.
    """
    if not other.passed and not math.isinf(other.value):
        return False
    if math.isinf(other.value) or not math.isfinite(value):
        return value != other.value
    tolerance = max(tolerance, roundings * float(jnp.finfo(jnp.result_type(float)).eps))
    allowed = tolerance * (1 + abs(other.value)) + 5 * other.standard_error
    return abs(value - other.value) > allowed


def has_exact(density: Density) -> bool:
    """Whether `Exact` gives log Z quickly: a declared closed form, a plan's sum or integral, or
    elimination.
    """
    return density._log_z() is not None or has_plan(density) or has_elimination(density)


__all__ = ["Exact", "has_exact"]

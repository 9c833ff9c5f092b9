"""Agreement of several estimates of log Z, and their combined result."""

import math
from dataclasses import replace

import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.partition.base import LogZ, measures
from unnorm.partition.options import AGREEMENT, AgreementCriteria

# means of weights are unbiased for Z and rarely lie far above it (Markov)
MEANS_OF_WEIGHTS = ("importance_sampling", "smc")
ADVICE = "raise max_evaluations, or reparametrize"


def reliable(estimates: list[LogZ]) -> list[LogZ]:
    """The estimates that passed, with a finite error."""
    return [z for z in estimates if z.verdict == "ok" and math.isfinite(z.standard_error)]


def agree(one: LogZ, other: LogZ, criteria: AgreementCriteria = AGREEMENT) -> bool:
    """Whether two estimates differ by no more than their errors allow."""
    error = math.hypot(one.standard_error, other.standard_error)
    return abs(one.value - other.value) <= criteria.standard_errors * error + criteria.tolerance


def weighted_mean(estimates: list[LogZ]) -> tuple[float, float]:
    """The mean weighted by the inverse variances, and its standard error."""
    precisions = 1 / _variances(estimates)
    value = float(precisions @ [z.value for z in estimates] / precisions.sum())
    return value, float(precisions.sum() ** -0.5)


def _variances(estimates: list[LogZ]) -> np.ndarray:
    """The variances of the estimates. Those of annealed ones are pooled and divided by evaluations,
    because each alone is noisy and correlated with its value.
    """
    variances = np.array([max(z.standard_error, 1e-12) ** 2 for z in estimates])
    annealed = [i for i, z in enumerate(estimates) if z.estimator == "smc"]
    spent = np.array([max(sum(estimates[i].evaluations.values()), 1) for i in annealed])
    if annealed:
        variances[annealed] = np.mean(variances[annealed] * spent) / spent
    return variances


def conclusive(estimates: list[LogZ], target_error: float) -> list[LogZ] | None:
    """The reliable estimates if at least two exist, all agree, and their mean meets the target;
    else None.
    """
    good = _drop_low_estimates(reliable(estimates))
    if len(good) < 2 or weighted_mean(good)[1] > target_error:
        return None
    return None if contradicting(good) else good


def contradicting(estimates: list[LogZ]) -> bool:
    """Whether two reliable estimates disagree."""
    good = reliable(estimates)
    return not all(agree(one, other) for one in good for other in good)


def _drop_low_estimates(good: list[LogZ]) -> list[LogZ]:
    """Reliable estimates without those that miss mass which two others found.

    Two kinds are dropped. A bridge below all others, which agree: chains that miss a mode find too
    little mass. Annealed estimates below two others, one of them nested sampling: annealing does
    not cross a first-order phase transition.
    """
    others = [z for z in good if z.estimator != "bridge"]
    bridges = [z for z in good if z not in others]
    if len(others) > 1 and bridges and all(_below(z, others) for z in bridges):
        good = others
    others = [z for z in good if z.estimator != "smc"]
    low = [z for z in good if _below(z, others)]
    nested = any(z.estimator == "nested_sampling" for z in others)
    trusted = nested and len(others) > 1 and not contradicting(others)
    if trusted and all(z.estimator == "smc" for z in low):
        return [z for z in good if z not in low]
    return good


def _below(one: LogZ, others: list[LogZ]) -> bool:
    """Whether an estimate lies below all others, and disagrees with one of them."""
    return all(one.value < z.value for z in others) and not all(agree(one, z) for z in others)


def far_above(
    estimates: list[LogZ], good: list[LogZ], criteria: AgreementCriteria = AGREEMENT
) -> LogZ | None:
    """The highest unreliable mean of weights far above the reliable estimates; or None.

    By Markov's inequality such a mean exceeds Z with probability at most Z / mean, and mostly with
    a large error. If it lies many of its errors above, the reliable estimates may all miss the
    same mass.
    """
    value, error = weighted_mean(good)
    over = [
        z
        for z in estimates
        if z.estimator in MEANS_OF_WEIGHTS
        and z.verdict != "ok"
        and math.isfinite(z.standard_error)
        and z.value - value
        > criteria.standard_errors * math.hypot(z.standard_error, error) + criteria.tolerance
    ]
    return max(over, key=lambda z: z.value, default=None)


def _best(estimates: list[LogZ]) -> tuple[float, float]:
    """The best unreliable estimate: an annealed one if there is any, because it is unbiased."""
    finite = [z for z in estimates if math.isfinite(z.value) and math.isfinite(z.standard_error)]
    if not finite:
        return math.nan, math.nan
    best = max(finite, key=lambda z: (z.estimator == "smc", -z.standard_error))
    return best.value, best.standard_error


# -- the result ------------------------------------------------------------------------
def combine(
    density: Density,
    estimates: list[LogZ],
    agreed: list[LogZ] | None,
    veto: LogZ | None,
    evaluations: dict[str, int],
    target_error: float,
) -> LogZ:
    """The result of "auto".

    Args:
        density: for its name and measures.
        estimates: all estimates.
        agreed: the conclusive ones, or None.
        veto: an unreliable estimate far above these, or None.
        evaluations: the total.
        target_error: the target of the standard error.
    """
    good = agreed or reliable(estimates)
    value, error = weighted_mean(good) if good else _best(estimates)
    findings, verdict = _assess(
        estimates, good, agreed, veto, sum(evaluations.values()), error, target_error
    )
    lines = [Finding(line(z, verdict == "ok"), "", NOTE) for z in estimates]
    return LogZ(
        value, error, evaluations, verdict, measures(density), "auto", findings=[*lines, *findings]
    )


def _assess(
    estimates: list[LogZ],
    good: list[LogZ],
    agreed: list[LogZ] | None,
    veto: LogZ | None,
    spent: int,
    error: float,
    target_error: float,
) -> tuple[list[Finding], str]:
    disagree = FindingCode.ESTIMATES_DISAGREE
    if agreed is None and len(good) < 2:
        return _too_few(estimates, good), "unreliable"
    if agreed is None and contradicting(good):
        return [Finding("reliable estimates contradict each other", ADVICE, code=disagree)], (
            "disagree"
        )
    if agreed is None:
        late = error > AGREEMENT.max_error_ratio * target_error
        what = (
            f"the standard error is {error:.2g} after {spent:,} evaluations, target {target_error}"
        )
        severity = ERROR if late else WARNING
        found = Finding(what, "raise max_evaluations", severity, code=FindingCode.LARGE_ERROR)
        return [found], "unreliable" if late else "ok"
    if veto is not None:
        value, error = weighted_mean(agreed)
        what = (
            f"{veto.estimator} finds log Z = {veto.value:.5g} ± {veto.standard_error:.2g}, above "
            f"the {value:.5g} ± {error:.2g} of the estimates that agree: weights err mostly low, "
            "so that these may all have missed mass"
        )
        advice = "raise max_evaluations, or pass draws that reach it as base= of un.estimators.SMC"
        return [Finding(what, advice, code=disagree)], "disagree"
    missed = [z.estimator for z in reliable(estimates) if z not in agreed]
    if missed:
        what = f"{' and '.join(missed)} missed a part of the mass that other estimates found"
        return [Finding(what, "", NOTE)], "ok"
    return [], "ok"


def _too_few(estimates: list[LogZ], good: list[LogZ]) -> list[Finding]:
    found = f"{good[0].estimator} alone" if good else "none"
    what = f"two reliable estimates are needed, and there is {found}"
    errors = [f for z in estimates if z not in good for f in z.findings if f.severity == ERROR]
    return [Finding(what, ADVICE, code=FindingCode.TOO_FEW_ESTIMATES), *errors]


def line(one: LogZ, confirmed: bool = True) -> str:
    """An estimate in one line; "ok" only where the combined result is."""
    verdict = one.verdict if confirmed or one.verdict != "ok" else "not confirmed"
    return f"{one.estimator}: {one.value:.6g} ± {one.standard_error:.2g}, {verdict}"


def compare_with_draws(control: LogZ, found: LogZ, source: str = "the chains") -> LogZ:
    """The estimate, unreliable where importance sampling reliably finds more mass than its source
    had.
    """
    if not control.passed or control.value < found.value or agree(control, found):
        return found
    what = f"{source} missed mass: draws from the pilot's proposal find log Z = {control.value:.6g}"
    advice = "use un.estimators.SMC, ImportanceSampling or 'auto'"
    missed = Finding(what, advice, code=FindingCode.MASS_NOT_SEEN)
    return replace(found, verdict="unreliable", findings=[*found.findings, missed])


__all__ = [
    "agree",
    "combine",
    "compare_with_draws",
    "conclusive",
    "contradicting",
    "far_above",
    "line",
    "reliable",
    "weighted_mean",
]  # fmt: skip

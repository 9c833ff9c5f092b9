"""What several routes to log Z say together, and in which words."""

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.partition.base import LogZ, measures
from unnorm.partition.combine import best_of, combined, contradicting, healthy

WORST = 2.0  # target errors: a standard error above is not called ok
MORE = "raise max_evaluations, or reparametrize"
DISAGREE = FindingCode.ESTIMATES_DISAGREE


def told(
    density: Density,
    routes: list[LogZ],
    done: list[LogZ] | None,
    veto: LogZ | None,
    cost: dict[str, int],
    target_error: float,
) -> LogZ:
    """The answer of "auto".

    Args:
        density: bare.
        routes: all that were taken.
        done: those that settled it, or None.
        veto: an unreliable route far above these, or None.
        cost: of everything.
        target_error: the standard error that was aimed at.
    """
    good = done or healthy(routes)
    value, error = combined(good) if good else best_of(routes)
    findings, verdict = _judged(routes, good, done, veto, sum(cost.values()), error, target_error)
    lines = [Finding(line_of(route, verdict == "ok"), "", NOTE) for route in routes]
    return LogZ(
        value, error, cost, verdict, measures(density), "auto", findings=[*lines, *findings]
    )


def _judged(
    routes, good, done, veto, spent: int, error: float, target_error: float
) -> tuple[list[Finding], str]:
    if done is None and len(good) >= 2 and not contradicting(good):
        late = error > WORST * target_error
        what = (
            f"the standard error is {error:.2g} after {spent:,} evaluations, target {target_error}"
        )
        found = Finding(
            what, "raise max_evaluations", ERROR if late else WARNING, code=FindingCode.LARGE_ERROR
        )
        return [found], "unreliable" if late else "ok"
    if done is None and len(good) >= 2:
        return [Finding("healthy routes contradict each other", MORE, code=DISAGREE)], "disagree"
    if done is None:
        found = good[0].estimator if good else "none"
        what = f"two healthy routes are needed, and there is {found}" + (" alone" if good else "")
        errors = [f for r in routes if r not in good for f in r.findings if f.severity == ERROR]
        return [Finding(what, MORE, code=FindingCode.TOO_FEW_ESTIMATES), *errors], "unreliable"
    if veto is not None:
        value, error = combined(done)
        what = (
            f"{veto.estimator} finds log Z = {veto.value:.5g} ± {veto.standard_error:.2g}, above "
            f"the {value:.5g} ± "
            f"{error:.2g} of the routes that agree: weights err mostly low, so that these may "
            "all have missed mass"
        )
        advice = "raise max_evaluations, or give draws that reach that mass as base= of un.estimators.SMC"
        return [Finding(what, advice, code=DISAGREE)], "disagree"
    if len(done) < len(healthy(routes)):
        missed = [route.estimator for route in healthy(routes) if route not in done]
        what = f"{' and '.join(missed)} missed a part of the mass that other routes found"
        return [Finding(what, "", NOTE)], "ok"
    return [], "ok"


def line_of(route: LogZ, confirmed: bool = True) -> str:
    """A route in one line; "ok" only where the whole is."""
    verdict = route.verdict if confirmed or route.verdict != "ok" else "not confirmed"
    return f"{route.estimator}: {route.value:.6g} ± {route.standard_error:.2g}, {verdict}"


__all__ = ["line_of", "told"]

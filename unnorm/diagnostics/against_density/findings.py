"""Findings from draws held against the density that they are meant to follow."""

import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, listed
from unnorm.declaration.density import Density
from unnorm.diagnostics.against_density.discrete_identities import discrete_check
from unnorm.diagnostics.against_density.missed_modes import mode_findings
from unnorm.diagnostics.against_density.stein import SteinCheck, stein_check
from unnorm.diagnostics.against_density.stein_jumps import explained_by_jumps
from unnorm.diagnostics.draws import Drawn

SURE_MISMATCH = 5.0  # standard errors: above, no chance over all coordinates explains it
EXACT_KERNEL = "use an exact kernel"


def density_findings(drawn: Drawn, p: Density | None) -> list[Finding]:
    """Return what a comparison with the density gives rise to, and what a biased kernel's draws
    lack without one.

    All draws are held against Stein's identity, or its kin for discrete variables. A mismatch is an
    error, but for one that is not sure, and for a density with jumps whose draws keep an identity
    that allows for them.

    Args:
        drawn: the draws; their attribute `biased` holds the kernel's own sentence, empty for an
            exact one.
        p: the density, its dimensions resolved; or None.

    Returns:
        The findings.

    References:
        Gorham and Mackey (2015), arXiv:1506.03039.
    """
    bias = str(drawn.attrs.get("biased", "")).strip().rstrip(".")
    if p is None:
        advice = "pass the density, diagnose(draws, p): biased draws never pass without p"
        return [Finding(bias, advice, code=FindingCode.BIASED_KERNEL)] if bias else []
    outside = list(_outside(drawn, p))
    if outside:
        return [*_unknown(drawn, p), *outside]
    return [*_unknown(drawn, p), *_stein(drawn, p, bias), *mode_findings(drawn, p)]


def _unknown(drawn: Drawn, p: Density):
    extra = [name for name in drawn.values if name not in p.variables]
    if extra:
        yield Finding(
            f"{p.name} has no variable {listed(extra)}, which the draws hold",
            "it is judged by R-hat and ESS alone; pass the density that was sampled if it should "
            "be compared",
            NOTE,
        )


def _outside(drawn: Drawn, p: Density):
    for name, support in p.variables.items():
        value = drawn.values[name]
        flat = value.reshape(-1, *value.shape[2:])
        good = np.asarray(support.valid(flat)).reshape(len(flat), -1).all(1)
        if not good.all():
            worst = np.array2string(flat[np.argmin(good)], precision=4, threshold=6)
            yield Finding(
                f"{(~good).sum():,} of {len(good):,} draws of {name} lie outside {support!r}, "
                f"such as {worst}",
                "pass the density that was sampled, or declare the support that was meant",
                code=FindingCode.OUTSIDE_SUPPORT,
            )


def _stein(drawn: Drawn, p: Density, bias: str):
    if p.covariates:
        if bias:
            yield Finding(
                f"{bias}; no check of that bias is known here for a density with covariates",
                EXACT_KERNEL,
                code=FindingCode.BIASED_KERNEL,
            )
        return
    continuous = any(not support.discrete for support in p.variables.values())
    if continuous:
        yield from _judged(stein_check(p, drawn.values, drawn.labels()), drawn, p, bias)
    if any(support.discrete for support in p.variables.values()):
        check = discrete_check(p, drawn.values, drawn.labels())
        yield from _judged(check, drawn, p, bias if continuous else "", smooth=False)
        if bias and not continuous:
            what = "no check here sees all of that bias for discrete variables"
            yield Finding(f"{bias}; {what}", EXACT_KERNEL, code=FindingCode.BIASED_KERNEL)


def _judged(check: SteinCheck, drawn: Drawn, p: Density, bias: str, smooth: bool = True):
    if check.failed and bias:
        advice = "take a smaller step_size, or an adjusted kernel such as MALA"
        yield Finding(f"{bias}; {_mismatch(check)}", advice, ERROR, FindingCode.STEIN_MISMATCH)
    elif check.failed:
        what = f"The draws do not fit {p.name}: {_mismatch(check)}"
        sure = check.surest > SURE_MISMATCH
        if sure and smooth and explained_by_jumps(p, drawn.values):
            what += (
                f"; {p.name} has a wall or a jump near the draws, where the identity does not hold"
            )
            sure = False
        advice = "check that it is the density that was sampled, or sample longer"
        yield Finding(what, advice, ERROR if sure else WARNING, FindingCode.STEIN_MISMATCH)
    elif bias and smooth:
        yield Finding(
            f"{bias}; Stein's identity finds none, so that it is below what these draws can see "
            f"(about {check.resolution:.2g} of a standard deviation or of a variance)",
            "sample more to see less of it, or use an adjusted kernel such as MALA",
            WARNING,
            code=FindingCode.BIASED_KERNEL,
        )


def _mismatch(check: SteinCheck) -> str:
    """The coordinates that fail, the surest first; + means draws that lie too high or too wide."""

    def sure(one):
        _, _, mean, error = one
        return abs(mean) / error if error > 0 else np.inf

    told = []
    for label, kind, mean, error in sorted(check.failed, key=sure, reverse=True):
        if not (np.isfinite(mean) and error > 0):
            told.append(f"{label} ({kind} {mean:g}, no error to judge it by)")
        elif kind == "location":
            told.append(
                f"{label} (location {-mean:+.2g} sd, {abs(mean) / error:.1f} standard errors)"
            )
        else:
            told.append(f"{label} (variance {-mean:+.2%}, {abs(mean) / error:.1f} standard errors)")
    return f"Stein's identity fails in {listed(told)}"

"""Findings from draws held against the density that they are meant to follow."""

import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, join_names
from unnorm.declaration.density import Density
from unnorm.diagnostics.against_density.discrete_identities import discrete_check
from unnorm.diagnostics.against_density.exact_law import exact_law_findings
from unnorm.diagnostics.against_density.missed_modes import mode_findings
from unnorm.diagnostics.against_density.stein import SteinCheck, stein_check
from unnorm.diagnostics.against_density.stein_jumps import jumps_explain
from unnorm.diagnostics.draws import Draws
from unnorm.diagnostics.options import STEIN

EXACT_KERNEL = "use an exact kernel"


def density_findings(draws: Draws, p: Density | None) -> list[Finding]:
    """The findings of a comparison with the density; without one, that biased draws need it.

    All draws are checked by Stein's identity, or its counterparts for discrete variables. A
    mismatch is an error, unless chance can explain it, or the density has jumps and the draws
    satisfy an identity that allows for them.

    Args:
        draws: the draws; their attribute `biased` holds the kernel's own sentence, empty for an
            exact one.
        p: the density, its dimensions resolved; or None.

    Returns:
        The findings.

    References:
        Gorham and Mackey (2015), arXiv:1506.03039.
    """
    bias = str(draws.attrs.get("biased", "")).strip().rstrip(".")
    if p is None:
        advice = "pass the density, diagnose(draws, p): biased draws never pass without p"
        return [Finding(bias, advice, code=FindingCode.BIASED_KERNEL)] if bias else []
    outside = list(_outside(draws, p))
    if outside:
        return [*_unknown(draws, p), *outside]
    return [*_unknown(draws, p), *_stein(draws, p, bias), *mode_findings(draws, p)]


def _unknown(draws: Draws, p: Density):
    known = {**p.variables, **p.deterministic_axes()}
    extra = [name for name in draws.values if name not in known]
    if extra:
        yield Finding(
            f"{p.name} has no variable {join_names(extra)}, which the draws hold",
            "only its R-hat and ESS were checked; pass the density that was sampled to compare it",
            NOTE,
        )


def _outside(draws: Draws, p: Density):
    for name, support in p.variables.items():
        value = draws.values[name]
        flat = value.reshape(-1, *value.shape[2:])
        valid: np.ndarray = np.asarray(support.valid(flat)).reshape(len(flat), -1)
        good = np.all(valid, axis=1)
        if not good.all():
            worst = np.array2string(flat[np.argmin(good)], precision=4, threshold=6)
            yield Finding(
                f"{(~good).sum():,} of {len(good):,} draws of {name} lie outside {support!r}, "
                f"such as {worst}",
                "pass the density that was sampled, or declare the support that was meant",
                code=FindingCode.OUTSIDE_SUPPORT,
            )


def _stein(draws: Draws, p: Density, bias: str):
    if p.covariates:
        if bias:
            yield Finding(
                f"{bias}; no check of that bias exists for a density with covariates",
                EXACT_KERNEL,
                code=FindingCode.BIASED_KERNEL,
            )
        return
    continuous = any(not support.discrete for support in p.variables.values())
    if continuous:
        yield from _of_check(stein_check(p, draws.values, draws.labels()), draws, p, bias)
    if any(support.discrete for support in p.variables.values()):
        check = discrete_check(p, draws.values, draws.labels())
        found = list(_of_check(check, draws, p, bias if continuous else "", smooth=False))
        yield from found
        if not any(finding.severity == ERROR for finding in found):
            yield from exact_law_findings(draws, p)
        if bias and not continuous:
            what = "no check detects all of that bias for discrete variables"
            yield Finding(f"{bias}; {what}", EXACT_KERNEL, code=FindingCode.BIASED_KERNEL)


def _of_check(check: SteinCheck, draws: Draws, p: Density, bias: str, smooth: bool = True):
    if check.mismatches and bias:
        advice = "take a smaller step_size, or an adjusted kernel such as MALA"
        yield Finding(f"{bias}; {_mismatch(check)}", advice, ERROR, FindingCode.STEIN_MISMATCH)
    elif check.mismatches:
        what = f"The draws do not fit {p.name}: {_mismatch(check)}"
        certain = check.largest_z > STEIN.certain
        if certain and smooth and jumps_explain(p, draws.values):
            what += (
                f"; {p.name} has a wall or a jump near the draws, where the identity does not hold"
            )
            certain = False
        advice = "check that it is the density that was sampled, or sample longer"
        yield Finding(what, advice, ERROR if certain else WARNING, FindingCode.STEIN_MISMATCH)
    elif bias and smooth:
        yield Finding(
            f"{bias}; Stein's identity detects none, so it is below what these draws can resolve "
            f"(about {check.resolution:.2g} of a standard deviation or of a variance)",
            "sample more to resolve a smaller bias, or use an adjusted kernel such as MALA",
            WARNING,
            code=FindingCode.BIASED_KERNEL,
        )


def _mismatch(check: SteinCheck) -> str:
    """The coordinates that fail, by z-score; + means draws that lie too high or too wide."""

    def z_score(one):
        _, _, mean, error = one
        return abs(mean) / error if error > 0 else np.inf

    parts = []
    for label, kind, mean, error in sorted(check.mismatches, key=z_score, reverse=True):
        if not (np.isfinite(mean) and error > 0):
            parts.append(f"{label} ({kind} {mean:g}, no standard error)")
        elif kind == "location":
            parts.append(
                f"{label} (as a Gaussian moved by {-mean:+.2g} sd, "
                f"{abs(mean) / error:.1f} standard errors)"
            )
        elif kind in ("skewness", "tails"):
            parts.append(f"{label} (its {kind}, {abs(mean) / error:.1f} standard errors)")
        elif kind == "pair":
            parts.append(
                f"{label} (as Gaussians with a correlation {-mean:+.2g} off, "
                f"{abs(mean) / error:.1f} standard errors)"
            )
        else:
            parts.append(
                f"{label} (as a Gaussian with variance {-mean:+.2%}, "
                f"{abs(mean) / error:.1f} standard errors)"
            )
    return f"Stein's identity fails in {join_names(parts)}"

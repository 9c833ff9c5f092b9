"""log Z as a density declares it, held against a sum or an integral where that is cheap."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.partition.base import LogZ, measures

CHEAP = 2**16  # states, up to which a declared log Z is checked
_TOLERANCE, _ROUNDING = 1e-6, 1024  # of log Z, relative; and in units of the dtype's epsilon


def declared(density: Density, computed: Callable[[], LogZ] | None) -> LogZ:
    """The declared closed form; where `computed` contradicts it, that value, and the verdict
    "disagree".

    Args:
        density: has a closed form.
        computed: gives log Z by another exact route; None where that is not cheap.
    """
    value, findings, spent = float(density._log_z()), [], {"values": 0, "gradients": 0}
    other = None if computed is None else computed()
    if other is not None:
        spent = other.evaluations
        if _contradicts(value, other):
            what = (
                f"the closed form that {density.name} declares is {value:.10g}, and "
                f"{other.estimator} gives "
                f"{other.value:.10g}"
            )
            told = Finding(
                what,
                "correct log_z= of the declaration, or the function: they are not of one density",
                code=FindingCode.ESTIMATES_DISAGREE,
            )
            return dataclasses.replace(
                other, verdict="disagree", estimator="exact", findings=[told, *other.findings]
            )
    checked = other is not None and other.passed
    how = f"{other.estimator} agrees" if checked else "it was not checked"
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


def _contradicts(value: float, other: LogZ) -> bool:
    """Whether another exact route gives another value; one that has not come to an end says
    nothing.
    """
    if not other.passed and not math.isinf(other.value):
        return False
    if math.isinf(other.value) or not math.isfinite(value):
        return value != other.value
    tolerance = max(_TOLERANCE, _ROUNDING * float(jnp.finfo(jnp.result_type(float)).eps)) * (
        1 + abs(other.value)
    )
    return abs(value - other.value) > tolerance + 5 * other.standard_error

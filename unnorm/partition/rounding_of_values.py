"""The rounding of log p̃ itself: an offset of 1e16 leaves nothing of a difference of 1."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.partition.base import LogZ


@dataclass(frozen=True)
class RoundingOptions:
    """When rounding is added to the error of log Z.

    Attributes:
        spacings: of floating-point numbers about log Z, by which a value may be off.
        negligible: nats that are not added.
        largest: nats, beyond which the estimate is unreliable.
    """

    spacings: float = 4.0
    negligible: float = 1e-6
    largest: float = 0.1


def add_rounding(
    found: LogZ, dtype: np.dtype, options: RoundingOptions = RoundingOptions()
) -> LogZ:
    """The estimate with the rounding of numbers about log Z in its error, and a finding on it."""
    if not math.isfinite(found.value):
        return found
    rounding = options.spacings * float(np.finfo(dtype).eps) * abs(found.value)
    if not rounding > max(options.negligible, 0.1 * found.standard_error):
        return found
    severity = ERROR if rounding > options.largest else WARNING
    finding = Finding(
        f"log Z = {found.value:.6g} is a number that {np.dtype(dtype).name} rounds to "
        f"{rounding:.1e}, which was added to its error",
        "subtract a constant from the log-density, so that its values are near 0"
        + ("" if np.dtype(dtype) == np.float64 else ", or use dtype float64"),
        severity,
        FindingCode.PRECISION,
    )
    verdict = "unreliable" if severity == ERROR else "ok"
    return dataclasses.replace(
        found,
        standard_error=math.hypot(found.standard_error, rounding),
        verdict=verdict if found.verdict in ("exact", "ok") else found.verdict,
        findings=[*found.findings, finding],
    )


__all__ = ["RoundingOptions", "add_rounding"]

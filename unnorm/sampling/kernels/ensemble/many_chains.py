"""How many chains an ensemble kernel needs, and the sentence where there are fewer."""

from dataclasses import dataclass
from typing import Any

from unnorm.core.findings import WARNING, Finding, FindingCode


@dataclass(frozen=True)
class EnsembleOptions:
    """What a kernel that is tuned by its chains asks of their number.

    Args:
        least: chains below which their moments at one step are too noisy to tune by: the standard
            deviation of 16 draws is off by 18%, and MEADS' authors use folds of 16.
    """

    least: int = 16


def findings_of_chains(kernel: Any, chains: int) -> list[Finding]:
    """A warning where the chains are few."""
    least = EnsembleOptions().least
    if chains >= least:
        return []
    what = (
        f"{type(kernel).__name__} was tuned by {chains} chains; it must have at least {least}, "
        "because it learns from the positions of its chains at one step"
    )
    advice = f"pass chains={4 * least} or more, or use un.kernels.NUTS"
    return [Finding(what, advice, WARNING, FindingCode.TOO_FEW_CHAINS)]

"""Findings from the draws alone: R-hat, effective sample sizes, chains and entries that do not
move.
"""

from collections.abc import Set
from typing import TYPE_CHECKING

import numpy as np

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode, join_names
from unnorm.diagnostics.draws import Draws
from unnorm.diagnostics.options import CONVERGENCE
from unnorm.statistics.mcmc import ConvergenceCriteria

if TYPE_CHECKING:
    import pandas as pd

RARE = (
    "its probability may be so near 0 or 1 that these draws hold no other value: sample more, or "
    "average the conditional probability; otherwise the kernel does not move it"
)


def chain_findings(
    draws: Draws,
    table: "pd.DataFrame",
    constant: set[str],
    discrete: set[str],
    fixed: Set[str] = frozenset(),
    criteria: ConvergenceCriteria = CONVERGENCE,
) -> list[Finding]:
    """Return the findings from the draws alone.

    Args:
        draws: the draws.
        table: the diagnostics by scalar entry.
        constant: the entries that never change in any chain.
        discrete: the variables that are discrete.
        fixed: the entries that their support holds at one value.
        criteria: limits.

    Returns:
        The findings, errors and warnings mixed.

    References:
        Vehtari et al. (2021), Bayesian Analysis 16, 667-718, arXiv:1903.08008.
    """
    return [
        *_too_few(draws, criteria),
        *_not_finite(draws),
        *_never_changing(draws, constant - fixed, discrete),
        *_stuck(draws, constant, discrete),
        *_r_hat(draws, table, constant, criteria),
        *_ess(draws, table, criteria),
    ]


def _too_few(draws: Draws, criteria: ConvergenceCriteria):
    if draws.chains < criteria.min_chains:
        yield Finding(
            f"There is {draws.chains} chain, and R-hat needs at least two",
            "sample with chains=4, from different starts",
            code=FindingCode.TOO_FEW_DRAWS,
        )
    if draws.draws < criteria.min_draws:
        yield Finding(
            f"There are {draws.draws} draws per chain, too few to diagnose (fewer than "
            f"{criteria.min_draws})",
            "sample more draws",
            code=FindingCode.TOO_FEW_DRAWS,
        )


def _not_finite(draws: Draws):
    bad = {
        label: np.size(v) - int(np.isfinite(v).sum())
        for label, v in draws.columns().items()
        if v.dtype.kind == "f"
    }
    named = [
        f"{label} ({count:,} of {draws.chains * draws.draws:,})"
        for label, count in bad.items()
        if count
    ]
    if named:
        yield Finding(
            f"Draws are NaN or infinite in {join_names(named)}",
            "use a smaller step_size if the chain diverged, and check the density and its support",
            code=FindingCode.NOT_FINITE,
        )


def _never_changing(draws: Draws, constant: set[str], discrete: set[str]):
    """Entries with one value in all chains; a two-valued entry may simply be that likely."""
    labels = draws.labels()
    for kind in (False, True):
        named = [
            label
            for name in labels
            if (name in discrete) == kind
            for label in labels[name]
            if label in constant
        ]
        if named:
            yield Finding(
                f"{join_names(named)} never change{'s' * (len(named) == 1)} in any chain, so R-hat "
                "is undefined (NaN)",
                RARE
                if kind
                else "check that the kernel moves it, and that the density depends on it",
                code=FindingCode.STUCK_CHAIN,
            )


def _stuck(draws: Draws, constant: set[str], discrete: set[str]):
    """Chains that stay where others move. A discrete entry may stay, but not a whole discrete
    variable.
    """
    labels = draws.labels()
    for name, value in draws.values.items():
        still = (value == value[:, :1]).all(1).reshape(draws.chains, -1)
        varying = np.array([label not in constant for label in labels[name]])
        if not varying.any():
            continue
        still = still[:, varying]
        stuck = np.flatnonzero(still.all(1) if name in discrete else still.any(1))
        if len(stuck) and draws.draws > 1:
            yield Finding(
                f"{name} never moves in {join_names([f'chain {c}' for c in stuck])}",
                "start these chains elsewhere, or take a smaller step_size or a longer warm-up",
                code=FindingCode.STUCK_CHAIN,
            )


def _r_hat(draws: Draws, table: "pd.DataFrame", constant: set[str], criteria: ConvergenceCriteria):
    if draws.chains < criteria.min_chains or draws.draws < 4:  # ArviZ returns NaN
        return
    columns = draws.columns()
    expected = [
        label
        for label in table.index
        if label not in constant and np.isfinite(columns[label]).all()
    ]
    r_hat = table["r_hat"][expected]
    lost = list(r_hat.index[r_hat.isna()])
    if lost:
        yield Finding(
            f"R-hat is NaN in {join_names(lost)}",
            "its draws are degenerate: look at the trace and sample again",
            code=FindingCode.NOT_MIXED,
        )
    high = r_hat[r_hat > criteria.max_r_hat].sort_values(ascending=False)
    if len(high):
        named = [
            f"{label} ({value:.3g})" if value > 2 else f"{label} ({value:.3f})"
            for label, value in high.items()
        ]
        yield Finding(
            f"R-hat is above {criteria.max_r_hat} in {len(high)} of {len(table)} entries: "
            f"{join_names(named)}",
            "the chains disagree: sample and warm up longer, or use a kernel that crosses "
            "between modes",
            code=FindingCode.NOT_MIXED,
        )


def _ess(draws: Draws, table: "pd.DataFrame", criteria: ConvergenceCriteria):
    """Below 100 per chain, the estimates of R-hat and ESS are themselves unreliable."""
    wanted = criteria.min_ess_per_chain * draws.chains
    for column, part in (("ess_bulk", "bulk"), ("ess_tail", "tail")):
        low = table[column][table[column] < wanted].sort_values()
        if low.empty or draws.draws < 4:  # ArviZ returns NaN
            continue
        named = [f"{label} ({value:,.0f})" for label, value in low.items()]
        enough = _round_up(draws.draws * wanted / max(low.iloc[0], 1.0))
        yield Finding(
            f"The {part} effective sample size is below {wanted:,} ({criteria.min_ess_per_chain} "
            f"per chain) in {len(low)} of {len(table)} entries: {join_names(named)}",
            f"about {enough:,} draws per chain would suffice (now {draws.draws:,}), or a kernel "
            "that mixes faster",
            ERROR if low.iloc[0] < min(wanted, criteria.min_ess) else WARNING,
            code=FindingCode.LOW_ESS,
        )


def _round_up(number: float) -> int:
    """Up to two significant digits."""
    unit = 10 ** max(int(np.floor(np.log10(number))) - 1, 0)
    return int(np.ceil(number / unit) * unit)

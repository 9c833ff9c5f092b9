"""Findings from the draws alone: R-hat, effective sample sizes, chains and entries that do not
move.
"""

from typing import TYPE_CHECKING

import numpy as np

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode, listed
from unnorm.diagnostics.draws import Drawn
from unnorm.statistics.mcmc import ConvergenceCriteria

if TYPE_CHECKING:
    import pandas as pd

RARE = (
    "its probability may be so near 0 or 1 that these draws cannot see another value: sample "
    "more, or average the "
    "conditional probability; else the kernel does not move it"
)


def chain_findings(
    drawn: Drawn,
    table: "pd.DataFrame",
    constant: set[str],
    discrete: set[str],
    fixed: set[str] = frozenset(),
    criteria: ConvergenceCriteria = ConvergenceCriteria(),
) -> list[Finding]:
    """Return what the draws by themselves give rise to.

    Args:
        drawn: the draws.
        table: the diagnostics by scalar entry.
        constant: the entries that never change in any chain.
        discrete: the variables that are discrete.
        fixed: the entries that their support holds at one value.
        criteria: the limits of R-hat and of effective sample sizes.

    Returns:
        The findings, errors and warnings mixed.

    References:
        Vehtari et al. (2021), Bayesian Analysis 16, 667-718, arXiv:1903.08008.
    """
    return [
        *_too_few(drawn, criteria),
        *_not_finite(drawn),
        *_never_changing(drawn, constant - fixed, discrete),
        *_stuck(drawn, constant, discrete),
        *_r_hat(drawn, table, constant, criteria),
        *_ess(drawn, table, criteria),
    ]


def _too_few(drawn: Drawn, criteria: ConvergenceCriteria):
    if drawn.chains < criteria.min_chains:
        yield Finding(
            f"There is {drawn.chains} chain, and R-hat needs at least two",
            "sample with chains=4, from different starts",
            code=FindingCode.TOO_FEW_DRAWS,
        )
    if drawn.draws < criteria.min_draws:
        yield Finding(
            f"There are {drawn.draws} draws a chain, too few to judge (fewer than {criteria.min_draws})",
            "sample more draws",
            code=FindingCode.TOO_FEW_DRAWS,
        )


def _not_finite(drawn: Drawn):
    bad = {
        label: np.size(v) - int(np.isfinite(v).sum())
        for label, v in drawn.columns().items()
        if v.dtype.kind == "f"
    }
    named = [
        f"{label} ({count:,} of {drawn.chains * drawn.draws:,})"
        for label, count in bad.items()
        if count
    ]
    if named:
        yield Finding(
            f"Draws are NaN or infinite in {listed(named)}",
            "take a smaller step_size if the chain ran away, and check the density and its support",
            code=FindingCode.NOT_FINITE,
        )


def _never_changing(drawn: Drawn, constant: set[str], discrete: set[str]):
    """Entries that have one value in all chains; a two-valued entry may simply be that likely."""
    labels = drawn.labels()
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
                f"{listed(named)} never change{'s' * (len(named) == 1)} in any chain, so R-hat "
                "is undefined (NaN)",
                RARE
                if kind
                else "check that the kernel moves it, and that the density depends on it",
                code=FindingCode.STUCK_CHAIN,
            )


def _stuck(drawn: Drawn, constant: set[str], discrete: set[str]):
    """Chains that stay where others move. A discrete entry may stay, but not a whole discrete
    variable.
    """
    labels = drawn.labels()
    for name, value in drawn.values.items():
        still = (value == value[:, :1]).all(1).reshape(drawn.chains, -1)
        varying = np.array([label not in constant for label in labels[name]])
        if not varying.any():
            continue
        still = still[:, varying]
        stuck = np.flatnonzero(still.all(1) if name in discrete else still.any(1))
        if len(stuck) and drawn.draws > 1:
            yield Finding(
                f"{name} never moves in {listed([f'chain {c}' for c in stuck])}",
                "start these chains elsewhere, or take a smaller step_size or a longer warm-up",
                code=FindingCode.STUCK_CHAIN,
            )


def _r_hat(
    drawn: Drawn, table: "pd.DataFrame", constant: set[str], criteria: ConvergenceCriteria
):
    if drawn.chains < criteria.min_chains or drawn.draws < 4:  # ArviZ returns NaN
        return
    columns = drawn.columns()
    expected = [
        label
        for label in table.index
        if label not in constant and np.isfinite(columns[label]).all()
    ]
    r_hat = table["r_hat"][expected]
    lost = list(r_hat.index[r_hat.isna()])
    if lost:
        yield Finding(
            f"R-hat is NaN in {listed(lost)}",
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
            f"R-hat is above {criteria.max_r_hat} in {len(high)} of {len(table)} entries: {listed(named)}",
            "the chains disagree: sample and warm up longer, or use a kernel that crosses "
            "between modes",
            code=FindingCode.NOT_MIXED,
        )


def _ess(drawn: Drawn, table: "pd.DataFrame", criteria: ConvergenceCriteria):
    """An error below `min_ess` in all, a warning below `min_ess_per_chain`."""
    wanted = criteria.min_ess_per_chain * drawn.chains
    for column, part in (("ess_bulk", "bulk"), ("ess_tail", "tail")):
        low = table[column][table[column] < wanted].sort_values()
        if low.empty or drawn.draws < 4:  # ArviZ returns NaN
            continue
        named = [f"{label} ({value:,.0f})" for label, value in low.items()]
        enough = _rounded_up(drawn.draws * wanted / max(low.iloc[0], 1.0))
        yield Finding(
            f"The {part} effective sample size is below {wanted:,} ({criteria.min_ess_per_chain} per "
            f"chain) in {len(low)} of "
            f"{len(table)} entries: {listed(named)}",
            f"about {enough:,} draws a chain would do (now {drawn.draws:,}), or a kernel that "
            "mixes faster",
            ERROR if low.iloc[0] < min(wanted, criteria.min_ess) else WARNING,
            code=FindingCode.LOW_ESS,
        )


def _rounded_up(number: float) -> int:
    """Up to two significant digits."""
    unit = 10 ** max(int(np.floor(np.log10(number))) - 1, 0)
    return int(np.ceil(number / unit) * unit)

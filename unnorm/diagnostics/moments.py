"""Findings from a run that kept only the mean and variance of each chain."""

from typing import TYPE_CHECKING

import numpy as np

from unnorm.core.findings import ERROR, NOTE, Finding, FindingCode, join_names
from unnorm.diagnostics.draws import Draws
from unnorm.diagnostics.options import CONVERGENCE
from unnorm.statistics.mcmc import ConvergenceCriteria

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def moment_table(draws: Draws, moments: "xr.Dataset", columns: list[str]) -> "pd.DataFrame":
    """The table of the diagnosis; the Monte Carlo error is that of the chains' means."""
    import pandas as pd

    rows = {}
    for name, labels in draws.labels().items():
        if f"{name}_mean" not in moments:
            continue
        means, variances = (moments[f"{name}_{kind}"].values for kind in ("mean", "variance"))
        chains = len(means)
        means, variances = means.reshape(chains, -1), variances.reshape(chains, -1)
        between = means.var(0, ddof=1) if chains > 1 else np.full(means.shape[1], np.nan)
        spread = np.sqrt(variances.mean(0) + np.nan_to_num(between))
        rhats = moments[f"{name}_rhat"].values.ravel()
        columns_of = zip(
            labels, means.mean(0), spread, np.sqrt(between / chains), rhats, strict=True
        )
        for label, mean, sd, error, rhat in columns_of:
            rows[label] = {"mean": mean, "sd": sd, "mcse_mean": error, "r_hat": rhat}
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns)


def moment_findings(
    draws: Draws, table: "pd.DataFrame", criteria: ConvergenceCriteria = CONVERGENCE
) -> list[Finding]:
    """R-hat, a bias that the kernel declares, and what moments cannot show."""
    bad = table.index[~(table["r_hat"] <= criteria.max_r_hat)]
    findings = [
        Finding(
            "moments were kept and no draws, so effective sample sizes, tails, Stein's identity "
            "and other modes were not checked",
            "keep the draws of a short run to check them",
            NOTE,
        )
    ]
    if len(bad):
        worst = table["r_hat"].reindex(bad).max()
        findings.append(
            Finding(
                f"R-hat of the running moments is above {criteria.max_r_hat} or undefined in "
                f"{join_names(list(bad))} (worst {worst:.3f})",
                "sample and warm up longer, or use a kernel that mixes faster",
                ERROR,
                code=FindingCode.NOT_MIXED,
            )
        )
    if draws.attrs.get("biased"):
        findings.append(
            Finding(
                str(draws.attrs["biased"]),
                "use a kernel that is exact, or keep draws",
                ERROR,
                code=FindingCode.BIASED_KERNEL,
            )
        )
    return findings

"""Judge draws: convergence, effective sample size, the sampler's own signals, and the bias that a
kernel names.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.containers import oriented
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, Result, listed
from unnorm.core.messages import formatted
from unnorm.core.validation import verb
from unnorm.declaration.density import Density
from unnorm.declaration.purity import refuse_impure
from unnorm.diagnostics.against_density.findings import density_findings
from unnorm.diagnostics.chains import chain_findings
from unnorm.diagnostics.draws import Drawn, group_of, read
from unnorm.diagnostics.duplicate_chains import copy_findings
from unnorm.diagnostics.moments import moment_findings, moment_table
from unnorm.diagnostics.sample_stats import sampler_findings

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["mean", "sd", "mcse_mean", "mcse_sd", "ess_bulk", "ess_tail", "r_hat"]
UNDEFINED_FOR_CONSTANTS = ["mcse_mean", "mcse_sd", "ess_bulk", "ess_tail", "r_hat"]


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis(Result):
    """What `diagnose` found.

    Attributes:
        table: one row per scalar entry, labelled ``x[Ozone]``: mean, sd, mcse_mean, mcse_sd,
            ess_bulk, ess_tail, r_hat.
        findings: what was noticed, each with advice and severity; the draws passed when none is an
            error.
    """

    table: "pd.DataFrame"
    findings: list[Finding]

    def __repr__(self) -> str:
        errors = sum(finding.severity == ERROR for finding in self.findings)
        warned = sum(finding.severity == WARNING for finding in self.findings)
        verdict = "passed" if self.passed else f"failed with {errors} error{'s' * (errors != 1)}"
        also = f" and {warned} warning{'s' * (warned != 1)}" if warned else ""
        r_hat, ess = self.table["r_hat"].max(), self.table[["ess_bulk", "ess_tail"]].min(axis=None)
        numbers = f"{len(self.table)} entries, largest R-hat {r_hat:.3f}, smallest ESS {ess:,.0f}"
        return f"Diagnosis({verdict}{also}: {numbers})"

    def __str__(self) -> str:
        table = formatted(self.table).to_string(max_rows=60)
        return "\n".join(
            filter(
                None,
                [table, "", self._findings_text() or "No findings: the draws passed every check."],
            )
        )


@verb
def diagnose(draws: Any, p: Density | None = None, *, strict: bool = False) -> Diagnosis:
    """Judge whether draws may be used.

    R-hat is the rank-normalised split one, at most 1.01, and a NaN fails; bulk and tail effective
    sample sizes should reach 100 per chain. Divergences, acceptance, tree depth, energy and
    non-finite log-densities are read where the sampler kept them. Draws of a kernel that names its
    own bias never pass without `p`; with it, they are held against Stein's identity.

    Args:
        draws: what `un.sample` returns, any ArviZ data with a posterior group, or a dict of arrays
            (chain, draw, ...).
        p: the density that the draws are meant to follow; then they are checked to lie in its
            support, too.
        strict: raise where the draws do not pass.

    Returns:
        A `Diagnosis` with `table`, `findings` and `passed`.

    Raises:
        TypeError, ValueError: draws in no known form, or that lack a variable of `p`.
        Unreliable: with `strict`, where a finding is an error.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> check = un.diagnose({"x": np.random.default_rng(0).normal(size=(4, 500))})
        >>> check.passed
        True

    References:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16, 667-718,
        arXiv:1903.08008; Gorham and Mackey (2015), arXiv:1506.03039.
    """
    drawn = read(draws)
    if p is not None:
        drawn, p = _matched(drawn, p)
        refuse_impure(p)
    moments = group_of(draws, "moments")
    if moments is not None:
        table = moment_table(drawn, moments, COLUMNS)
        findings = moment_findings(drawn, table)
    else:
        table, constant = _table(drawn)
        discrete = _discrete(drawn, p)
        findings = [
            *chain_findings(drawn, table, constant, discrete, _fixed_by_support(drawn, p)),
            *copy_findings(drawn, discrete),
            *density_findings(drawn, p),
        ]
    findings += sampler_findings(drawn)
    order = {ERROR: 0, WARNING: 1, NOTE: 2}
    diagnosis = Diagnosis(table, sorted(findings, key=lambda finding: order[finding.severity]))
    if strict:
        diagnosis.raise_unless_passed()
    return diagnosis


def _matched(drawn: Drawn, p: Density) -> tuple[Drawn, Density]:
    """The draws with their dimensions in the declared order, and the density with its open ones
    taken from them.
    """
    if not isinstance(p, Density):
        raise TypeError(
            f"p is a {type(p).__name__}; expected the density that was sampled; pass an un.Density."
        )
    posterior = drawn.posterior
    held = [str(name) for name in posterior.data_vars]
    missing = [name for name in p.variables if name not in held]
    if missing:
        raise ValueError(
            f"draws lack {listed(missing)}, and hold {listed(held)}; expected every variable of "
            f"{p.name}; pass "
            "the density that was sampled."
        )
    axes = {name: support.shape_axes for name, support in p.variables.items()}
    turned = {name: oriented(posterior[name], f"draws of {name}", axes[name]) for name in axes}
    drawn = drawn._replace(posterior=posterior.assign(turned))
    return drawn, p.resolved({name: array.shape[2:] for name, array in turned.items()})


def _table(drawn: Drawn) -> tuple["pd.DataFrame", set[str]]:
    """The table, and the entries that never change, for which ArviZ's effective sample size would
    mislead.
    """
    import arviz_stats
    import xarray as xr

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # each is a finding of ours
        finite = drawn.posterior.astype(float)
        finite = finite.where(np.isfinite(finite))
        tree = xr.DataTree.from_dict({"posterior": finite})
        table = arviz_stats.summary(tree, kind="all", round_to="none")[COLUMNS].astype(float)
    columns = drawn.columns()
    table.index = list(columns)
    constant = {label for label, value in columns.items() if (value == value[0, 0]).all()}
    table.loc[[label in constant for label in columns], UNDEFINED_FOR_CONSTANTS] = np.nan
    return table, constant


def _fixed_by_support(drawn: Drawn, p: Density | None) -> set[str]:
    """Entries that a support holds at one value, as a graph's diagonal."""
    fixed = set()
    for name, support in {} if p is None else p.variables.items():
        shape = drawn.values[name].shape[2:]
        if support.discrete and support.free_shape(shape) != shape:
            x = np.arange(1, int(np.prod(support.free_shape(shape))) + 1)
            zero = np.asarray(support.constrain(x)).ravel() == 0
            fixed |= {
                label for label, still in zip(drawn.labels()[name], zero, strict=True) if still
            }
    return fixed


def _discrete(drawn: Drawn, p: Density | None) -> set[str]:
    """The discrete variables: by declaration, else those whose draws are all integers."""
    declared = (
        {} if p is None else {name: support.discrete for name, support in p.variables.items()}
    )
    return {
        name
        for name, value in drawn.values.items()
        if declared.get(name, value.dtype.kind in "iub" or bool((value == np.round(value)).all()))
    }

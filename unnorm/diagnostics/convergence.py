"""Diagnose draws: convergence, effective sample size, the sampler's statistics, declared bias."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.containers import transpose_to_axes
from unnorm.core.display import Card
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, Result, join_names
from unnorm.core.messages import format_table
from unnorm.core.validation import verb
from unnorm.declaration.density import Density
from unnorm.declaration.purity import refuse_impure
from unnorm.declaration.values import refuse_other_labels
from unnorm.diagnostics.against_density.findings import density_findings
from unnorm.diagnostics.chains import chain_findings
from unnorm.diagnostics.draws import Draws, group_of, read_draws
from unnorm.diagnostics.duplicate_chains import duplicate_findings
from unnorm.diagnostics.moments import moment_findings, moment_table
from unnorm.diagnostics.sample_stats import sampler_findings

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["mean", "sd", "mcse_mean", "mcse_sd", "ess_bulk", "ess_tail", "r_hat"]
WORDS = {
    "mcse_mean": "MCSE of mean",
    "mcse_sd": "MCSE of sd",
    "ess_bulk": "bulk ESS",
    "ess_tail": "tail ESS",
    "r_hat": "R-hat",
}
UNDEFINED_FOR_CONSTANTS = ["mcse_mean", "mcse_sd", "ess_bulk", "ess_tail", "r_hat"]


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis(Result):
    """What `diagnose` found.

    Attributes:
        table: one row per scalar entry, labelled ``x[Ozone]``: mean, sd, mcse_mean, mcse_sd,
            ess_bulk, ess_tail, r_hat.
        findings: observations with advice and severity; the draws passed when none is an error.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> apart = {"x": np.random.default_rng(0).normal(size=(4, 500)) + np.arange(4)[:, None]}
        >>> check = un.diagnose(apart)
        >>> check.passed, str(check.findings[0].code)
        (False, 'not_mixed')
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

    def _card(self) -> Card:
        table = format_table(self.table).rename(columns=WORDS)
        title = f"Diagnosis of {len(self.table):,} entries"
        verdict = "passed" if self.passed else "not passed"
        return Card(title, verdict, {}, (("", table),))

    def __str__(self) -> str:
        table = format_table(self.table).to_string(max_rows=60)
        return "\n".join(
            filter(
                None,
                [table, "", self._findings_text() or "No findings: the draws passed every check."],
            )
        )


@verb
def diagnose(draws: Any, p: Density | None = None, *, strict: bool = False) -> Diagnosis:
    """Diagnose whether draws may be used.

    R-hat is the rank-normalised split one, at most 1.01, and a NaN fails; bulk and tail effective
    sample sizes should reach 100 per chain. Divergences, acceptance, tree depth, energy and
    non-finite log-densities are read where the sampler kept them. Draws of a kernel that declares a
    bias never pass without `p`; with it, they are checked by Stein's identity.

    Args:
        draws: what `un.sample` returns, any ArviZ data with a posterior group, or a dict of arrays
            (chain, draw, ...).
        p: the density that the draws should follow; then they are also checked to lie in its
            support.
        strict: raise where the draws do not pass.

    Returns:
        A `Diagnosis` with `table`, `findings` and `passed`.

    Raises:
        TypeError, ValueError: draws of no known form, or that lack a variable of `p`.
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
    found = read_draws(draws)
    if p is not None:
        found, p = _match(found, p)
        refuse_impure(p)
    moments = group_of(draws, "moments")
    if moments is not None:
        table = moment_table(found, moments, COLUMNS)
        findings = moment_findings(found, table)
    else:
        table, constant = _table(found)
        discrete = _discrete(found, p)
        findings = [
            *chain_findings(found, table, constant, discrete, _constant_entries(found, p)),
            *duplicate_findings(found, discrete),
            *density_findings(found, p),
        ]
    findings += sampler_findings(found)
    order = {ERROR: 0, WARNING: 1, NOTE: 2}
    diagnosis = Diagnosis(table, sorted(findings, key=lambda finding: order[finding.severity]))
    if strict:
        diagnosis.raise_unless_passed()
    return diagnosis


def _match(draws: Draws, p: Density) -> tuple[Draws, Density]:
    """The draws with their dimensions in the declared order, and the density with open dimensions
    taken from them.
    """
    if not isinstance(p, Density):
        raise TypeError(
            f"p is a {type(p).__name__}; expected the density that was sampled; pass an un.Density."
        )
    posterior = draws.posterior
    held = [str(name) for name in posterior.data_vars]
    missing = [name for name in p.variables if name not in held]
    if missing:
        raise ValueError(
            f"draws lack {join_names(missing)}, and hold {join_names(held)}; expected every "
            f"variable of {p.name}; pass the density that was sampled."
        )
    axes = {name: support.shape_axes for name, support in p.variables.items()}
    oriented_arrays = {
        name: transpose_to_axes(posterior[name], f"draws of {name}", axes[name]) for name in axes
    }
    for name, array in oriented_arrays.items():
        refuse_other_labels(f"draws of {name}", axes[name], array, p.labels)
    draws = draws._replace(posterior=posterior.assign(oriented_arrays))
    return draws, p.resolved({name: array.shape[2:] for name, array in oriented_arrays.items()})


def _table(draws: Draws) -> tuple["pd.DataFrame", set[str]]:
    """The table, and the entries that never change, whose effective sample size from ArviZ would be
    misleading.
    """
    import arviz_stats
    import xarray as xr

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # each has a finding of its own
        finite = draws.posterior.astype(float)
        finite = finite.where(np.isfinite(finite))
        tree = xr.DataTree.from_dict({"posterior": finite})
        table = arviz_stats.summary(tree, kind="all", round_to="none")[COLUMNS].astype(float)
    columns = draws.columns()
    table.index = list(columns)
    constant = {label for label, value in columns.items() if (value == value[0, 0]).all()}
    table.loc[[label in constant for label in columns], UNDEFINED_FOR_CONSTANTS] = np.nan
    return table, constant


def _constant_entries(draws: Draws, p: Density | None) -> set[str]:
    """Entries that a support holds at one value, as a graph's diagonal."""
    fixed = set()
    for name, support in {} if p is None else p.variables.items():
        shape = draws.values[name].shape[2:]
        if support.discrete and support.free_shape(shape) != shape:
            x = np.arange(1, int(np.prod(support.free_shape(shape))) + 1)
            zero = np.asarray(support.constrain(x)).ravel() == 0  # type: ignore[arg-type]
            fixed |= {
                label for label, still in zip(draws.labels()[name], zero, strict=True) if still
            }
    return fixed


def _discrete(draws: Draws, p: Density | None) -> set[str]:
    """The discrete variables: by declaration, else those whose draws are all integers."""
    declared = (
        {} if p is None else {name: support.discrete for name, support in p.variables.items()}
    )
    return {
        name
        for name, value in draws.values.items()
        if declared.get(name, value.dtype.kind in "iub" or bool((value == np.round(value)).all()))
    }

"""log Z at a fit, where a sum, an integral or a closed form gives it, and the checks of it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.core.random_keys import make_key
from unnorm.fitting.data.latent_variables import covariates_of
from unnorm.fitting.data.location import data_location
from unnorm.fitting.row_normalizers import declares_log_z, log_z_on_plan
from unnorm.integration.nodes import Plan
from unnorm.integration.plan import has_plan, plan_for
from unnorm.integration.quadrature.integrability import vanishes_from
from unnorm.integration.representative_rows import count_of, spread_rows
from unnorm.partition.base import LogZ
from unnorm.partition.estimators.exact import Exact


@dataclasses.dataclass(frozen=True)
class MassOptions:
    """How log Z on the nodes of a fit is held against nodes that are placed again.

    A difference δ shifts the log-likelihood of n rows by n δ. It is quadrature error while that is
    below `log_likelihood`, within the limits `smallest` (what the nodes resolve) and `largest`;
    beyond, a part of the mass was missed.
    """

    rows_checked: int = 4  # rows with covariates whose log Z is compared
    log_likelihood: float = 0.01
    smallest: float = 1e-6
    largest: float = 1e-4

    def limit(self, rows: int) -> float:
        """Return the largest difference of two log Z that is quadrature error for so many rows."""
        return float(np.clip(self.log_likelihood / max(rows, 1), self.smallest, self.largest))


_MASS = MassOptions()


def exact_log_z(
    density, vector, unravel, events, findings: list[Finding], plan: Plan | None = None
) -> tuple[Any, np.ndarray | None, float | None]:
    """Where the nodes lie, d log Z / d vector, log Z; None where Z is not at hand exactly, or
    infinite (a finding).

    A declared closed form needs no nodes. With covariates there is no one log Z, and only where the
    nodes lie is reported; `plan` are the nodes of the fit, which are checked.
    """
    if density.covariates:
        return _of_some_rows(density, events, findings, plan), None, None
    if declares_log_z(density):
        return None, *_closed_form_log_z(density, vector, unravel, findings)
    if not has_plan(density):
        return None, None, None
    where, other = data_location(density, events), _another_route(density)
    why = None if other is None else _improper(density, other, where)
    if why is None:
        plan = plan_for(density, *where)
        value, gradient = _value_and_slope(density, unravel, vector, plan)
        if np.isfinite(value):
            findings += _apart(density, float(value), other, _MASS.limit(count_of(events)))
            return where, np.asarray(gradient), float(value)
        why = f"its log Z is {float(value)}"
    findings.append(_no_z(density, why))
    return None, None, None


def _of_some_rows(density, events, findings: list[Finding], plan: Plan | None) -> tuple | None:
    """Where the nodes lie for the log Z of every row, which is held against another exact route at
    a few rows.
    """
    if not declares_log_z(density) and not has_plan(density):
        return None
    where = None if declares_log_z(density) else data_location(density, events)
    rows = {name: jnp.asarray(value) for name, value in covariates_of(density, events).items()}
    limit = _MASS.limit(count_of(events))
    if not declares_log_z(density) and all(
        support.states is not None for support in density.variables.values()
    ):
        return where
    for row in spread_rows(rows, _MASS.rows_checked):
        one = {name: value[row] for name, value in rows.items()}
        found = Exact()(density._at_row(one), make_key(0))
        if found.verdict == "disagree" or not np.isfinite(found.value):
            what = next(finding.what for finding in found.findings if finding.severity == ERROR)
            findings.append(_no_z(density, f"at the covariates of row {row}, {what}"))
            return None
        value = found.value if plan is None else float(log_z_on_plan(density._at_row(one), plan))
        if abs(value - found.value) > limit * (1 + abs(found.value)):
            what = (
                f"log Z at the covariates of row {row} is {value:.8g} on the nodes of all rows, "
                f"and {found.value:.8g} on nodes of its own"
            )
            advice = (
                "pass a start= nearer to the data, or another objective: a row's density is narrow "
                "beside all data"
            )
            findings.append(Finding(what, advice, code=FindingCode.MASS_NOT_SEEN))
    return where


def _no_z(density, why: str) -> Finding:
    return Finding(
        f"{density.name} cannot be normalized at the estimate: {why}",
        "restrict the parameters (a support such as un.PositiveDefinite or un.Positive), or use "
        "another objective",
        code=FindingCode.NOT_NORMALIZABLE,
    )


@compiled
def _value_and_slope(density, unravel: Partial, vector, plan: Plan | None):
    """log Z on the nodes, and its gradient in the vector."""
    return jax.value_and_grad(lambda v: log_z_on_plan(density.at(unravel(v)[0]), plan))(vector)


def _closed_form_log_z(
    density, vector, unravel, findings: list[Finding]
) -> tuple[np.ndarray | None, float | None]:
    """d log Z / d vector and log Z by the closed form; None where a sum or an integral contradicts
    it (a finding).
    """
    found = Exact()(density, make_key(0))
    if found.verdict == "disagree":
        findings.append(found.findings[0])
        return None, None
    value, gradient = _value_and_slope(density, unravel, vector, None)
    if np.isfinite(value):
        return np.asarray(gradient), float(value)
    findings.append(_no_z(density, f"its declared log Z is {float(value)}"))
    return None, None


def _another_route(density) -> LogZ | None:
    """log Z by nodes that are found anew, without the data; None where every state is summed."""
    if all(support.states is not None for support in density.variables.values()):
        return None
    return Exact()(density, make_key(0))


def _improper(density, found: LogZ, where: tuple) -> str | None:
    """Why Z is infinite or no number; the nodes of a plan end somewhere, and a rising density looks
    finite on them.

    What `Exact` says of distances in the density's own units is held against a look in the units of
    the data.
    """
    if np.isfinite(found.value) or vanishes_from(density, *where):
        return None
    what = next(finding.what for finding in found.findings if finding.severity == ERROR)
    return what.partition("normalized: ")[2] or what


def _apart(density, value: float, other: LogZ | None, limit: float) -> list[Finding]:
    """A finding where the nodes of the fit and those found anew give another log Z."""
    if other is None or not np.isfinite(other.value):
        return []
    if abs(value - other.value) <= limit * (1 + abs(other.value)) + 5 * other.standard_error:
        return []
    what = (
        f"log Z of {density.name} at the estimate is {value:.8g} on the nodes of the fit, and "
        f"{other.value:.8g} on nodes placed again: one of the two misses a part of the mass"
    )
    advice = (
        "declare log_z=, or use an objective without log Z, such as un.objectives.ScoreMatching or "
        "NCE"
    )
    return [Finding(what, advice, code=FindingCode.MASS_NOT_SEEN)]

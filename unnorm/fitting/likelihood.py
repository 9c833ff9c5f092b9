"""log Z at a fit, where it is at hand exactly, and the log-likelihood of held-out data."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.density import cast
from unnorm.diagnostics.verdict import ERROR, Finding
from unnorm.fitting.data import read_data
from unnorm.fitting.objectives.maximum_likelihood import location, log_z_on
from unnorm.fitting.result import LogLikelihood
from unnorm.partition.exact import Exact, has_plan, plan_for


def exact_log_z(
    density, vector, unravel, events, findings: list[Finding]
) -> tuple[Any, np.ndarray | None, float | None]:
    """The nodes, d log Z / d vector and log Z; None where Z is not at hand exactly, a finding where it is infinite."""
    if density.covariates or not has_plan(density):
        return None, None, None
    why = _improper(density)
    if why is None:
        plan = plan_for(density, *location(density, events))
        value, gradient = jax.value_and_grad(lambda v: log_z_on(density.at(unravel(v)[0]), plan))(vector)
        if np.isfinite(value):
            return plan, np.asarray(gradient), float(value)
        why = f"its log Z is {float(value)}"
    findings.append(
        Finding(
            f"{density.name} cannot be normalized at the estimate: {why}",
            "restrict the parameters (a support such as un.PositiveDefinite or un.Positive), or use another objective",
        )
    )
    return None, None, None


def _improper(density) -> str | None:
    """Why Z is infinite or no number; the nodes of a plan end somewhere, and a rising density looks finite on them."""
    if all(support.states is not None for support in density.variables.values()):
        return None
    found = Exact()(density, jax.random.key(0))
    if np.isfinite(found.value):
        return None
    what = next(finding.what for finding in found.findings if finding.severity == ERROR)
    return what.partition("normalized: ")[2] or what


def likelihood_of(fitted, density, plan, covariance, vector, unravel):
    """The function behind `Fit.log_likelihood`: everything it needs is held here."""

    def log_likelihood(data: Any) -> LogLikelihood:
        _, events = read_data(fitted, data)
        with jax.enable_x64(True):
            rows = cast(events, jnp.float64)

            def pointwise(v):
                moved = density.at(unravel(v)[0])
                return jax.vmap(moved.log_density)(rows) - log_z_on(moved, plan)

            values = np.asarray(pointwise(vector))
            d = np.asarray(jax.jacfwd(pointwise)(vector)).mean(0)
        n = len(values)
        sampling = np.nan if covariance is None else n**2 * d @ covariance.total @ d
        return LogLikelihood(float(values.sum()), float(np.sqrt(n * values.var() + sampling)), values)

    return log_likelihood

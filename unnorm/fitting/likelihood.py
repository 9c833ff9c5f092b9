"""log Z at a fit, where it is at hand exactly, and the log-likelihood of held-out data."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.density import cast
from unnorm.diagnostics.verdict import Finding
from unnorm.fitting.data import read_data
from unnorm.fitting.objectives.maximum_likelihood import location, log_z_on
from unnorm.fitting.result import LogLikelihood
from unnorm.partition.exact import has_plan, plan_for


def exact_log_z(
    density, vector, unravel, events, findings: list[Finding]
) -> tuple[Any, np.ndarray | None, float | None]:
    """The nodes, d log Z / d vector and log Z; None where Z is not at hand exactly, a finding where it is infinite."""
    if density.covariates or not has_plan(density):
        return None, None, None
    infinite = Finding(
        f"{density.name} cannot be normalized at the estimate: the integral of exp(log p̃) does not converge",
        "restrict the parameters (a support such as un.PositiveDefinite or un.Positive), or use another objective",
    )
    try:
        plan = plan_for(density, *location(density, events))
    except ValueError:
        findings.append(infinite)
        return None, None, None
    value, gradient = jax.value_and_grad(lambda v: log_z_on(density.at(unravel(v)[0]), plan))(vector)
    if not np.isfinite(value):
        findings.append(infinite)
        return None, None, None
    return plan, np.asarray(gradient), float(value)


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

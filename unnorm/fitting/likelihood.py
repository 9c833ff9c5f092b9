"""log Z at a fit, where it is at hand exactly, and the log-likelihood of held-out data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.density import cast
from unnorm.diagnostics.verdict import ERROR, Finding
from unnorm.fitting.data import read_data
from unnorm.fitting.objectives.maximum_likelihood import location, log_z_on
from unnorm.partition.exact import Exact, has_plan, plan_for


class LogLikelihood(NamedTuple):
    """The log-likelihood of a data set: its sum, the standard error of the sum, and each row's part."""

    value: float
    standard_error: float
    pointwise: np.ndarray


def exact_log_z(
    density, vector, unravel, events, findings: list[Finding]
) -> tuple[Any, np.ndarray | None, float | None]:
    """Where the nodes lie, d log Z / d vector, log Z; None where Z is not at hand exactly, or infinite (a finding)."""
    if density.covariates or not has_plan(density):
        return None, None, None
    why = _improper(density)
    if why is None:
        where = location(density, events)
        plan = plan_for(density, *where)
        value, gradient = jax.value_and_grad(lambda v: log_z_on(density.at(unravel(v)[0]), plan))(vector)
        if np.isfinite(value):
            return where, np.asarray(gradient), float(value)
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


def log_likelihood(fitted, location, covariance: np.ndarray | None, data: Any) -> LogLikelihood:
    """The log-likelihood of data at a fit, given where its data lay and the covariance of its free parameters."""
    _, events = read_data(fitted, data)
    with jax.enable_x64(True):
        density, rows = cast((fitted.bare(), events), jnp.float64)
        vector, unravel = ravel_pytree(density.free())
        plan = plan_for(density, *location)

        def pointwise(v):
            moved = density.at(unravel(v))
            return jax.vmap(moved.log_density)(rows) - log_z_on(moved, plan)

        values = np.asarray(pointwise(vector))
        spread = np.nan
        if covariance is not None:
            d = np.asarray(jax.jacfwd(pointwise)(vector)).mean(0)
            spread = len(values) ** 2 * d @ covariance @ d
    return LogLikelihood(float(values.sum()), float(np.sqrt(len(values) * values.var() + spread)), values)

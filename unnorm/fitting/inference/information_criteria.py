"""Information criteria of fits without a likelihood: the loss, and what it is too small by on the
fit's own data.

At the minimum θ̂ of the mean loss over n rows, E[loss at θ̂ on new rows] − E[mean loss] = tr(J H⁻¹)
/ n + o(1/n), with J the covariance of the rows' scores and H the curvature, as in the sandwich. For
a likelihood this is Takeuchi's.

References: Matsuda, Uehara and Hyvärinen (2021), JMLR 22(158), arXiv:1905.05976; Takeuchi (1976).
"""

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.fitting.loss import Loss, scores_and_curvature
from unnorm.numerics.diagonal_scaling import solve

CRITERIA = {
    "score_matching": "smic (lower is better)",
    "nce": "ncic (lower is better)",
}  # by objective


def information_criterion(fit) -> float:
    """n · mean loss + tr(J H⁻¹): NaN for a fit without its data, with weights, clusters, penalties
    or many parameters.

    Noise points count as data of their own, and a noise that was fitted to the data is taken as
    given.
    """
    if fit._origin is None or not fit.converged:
        return np.nan
    problem, loss = fit._origin
    options = (problem.weights, problem.clusters, problem.penalty, problem.batches)
    if any(option is not None for option in options):
        return np.nan
    with jax.enable_x64(problem.is_double):
        if not loss.has_few_parameters():
            return np.nan
        psi, curvature = scores_and_curvature(loss)
        value = float(loss.mean(loss.vector))
    meat = np.atleast_2d(np.cov(np.asarray(psi).T, ddof=0))
    return float(problem.rows * value + np.trace(solve(np.asarray(curvature), meat)))


def log_likelihood_of(outcome) -> float | None:
    """The log-likelihood of the data at the estimate, log p(x_1) + ... + log p(x_n); None where the
    objective is none, where Z is not exact, under sampling weights or penalties, and where the data
    came in batches.
    """
    problem, loss = outcome.problem, outcome.loss
    traits = problem.objective.traits
    options = (problem.weights, problem.penalty, problem.batches)
    none = not (traits.is_likelihood and traits.is_deviance)
    none |= outcome.divergent is not None and bool(outcome.divergent.any())
    if none or not outcome.converged or any(option is not None for option in options):
        return None
    with jax.enable_x64(problem.is_double):
        value = -problem.rows * float(_mean(loss))
    return value if np.isfinite(value) else None


@compiled
def _mean(loss: Loss) -> jax.Array:
    return loss.mean(loss.vector)


def likelihood_criteria(fit) -> dict[str, float]:
    """The maximized log-likelihood with AIC = 2 k − 2 ℓ and BIC = k log n − 2 ℓ, k the free
    parameters; nothing where there is no likelihood.

    Rows in clusters are not independent, and one row (a graph) is no sample, so that these have
    the log-likelihood alone.
    """
    value = fit._log_likelihood
    if value is None or isinstance(fit.density, list):
        return {}
    clustered = fit._origin is not None and fit._origin.problem.clusters is not None
    found = {"log-likelihood": value}
    if clustered or fit.rows < 2:
        return found
    k = free_parameters(fit.density)
    return found | {"AIC": 2 * k - 2 * value, "BIC": k * float(np.log(fit.rows)) - 2 * value}


def free_parameters(density) -> int:
    """How many numbers are estimated."""
    return len(ravel_pytree(density.free())[0])


def same_scale(one, other) -> bool:
    """Whether the criteria of two fits by one objective can be compared: the same rows, and the
    same options.
    """
    these, those = one._origin.problem, other._origin.problem
    return _equal(these.events, those.events) and _equal(these.objective, those.objective)


def _equal(one, other) -> bool:
    (these, shape), (those, other_shape) = jax.tree.flatten(one), jax.tree.flatten(other)
    return bool(shape == other_shape) and all(  # type: ignore[operator]
        np.array_equal(a, b) for a, b in zip(these, those, strict=True)
    )

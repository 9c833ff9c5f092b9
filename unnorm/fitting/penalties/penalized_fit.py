"""What is said of a penalised fit: which estimand it has, its standard errors, whether the lasso is
at its minimum.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, NOTE, Finding, FindingCode
from unnorm.core.method import registry_name
from unnorm.fitting.base import DrawsSharedNoise, Stochastic
from unnorm.fitting.inference.sandwich import (
    Covariance,
    NoCovarianceError,
    bread_and_meat,
)
from unnorm.fitting.loss import Loss, scores_and_curvature
from unnorm.fitting.penalties.terms import Penalties
from unnorm.numerics.proximal import minimum_norm_subgradient


def refuse_lasso(problem: Any, trains: bool) -> None:
    """Training's steps leave no entry at zero, so that the lasso is refused there."""
    if trains and problem.penalty is not None and problem.penalty.lasso:
        name, method = next(iter(problem.penalty.lasso)), type(problem.objective).__name__
        raise ValueError(
            f"The penalty on {name} is L1 and {method} is trained by steps here, which set no "
            "entry to zero; expected few parameters and no optimizer, steps, batch_size, "
            "held_out, callback or store; leave these out, or use un.L2."
        )


def penalized_estimand(objective: Any, penalties: Penalties | None) -> tuple[str, str, bool]:
    """The objective's name and target under penalties and priors, and whether the inverse curvature
    is still an inverse information.
    """
    name, target = registry_name(type(objective)), objective.target
    if penalties is None:
        return name, target, True
    terms = [
        f"{kind} on {parameter}"
        for kind, part in (("L1", penalties.lasso), ("L2", penalties.ridge))
        for parameter in part
    ]
    if terms:
        target = (
            f"the minimum of the mean loss penalised by {' and '.join(terms)}; without: {target}"
        )
    if penalties.priors:
        names = ", ".join(penalties.priors)
        target = (
            f"the maximum a posteriori estimate (MAP) under the prior on {names}; without: {target}"
        )
        name += " (MAP)"
    return name, target, False


def prior_support_findings(loss: Loss) -> list[Finding]:
    """An error for every prior that has no mass at the estimate: NumPyro's `log_prob` goes on
    beyond the bounds of a distribution.
    """
    penalties: Penalties = loss.state.penalty
    found = []
    for name, prior in penalties.priors.items():
        value = loss.density.parameters[name]
        if isinstance(value, dict) or not hasattr(value, "shape"):
            continue
        if np.all(np.asarray(prior.support(value))):
            continue
        what = (
            f"the estimate of {name} lies where its prior {type(prior).__name__} has no mass: the "
            "mode of the posterior is on the prior's bound, where it has no standard error"
        )
        advice = (
            f"declare {name} on that range, such as un.Interval, or pass a prior without bounds"
        )
        found.append(Finding(what, advice, ERROR, FindingCode.NO_FINITE_ESTIMATE))
    return found


def penalty_finding(loss: Loss) -> Finding:
    """What the standard errors of a penalised fit are, or how sparse the lasso left it."""
    penalties: Penalties = loss.state.penalty
    if penalties.lasso:
        entries = np.concatenate([np.ravel(loss.density.free()[name]) for name in penalties.lasso])
        what = f"the lasso left {np.sum(entries == 0)} of {entries.size} penalised entries at zero"
        if not isinstance(loss.objective, Stochastic):
            gap = float(stationarity(loss))
            what += f"; the largest slope that is left at its minimum is {gap:.1e}"
        return Finding(what, severity=NOTE)
    if not penalties.priors:
        what = (
            "the standard errors are those of the ridge's own estimand, and do not count its bias "
            "towards zero"
        )
        return Finding(what, "lower the strength, and see how far the estimates move", NOTE)
    if loss.objective.traits.is_likelihood:
        what = (
            "the standard errors are the posterior's by Laplace's approximation at its mode, (n "
            "H)⁻¹"
        )
    else:
        what = (
            "the standard errors are the sandwich's with the prior in its Hessian: those of the "
            "penalised estimand, because this loss is not a likelihood"
        )
    return Finding(what, "for the posterior itself, sample un.posterior(p, data, prior=...)", NOTE)


def refuse_lasso_errors(penalties: Penalties | None) -> None:
    """Raise the sentence why a lasso has no standard errors."""
    if penalties is not None and penalties.lasso:
        raise NoCovarianceError(
            "the lasso's estimates are biased, and each is zero with positive probability, so "
            "that no normal approximation holds and there are no standard errors",
            "fit the entries that are not zero again without the penalty on data that did not "
            "choose them, or use the bootstrap to see how stable the zeros are",
        )


def posterior_covariance(loss: Loss) -> Covariance:
    """Laplace's approximation (n H)⁻¹ of a likelihood with a prior; the lasso has none."""
    objective, density, state, events = loss
    refuse_lasso_errors(state.penalty)
    curvature = np.asarray(scores_and_curvature(loss)[1])
    found = bread_and_meat(curvature, curvature, len(next(iter(events.values()))))
    shared = None
    if isinstance(objective, DrawsSharedNoise):
        shared = objective.shared_noise(density, state, events)
    if shared is None:
        return found
    noise = bread_and_meat(curvature, np.asarray(shared), 1).total
    return found._replace(total=found.total + noise, simulation=found.simulation + noise)


@compiled
def stationarity(loss: Loss) -> jax.Array:
    """The largest least slope max_j |r_j| of the penalized loss: 0 at a minimum."""
    gradient, strengths = jax.grad(loss.mean)(loss.vector), loss.lasso
    assert strengths is not None
    return jnp.max(jnp.abs(minimum_norm_subgradient(loss.vector, gradient, strengths)))

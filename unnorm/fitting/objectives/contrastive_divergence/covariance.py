"""Standard errors and fixed points of contrastive divergence, by chains at the estimate.

CD-k: ψ_i = s(x_i) − E[s(x') | x_i → k steps], s = ∇ log p̃. For a kernel that leaves p_θ invariant,
H = E[ψ (s − s̄)'], and J = mean ψ⁽¹⁾ψ⁽²⁾' from two independent groups of negatives, so that their
noise does not enter. Persistent chains have the covariance of Monte Carlo maximum likelihood: I⁻¹ J
I⁻¹ / n, I = Cov_θ(s) + E_θ[∇² log p̃] − mean ∇² log p̃(x_i).

References: Godambe (1960), doi:10.1214/aoms/1177705693; Geyer (1994),
doi:10.1111/j.2517-6161.1994.tb01976.x.
"""

from dataclasses import dataclass

import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.inference.sandwich import Covariance, NoCovarianceError, bread_and_meat
from unnorm.fitting.loss import NewtonOptions, lasso_strengths, scores_at
from unnorm.fitting.objectives.contrastive_divergence.score_moments import (
    DEFAULT,
    LongRun,
    MomentOptions,
    long_run,
    negative_scores,
)
from unnorm.fitting.penalties.penalized_fit import refuse_lasso_errors
from unnorm.fitting.penalties.terms import slope_and_curvature
from unnorm.numerics.diagonal_scaling import solve
from unnorm.numerics.proximal import minimum_norm_subgradient


@dataclass(frozen=True)
class FixedPointCriteria:
    """When a fixed point is far from the maximum likelihood estimate."""

    warning: float = 0.25  # standard errors
    error: float = 0.5
    noise: float = 4.0  # Monte Carlo errors that the distance must exceed


def covariance(
    objective, density, state, events, key, options: MomentOptions = DEFAULT
) -> Covariance:
    """Return the covariance of contrastive divergence in theory, or raise `NoCovarianceError`."""
    size = ravel_pytree(density.free())[0].size
    if size > NewtonOptions.parameters:
        what = f"{size} parameters are too many for a covariance, so there are no standard errors"
        raise NoCovarianceError(what, "use the bootstrap for errors")
    kernel, n = state.shared.kernel, len(next(iter(events.values())))
    refuse_lasso_errors(state.penalty)
    _refuse_without_theory(objective, density, events)
    needs_run = objective.persistent or density.covariates
    run = long_run(density, events, key, options) if needs_run else None
    if objective.persistent:
        assert run is not None
        data = np.asarray(scores_at(density, events))
        return bread_and_meat(
            run.information + _penalty_curvature(density, state), _score_covariance(data, run), n
        )
    if not kernel.exact:
        raise NoCovarianceError(
            f"{type(kernel).__name__} does not leave the density invariant, and the theory gives "
            "no covariance for contrastive divergence with such a kernel, so there are no "
            "standard errors",
            "use an exact kernel such as un.kernels.MALA() or HMC(), or the bootstrap",
        )
    data, groups = (
        np.asarray(part)
        for part in negative_scores(objective, density, state, events, key, options.negatives)
    )
    psi = data - groups
    centred = psi - psi.mean(1, keepdims=True)
    expected = data if run is None else run.expected
    assert expected is not None
    centre = expected.mean(0)
    curvature = psi.mean(0).T @ (data - centre) / n
    meat = centred[0].T @ centred[1] / n
    return bread_and_meat(curvature + _penalty_curvature(density, state), (meat + meat.T) / 2, n)


def _score_covariance(data: np.ndarray, run: LongRun) -> np.ndarray:
    """Cov(s − E[s | covariates]) over the rows, without the noise of the row's own mean."""
    if run.expected is None:
        centred = data - data.mean(0)
        return centred.T @ centred / len(data)
    centred = data - run.expected
    centred = centred - centred.mean(1, keepdims=True)
    meat = centred[0].T @ centred[1] / len(data)
    return (meat + meat.T) / 2


def _penalty_curvature(density, state) -> np.ndarray:
    """What the penalties add to H."""
    return np.asarray(slope_and_curvature(state.penalty, density)[1])


def _refuse_without_theory(objective, density, events: dict) -> None:
    reason = None
    if objective.noise is not None:
        reason = (
            "noise was added to the data, and the theory of contrastive divergence is without it",
            "leave noise out, or use the bootstrap",
        )
    elif objective.reinitialise > 0:
        reason = (
            "some chains restart at each iteration, and the theory of persistent chains is "
            "without that",
            "leave reinitialise at 0, or use the bootstrap",
        )
    elif latent_variables(density.variables, events):
        reason = (
            "the theory of contrastive divergence's errors here is for data without latent "
            "variables and missing values",
            "use un.objectives.MaximumLikelihood where they can be summed out, or the bootstrap",
        )
    if reason is not None:
        raise NoCovarianceError(f"{reason[0]}, so there are no standard errors", reason[1])


def fixed_point_findings(
    objective, density, state, events, key, criteria: FixedPointCriteria | None = None
) -> list[Finding]:
    """Return a warning where the fit is far from maximum likelihood, by one Newton step on chains
    that had time to mix.
    """
    criteria = criteria or FixedPointCriteria()
    # With noise the fit aims at the smoothed data, and says so.
    if objective.noise is not None or latent_variables(density.variables, events):
        return []
    run = long_run(density, events, key)
    data = np.asarray(scores_at(density, events))
    n = len(data)
    slope, curvature = (np.asarray(part) for part in slope_and_curvature(state.penalty, density))
    information = run.information + curvature
    try:
        total = bread_and_meat(information, _score_covariance(data, run), n).total
    except NoCovarianceError:
        return []
    errors = np.sqrt(np.diagonal(total))
    uphill, strengths = data.mean(0) - slope - run.batches, lasso_strengths(density, state)
    if strengths is not None:
        uphill = -np.asarray(
            minimum_norm_subgradient(ravel_pytree(density.free())[0], -uphill, strengths)
        )
    shifts = solve(information, uphill.T) / errors[:, None]
    shift, noise = np.abs(shifts.mean(1)), shifts.std(1, ddof=1) / np.sqrt(len(run.batches))
    worst = int(np.argmax(shift))
    distance = shift[worst]
    if distance <= criteria.warning or distance <= criteria.noise * noise[worst]:
        return []
    kernel = state.shared.kernel
    why, advice = _reason(objective, kernel)
    name = "persistent CD" if objective.persistent else f"CD-{objective.k}"
    what = (
        f"the fixed point of {name} with {type(kernel).__name__} lies about {distance:.2f} "
        f"standard errors from the maximum likelihood estimate: {why}"
    )
    severity = ERROR if distance > criteria.error else WARNING
    return [Finding(what, advice, severity, code=FindingCode.FAR_FROM_MAXIMUM_LIKELIHOOD)]


def _reason(objective, kernel) -> tuple[str, str]:
    if not kernel.exact:
        return (
            "the kernel does not leave the density invariant",
            "use an exact kernel such as un.kernels.HMC()",
        )
    if objective.reinitialise > 0:
        return "too many chains restart at the data", "lower reinitialise"
    advice = "raise k, or use a kernel that mixes faster"
    if not objective.persistent:
        advice += ", or persistent=True"
    return "its steps hardly move the chains", advice


__all__ = ["FixedPointCriteria", "covariance", "fixed_point_findings"]

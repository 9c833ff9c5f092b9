"""Ranking noise contrastive estimation: which of several points is the datum, without log Z."""

import math

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.core.method import method
from unnorm.fitting.base import LogZEstimate, ObjectiveState
from unnorm.fitting.loss import Loss, row_scores, scores_and_curvature
from unnorm.fitting.objectives.auxiliary_noise import draw_variance, shift_draws
from unnorm.fitting.objectives.noise_contrastive.noise import (
    WithNoise,
    noise_log_ratios,
    point_at,
    row_sum,
)
from unnorm.numerics.diagonal_scaling import solve


@method
class RankingNCE(WithNoise):
    """Tell which of a datum and its ν noise points is the datum: a softmax over s = log p̃ − log
    p_n.

    Minimise mean_i log(e^s(x_i) + Σ_k e^s(y_ik)) − s(x_i), in which any constant of log p̃ cancels:
    Z is not needed, and may be every row's own, so that covariates are served (p_n is one noise for
    all rows). The estimate is consistent at any ν. log Z, where there are no covariates, is by
    importance sampling with the noise points.

    Args:
        noise: a NumPyro or flowjax distribution over one event (or ``{variable: distribution}``);
            None: chosen by the support and fitted to the data, which the standard errors account
            for. A given one is taken as fixed: fit a flow to other rows than these, for what the
            rows have in it is not counted.
        noise_ratio: ν, noise points per data point.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> fit = un.fit(
        ...     p,
        ...     [0.5, 1.0, 3.5, 3.0],
        ...     un.objectives.RankingNCE(noise_ratio=1000),
        ...     seed=0,
        ...     progress=False,
        ... )
        >>> abs(float(fit.density.parameters["rate"]) - 0.5) < 0.05
        True

    References:
        Ma and Collins (2018), arXiv:1809.01812.
    """

    target = (
        "the maximum likelihood estimate as the noise ratio grows, and a fixed point of its own "
        "before"
    )

    def losses(self, density, state, events) -> jax.Array:
        on_data, on_noise = self.log_ratios(density, state, events)
        return jnp.logaddexp(on_data, jax.nn.logsumexp(on_noise, -1)) - on_data

    def margins(self, density, state, events) -> jax.Array | None:
        if any(not support.discrete for support in density.variables.values()):
            return None
        on_data, on_noise = self.log_ratios(density, state, events)
        return (on_data[:, None] - on_noise).ravel()

    def noise_slope(self, density, state, events) -> jax.Array:
        return _noise_slope(self, density, state, events)

    def noise_variance(self, density, state, events) -> jax.Array | None:
        return draw_variance(self, density, state, events, _shift_noise(state))

    def shares(self, density, state, events) -> jax.Array:
        return _shares(self, density, state, events)

    def log_z_estimate(self, density, state, events, covariance) -> LogZEstimate | None:
        """Return log Z by importance sampling, with errors by each row's influence.

        log Ẑ − log Z = mean_i [mean_k w_ik − 1 − m'H⁻¹ψ_i], w the weights with mean 1, m = ∂ log Ẑ
        / ∂θ.
        """
        if density.covariates:
            return None
        log_weights = noise_log_ratios(self, density, state, events)
        value = jax.nn.logsumexp(log_weights) - math.log(log_weights.size)
        if covariance is None:
            return LogZEstimate(float(value), math.nan, math.nan)
        total, drawn = _log_z_variances(
            self, density, state, events, jnp.exp(log_weights - value).mean(1)
        )
        return LogZEstimate(float(value), math.sqrt(drawn), math.sqrt(max(total - drawn, 0.0)))


def _shift_noise(state: ObjectiveState) -> ObjectiveState:
    rows = state.per_row
    noise, on_noise = shift_draws((rows.noise, rows.on_noise))
    return state._replace(per_row=rows._replace(noise=noise, on_noise=on_noise))


def _log_z_variances(
    objective: RankingNCE, density, state: ObjectiveState, events: dict, weights
) -> tuple[float, float]:
    """The variance of log Ẑ, and the part of it that other noise points would change."""
    loss = Loss(objective, density, state, events)
    vector = loss.vector
    psi, curvature = scores_and_curvature(loss)
    correction = objective.score_correction(density, state, events)
    other = row_scores(loss._replace(state=_shift_noise(state)), vector)

    def log_z(vector):
        return jax.nn.logsumexp(
            noise_log_ratios(objective, density.at(loss.free_at(vector)), state, events)
        )

    gradient = solve(curvature.T, jax.grad(log_z)(vector))
    influence = weights - (psi if correction is None else psi + correction) @ gradient
    difference = weights - jnp.roll(weights, 1) - (psi - other) @ gradient
    n = len(weights)
    return float(jnp.var(influence)) / n, float(jnp.mean(difference**2)) / (2 * n)


@compiled
def _noise_slope(objective: RankingNCE, density, state: ObjectiveState, events: dict) -> jax.Array:
    """d E[ψ] / dφ = Σ_k w_k² / (1 − w_k) (g_k − ḡ) s_k' − w_0 (g_0 − ḡ) s_0', ḡ = Σ w g, on average
    over the rows.

    The draws' own dependence on φ is E[(ψ − ψ without y_k) s_k'], for what does not depend on y_k
    has no part in it.
    """
    at = point_at(objective, density, state)

    def one_row(given):
        event, noise = given
        points = jax.tree.map(
            lambda datum, drawn: jnp.concatenate([datum[None], drawn]),
            at(event), jax.vmap(lambda y: at(event | y))(noise),
        )  # fmt: skip
        w = jax.nn.softmax(points.log_ratio)
        drawn = jnp.arange(len(w)) > 0
        factor = jnp.where(drawn, w**2 / jnp.maximum(1 - w, jnp.finfo(w.dtype).tiny), -w)
        return jnp.einsum(
            "k,kp,kq->pq", factor, points.gradient - w @ points.gradient, points.noise_score
        )

    return row_sum(one_row, (events, state.per_row.noise)) / len(state.per_row.on_data)


@compiled
def _shares(objective: RankingNCE, density, state: ObjectiveState, events: dict) -> jax.Array:
    """1 minus the weight of the datum among its noise."""
    on_data, on_noise = objective.log_ratios(density, state, events)
    return jax.nn.sigmoid(jax.nn.logsumexp(on_noise, -1) - on_data)

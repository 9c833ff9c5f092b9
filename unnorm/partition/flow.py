"""log Z by importance sampling from a normalizing flow that was fitted to annealed draws."""

import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.weights import mean_of, pareto_smoothed
from unnorm.methods import method, static
from unnorm.partition.base import LogZ
from unnorm.partition.moves import height_of
from unnorm.partition.population import draws_of_base, log_base_at, population, unflattened
from unnorm.partition.weighted import infinite, judged, refuse_discrete, refuse_small

BASE_SHARE = 0.1  # of the draws, from the pilot's base: the weights stay bounded where the flow is too thin


@method
class FlowImportance:
    """log Z = log E_m[p̃/m] with m = .9 flow + .1 q, a flow fitted to annealed draws and the heavy-tailed base q.

    The flow is masked autoregressive with rational quadratic splines, over coordinates whitened by the draws; half of
    the draws are held out, and its training ends where their likelihood no longer rises. It need not be a good fit for
    the weights to be right; k̂ and the effective number of weights say whether it is good enough. Needs flowjax.

    Args:
        draws: that are weighed.
        training: annealed draws, half of which the flow is fitted to.
        layers: of the flow.

    Raises:
        ImportError: flowjax is not installed.
        ValueError: a discrete variable, an option out of range.

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, FlowImportance(draws=1000, training=500, layers=1), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Papamakarios, Pavlakou and Murray (2017), arXiv:1705.07057; Durkan, Bekasov, Murray and Papamakarios (2019),
        arXiv:1906.04032 (the splines); Hesterberg (1995), doi:10.2307/1269620 (the defensive mixture).
    """

    draws: int = static(10_000)
    training: int = static(5_000)
    layers: int = static(4)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small("FlowImportance", draws=(self.draws, 100), training=(self.training, 100), layers=(self.layers, 1))
        refuse_discrete("FlowImportance", density)
        if importlib.util.find_spec("flowjax") is None:
            raise ImportError("FlowImportance needs flowjax, which is not installed; install it: pip install flowjax.")
        from unnorm.partition.flows import fitted, log_flow, sampled

        draws_key, fit_key, flow_key, base_key = jax.random.split(key, 4)
        base, found, cost, endless = population(density, draws_key, self.training)
        if endless:
            return infinite(density, "flow_importance", cost, endless)
        flow, safe = fitted(found, self.layers, fit_key), round(BASE_SHARE * self.draws)
        bold = self.draws - safe
        points = jnp.concatenate([sampled(flow, flow_key, bold), draws_of_base(density, base, base_key, safe)])
        heights, log_q = (np.asarray(part, float) for part in _heights(density, base, points))
        share = safe / self.draws
        log_mixture = np.logaddexp(math.log1p(-share) + np.asarray(log_flow(flow, points)), math.log(share) + log_q)
        logs = heights - log_mixture
        smoothed, shape = pareto_smoothed(logs)
        value, error = mean_of_strata(smoothed, bold)
        cost = {"values": cost["values"] + self.draws, "gradients": cost["gradients"]}
        return judged(density, "flow_importance", value, error, cost, logs, shape)


@jax.jit
def _heights(density: Density, base, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log p̃, the Jacobian counted, and log q at points (N, D)."""

    def one(flat):
        return height_of(density, unflattened(density, flat)), log_base_at(density, base, flat)

    return jax.vmap(one)(points)


def mean_of_strata(log_weights: np.ndarray, first: int) -> tuple[float, float]:
    """log of the mean weight and its standard error, the first so many from one law and the rest from the other."""
    value = mean_of(log_weights)[0]
    if not math.isfinite(value):
        return value, math.nan
    strata = np.split(np.exp(log_weights - value), [first])
    return value, math.sqrt(sum(len(part) * part.var(ddof=1) for part in strata)) / len(log_weights)


__all__ = ["FlowImportance", "mean_of_strata"]

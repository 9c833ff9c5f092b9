"""log Z by importance sampling from a normalizing flow that was fitted to annealed draws."""

from dataclasses import replace

import jax

from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import path_for, with_flow
from unnorm.partition.base import LogZ
from unnorm.partition.estimators.importance_sampling import weighed
from unnorm.partition.proposals.user_given import require_flowjax
from unnorm.partition.weight_checks import infinite, refuse_discrete, refuse_small

NAME = "flow_importance"


@method
class FlowImportance:
    """log Z = log E_m[p̃/m] with m = ½ flow + ½ q, a flow fitted to annealed draws and the
    heavy-tailed base q.

    That is `ImportanceSampling(base="flow")` with more draws to fit to.

    The flow is masked autoregressive with rational quadratic splines, over coordinates whitened by
    the draws; half of the draws are held out, and its training ends where their likelihood no
    longer rises. It need not be a good fit for the weights to be right; k̂ and the effective number
    of weights say whether it is good enough. Needs flowjax.

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
        >>> z = un.log_z(p, un.estimators.FlowImportance(draws=1000, training=500, layers=1), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Papamakarios, Pavlakou and Murray (2017), arXiv:1705.07057; Durkan, Bekasov, Murray and
        Papamakarios (2019), arXiv:1906.04032 (the splines); Hesterberg (1995), doi:10.2307/1269620
        (the defensive mixture).
    """

    draws: int = static(10_000, at_least=100)
    training: int = static(5_000, at_least=100)
    layers: int = static(4, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        who = "FlowImportance"
        refuse_small(
            who, draws=(self.draws, 100), training=(self.training, 100), layers=(self.layers, 1)
        )
        refuse_discrete(who, density)
        require_flowjax(who)
        path_key, fit_key, key = jax.random.split(key, 3)
        path, cost, endless = path_for(density, path_key, self.training)
        if endless:
            return infinite(density, NAME, cost, endless)
        base = with_flow(density, path, self.layers, fit_key)
        return replace(weighed(density, base, key, self.draws, cost), estimator=NAME)


__all__ = ["FlowImportance"]

"""log Z by importance sampling from a normalizing flow that was fitted to annealed draws."""

from dataclasses import replace

import jax

from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.core.validation import require_flowjax
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import fit_flow_proposal, run_pilot
from unnorm.partition.base import LogZ
from unnorm.partition.importance_weights import importance_estimate
from unnorm.partition.weight_checks import refuse_discrete


@method
class FlowImportance:
    """log Z = log E_m[p̃/m] with m = ½ flow + ½ q, a flow fitted to annealed draws and the
    heavy-tailed proposal q.

    That is `ImportanceSampling(base="flow")` with more draws to fit to.

    The flow is masked autoregressive with rational quadratic splines, over coordinates whitened by
    the draws; half of the draws are held out, and its training ends where their likelihood no
    longer rises. It need not be a good fit for the weights to be right; k̂ and the ESS of the
    weights show whether it is good enough. Needs flowjax.

    Args:
        draws: that are weighed.
        training: annealed draws, half of which the flow is fitted to.
        layers: of the flow.

    Raises:
        ImportError: flowjax is not installed.
        ValueError: a discrete variable, an option out of range.

    Example:
        >>> import unnorm as un
        >>> identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=identity)
        >>> estimator = un.estimators.FlowImportance(draws=1000, training=500, layers=1)
        >>> z = un.log_z(p, estimator, seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Papamakarios, Pavlakou and Murray (2017), arXiv:1705.07057; Durkan, Bekasov, Murray and
        Papamakarios (2019), arXiv:1906.04032 (the splines); Hesterberg (1995), doi:10.2307/1269620
        (the defensive mixture).
    """

    draws: int = static(default=10_000, at_least=100)
    training: int = static(default=5_000, at_least=100)
    layers: int = static(default=4, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_discrete("FlowImportance", density)
        require_flowjax("FlowImportance")
        pilot_key, fit_key, key = split_keys(key, 3)
        pilot = run_pilot(density, pilot_key, self.training)
        proposal = fit_flow_proposal(pilot, self.layers, fit_key)
        found = importance_estimate(proposal, key, self.draws, pilot.spent)
        return replace(found, estimator="flow_importance")


__all__ = ["FlowImportance"]

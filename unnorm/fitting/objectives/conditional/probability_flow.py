"""Minimum probability flow: how fast probability would flow from the data to their neighbours."""

import jax
import jax.numpy as jnp

from unnorm.core.method import method
from unnorm.fitting.base import LossObjective, ObjectiveState
from unnorm.fitting.existence.margins import conditional_margins
from unnorm.interactions.conditionals import groups_of, log_odds, not_enumerable


@method
class ProbabilityFlow(LossObjective):
    """Minimise mean_i Σ_j √(p̃(x_j) / p̃(x_i)), x_j the states that differ from x_i in one entry:
    no Z is needed.

    The initial flow of probability from the data to their neighbours under dynamics whose
    equilibrium is p. States that are themselves data are left among the neighbours, where the paper
    leaves them out: then every row has a loss of its own, the estimate is an M-estimator with the
    sandwich's errors, and where the model is true the expected loss has its minimum at the truth.
    Convex in the parameters of an exponential family. For Binary, Spin, Categorical and Graph
    variables (a graph's entries are its ties), also together.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, field: field * x.sum(),
        ...     {"x": un.Binary["d"]},
        ...     {"field": (un.Real, 0.0)},
        ... )
        >>> data = np.array([[1, 0], [1, 1], [1, 1], [0, 1]])
        >>> fit = un.fit(p, data, un.objectives.ProbabilityFlow(), progress=False)
        >>> round(float(fit.density.parameters["field"]), 4)  # the logit of 6/8
        1.0986

    References:
        Sohl-Dickstein, Battaglino and DeWeese (2011), arXiv:0906.4779,
        doi:10.1103/PhysRevLett.107.220601.
    """

    target = (
        "the minimum of the probability flow (the maximum likelihood estimate only if the model is "
        "true)"
    )

    def refuse(self, density) -> str | None:
        for name, support in density.variables.items():
            if support.discrete and support.states is None:
                return (
                    f"ProbabilityFlow needs entries with finitely many states, and {name} is "
                    f"{support!r}; expected Binary, Spin, Categorical or Graph; use "
                    "un.objectives.PseudoLikelihood"
                )
        return not_enumerable("ProbabilityFlow", density)

    def prepare(self, density, events, key) -> ObjectiveState:
        return ObjectiveState()

    def loss_i(self, density, state, event, key) -> jax.Array:
        odds = log_odds(density, event, groups_of(density))
        return jnp.asarray(sum(jnp.sum(jnp.exp(0.5 * part)) for part in odds))

    def margins(self, density, state, events) -> jax.Array | None:
        return conditional_margins(density, events)

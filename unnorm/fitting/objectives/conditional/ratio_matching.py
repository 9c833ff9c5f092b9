"""Ratio matching: score matching's counterpart for variables of two states."""

import jax
import jax.numpy as jnp

from unnorm.core.method import method
from unnorm.fitting.base import LossObjective, ObjectiveState
from unnorm.fitting.existence.margins import conditional_margins
from unnorm.fitting.objectives.score_matching.forms.ratio_matching import squared_error
from unnorm.interactions.conditionals import groups_of, log_odds, not_enumerable


@method
class RatioMatching(LossObjective):
    """Minimise mean_i Σ_j (1 − p(x_ij | x_i,−j))², for variables whose entries have two states: no
    Z is needed.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, field: field * x.sum(),
        ...     {"x": un.Binary["d"]},
        ...     {"field": (un.Real, 0.0)},
        ... )
        >>> data = np.array([[1, 0], [1, 1], [1, 1], [0, 1]])
        >>> fit = un.fit(p, data, un.objectives.RatioMatching(), progress=False)
        >>> round(float(fit.density.parameters["field"]), 4)  # the logit of 6/8
        1.0986

    References:
        Hyvärinen (2007), doi:10.1016/j.csda.2006.09.003.
    """

    target = (
        "the minimum of ratio matching's distance (the maximum likelihood estimate only if the "
        "model is true)"
    )

    def refuse(self, density) -> str | None:
        return not_enumerable("RatioMatching", density, two_states=True)

    def prepare(self, density, events, key) -> ObjectiveState:
        return ObjectiveState()

    def loss_i(self, density, state, event, key) -> jax.Array:
        odds = log_odds(density, event, groups_of(density))
        return jnp.asarray(sum(map(squared_error, odds)))

    def margins(self, density, state, events) -> jax.Array | None:
        return conditional_margins(density, events)

"""An objective: the pseudo-spherical score of the conditionals of two-state entries."""

import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid

import unnorm as un
from unnorm.core.method import method
from unnorm.fitting.base import LossObjective, ObjectiveState
from unnorm.fitting.objectives.registry import OBJECTIVES
from unnorm.interactions.conditionals import groups_of, log_odds, not_enumerable


@method
class SphericalScore(LossObjective):
    """Minimize mean_i −Σ_j p(x_ij | x_i,−j) / |p(· | x_i,−j)|, a proper scoring rule; no Z is
    needed.

    References:
        Good (1971), Comment on Buehler; Dawid and Musio (2014), doi:10.1007/s40300-014-0039-y.
    """

    target = "the minimum of the spherical score"

    def refuse(self, density):
        return not_enumerable("SphericalScore", density, two_states=True)

    def prepare(self, density, events, key):
        return ObjectiveState()

    def loss_i(self, density, state, event, key):
        def score(odds):  # log p(other state) − log p(this state)
            here, there = log_sigmoid(-odds), log_sigmoid(odds)
            return -jnp.exp(here - 0.5 * jnp.logaddexp(2 * here, 2 * there))

        return sum(score(odds).sum() for odds in log_odds(density, event, groups_of(density)))


OBJECTIVES["spherical_score"] = SphericalScore


if __name__ == "__main__":
    p = un.Density(
        lambda x, *, field: field * x.sum(), {"x": un.Binary["d"]}, {"field": (un.Real, 0.0)}
    )
    data = np.array([[1, 0], [1, 1], [1, 1], [0, 1]])
    print(un.fit(p, data, "spherical_score", seed=0, progress=False).summary())

"""Noise contrastive estimation: log Z is learned as a parameter."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.method import method, static
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.noise_contrastive.contrast import LogisticContrast
from unnorm.fitting.objectives.noise_contrastive.noise import FittedNoise, NoiseRows, NoiseStates
from unnorm.fitting.objectives.noise_contrastive.noise_checks import (
    refuse_covariates,
    refuse_infinite_log_z,
    refuse_uncovered,
)
from unnorm.integration.nodes import log_densities
from unnorm.integration.options import ENUMERATION
from unnorm.integration.states import count_states, enumerate_states


@method
class NCE(LogisticContrast):
    """Tell the data from noise by logistic regression, with log Z as one more parameter.

    Minimise mean_i softplus(−G(x_i)) + Σ_k softplus(G(y_ik)), G = log p̃ − log Z − log p_n − log ν,
    the log-sum-exp form of the cross-entropy, with ν noise points y_i1..y_iν for every x_i, drawn
    once. With `exact` the sum over k is its expectation ν Σ_y p_n(y) softplus(G(y)) over all states
    y, and no noise is drawn.

    Args:
        noise: a NumPyro or flowjax distribution over one event (or ``{variable: distribution}``);
            None: chosen by the support and fitted to the data, which the standard errors account
            for. A given one is taken as fixed: fit a flow to other rows than these, for what the
            rows have in it is not counted.
        noise_ratio: ν, noise points per data point.
        exact: take the noise's expectation over all states, of discrete densities with at most 2^20
            of them.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], NCE(noise_ratio=1000), seed=0, progress=False)
        >>> abs(float(fit.density.parameters["rate"]) - 0.5) < 0.05
        True

    References:
        Gutmann and Hyvärinen (2012), JMLR 13, 307-361.
    """

    exact: bool = static(default=False)
    target = (
        "the maximum likelihood estimate as the noise ratio grows, and a fixed point of its own "
        "before"
    )

    def refuse(self, density) -> str | None:
        refusal = super().refuse(density) or refuse_covariates("NCE", density)
        return refusal or (_refuse_many_states(density) if self.exact else None)

    def prepare(self, density, events, key) -> ObjectiveState:
        return (
            self._weigh_states(density, events)
            if self.exact
            else super().prepare(density, events, key)
        )

    def resample_noise(self, density, state, events, key) -> Any:
        if not self.exact:
            return super().resample_noise(density, state, events, key)
        statistics = state.shared.statistics
        return NoiseRows(jax.vmap(lambda event: self.log_noise(density, statistics, event))(events))

    def _weigh_states(self, density, events: dict) -> ObjectiveState:
        """Return all states of positive noise probability, with ν times that as weights."""
        events = {name: jnp.asarray(value) for name, value in events.items()}
        statistics, _ = self.fit_noise(density, events)
        states = enumerate_states(density)
        log_noise = jax.vmap(lambda event: self.log_noise(density, statistics, event))
        on_data, on_states = log_noise(events), log_noise(states)
        reached = np.asarray(on_states) > -np.inf
        states, on_states = jax.tree.map(lambda leaf: leaf[reached], (states, on_states))
        refuse_uncovered(np.asarray(on_data), np.asarray(on_states))
        weights = self.noise_ratio * jnp.exp(on_states)
        log_z = jax.nn.logsumexp(log_densities(density, states))
        refuse_infinite_log_z(density, log_z)
        shared = FittedNoise(statistics, NoiseStates(states, on_states, weights))
        return ObjectiveState({"log_z": log_z}, NoiseRows(on_data), shared)

    def log_ratios(self, density, state, events) -> tuple[jax.Array, jax.Array]:
        """Return them at every row; with `exact` at all states, which are the noise of all rows."""
        if not self.exact:
            return super().log_ratios(density, state, events)
        log_z, states = state.nuisance["log_z"], state.shared.states
        on_data = log_densities(density, events) - log_z - state.per_row.on_data
        return on_data, log_densities(density, states.events) - log_z - states.log_noise


def _refuse_many_states(density) -> str | None:
    """Why the states cannot be enumerated, as a sentence, or None."""
    count = count_states(density)
    if Unconstrained(density).dimension or count is None or count > ENUMERATION.max_states:
        found = (
            f"{count:,} states"
            if count and not Unconstrained(density).dimension
            else "infinitely many"
        )
        return (
            f"NCE(exact=True) sums over all states, and {density.name} has {found}; expected "
            "discrete variables with at most 2^20 joint states; leave exact out, so that noise is "
            "drawn"
        )
    return None

"""The self-normalised likelihood: importance sampling with a learned log Z."""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.method import method
from unnorm.fitting.loss import parameters_of
from unnorm.fitting.objectives.noise_contrastive.contrast import Contrast
from unnorm.fitting.objectives.noise_contrastive.noise_checks import (
    NOISE,
    refuse_covariates,
    relative_information,
)


@method
class SelfNormalized(Contrast):
    """Maximise mean_i log p̃(x_i) − b − e^(−b) mean_i mean_k p̃(y_ik) / q(y_ik) + 1 over the
    parameters and b.

    A lower bound of the log-likelihood for every b, that touches it at b = log Z, and concave in
    the parameters of an exponential family. With the ν noise points y_ik ~ q of every row drawn
    once, its optimum is the maximum likelihood estimate with Z by importance sampling. q fitted to
    the data costs nothing to first order, for E_q[p̃/q] does not depend on q. The history leaves
    out the data's mean log q, which no parameter moves.

    Args:
        noise: q, a NumPyro or flowjax distribution over one event (or ``{variable:
            distribution}``); None: chosen by the support and fitted to the data.
        noise_ratio: ν, noise points per data point.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> objective = un.objectives.SelfNormalized(noise_ratio=1000)
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], objective, seed=0, progress=False)
        >>> abs(float(fit.density.parameters["rate"]) - 0.5) < 0.05
        True

    References:
        Senetaire, Jeha, Mattei and Frellsen (2025), arXiv:2503.07021; Geyer and Thompson (1992),
        doi:10.1111/j.2517-6161.1992.tb01443.x (the sampled likelihood).
    """

    target = "the maximum likelihood estimate, up to the importance sampling of Z"

    def refuse(self, density) -> str | None:
        return super().refuse(density) or refuse_covariates("SelfNormalized", density)

    def data_term(self, log_ratio) -> jax.Array:
        return -log_ratio

    def noise_term(self, log_ratio) -> jax.Array:
        return (jnp.exp(log_ratio) - 1) / self.noise_ratio

    def information(self, density, state, events) -> float:
        """Return 1 / (1 + c), c the variance that the noise adds relative to the data's, in the
        direction in which it is largest.

        E_q[(p/q)² ss'] / ν = E_p[p/q ss'] / ν, a mean over the data.
        """
        log_ratios = np.asarray(_ratios_at_data(self, density, state, events), float)
        added = np.exp(np.minimum(log_ratios, 700.0)) / self.noise_ratio
        if parameters_of(density, state)[0].size > NOISE.most_parameters:
            return float(np.mean(1 / (1 + added)))
        return 1 / (1 + relative_information(added, self.gradients(density, state, events))[1])

    def data_margins(self, log_ratios) -> jax.Array:
        return log_ratios.mean(keepdims=True)  # the loss is linear in them: only their mean matters


@compiled
def _ratios_at_data(objective: SelfNormalized, density, state, events) -> jax.Array:
    return objective.log_ratios(density, state, events)[0]

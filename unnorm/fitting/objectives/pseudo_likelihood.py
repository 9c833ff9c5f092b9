"""Objectives of the single-site conditionals of discrete variables: pseudo-likelihood."""

import jax
import jax.numpy as jnp

from unnorm.fitting.base import Extra, PerExample
from unnorm.fitting.conditionals import log_odds
from unnorm.methods import method


@method
class PseudoLikelihood(PerExample):
    """Minimise −mean_i Σ_j log p(x_ij | x_i,−j): every conditional sums over one entry's states, and no Z is needed.

    For variables whose entries have finitely many states. The standard errors are the sandwich's: the inverse curvature
    alone is too small. One observed lattice or graph is one row, and has no sandwich.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, field: field * x.sum(), {"x": un.Binary["d"]}, {"field": (un.Real, 0.0)})
        >>> data = np.array([[1, 0], [1, 1], [1, 1], [0, 1]])
        >>> fit = un.fit(p, data, un.objectives.PseudoLikelihood(), progress=False)
        >>> round(float(fit.density.parameters["field"]), 4)  # the logit of 6/8
        1.0986

    References:
        Besag (1975), doi:10.2307/2987782; Varin, Reid and Firth (2011), Statistica Sinica 21, 5-42 (standard errors).
    """

    target = "the maximum pseudo-likelihood estimate (the maximum likelihood estimate only if the model is true)"

    def refuse(self, density):
        return not_enumerable("PseudoLikelihood", density)

    def loss_i(self, density, extra, event, key):
        # −log p(x_j | x_−j) = log Σ_s p̃(x with state s at j) / p̃(x), the own state's term being 1
        return sum(jnp.sum(jnp.logaddexp(0.0, jax.nn.logsumexp(odds, axis=1))) for odds in log_odds(density, event))

    def prepare(self, density, events, key):
        return Extra()


def not_enumerable(objective: str, density, most: int | None = None) -> str | None:
    """Why an objective that changes one entry at a time does not serve a density, as a sentence, or None."""
    wanted = "two states" if most == 2 else "finitely many states"
    for name, support in density.variables.items():
        if support.states is None or most is not None and len(support.states) > most:
            other = "PseudoLikelihood" if support.states else "ScoreMatching" if support.score_matching else "NCE"
            return (
                f"{objective} needs variables whose entries have {wanted}, and {name} is {support!r}; expected Binary "
                f"or Spin; use un.objectives.{other}"
            )
    return None

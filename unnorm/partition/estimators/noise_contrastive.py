"""log Z as noise contrastive estimation has it: the constant that best tells draws of the density
from noise.
"""

import math

import jax
import numpy as np
from scipy.special import expit

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import moves_along, numberless
from unnorm.partition.annealing.target_chains import chains_of, steps_of
from unnorm.partition.annealing.transitions import cost_of
from unnorm.partition.base import LogZ, added
from unnorm.partition.estimators.bennett_acceptance_ratio import balance
from unnorm.partition.estimators.bridge_sampling import health, held_against
from unnorm.partition.estimators.importance_sampling import judged_by_tail, log_weights
from unnorm.partition.proposals.automatic import base_for
from unnorm.partition.weight_checks import infinite, refuse_small, settled
from unnorm.statistics.mcmc import effective_sample_size

LEAST_EFFECTIVE = 100.0  # draws and noise, of the function that is averaged over each


@method
class NCE:
    """log Z as the constant c of the logistic regression of draws of p̃ against noise from the
    pilot's base q.

    c solves Σ_draws σ(c + log ν − r) = Σ_noise σ(r − c − log ν), r = log p̃ − log q, σ(t) = 1/(1 +
    e^−t), ν noise for each draw. It is what `un.objectives.NCE` finds for a density whose other
    parameters are known; draws come from chains from starts apart. All that `un.estimators.Bridge`
    says of mass where no chain comes holds here too.

    Args:
        chains: from starts apart.
        draws: of each chain, after the warm-up.
        noise_ratio: ν.

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, un.estimators.NCE(), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Gutmann and Hyvärinen (2012), JMLR 13, 307-361; Geyer (1994), "Estimating normalizing
        constants and reweighting mixtures", University of Minnesota (the same by reverse logistic
        regression).
    """

    chains: int = static(8, at_least=2)
    draws: int = static(1000, at_least=100)
    noise_ratio: int = static(5, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small(
            "NCE",
            chains=(self.chains, 2),
            draws=(self.draws, 100),
            noise_ratio=(self.noise_ratio, 1),
        )
        pilot_key, walk_key, noise_key = jax.random.split(key, 3)
        base, cost, endless = base_for(density, pilot_key)
        if endless:
            return infinite(density, "nce", cost, endless)
        moves = moves_along(density, base)
        chains = chains_of(density, base, moves, walk_key, self.chains, self.draws)
        noise = log_weights(density, base, noise_key, self.noise_ratio * self.chains * self.draws)
        cost = added(cost, cost_of(density, moves, steps_of(self.chains, self.draws)))
        cost = added(cost, {"values": len(noise), "gradients": 0})
        findings = health(density, chains) + numberless(
            density, int(np.sum(~(noise < np.inf))), len(noise)
        )
        look = judged_by_tail(density, noise, cost)
        if not np.isfinite(chains.log_target).all():
            findings.append(
                Finding(
                    "log p̃ is minus infinity along the chains",
                    "use un.estimators.SMC",
                    code=FindingCode.NOT_FINITE,
                )
            )
            return settled(density, "nce", math.nan, math.nan, cost, findings)
        at_draws = chains.log_target - chains.log_base
        value, error, effective = contrasted(np.where(noise < np.inf, noise, -np.inf), at_draws)
        what = f"the contrast rests on {effective:,.0f} independent draws or noise"
        if effective >= LEAST_EFFECTIVE:
            findings.append(Finding(what, "", NOTE))
        else:
            findings.append(
                Finding(
                    what,
                    "the noise is too far from the density: use un.estimators.SMC or Bennett",
                    code=FindingCode.LOW_ESS,
                )
            )
        return held_against(look, settled(density, "nce", value, error, cost, findings))


def contrasted(noise: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    """c, its standard error and what the smaller of both samples is worth, from log p̃ − log q at
    noise and chains.

    The error is that of an M-estimator, with the effective number of the chains' draws.
    """
    value = balance(np.maximum(noise, -1e30), draws.ravel())
    shifted = value + math.log(len(noise) / draws.size)
    taken, refused = expit(noise - shifted), expit(shifted - draws)
    effective = effective_sample_size(refused, "mean")
    effective = min(effective, draws.size) if math.isfinite(effective) else 1.0
    slope = (taken * (1 - taken)).sum() + (refused * (1 - refused)).sum()
    variance = len(noise) * taken.var(ddof=1) + draws.size**2 / effective * refused.var(ddof=1)
    worth_of_noise = taken.sum() ** 2 / (taken**2).sum()
    return value, float(math.sqrt(variance) / slope), float(min(effective, worth_of_noise))


__all__ = ["NCE", "contrasted"]

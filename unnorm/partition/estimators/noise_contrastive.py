"""log Z by noise contrastive estimation: the constant that best separates draws from noise."""

import math

import jax
import numpy as np
from scipy.special import expit

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import nonfinite_findings
from unnorm.partition.annealing.target_chains import run_chains
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.partition.combine import compare_with_draws
from unnorm.partition.importance_weights import assess_draws, log_weights
from unnorm.partition.options import RUN
from unnorm.partition.proposals.automatic import make_proposal
from unnorm.partition.weight_checks import estimate
from unnorm.statistics.importance_weights import balance
from unnorm.statistics.mcmc import effective_sample_size


@method
class NCE:
    """log Z as the constant c of the logistic regression of draws of p̃ against noise from the
    pilot's proposal q.

    c solves Σ_draws σ(c + log ν − r) = Σ_noise σ(r − c − log ν), r = log p̃ − log q, σ(t) = 1/(1 +
    e^−t), ν noise for each draw. It is what `un.objectives.NCE` finds for a density whose other
    parameters are known; draws come from chains from dispersed starts. As with
    `un.estimators.Bridge`, mass in regions that no chain visits may be missed.

    Args:
        chains: from dispersed starts.
        draws: of each chain, after the warm-up.
        noise_ratio: ν.

    Example:
        >>> import unnorm as un
        >>> identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=identity)
        >>> z = un.log_z(p, un.estimators.NCE(), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Gutmann and Hyvärinen (2012), JMLR 13, 307-361; Geyer (1994), "Estimating normalizing
        constants and reweighting mixtures", University of Minnesota (the same by reverse logistic
        regression).
    """

    chains: int = static(default=8, at_least=2)
    draws: int = static(default=1000, at_least=100)
    noise_ratio: int = static(default=5, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        pilot_key, walk_key, noise_key = split_keys(key, 3)
        proposal, spent = make_proposal(density, pilot_key)
        chains = run_chains(proposal, walk_key, self.chains, self.draws, clusters=True)
        noise = log_weights(proposal, noise_key, self.noise_ratio * self.chains * self.draws)
        noise_values = {"values": len(noise), "gradients": 0}
        spent = total_evaluations(spent, chains.evaluations, noise_values)
        lost = int(np.sum(~(noise < np.inf)))
        findings = chains.findings(density.name)
        findings += nonfinite_findings(density.name, lost, len(noise))
        if not np.isfinite(chains.log_target).all():
            what = "log p̃ is minus infinity along the chains"
            findings.append(Finding(what, "use un.estimators.SMC", code=FindingCode.NOT_FINITE))
            return estimate(density, "nce", math.nan, math.nan, spent, findings)
        at_draws, at_noise = chains.log_target - chains.log_proposal, noise.copy()
        at_noise[~(noise < np.inf)] = -np.inf
        value, error, ess = contrast(at_noise, at_draws)
        what = f"ESS of the contrast = {ess:,.0f} draws or noise"
        if ess >= RUN.min_contrast_ess:
            findings.append(Finding(what, "", NOTE))
        else:
            advice = "the noise is too far from the density: use un.estimators.SMC or Bennett"
            findings.append(Finding(what, advice, code=FindingCode.LOW_ESS))
        found = estimate(density, "nce", value, error, spent, findings)
        return compare_with_draws(assess_draws(density, noise, spent), found)


def contrast(noise: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    """c, its standard error and the smaller ESS of both samples, from log p̃ − log q at noise and
    chains.

    The error is that of an M-estimator, with the ESS of the chains' draws.
    """
    value = balance(np.maximum(noise, -1e30), draws.ravel())
    shifted = value + math.log(len(noise) / draws.size)
    accepted, refused = expit(noise - shifted), expit(shifted - draws)
    ess = effective_sample_size(refused, "mean")
    ess = min(ess, draws.size) if math.isfinite(ess) else 1.0
    slope = (accepted * (1 - accepted)).sum() + (refused * (1 - refused)).sum()
    variance = len(noise) * accepted.var(ddof=1) + draws.size**2 / ess * refused.var(ddof=1)
    noise_ess = accepted.sum() ** 2 / (accepted**2).sum()
    return value, float(math.sqrt(variance) / slope), float(min(ess, noise_ess))


__all__ = ["NCE", "contrast"]

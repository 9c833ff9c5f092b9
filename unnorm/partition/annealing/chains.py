"""Draws of chains of a density, with the log-densities and gradients at them."""

from typing import NamedTuple

import numpy as np

from unnorm.core.findings import Finding, FindingCode
from unnorm.partition.annealing.particles import nonfinite_findings
from unnorm.partition.annealing.stein_checks import stein_level_of_chains
from unnorm.partition.options import RUN, RunCriteria
from unnorm.statistics.mcmc import effective_sample_size, r_hat


class Chains(NamedTuple):
    """Draws of chains, and the log-densities and gradients at them."""

    draws: np.ndarray  # (chains, draws, D), continuous coordinates
    means: np.ndarray  # (chains, draws, discrete variables), of each variable's entries
    log_target: np.ndarray  # (chains, draws)
    log_proposal: np.ndarray
    gradients: np.ndarray  # (chains, draws, D), of log p̃
    nonfinite: int
    evaluations: dict[str, int]

    def findings(self, name: str, criteria: RunCriteria = RUN) -> list[Finding]:
        """Warnings about chains: R-hat, ESS, Stein's identities, values that are not finite."""
        parts = [self.draws, self.means, self.log_target[..., None]]
        columns = np.moveaxis(np.concatenate(parts, -1), -1, 0)
        worst = np.max([r_hat(one) for one in columns])
        ess = np.min([effective_sample_size(one) for one in columns])
        findings = []
        if not worst <= criteria.convergence.max_r_hat:
            what = f"the chains disagree: R-hat = {worst:.3g}"
            advice = "there may be separate modes: use un.estimators.SMC"
            findings.append(Finding(what, advice, code=FindingCode.NOT_MIXED))
        if not ess >= criteria.convergence.min_ess:
            what = f"ESS of the chains = {ess:.0f}"
            findings.append(Finding(what, "raise draws", code=FindingCode.LOW_ESS))
        continuous = self.draws.shape[-1]
        level = stein_level_of_chains(self.draws, self.gradients) if continuous else 1.0
        if level < criteria.stein_level_dependent:
            what = f"Stein's identities are rejected on the chains (p = {level:.1e})"
            findings.append(Finding(what, "reparametrize", code=FindingCode.STEIN_MISMATCH))
        return findings + nonfinite_findings(name, self.nonfinite, self.log_target.size)

"""log Z by annealed importance sampling, on a schedule that a pilot adapts."""

import math

import jax
import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import Finding
from unnorm.diagnostics.weights import mean_of, pareto_smoothed
from unnorm.methods import method, static
from unnorm.partition.annealing import adapted_schedule, annealed, cost_of
from unnorm.partition.base import LogZ
from unnorm.partition.pilot import base_for
from unnorm.partition.tempering import refuse_unmovable
from unnorm.partition.weighted import infinite, judged, refuse_small

LEAST_ACCEPTANCE = 0.02
PILOT_MOVES = 2
RISK = 0.05  # by Markov's inequality P(log Ẑ − log Z > log 1/risk) is at most this


@method
class AIS:
    """log Z as the log of the mean weight of walks from a base q to p̃ through q^(1−λ) p̃^λ.

    A walk's weight is Π_t (p̃/q)(x_{t−1})^(λ_t − λ_{t−1}), x_t moved by HMC (and Gibbs) at λ_t; its mean is Z exactly.
    Walks are independent, which the standard error rests on. A small pilot finds temperatures of equal divergence, the
    step sizes and the covariances; log Ẑ − log 20 is a lower bound of log Z with probability at least .95.

    Args:
        chains: walks.
        temperatures: of every walk.
        pilot: particles of the pilot.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[3]})
        >>> z = un.log_z(p, un.estimators.AIS(chains=200, temperatures=20), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Neal (2001), doi:10.1023/A:1008923215028; Grosse, Ghahramani and Adams (2015), arXiv:1511.02543 (the bound).
    """

    chains: int = static(1000)
    temperatures: int = static(100)
    pilot: int = static(500)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small("AIS", chains=(self.chains, 10), temperatures=(self.temperatures, 1), pilot=(self.pilot, 10))
        refuse_unmovable("AIS", density)
        pilot_key, schedule_key, key = jax.random.split(key, 3)
        base, cost, endless = base_for(density, pilot_key)
        if endless:
            return infinite(density, "ais", cost, endless)
        schedule, spent = adapted_schedule(density, base, schedule_key, self.pilot, PILOT_MOVES, self.temperatures)
        works, accepted = annealed(density, base, schedule, jax.random.split(key, self.chains))
        walked = cost_of(density, self.chains, len(schedule.powers))
        cost = {kind: count + spent[kind] + walked[kind] for kind, count in cost.items()}
        logs, least = np.asarray(works, float), float(np.min(accepted))
        value, error = mean_of(logs)
        findings = []
        if float(schedule.powers[-1]) < 1:
            what = f"the pilot stopped at {float(schedule.powers[-1]):.3g} of 1"
            findings.append(Finding(what, "raise pilot, or rescale the variables"))
        if not least >= LEAST_ACCEPTANCE:
            what = f"as few as {least:.1%} of the moves were accepted at some temperature"
            findings.append(Finding(what, "rescale or smooth the density"))
        bounds = (value + math.log(RISK), math.inf)
        return judged(density, "ais", value, error, cost, logs, pareto_smoothed(logs)[1], tuple(findings), bounds)


__all__ = ["AIS"]

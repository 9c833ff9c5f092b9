"""log Z by thermodynamic integration and by stepping stones, along an annealing path."""

import math
from typing import Any

import jax
import numpy as np

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.core.random_keys import key_array
from unnorm.partition.annealing.particles import Run, merge
from unnorm.partition.annealing.pilot_run import AnnealingEstimator, Pilot
from unnorm.partition.base import LogZ
from unnorm.partition.options import RUN
from unnorm.partition.weight_checks import estimate, weight_findings
from unnorm.statistics.importance_weights import pareto_smooth


@method
class ThermodynamicIntegration(AnnealingEstimator):
    """log Z = ∫₀¹ E_λ[log p̃ − log q] dλ over the path q^(1−λ) p̃^λ, or by stepping stones between
    its temperatures.

    "trapezoid" is the trapezoidal rule with its second-order term, −Σ h² (V_{t+1} − V_t)/12, V the
    variances. "stepping_stones" adds log E_{λ_t}[exp(h (log p̃ − log q))]. Particles go along as in
    SMC; independent populations give the standard error, with Student's t, and half of their
    variance is added to their mean, which is low by it.

    Args:
        particles: of every population.
        populations: independent ones, at least 3.
        temperatures: of the path.
        rule: "trapezoid" or "stepping_stones".
        pilot: particles of the pilot.
        base: the proposal q: None for a mixture at the modes, "pathfinder", "flow" (fitted
            to annealed draws), NumPyro distributions of the continuous variables (a dict), or draws
            of the density (a dict by variable, or what `un.sample` returns) whose mean and
            covariance a Student's t takes.

    Example:
        >>> import unnorm as un
        >>> identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=identity)
        >>> estimator = un.estimators.ThermodynamicIntegration(200, 8, 20)
        >>> z = un.log_z(p, estimator, seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Gelman and Meng (1998), doi:10.1214/ss/1028905934; Friel, Hurn and Wyse (2014),
        arXiv:1209.3198 (the second order); Xie, Lewis, Fan, Kuo and Chen (2011),
        doi:10.1093/sysbio/syq085 (stepping stones).
    """

    particles: int = static(default=125, at_least=10)
    populations: int = static(default=16, at_least=3)
    temperatures: int = static(default=100, at_least=2)
    rule: str = static(default="trapezoid", choices=("trapezoid", "stepping_stones"))
    pilot: int = static(default=500, at_least=10)
    base: Any = None

    def estimate_along(self, pilot: Pilot, key: jax.Array) -> LogZ:  # type: ignore[override]
        runs = [
            pilot.anneal(one, self.particles, self.temperatures, resampled=True)
            for one in key_array(key, self.populations)
        ]
        spent = pilot.spent_with(self.populations * self.particles, self.temperatures)
        schedule = pilot.schedule(self.temperatures)
        grid = np.concatenate([[0.0], np.asarray(schedule.inverse_temperatures, float)])
        stones = np.array([_stepping_stones(run) for run in runs])
        integrals = np.array([_trapezoid(grid, run) for run in runs])
        logs = integrals if self.rule == "trapezoid" else stones
        # the log of an unbiased estimate is low by half of its variance
        value = float(logs.mean() + logs.var(ddof=1) / 2)
        error = float(logs.std(ddof=1) / math.sqrt(len(logs)))
        whole = merge(runs)
        weights, findings = whole.lineage_log_weights(), pilot.findings(whole)
        apart = abs(float((integrals - stones).mean()))
        if not apart <= RUN.max_quadrature_errors * error + 0.01:
            what = f"the integral and stepping stones differ by {apart:.2g} nats along one path"
            advice = "raise temperatures or particles"
            findings.append(Finding(what, advice, code=FindingCode.ESTIMATES_DISAGREE))
        what = (
            f"{self.populations} populations of {self.particles} particles at {self.temperatures} "
            "temperatures"
        )
        findings.append(Finding(what, "", NOTE))
        density = pilot.path.target.density
        findings += weight_findings(density, weights, pareto_smooth(weights)[1])
        degrees = self.populations - 1
        return estimate(density, self.name, value, error, spent, findings, degrees=degrees)


def _trapezoid(grid: np.ndarray, run: Run) -> float:
    """The rule from λ₁ on; the first step, where moments of a heavy-tailed proposal may not exist,
    is a stepping stone.
    """
    steps = np.diff(grid)
    means, variances = np.asarray(run.means, float), np.asarray(run.variances, float)
    pieces = steps * (means[1:] + means[:-1]) / 2 - steps**2 * np.diff(variances) / 12
    return float(run.first_step) + float(pieces[1:].sum())


def _stepping_stones(run: Run) -> float:
    logs = np.asarray(run.log_weights, float)
    return float(logs.max() + np.log(np.exp(logs - logs.max()).mean()))


__all__ = ["ThermodynamicIntegration"]

"""log Z by thermodynamic integration and by stepping stones, along an annealed path."""

import math
from typing import Any

import jax
import numpy as np

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import Run, annealed
from unnorm.partition.annealing.pilot_run import path_findings, path_for
from unnorm.partition.annealing.transitions import cost_of
from unnorm.partition.base import LogZ, added
from unnorm.partition.proposals.user_given import check_base
from unnorm.partition.weight_checks import by_ancestor, infinite, judged, refuse_small
from unnorm.statistics.importance_weights import pareto_smoothed

# standard errors (and a hundredth of a nat) that the corrected rule may differ from stepping stones
CURVED = 1.0


@method
class ThermodynamicIntegration:
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
        pilot: walkers of the pilot.
        base: where walks start: None for the modes that climbs find, "pathfinder", "flow" (fitted
            to annealed draws), NumPyro distributions of the continuous variables (a dict), or draws
            of the density (a dict by variable, or what `un.sample` returns) whose mean and
            covariance a Student's t takes.

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, un.estimators.ThermodynamicIntegration(200, 8, 20), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Gelman and Meng (1998), doi:10.1214/ss/1028905934; Friel, Hurn and Wyse (2014),
        arXiv:1209.3198 (the second order); Xie, Lewis, Fan, Kuo and Chen (2011),
        doi:10.1093/sysbio/syq085 (stepping stones).
    """

    particles: int = static(125, at_least=10)
    populations: int = static(16, at_least=3)
    temperatures: int = static(100, at_least=2)
    rule: str = static("trapezoid", choices=("trapezoid", "stepping_stones"))
    pilot: int = static(500, at_least=10)
    base: Any = None

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        who = "ThermodynamicIntegration"
        refuse_small(
            who,
            particles=(self.particles, 10),
            populations=(self.populations, 3),
            pilot=(self.pilot, 10),
        )
        refuse_small(who, temperatures=(self.temperatures, 2))
        if self.rule not in ("trapezoid", "stepping_stones"):
            raise ValueError(
                f"{who} was given rule={self.rule!r}; expected 'trapezoid' or 'stepping_stones'; "
                "pass one."
            )
        check_base(who, density, self.base)
        path_key, key = jax.random.split(key)
        path, cost, endless = path_for(density, path_key, self.pilot, self.base)
        if endless:
            return infinite(density, "thermodynamic_integration", cost, endless)
        schedule = path.schedule(self.temperatures)
        runs = [
            annealed(density, path.base, schedule, one, path.moves, self.particles, resample=True)
            for one in jax.random.split(key, self.populations)
        ]
        walked = self.populations * self.particles * (self.temperatures + 1)
        cost = added(cost, cost_of(density, path.moves, walked))
        powers = np.concatenate([[0.0], np.asarray(schedule.powers, float)])
        stones = np.array([_stepping_stones(run) for run in runs])
        integrals = np.array([_trapezoid(powers, run) for run in runs])
        logs = integrals if self.rule == "trapezoid" else stones
        # the log of an estimate without bias is low by half of its variance
        value, error = (
            float(logs.mean() + logs.var(ddof=1) / 2),
            float(logs.std(ddof=1) / math.sqrt(len(logs))),
        )
        walkers = together(runs)
        families, findings = by_ancestor(walkers), path_findings(density, path, walkers)
        apart = abs(float((integrals - stones).mean()))
        if not apart <= CURVED * error + 0.01:
            what = f"the integral and stepping stones differ by {apart:.2g} nats along one path"
            findings.append(
                Finding(
                    what, "raise temperatures or particles", code=FindingCode.ESTIMATES_DISAGREE
                )
            )
        what = f"{self.populations} populations of {self.particles} particles at {self.temperatures} temperatures"
        findings.append(Finding(what, "", NOTE))
        name, degrees = "thermodynamic_integration", self.populations - 1
        shape = pareto_smoothed(families)[1]
        return judged(density, name, value, error, cost, families, shape, findings, degrees=degrees)


def together(runs: list[Run]) -> Run:
    """The walkers of several populations as one, for what speaks against them."""
    offsets = np.cumsum([0, *(len(run.ancestors) for run in runs[:-1])])
    return runs[0]._replace(
        walkers=jax.tree.map(
            lambda *leaves: np.concatenate(leaves), *(run.walkers for run in runs)
        ),
        log_weights=np.concatenate([run.log_weights for run in runs]),
        ancestors=np.concatenate(
            [run.ancestors + at for run, at in zip(runs, offsets, strict=True)]
        ),
        acceptance=np.min([run.acceptance for run in runs], axis=0),
        bad=sum(run.bad for run in runs),
    )


def _trapezoid(powers: np.ndarray, run: Run) -> float:
    """The rule from λ₁ on; the first step, where moments of a heavy base may not exist, is a
    stepping stone.
    """
    steps, means, variances = (
        np.diff(powers),
        np.asarray(run.means, float),
        np.asarray(run.variances, float),
    )
    pieces = steps * (means[1:] + means[:-1]) / 2 - steps**2 * np.diff(variances) / 12
    return float(run.first_step) + float(pieces[1:].sum())


def _stepping_stones(run: Run) -> float:
    logs = np.asarray(run.log_weights, float)
    return float(logs.max() + np.log(np.exp(logs - logs.max()).mean()))


__all__ = ["ThermodynamicIntegration"]

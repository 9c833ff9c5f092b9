"""log Z by sequential Monte Carlo: walkers that are drawn anew along an annealed path."""

import math
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import annealed
from unnorm.partition.annealing.pilot_run import Path, path_findings, path_for
from unnorm.partition.annealing.smc_variants import cost_of_populations, persistent, waste_free
from unnorm.partition.annealing.transitions import cost_of
from unnorm.partition.base import LogZ, added
from unnorm.partition.combine import agree
from unnorm.partition.estimators.annealed_importance_sampling import RISK
from unnorm.partition.proposals.user_given import check_base
from unnorm.partition.weight_checks import by_ancestor, infinite, judged, refuse_small, settled
from unnorm.statistics.importance_weights import mean_of, pareto_smoothed

VARIANTS = ("standard", "waste_free", "persistent")
LEAST = 50  # particles of a population
BESIDE = 500  # particles of the standard run that is held against populations
WIDEST = 0.3  # relative error of the mean of the populations' Ẑ, above which it is not believed


@method
class SMC:
    """log Z by sequential Monte Carlo from a base q to p̃ through q^(1−λ) p̃^λ.

    As AIS, but walkers are drawn anew in proportion to their weights whenever these are worth less
    than half of them. A pilot adapts the temperatures, so that those of the run itself are fixed
    and the mean of Ẑ is Z exactly. The standard error is genealogical: the spread of the weights of
    the first walkers' families, trusted while there are enough of them.

    Args:
        particles: walkers, of all populations together.
        temperatures: of the run.
        pilot: walkers of the pilot.
        variant: "standard"; "waste_free", where all states of short chains are particles; or
            "persistent", where the particles of all temperatures so far stay, weighted by their
            mixture (consistent; only the others' Ẑ are unbiased). The last two run in independent
            populations, whose spread is the standard error.
        populations: of those two.
        base: where walks start: None for the modes that climbs find, "pathfinder", "flow" (fitted
            to annealed draws), NumPyro distributions of the continuous variables (a dict), or draws
            of the density (a dict by variable, or what `un.sample` returns) whose mean and
            covariance a Student's t takes.

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, un.estimators.SMC(particles=500, temperatures=20), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Del Moral, Doucet and Jasra (2006), doi:10.1111/j.1467-9868.2006.00553.x; Chan and Lai
        (2013), doi:10.1214/13-AOS1172, and Lee and Whiteley (2018), doi:10.1093/biomet/asy028 (the
        standard error); Dau and Chopin (2022), doi:10.1111/rssb.12475 (waste-free); Karamanis and
        Seljak (2024), arXiv:2407.20722 (persistent).
    """

    particles: int = static(2000, at_least=10)
    temperatures: int = static(100, at_least=1)
    pilot: int = static(500, at_least=10)
    variant: str = static("standard", choices=("standard", "waste_free", "persistent"))
    populations: int = static(8, at_least=4)
    base: Any = None

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        self.check(density)
        path_key, key = jax.random.split(key)
        path, cost, endless = path_for(density, path_key, self.pilot, self.base)
        if endless:
            return infinite(density, "smc", cost, endless)
        if self.variant == "standard":
            return self._standard(density, path, key, self.particles)
        return self._in_populations(density, path, key)

    def _standard(self, density: Density, path: Path, key: jax.Array, particles: int) -> LogZ:
        schedule = path.schedule(self.temperatures)
        run = annealed(density, path.base, schedule, key, path.moves, particles, resample=True)
        cost = added(path.cost, cost_of(density, path.moves, particles * (self.temperatures + 1)))
        logs = by_ancestor(run)
        value, error = mean_of(logs)
        findings = path_findings(density, path, run)
        bounds = (value + math.log(RISK), math.inf)
        return judged(
            density, "smc", value, error, cost, logs, pareto_smoothed(logs)[1], findings, bounds
        )

    def check(self, density: Density) -> None:
        """Refuse options that cannot be."""
        check_base("SMC", density, self.base)
        refuse_small(
            "SMC",
            particles=(self.particles, 10),
            temperatures=(self.temperatures, 1),
            pilot=(self.pilot, 10),
        )
        if self.variant not in VARIANTS:
            raise ValueError(
                f"SMC was given variant={self.variant!r}; expected one of {VARIANTS}; pass one."
            )
        refuse_small("SMC", populations=(self.populations, 4))
        if self.variant != "standard" and self.particles < LEAST * self.populations:
            raise ValueError(
                f"SMC was given {self.particles} particles for {self.populations} populations; "
                "expected at least "
                f"{LEAST} each; raise particles."
            )

    def _in_populations(self, density: Density, path: Path, key: jax.Array) -> LogZ:
        """The mean of the populations' Ẑ; its error is their spread.

        A few populations may all miss the same mass, and have no families whose weights would tell:
        a standard run of few particles beside them does.
        """
        key, beside_key = jax.random.split(key)
        count, schedule = self.particles // self.populations, path.schedule(self.temperatures)
        run_of = waste_free if self.variant == "waste_free" else persistent
        logs, run = run_of(density, path.base, schedule, key, path.moves, count, self.populations)
        spent = cost_of_populations(
            density, path.moves, self.variant, count, self.populations, self.temperatures
        )
        value, error = mean_of(np.asarray(logs, float))
        findings = path_findings(density, path, run)
        if not error <= WIDEST:
            what = f"the populations' estimates of Z spread too far for a mean: its relative error is {error:.2g}"
            findings.append(
                Finding(what, "raise particles or temperatures", code=FindingCode.LARGE_ERROR)
            )
        beside = self._standard(density, path, beside_key, BESIDE)
        findings += [finding for finding in beside.findings if finding.severity == ERROR]
        degrees, cost = float(self.populations - 1), added(beside.evaluations, spent)
        found = settled(density, "smc", value, error, cost, findings, degrees=degrees)
        if not (found.passed and beside.passed) or agree(found, beside):
            return found
        what = f"a standard run beside it finds {beside.value:.6g} ± {beside.standard_error:.2g}"
        return replace(
            found,
            verdict="disagree",
            findings=[
                *findings,
                Finding(what, "raise particles", code=FindingCode.ESTIMATES_DISAGREE),
            ],
        )


__all__ = ["SMC"]

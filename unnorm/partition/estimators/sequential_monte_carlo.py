"""log Z by sequential Monte Carlo: particles that are resampled along an annealing path."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import AnnealingEstimator, Pilot
from unnorm.partition.annealing.smc_variants import (
    persistent,
    steps_of_populations,
    waste_free,
)
from unnorm.partition.annealing.transitions.base import evaluations_of
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.partition.combine import agree
from unnorm.partition.options import RUN
from unnorm.partition.weight_checks import estimate, estimate_from_weights, lower_bound
from unnorm.statistics.importance_weights import mean_of


@method
class SMC(AnnealingEstimator):
    """log Z by sequential Monte Carlo from a proposal q to p̃ through q^(1−λ) p̃^λ.

    As AIS, but particles are resampled in proportion to their weights whenever their ESS falls
    below half of their number. A pilot adapts the temperatures, so that those of the run itself are
    fixed and the mean of Ẑ is Z exactly. The standard error is genealogical: the spread of the
    weights of the first particles' lineages, reliable while there are enough of them.

    Args:
        particles: of all populations together.
        temperatures: of the run.
        pilot: particles of the pilot.
        variant: "standard"; "waste_free", where all states of short chains are particles; or
            "persistent", where the particles of all temperatures so far stay, weighted by their
            mixture (consistent; only the others' Ẑ are unbiased). The last two run in independent
            populations, whose spread is the standard error.
        populations: of those two.
        base: the proposal q: None for a mixture at the modes, "pathfinder", "flow" (fitted
            to annealed draws), NumPyro distributions of the continuous variables (a dict), or draws
            of the density (a dict by variable, or what `un.sample` returns) whose mean and
            covariance a Student's t takes.

    Example:
        >>> import unnorm as un
        >>> identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=identity)
        >>> estimator = un.estimators.SMC(particles=500, temperatures=20)
        >>> z = un.log_z(p, estimator, seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Del Moral, Doucet and Jasra (2006), doi:10.1111/j.1467-9868.2006.00553.x; Chan and Lai
        (2013), doi:10.1214/13-AOS1172, and Lee and Whiteley (2018), doi:10.1093/biomet/asy028 (the
        standard error); Dau and Chopin (2022), doi:10.1111/rssb.12475 (waste-free); Karamanis and
        Seljak (2024), arXiv:2407.20722 (persistent).
    """

    particles: int = static(default=2000, at_least=10)
    temperatures: int = static(default=100, at_least=1)
    pilot: int = static(default=500, at_least=10)
    variant: str = static(default="standard", choices=("standard", "waste_free", "persistent"))
    populations: int = static(default=8, at_least=4)
    base: Any = None

    def check(self, density: Density, min_population: int = 50) -> None:
        super().check(density)
        if self.variant != "standard" and self.particles < min_population * self.populations:
            raise ValueError(
                f"SMC was given {self.particles} particles for {self.populations} populations; "
                f"expected at least {min_population} each; raise particles."
            )

    def estimate_along(self, pilot: Pilot, key: jax.Array) -> LogZ:  # type: ignore[override]
        if self.variant == "standard":
            return smc_estimate(pilot, key, self.particles, self.temperatures)
        return self._in_populations(pilot, key)

    def _in_populations(self, pilot: Pilot, key: jax.Array, control_particles: int = 500) -> LogZ:
        """The mean of the populations' Ẑ; its error is their spread.

        A few populations may all miss the same mass, and have no lineages whose weights would show
        it: a standard run of few particles beside them does.
        """
        density, path = pilot.path.target.density, pilot.path
        key, control_key = split_keys(key)
        count, schedule = self.particles // self.populations, pilot.schedule(self.temperatures)
        run_of = waste_free if self.variant == "waste_free" else persistent
        logs, run = run_of(path, schedule, key, pilot.transitions, count, self.populations)
        steps = steps_of_populations(self.variant, count, self.populations, self.temperatures)
        value, error = mean_of(np.asarray(logs, float))
        findings = pilot.findings(run)
        if not error <= RUN.max_population_error:
            what = (
                "the populations' estimates of Z spread too far for a mean: its relative error is "
                f"{error:.2g}"
            )
            advice = "raise particles or temperatures"
            findings.append(Finding(what, advice, code=FindingCode.LARGE_ERROR))
        control = smc_estimate(pilot, control_key, control_particles, self.temperatures)
        findings += [finding for finding in control.findings if finding.severity == ERROR]
        spent = evaluations_of(pilot.transitions, path, steps)
        spent = total_evaluations(control.evaluations, spent)
        found = estimate(
            density, "smc", value, error, spent, findings, degrees=float(self.populations - 1)
        )
        if not (found.passed and control.passed) or agree(found, control):
            return found
        what = f"a standard run finds {control.value:.6g} ± {control.standard_error:.2g}"
        clash = Finding(what, "raise particles", code=FindingCode.ESTIMATES_DISAGREE)
        return replace(found, verdict="disagree", findings=[*findings, clash])


def smc_estimate(
    pilot: Pilot,
    key: jax.Array,
    particles: int,
    temperatures: int,
    min_ess_fraction: float | None = None,
) -> LogZ:
    """log Z by one resampled run, from the weights of the first particles' lineages."""
    run = pilot.anneal(key, particles, temperatures, resampled=True)
    logs = run.lineage_log_weights()
    return estimate_from_weights(
        pilot.path.target.density, "smc", pilot.spent_with(particles, temperatures), logs,
        pilot.findings(run), lower_bound(mean_of(logs)[0]), min_ess_fraction,
    )  # fmt: skip


__all__ = ["SMC", "smc_estimate"]

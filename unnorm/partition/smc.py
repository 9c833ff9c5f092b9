"""log Z by sequential Monte Carlo: walkers that are drawn anew along an annealed path."""

import math

import jax

from unnorm.density import Density
from unnorm.diagnostics.weights import mean_of, pareto_smoothed
from unnorm.methods import method, static
from unnorm.partition.ais import RISK
from unnorm.partition.annealing import annealed
from unnorm.partition.base import LogZ
from unnorm.partition.moves import cost_of
from unnorm.partition.path import added, path_findings, path_for
from unnorm.partition.weighted import by_ancestor, infinite, judged, refuse_small


@method
class SMC:
    """log Z by sequential Monte Carlo from a base q to p̃ through q^(1−λ) p̃^λ.

    As AIS, but walkers are drawn anew in proportion to their weights whenever these are worth less than half of them.
    A pilot adapts the temperatures, so that those of the run itself are fixed and the mean of Ẑ is Z exactly. The
    standard error is genealogical: the spread of the weights of the first walkers' families, trusted while there are
    enough of them.

    Args:
        particles: walkers.
        temperatures: of the run.
        pilot: walkers of the pilot.

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, un.estimators.SMC(particles=500, temperatures=20), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Del Moral, Doucet and Jasra (2006), doi:10.1111/j.1467-9868.2006.00553.x; Chan and Lai (2013),
        doi:10.1214/13-AOS1172, and Lee and Whiteley (2018), doi:10.1093/biomet/asy028 (the standard error).
    """

    particles: int = static(2000)
    temperatures: int = static(100)
    pilot: int = static(500)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small("SMC", particles=(self.particles, 10), temperatures=(self.temperatures, 1), pilot=(self.pilot, 10))
        path_key, key = jax.random.split(key)
        path, cost, endless = path_for(density, path_key, self.pilot)
        if endless:
            return infinite(density, "smc", cost, endless)
        schedule = path.schedule(self.temperatures)
        run = annealed(density, path.base, schedule, key, path.moves, self.particles, resample=True)
        cost = added(cost, cost_of(density, path.moves, self.particles * (self.temperatures + 1)))
        logs = by_ancestor(run)
        value, error = mean_of(logs)
        findings = tuple(path_findings(density, path, run))
        bounds = (value + math.log(RISK), math.inf)
        return judged(density, "smc", value, error, cost, logs, pareto_smoothed(logs)[1], findings, bounds)


__all__ = ["SMC"]

"""Maximum likelihood: with an exact log Z the yardstick of all other objectives; else with log Z by Markov chains."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.diagnostics.verdict import NOTE, Finding
from unnorm.fitting import monte_carlo
from unnorm.fitting.base import Extra, PerExample
from unnorm.fitting.chains import chosen_kernel, named_kernel, unconstrained, unserved
from unnorm.fitting.drawn import not_whole
from unnorm.fitting.inference import NoCovariance, bread_and_meat, scores_and_curvature
from unnorm.fitting.optimise import NEWTON_LIMIT, parameters_of
from unnorm.methods import method, static
from unnorm.partition.exact import has_plan, plan_for
from unnorm.partition.nodes import log_integral

_TOLERANCE = 1e-9  # nats by which log Z may change on new nodes before the fit goes on with them
_STILL = 4 * 2**0.5  # Monte Carlo errors between two estimates, each from draws of its own, that are one estimate


@method
class MaximumLikelihood(PerExample):
    """Minimise −mean log p̃(x_i; θ) + log Z(θ): Z as declared, by enumeration or quadrature, or by Markov chains.

    With `draws` the chains y_j ~ p_ψ give log Z(θ)/Z(ψ) ≈ log mean_j exp(log p̃(y_j; θ) − log p̃(y_j; ψ)). ψ is brought
    near first, and the draws are made anew at each estimate until their weights are even and it stands still. The
    standard errors count the draws: V = I⁻¹ J I⁻¹ / n + I⁻¹ Γ I⁻¹ / m, Γ the long-run variance of the weighted scores;
    `Fit.monte_carlo_error` is the second part. log Z itself stays unknown: run `un.log_z`.

    One row, such as a graph, has no spread to estimate J from; its covariance is the inverse information I⁻¹.

    Args:
        draws: how many draws stand for Z; None: Z exactly, for few states, one count, up to three dimensions, or
            a density that declares its log_z.
        kernel: what makes the draws, or its name; None: HMC for continuous variables, Gibbs where the states can be
            listed, a random walk for counts. It should leave the density invariant.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], MaximumLikelihood(), seed=0, progress=False)
        >>> round(float(fit.density.parameters["rate"]), 4)  # one over the mean
        0.5

    References:
        Casella and Berger (2002), Statistical Inference, ch. 7; White (1982), doi:10.2307/1912526 (misspecified
        models); Geyer (1994), doi:10.1111/j.2517-6161.1994.tb01976.x (Markov chains); Hunter and Handcock (2006),
        doi:10.1198/106186006X133069 (graphs).
    """

    draws: int | None = static(None)
    kernel: Any = None
    target = "the maximum likelihood estimate"
    information_identity = True

    def __post_init__(self):
        object.__setattr__(self, "kernel", named_kernel(self.kernel))

    def refuse(self, density):
        if self.draws is not None:
            return self._refuse_draws(density)
        if self.kernel is not None:
            return "MaximumLikelihood has a kernel and no draws; expected both or none; pass draws=100_000 or so"
        if not is_declared(density) and not has_plan(density):
            return (
                f"MaximumLikelihood needs an exact log Z, and {density.name} has neither at most 2^20 states nor at "
                "most three continuous dimensions nor a declared log_z; pass draws=100_000 for Markov chains, or use "
                "un.objectives.NCE, ScoreMatching or ContrastiveDivergence"
            )
        return None

    def _refuse_draws(self, density) -> str | None:
        if density.covariates:
            return (
                f"MaximumLikelihood with draws does not serve the covariate {next(iter(density.covariates))}, for each "
                "row has its own Z; expected none; use un.objectives.ScoreMatching"
            )
        kernel, size = chosen_kernel(self.kernel, density), sum(map(jnp.size, jax.tree.leaves(density.free())))
        if size > NEWTON_LIMIT:
            return (
                f"MaximumLikelihood with draws was given {size} parameters; expected at most {NEWTON_LIMIT}; use "
                "un.objectives.ContrastiveDivergence(persistent=True)"
            )
        if not kernel.exact:
            return (
                f"kernel is {type(kernel).__name__}, whose draws follow another density; expected an exact kernel; use "
                "un.kernels.HMC or MALA"
            )
        return not_whole("draws", self.draws, 1000) or unserved(kernel, density)

    def prepare(self, density, events, key):
        if self.draws is None:
            return Extra(
                shared={"plan": None if is_declared(density) else plan_for(density, *location(density, events))}
            )
        key, approach = jax.random.split(key)
        near = monte_carlo.brought_near(chosen_kernel(self.kernel, density), density, events, self.draws, approach)
        there = density.at(near["start"])
        return Extra(shared=monte_carlo.drawn_anew(there, near | {"key": key}, self.draws))

    def refreshed(self, density, extra, events):
        if self.draws is not None:
            return None if self._stands_still(density, extra, events) else self._drawn_anew(density, extra)
        if extra.shared["plan"] is None:
            return None
        plan = plan_for(density, *location(density, events))
        change = log_z_on(density, plan) - log_z_on(density, extra.shared["plan"])
        return None if abs(change) < _TOLERANCE else extra._replace(shared={"plan": plan})

    def _drawn_anew(self, density, extra) -> Extra:
        return extra._replace(shared=monte_carlo.drawn_anew(density, extra.shared, self.draws))

    def _stands_still(self, density, extra, events) -> bool:
        """Whether the weights are even, and the estimate is the draws' own parameters up to its Monte Carlo error."""
        if not monte_carlo.effective_share(density, extra.shared["plan"]) >= monte_carlo.ENOUGH:
            return False
        vector = parameters_of(density, extra)[0]
        moved = np.asarray(vector - parameters_of(density.at(extra.shared["start"]), extra)[0])
        curvature = np.asarray(scores_and_curvature(self, density, extra, events, vector)[1])
        noise = monte_carlo.long_run_variance(density, extra.shared["plan"], self.draws)
        try:
            variance = np.diagonal(bread_and_meat(curvature, noise, 1).total)
        except NoCovariance:  # a flat direction, which other draws would not end; the covariance says so
            return True
        return bool(np.all(np.abs(moved) <= _STILL * np.sqrt(variance)))

    def loss_i(self, density, extra, event, key):
        return log_z_on(density, extra.shared["plan"]) - density.log_density(event)

    def shared_noise(self, density, extra, events):
        return None if self.draws is None else monte_carlo.long_run_variance(density, extra.shared["plan"], self.draws)

    def recession(self, density, extra, events):
        return None if self.draws is None else monte_carlo.recession(density, events, extra.shared["plan"])

    def findings(self, density, extra, events):
        found = [] if self.draws is None else monte_carlo.findings(extra.shared)
        if len(next(iter(events.values()))) == 1:
            what = "one row of data has no spread, so that the standard errors are those of the inverse information"
            found.append(Finding(what, "believe them as far as the model is true", NOTE))
        return found


def is_declared(density) -> bool:
    """Whether the density declares a closed form of its log Z."""
    return density._structure.log_z is not None


@jax.jit
def log_z_on(density, plan) -> jax.Array:
    """log Z on a plan's nodes; where there is no plan, by the closed form that the density declares."""
    return density._log_z() if plan is None else log_integral(density, plan.events, plan.log_weights)


def location(density, events) -> tuple[dict | None, dict | None]:
    """Where the data lie in the unconstrained coordinates of integration: the fitted density will be there too."""
    if all(support.states is not None for support in density.variables.values()):
        return None, None
    free = unconstrained(density.charted(), events)
    centre = {name: jnp.mean(value, 0) for name, value in free.items()}
    scale = {name: jnp.std(value, 0) + 1e-3 for name, value in free.items()}
    return centre, scale

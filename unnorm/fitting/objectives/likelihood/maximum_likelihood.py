"""Maximum likelihood: with an exact log Z the yardstick of all other objectives; else with log Z by
Markov chains.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import NOTE, Finding
from unnorm.core.method import method, static
from unnorm.fitting.base import ObjectiveState, PerExample
from unnorm.fitting.chain_kernels import kernel_by_name, refuse_support, select_kernel
from unnorm.fitting.existence.margins import of_likelihood
from unnorm.fitting.inference.sandwich import NoCovariance, bread_and_meat, scores_and_curvature
from unnorm.fitting.objectives.auxiliary_noise import not_whole
from unnorm.fitting.objectives.likelihood import monte_carlo
from unnorm.fitting.row_normalizers import (
    covariates_of,
    declares_log_z,
    group_equal_rows,
    latent_variables,
    log_evidence,
    log_z_of_events,
    plan_for_latent,
    plan_for_log_z,
    refuse_marginalization,
)
from unnorm.fitting.solvers.newton import NEWTON_LIMIT, parameters_of
from unnorm.integration.conditional import count_of, log_z_of_rows
from unnorm.integration.nodes import Plan, log_integral
from unnorm.integration.options import PLAN
from unnorm.integration.plan import has_plan

_TOLERANCE = 1e-9  # nats by which log Z may change on new nodes before the fit goes on with them
_STILL = (
    4 * 2**0.5
)  # Monte Carlo errors between two estimates, each from draws of its own, that are one estimate


@method
class MaximumLikelihood(PerExample):
    """Minimise −mean log p̃(x_i; θ) + log Z(θ): Z as declared, by enumeration or quadrature, or by
    Markov chains.

    With `draws` the chains y_j ~ p_ψ give log Z(θ)/Z(ψ) ≈ log mean_j exp(log p̃(y_j; θ) − log
    p̃(y_j; ψ)). ψ is brought near first, and the draws are made anew at each estimate until their
    weights are even and it stands still. The standard errors count the draws: V = I⁻¹ J I⁻¹ / n +
    I⁻¹ Γ I⁻¹ / m, Γ the long-run variance of the weighted scores; `Fit.monte_carlo_error` is the
    second part. log Z itself stays unknown: run `un.log_z`.

    With covariates every row has a Z of its own, −log p̃(x_i; c_i, θ) + log Z(c_i; θ), all of them
    on the same nodes. Variables that the data do not bring are latent: log p̃(x_i) is then log Σ_h
    p̃(x_i, h), summed over at most 2^16 states or integrated over at most three dimensions.

    One row, such as a graph, has no spread to estimate J from; its covariance is the inverse
    information I⁻¹.

    Args:
        draws: how many draws stand for Z; None: Z exactly, for few states, one count, up to three
            dimensions, or a density that declares its log_z.
        kernel: what makes the draws, or its name; None: HMC for continuous variables, Gibbs where
            the states can be listed, a random walk for counts. It should leave the density
            invariant.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], MaximumLikelihood(), seed=0, progress=False)
        >>> round(float(fit.density.parameters["rate"]), 4)  # one over the mean
        0.5

    References:
        Casella and Berger (2002), Statistical Inference, ch. 7; White (1982), doi:10.2307/1912526
        (misspecified models); Geyer (1994), doi:10.1111/j.2517-6161.1994.tb01976.x (Markov chains);
        Hunter and Handcock (2006), doi:10.1198/106186006X133069 (graphs).
    """

    draws: int | None = static(None, at_least=1000)
    kernel: Any = None
    target = "the maximum likelihood estimate"
    information_identity = True

    def __post_init__(self):
        object.__setattr__(self, "kernel", kernel_by_name(self.kernel))

    def refuse(self, density):
        if self.draws is not None:
            return self._refuse_draws(density)
        if self.kernel is not None:
            return "MaximumLikelihood has a kernel and no draws; expected both or none; pass draws=100_000 or so"
        if not declares_log_z(density) and not has_plan(density):
            return (
                f"MaximumLikelihood needs an exact log Z, and {density.name} has neither at most "
                "2^20 states nor at "
                "most three continuous dimensions nor a declared log_z; pass draws=100_000 for "
                "Markov chains, or use "
                "un.objectives.NCE, ScoreMatching or ContrastiveDivergence"
            )
        return None

    def _refuse_draws(self, density) -> str | None:
        if density.covariates:
            return (
                "MaximumLikelihood with draws does not serve the covariate "
                f"{next(iter(density.covariates))}, for each "
                "row has its own Z; expected none; use un.objectives.MaximumLikelihood() without "
                "draws, "
                "PseudoLikelihood, ScoreMatching, RankingNCE or ContrastiveDivergence"
            )
        kernel, size = (
            select_kernel(self.kernel, density),
            sum(map(jnp.size, jax.tree.leaves(density.free()))),
        )
        if size > NEWTON_LIMIT:
            return (
                f"MaximumLikelihood with draws was given {size} parameters; expected at most "
                f"{NEWTON_LIMIT}; use "
                "un.objectives.ContrastiveDivergence(persistent=True)"
            )
        if not kernel.exact:
            return (
                f"kernel is {type(kernel).__name__}, whose draws follow another density; "
                "expected an exact kernel; use "
                "un.kernels.HMC or MALA"
            )
        return not_whole("draws", self.draws, 1000) or refuse_support(kernel, density)

    def refuse_latent(self, density, events):
        if self.draws is not None:
            name = latent_variables(density, events)[0]
            return (
                f"MaximumLikelihood with draws does not serve the latent variable {name}, which "
                "is not in the data; "
                "expected it there; use un.objectives.MaximumLikelihood() without draws, or "
                "ContrastiveDivergence"
            )
        return refuse_marginalization(density, events)

    def prepare(self, density, events, key):
        if self.draws is None:
            return self._with_plans(density, events)
        key, approach = jax.random.split(key)
        near = monte_carlo.brought_near(
            select_kernel(self.kernel, density), density, events, self.draws, approach
        )
        there = density.at(near["start"])
        return ObjectiveState(shared=monte_carlo.drawn_anew(there, near | {"key": key}, self.draws))

    def _with_plans(self, density, events) -> ObjectiveState:
        shared = {
            "plan": plan_for_log_z(density, events),
            "latent": plan_for_latent(density, events),
        }
        listed = any(support.discrete for support in density.variables.values())  # near 0, and few
        if not (
            listed
            or density.covariates
            or shared["plan"] is None
            or latent_variables(density, events)
        ):
            shared["reference"] = _middle(events)
        found = group_equal_rows(covariates_of(density, events)) if density.covariates else None
        if found is None:
            return ObjectiveState(shared=shared)
        return ObjectiveState(
            per_row={"number": jnp.asarray(found[1])}, shared=shared | {"distinct": found[0]}
        )

    def resample_noise(self, density, state, events, key):
        return {}  # rows of a batch are not those among which `number` counts

    def refresh(self, density, state, events):
        if self.draws is not None:
            return (
                None
                if self._stands_still(density, state, events)
                else self._drawn_anew(density, state)
            )
        plans, new = state.shared, self._with_plans(density, events)
        change = log_z_of_events(density, new.shared["plan"], events) - log_z_of_events(
            density, plans["plan"], events
        )
        if plans["latent"] is not None:
            latents = (log_evidence(density, events, one["latent"]) for one in (new.shared, plans))
            change = jnp.abs(change) + jnp.abs(jnp.subtract(*latents))
        return None if jnp.max(jnp.abs(change)) < _TOLERANCE else state._replace(shared=new.shared)

    def _drawn_anew(self, density, state) -> ObjectiveState:
        return state._replace(shared=monte_carlo.drawn_anew(density, state.shared, self.draws))

    def _stands_still(self, density, state, events) -> bool:
        """Whether the weights are even, and the estimate is the draws' own parameters up to its
        Monte Carlo error.
        """
        if not monte_carlo.effective_share(density, state.shared["plan"]) >= monte_carlo.ENOUGH:
            return False
        vector = parameters_of(density, state)[0]
        moved = np.asarray(vector - parameters_of(density.at(state.shared["start"]), state)[0])
        curvature = np.asarray(scores_and_curvature(self, density, state, events, vector)[1])
        noise = monte_carlo.long_run_variance(density, state.shared["plan"], self.draws)
        try:
            variance = np.diagonal(bread_and_meat(curvature, noise, 1).total)
        except (
            NoCovariance
        ):  # a flat direction, which other draws would not end; the covariance says so
            return True
        return bool(np.all(np.abs(moved) <= _STILL * np.sqrt(variance)))

    def losses(self, density, state, events):
        if "reference" in state.shared:
            return _beside(density, state.shared["reference"], state.shared["plan"], events)
        return self._log_z(density, state, events) - log_evidence(
            density, events, state.shared.get("latent")
        )

    def _log_z(self, density, state, events) -> jax.Array:
        """log Z, or log Z of each row: once for equal covariates where all rows are there."""
        shared = state.shared
        if "number" in state.per_row and count_of(events) > count_of(shared["distinct"]):
            return log_z_of_rows(density, shared["plan"], shared["distinct"])[
                state.per_row["number"]
            ]
        return log_z_of_events(density, shared["plan"], events)

    def rows_at_once(self, density, state):
        plans = (
            [state.shared["plan"]] if density.covariates else []
        )  # without, log Z is one for all rows
        plans = [plan for plan in (*plans, state.shared.get("latent")) if plan is not None]
        return max(
            1, min(512, 16 * PLAN.batch // max((len(plan.log_weights) for plan in plans), default=1))
        )

    def shared_noise(self, density, state, events):
        return (
            None
            if self.draws is None
            else monte_carlo.long_run_variance(density, state.shared["plan"], self.draws)
        )

    def recession_directions(self, density, state, events):
        return (
            None
            if self.draws is None
            else monte_carlo.recession(density, events, state.shared["plan"])
        )

    def margins(self, density, state, events):
        return of_likelihood(density, events)

    def findings(self, density, state, events):
        found = [] if self.draws is None else monte_carlo.findings(state.shared)
        if len(next(iter(events.values()))) == 1:
            what = "one row of data has no spread, so that the standard errors are those of the inverse information"
            found.append(Finding(what, "believe them as far as the model is true", NOTE))
        return found


def _middle(events: dict) -> dict:
    """The row that is nearest to the mean of all, in standard deviations."""
    flat = jnp.concatenate(
        [jnp.reshape(value, (len(value), -1)) for value in jax.tree.leaves(events)], 1
    )
    spread = jnp.std(flat, 0)
    distance = jnp.sum(((flat - flat.mean(0)) / jnp.where(spread > 0, spread, 1.0)) ** 2, 1)
    row = int(jnp.argmin(jnp.nan_to_num(distance, nan=jnp.inf)))
    return {name: jnp.asarray(value)[row] for name, value in events.items()}


def _beside(density, reference: dict, plan: Plan, events: dict) -> jax.Array:
    """log Z - log p̃(x_i), both with log p̃ of a reference event taken off.

    It is the same number. The derivatives of log p̃ - log p̃(reference) are small where the data
    are far from 0, and the Hessian of log Z, which is their covariance, is not a difference of
    large squares.
    """
    height = density.log_density(reference)
    log_z = log_integral(density, plan.events, plan.log_weights - height)
    return log_z - (jax.vmap(density.log_density)(events) - height)

"""Maximum likelihood, with an exact log Z or with log Z by Markov chains."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import NOTE, Finding
from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.chain_kernels import kernel_by_name, refuse_support, select_kernel
from unnorm.fitting.existence.margins import likelihood_margins
from unnorm.fitting.inference.sandwich import NoCovarianceError, bread_and_meat
from unnorm.fitting.loss import Loss, NewtonOptions, parameters_of, scores_and_curvature
from unnorm.fitting.objectives.likelihood import monte_carlo
from unnorm.fitting.objectives.likelihood.normalized import normalized_note
from unnorm.fitting.row_normalizers import (
    LatentPlan,
    count_nodes,
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
from unnorm.integration.conditional import count_of, log_z_of_rows
from unnorm.integration.nodes import Plan, log_integral
from unnorm.integration.options import PLAN
from unnorm.integration.plan import has_plan
from unnorm.interactions.tie_statistics import TieStatistics, has_tie_statistics


@dataclass(frozen=True)
class RefreshCriteria:
    """When nodes or draws are accurate enough at the estimate."""

    log_z: float = 1e-9  # nats by which log Z may change on new nodes
    # Monte Carlo errors between two estimates, each with draws of its own: four of their difference
    errors: float = 4 * 2**0.5


class Plans(NamedTuple):
    """The nodes of log Z and of the sum over latent variables, None where there are none; an event
    near the data; and the distinct covariates.
    """

    plan: Plan | None
    latent: LatentPlan | None
    reference: dict[str, jax.Array] | None = None
    distinct: dict[str, jax.Array] | None = None


@method
class MaximumLikelihood(LossObjective):
    """Minimise −mean log p̃(x_i; θ) + log Z(θ): Z as declared, by enumeration or quadrature, or by
    Markov chains.

    With `draws` the chains y_j ~ p_ψ give log Z(θ)/Z(ψ) ≈ log mean_j exp(log p̃(y_j; θ) − log
    p̃(y_j; ψ)). ψ is brought near first, and the draws are made anew at each estimate until their
    weights are even and it stands still. The standard errors count the draws: V = I⁻¹ J I⁻¹ / n +
    I⁻¹ Γ I⁻¹ / m, Γ the long-run variance of the weighted scores; `Fit.monte_carlo_error` is the
    second part. log Z itself stays unknown: run `un.log_z`.

    With covariates every row has a Z of its own, −log p̃(x_i; c_i, θ) + log Z(c_i; θ), all of them
    on the same nodes. Variables that the data do not bring are latent: log p̃(x_i) is then log Σ_h
    p̃(x_i, h), summed over at most 2^16 states or integrated over at most three dimensions. Entries
    that are NaN in the data are latent entries of their rows likewise, missing at random.

    One row, such as a graph, has no spread to estimate J from; its covariance is the inverse
    information I⁻¹.

    Args:
        draws: how many draws stand for Z; None: Z exactly, for few states, one count, up to three
            dimensions, or a density that declares its log_z.
        kernel: what makes the draws, or its name; None: HMC for continuous variables, Gibbs where
            the states can be listed, a random walk for counts, tie-no-tie proposals for graphs of
            `un.models.exponential_random_graph`. It should leave the density invariant.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], MaximumLikelihood(), seed=0, progress=False)
        >>> round(float(fit.density.parameters["rate"]), 4)  # one over the mean
        0.5

    References:
        Casella and Berger (2002), Statistical Inference, ch. 7; White (1982), doi:10.2307/1912526
        (misspecified models); Geyer (1994), doi:10.1111/j.2517-6161.1994.tb01976.x (Markov chains);
        Hunter and Handcock (2006), doi:10.1198/106186006X133069 (graphs).
    """

    draws: int | None = static(default=None, at_least=1000)
    kernel: Any = None
    target = "the maximum likelihood estimate"
    criteria: ClassVar[RefreshCriteria] = RefreshCriteria()
    draw_options: ClassVar[monte_carlo.DrawOptions] = monte_carlo.DrawOptions()

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        # Draws that stand for Z shift the loss from model to model.
        return Traits(is_likelihood=True, is_deviance=self.draws is None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", kernel_by_name(self.kernel))

    def refuse(self, density) -> str | None:
        if self.draws is not None:
            return self._refuse_draws(density)
        if self.kernel is not None:
            return (
                "MaximumLikelihood has a kernel and no draws; expected both or none; pass "
                "draws=100_000 or so"
            )
        if not declares_log_z(density) and not has_plan(density):
            return (
                f"MaximumLikelihood needs an exact log Z, and {density.name} has neither at most "
                "2^20 states nor at most three continuous dimensions nor a declared log_z; declare "
                "log_z=0.0 if it is normalized, pass draws=100_000 for Markov chains, or use "
                "un.objectives.NCE, ScoreMatching or ContrastiveDivergence"
            )
        return None

    def _refuse_draws(self, density) -> str | None:
        if density.covariates:
            return (
                "MaximumLikelihood with draws does not serve the covariate "
                f"{next(iter(density.covariates))}, because each row has its own Z; expected no "
                "covariates; use un.objectives.MaximumLikelihood() without draws, "
                "PseudoLikelihood, ScoreMatching, RankingNCE or ContrastiveDivergence"
            )
        kernel = select_kernel(self.kernel, density)
        size = sum(map(jnp.size, jax.tree.leaves(density.free())))
        if size > NewtonOptions.parameters:
            return (
                f"MaximumLikelihood with draws was given {size} parameters; expected at most "
                f"{NewtonOptions.parameters}; use "
                "un.objectives.ContrastiveDivergence(persistent=True)"
            )
        if not kernel.exact:
            return (
                f"kernel is {type(kernel).__name__}, whose draws follow another density; "
                "expected an exact kernel; use un.kernels.HMC or MALA"
            )
        return refuse_support(kernel, density)

    def refuse_latent(self, density, events) -> str | None:
        if self.draws is not None:
            name = latent_variables(density, events)[0]
            return (
                f"MaximumLikelihood with draws does not serve the latent variable {name}, which "
                "is not in the data, or not in every row; expected it there; use "
                "un.objectives.MaximumLikelihood() without draws, or ContrastiveDivergence"
            )
        return refuse_marginalization(density, events)

    def prepare(self, density, events, key) -> ObjectiveState:
        if self.draws is None:
            return self._with_plans(density, events)
        key, approach = split_keys(key)
        near = monte_carlo.approach_estimate(
            select_kernel(self.kernel, density),
            density,
            events,
            self.draws,
            approach,
            self.draw_options,
        )
        seen = monte_carlo.form_of(density, events)[1] if has_tie_statistics(density) else ()
        drawn = self._resample(density.at(near.start), near._replace(key=key))
        return ObjectiveState(per_row=seen, shared=drawn)

    def _seen(self, density, state, events) -> tuple[Any, Any]:
        """The density and the rows as the draws are held."""
        if isinstance(state.per_row, dict):
            return TieStatistics(density.free()), state.per_row
        return density, events

    def _resample(self, density, draws: monte_carlo.Draws) -> monte_carlo.Draws:
        assert self.draws is not None
        return monte_carlo.resample(density, draws, self.draws, self.draw_options)

    def _with_plans(self, density, events) -> ObjectiveState:
        plans = Plans(plan_for_log_z(density, events), plan_for_latent(density, events))
        discrete = any(support.discrete for support in density.variables.values())
        if not (
            discrete
            or density.covariates
            or plans.plan is None
            or latent_variables(density, events)
        ):
            plans = plans._replace(reference=_central_row(events))
        found = group_equal_rows(covariates_of(density, events)) if density.covariates else None
        if found is None:
            return ObjectiveState(shared=plans)
        distinct, group = found
        return ObjectiveState(per_row=jnp.asarray(group), shared=plans._replace(distinct=distinct))

    def resample_noise(self, density, state, events, key) -> Any:
        return ()  # the numbers of groups are those of all rows, not of a batch

    def start_values(self, state) -> dict[str, Any] | None:
        return None if self.draws is None else state.shared.start

    def log_z_plan(self, state) -> Plan | None:
        return state.shared.plan

    def refresh(self, density, state, events) -> ObjectiveState | None:
        if self.draws is not None:
            if self._is_stationary(density, state, events):
                return None
            return state._replace(shared=self._resample(density, state.shared))
        plans, new = state.shared, self._with_plans(density, events).shared
        after, before = (
            np.asarray(log_z_of_events(density, one.plan, events)) for one in (new, plans)
        )
        change = after - before
        if plans.latent is not None:
            latents = (log_evidence(density, events, one.latent) for one in (new, plans))
            change = np.abs(change) + np.abs(np.subtract(*map(np.asarray, latents)))
        if np.max(np.abs(change)) < self.criteria.log_z:
            return None
        return state._replace(shared=new)

    def _is_stationary(self, density, state, events) -> bool:
        """Whether the weights are even, and the estimate is the draws' own parameters up to its
        Monte Carlo error.
        """
        draws: monte_carlo.Draws = state.shared
        if has_tie_statistics(density) and not draws.near:  # other draws would not help
            return True
        if has_tie_statistics(density) and draws.needs_thinning(self.draw_options):
            return False
        form = self._seen(density, state, events)[0]
        if not monte_carlo.ess_fraction(form, draws.plan) >= self.draw_options.ess_fraction:
            return False
        vector = parameters_of(density, state)[0]
        moved = np.asarray(vector - parameters_of(density.at(draws.start), state)[0])
        curvature = np.asarray(scores_and_curvature(Loss(self, density, state, events))[1])
        noise = self.shared_noise(density, state, events)
        assert noise is not None
        try:
            variance = np.diagonal(bread_and_meat(curvature, noise, 1).total)
        except NoCovarianceError:  # a flat direction, which other draws would not change
            return True
        return bool(np.all(np.abs(moved) <= self.criteria.errors * np.sqrt(variance)))

    def losses(self, density, state, events) -> jax.Array:
        shared = state.shared
        if self.draws is not None:
            form, rows = self._seen(density, state, events)
            return monte_carlo.log_z_ratio(form, shared.plan) - jax.vmap(form.log_density)(rows)
        if shared.reference is not None:
            return _losses_at_reference(density, shared.reference, shared.plan, events)
        return self._log_z(density, state, events) - log_evidence(density, events, shared.latent)

    def _log_z(self, density, state, events) -> jax.Array:
        """Return log Z, or that of each row: once for equal covariates where all rows are given."""
        plan, distinct, group = state.shared.plan, state.shared.distinct, state.per_row
        grouped = distinct is not None and isinstance(group, jax.Array)
        if grouped and count_of(events) > count_of(distinct):
            return log_z_of_rows(density, plan, distinct)[group]
        return log_z_of_events(density, plan, events)

    def row_batch_size(self, density, state) -> int:
        if self.draws is not None:
            return super().row_batch_size(density, state)
        # Without covariates log Z is one number for all rows.
        plans = (state.shared.plan if density.covariates else None, state.shared.latent)
        nodes = max((count_nodes(plan) for plan in plans if plan is not None), default=1)
        return max(1, min(512, 16 * PLAN.batch // nodes))

    def shared_noise(self, density, state, events) -> np.ndarray | None:
        return (
            None
            if self.draws is None
            else monte_carlo.long_run_variance(
                self._seen(density, state, events)[0],
                state.shared.plan,
                self.draws,
                self.draw_options,
            )
        )

    def recession_directions(self, density, state, events) -> jax.Array | None:
        return (
            None
            if self.draws is None
            else monte_carlo.recession_directions(
                *self._seen(density, state, events), state.shared.plan
            )
        )

    def margins(self, density, state, events) -> jax.Array | None:
        # Compiled code does not see which entries are missing; their nodes say it.
        has_nodes = self.draws is None and state.shared.latent is not None
        return None if has_nodes else likelihood_margins(density, events)

    def findings(self, density, state, events) -> list[Finding]:
        found = []
        if self.draws is not None:
            found += monte_carlo.findings(state.shared, self.draw_options)
            found += monte_carlo.degeneracy(density, state.shared, self.draw_options)
        else:
            found += normalized_note(density, state.shared.plan, events)
        if len(next(iter(events.values()))) == 1:
            what = (
                "one row of data has no spread, so that the standard errors are those of the "
                "inverse information, which hold as far as the model is true"
            )
            found.append(Finding(what, "", NOTE))
        return found


def _central_row(events: dict) -> dict:
    """The row nearest to the mean of all, in standard deviations."""
    flat = jnp.concatenate(
        [jnp.reshape(value, (len(value), -1)) for value in jax.tree.leaves(events)], 1
    )
    spread = jnp.std(flat, 0)
    distance = jnp.sum(((flat - flat.mean(0)) / jnp.where(spread > 0, spread, 1.0)) ** 2, 1)
    row = int(jnp.argmin(jnp.nan_to_num(distance, nan=jnp.inf)))
    return {name: jnp.asarray(value)[row] for name, value in events.items()}


def _losses_at_reference(density, reference: dict, plan: Plan, events: dict) -> jax.Array:
    """log Z - log p̃(x_i), both minus log p̃ of a reference event.

    The value is the same. The derivatives of log p̃ - log p̃(reference) are small where the data
    are far from 0, and the Hessian of log Z, which is their covariance, is not a difference of
    large squares.
    """
    height = density.log_density(reference)
    log_z = log_integral(density, plan.events, plan.log_weights - height)
    return log_z - (jax.vmap(density.log_density)(events) - height)

"""Maximum likelihood, with an exact log Z or with log Z by Markov chains."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from unnorm.core.findings import NOTE, Finding
from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.chain_kernels import kernel_by_name, select_kernel
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.existence.margins import likelihood_margins
from unnorm.fitting.inference.sandwich import NoCovarianceError, bread_and_meat
from unnorm.fitting.loss import Loss, parameters_of, scores_and_curvature
from unnorm.fitting.objectives.likelihood.draw_checks import degeneracy, draw_findings
from unnorm.fitting.objectives.likelihood.draw_weights import (
    ess_fraction,
    log_z_ratio,
    long_run_variance,
    recession_directions,
)
from unnorm.fitting.objectives.likelihood.graph_draws import form_of
from unnorm.fitting.objectives.likelihood.monte_carlo import (
    DrawOptions,
    Draws,
    approach_estimate,
    refuse_draws,
    resample,
)
from unnorm.fitting.objectives.likelihood.normalized import normalized_note
from unnorm.fitting.objectives.likelihood.plans import (
    largest_change,
    losses_on_plans,
    prepare_plans,
    rows_at_once,
)
from unnorm.fitting.row_normalizers import declares_log_z, refuse_marginalization
from unnorm.integration.nodes import Plan
from unnorm.integration.plan import has_plan
from unnorm.interactions.tie_statistics import TieStatistics, has_tie_statistics


@dataclass(frozen=True)
class RefreshCriteria:
    """When nodes or draws are accurate enough at the estimate."""

    log_z: float = 1e-9  # nats by which log Z may change on new nodes
    # Monte Carlo errors between two estimates, each with draws of its own: four of their difference
    errors: float = 4 * 2**0.5


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
    draw_options: ClassVar[DrawOptions] = DrawOptions()

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        # Draws that stand for Z shift the loss from model to model.
        return Traits(is_likelihood=True, is_deviance=self.draws is None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", kernel_by_name(self.kernel))

    def refuse(self, density) -> str | None:
        if self.draws is not None:
            return refuse_draws(self.kernel, density)
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

    def refuse_latent(self, density, events) -> str | None:
        if self.draws is not None:
            name = latent_variables(density.variables, events)[0]
            return (
                f"MaximumLikelihood with draws does not serve the latent variable {name}, which "
                "is not in the data, or not in every row; expected it there; use "
                "un.objectives.MaximumLikelihood() without draws, or ContrastiveDivergence"
            )
        return refuse_marginalization(density, events)

    def prepare(self, density, events, key) -> ObjectiveState:
        if self.draws is None:
            return prepare_plans(density, events)
        key, approach = split_keys(key)
        near = approach_estimate(
            select_kernel(self.kernel, density),
            density,
            events,
            self.draws,
            approach,
            self.draw_options,
        )
        seen = form_of(density, events)[1] if has_tie_statistics(density) else ()
        drawn = self._resample(density.at(near.start), near._replace(key=key))
        return ObjectiveState(per_row=seen, shared=drawn)

    def _seen(self, density, state, events) -> tuple[Any, Any]:
        """The density and the rows as the draws are held."""
        if isinstance(state.per_row, dict):
            return TieStatistics(density.free()), state.per_row
        return density, events

    def _resample(self, density, draws: Draws) -> Draws:
        assert self.draws is not None
        return resample(density, draws, self.draws, self.draw_options)

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
        new = prepare_plans(density, events).shared
        if largest_change(density, events, state.shared, new) < self.criteria.log_z:
            return None
        return state._replace(shared=new)

    def _is_stationary(self, density, state, events) -> bool:
        """Whether the weights are even, and the estimate is the draws' own parameters up to its
        Monte Carlo error.
        """
        draws: Draws = state.shared
        if has_tie_statistics(density) and not draws.near:  # other draws would not help
            return True
        if draws.needs_thinning(self.draw_options):
            return False
        form = self._seen(density, state, events)[0]
        if not ess_fraction(form, draws.plan) >= self.draw_options.ess_fraction:
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
        if self.draws is None:
            return losses_on_plans(density, state, events)
        form, rows = self._seen(density, state, events)
        return log_z_ratio(form, state.shared.plan) - jax.vmap(form.log_density)(rows)

    def row_batch_size(self, density, state) -> int:
        if self.draws is not None:
            return super().row_batch_size(density, state)
        return rows_at_once(density, state.shared)

    def shared_noise(self, density, state, events) -> np.ndarray | None:
        if self.draws is None:
            return None
        form, chains = self._seen(density, state, events)[0], self.draw_options.chains(self.draws)
        return long_run_variance(form, state.shared.plan, chains)

    def recession_directions(self, density, state, events) -> jax.Array | None:
        if self.draws is None:
            return None
        return recession_directions(*self._seen(density, state, events), state.shared.plan)

    def margins(self, density, state, events) -> jax.Array | None:
        # Compiled code does not see which entries are missing; their nodes say it.
        has_nodes = self.draws is None and state.shared.latent is not None
        return None if has_nodes else likelihood_margins(density, events)

    def findings(self, density, state, events) -> list[Finding]:
        found = []
        if self.draws is not None:
            found += draw_findings(state.shared, self.draw_options)
            found += degeneracy(density, state.shared, self.draw_options)
        else:
            found += normalized_note(density, state.shared.plan, events)
        if len(next(iter(events.values()))) == 1:
            what = (
                "one row of data has no spread, so that the standard errors are those of the "
                "inverse information, which hold as far as the model is true"
            )
            found.append(Finding(what, "", NOTE))
        return found

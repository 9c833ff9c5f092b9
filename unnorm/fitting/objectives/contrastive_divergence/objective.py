"""Contrastive divergence: the gradient of the log-likelihood, with short Markov chains for its
intractable part.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import WARNING, Finding, FindingCode
from unnorm.core.method import method, option, static
from unnorm.core.random_keys import fold_in, split_keys
from unnorm.declaration.composite.missing_entries import missing_masks
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import ObjectiveState, StochasticGradient, Traits
from unnorm.fitting.chain_kernels import (
    initial_tuning,
    kernel_by_name,
    prepare_kernel,
    refuse_support,
    select_kernel,
)
from unnorm.fitting.data.latent_variables import covariates_of, latent_variables
from unnorm.fitting.existence.margins import likelihood_margins
from unnorm.fitting.inference.sandwich import Covariance, NoCovarianceError
from unnorm.fitting.objectives.contrastive_divergence.chain_checks import chain_findings
from unnorm.fitting.objectives.contrastive_divergence.chain_state import (
    ChainState,
    RowStarts,
    add_noise,
    latent_chains,
    latent_target,
    put_rows,
    restart_chains,
    take_rows,
)
from unnorm.fitting.objectives.contrastive_divergence.covariance import (
    covariance,
    fixed_point_findings,
)
from unnorm.fitting.objectives.contrastive_divergence.score_moments import (
    contrast,
    latent_information,
    long_run,
)
from unnorm.integration.representative_rows import count_of
from unnorm.sampling.short_runs import adapt_step_size, run_chains


@method
class ContrastiveDivergence:
    """Follow mean ∇ log p̃(x_i) − mean ∇ log p̃(x'_i), x'_i after k steps of a kernel that starts
    at the data.

    With `persistent` the chains continue from iteration to iteration instead of restarting at the
    data, and the fixed point is the maximum likelihood estimate. Only the gradient of the loss has
    a meaning.

    With covariates each chain belongs to a row, at the row's covariates; there is one persistent
    chain for each row. Where variables h are latent, ∇ log p̃(x_i, h_i) replaces the first gradient:
    h_i comes from a chain of its row with x_i fixed, moved by k steps an iteration. Chains that are
    not persistent start at (x_i, h_i). Entries that are NaN in the data are latent likewise,
    missing at random; their chains have the default kernels of their supports.

    Args:
        k: kernel steps between data (or the last negatives) and the negatives.
        persistent: keep the chains.
        kernel: any kernel, or its name; None: HMC for continuous variables, Gibbs where the states
            can be listed, a random walk for counts. A step size that is not given is adapted to the
            kernel's acceptance rate while the parameters still move.
        chains: persistent chains; None: as many as rows, at least 1,000 where there are no
            covariates.
        reinitialise: share of the persistent chains that restart at random rows of the data each
            iteration. It frees chains that are stuck, at the price of a bias towards CD.
        noise: standard deviation of the normal noise that is added to the data, and to the chains
            that start there, in unconstrained coordinates; a number, or (start, end), annealed
            geometrically over the run. For neural energies: the density is that of smoothed data.
        temperature: T of the negatives, which follow p^(1/T), as Langevin chains of image models
            with less noise than their steps ask for do. It biases: the density whose power 1/T
            has the fixed point is reported, and the factor with it.
        energy_penalty: α of α mean (log p̃)² over the data and the negatives, added to the loss to
            keep the energies of a network near 0 (Du and Mordatch). It biases.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, field: field * x, {"x": un.Binary}, {"field": (un.Real, 0.0)}
        ... )
        >>> fit = un.fit(
        ...     p, [0, 1, 1, 1] * 25, ContrastiveDivergence(persistent=True), seed=0, progress=False
        ... )
        >>> abs(float(fit.density.parameters["field"]) - 1.0986) < 0.1  # log 3
        True

    References:
        Hinton (2002), doi:10.1162/089976602760128018; Tieleman (2008), doi:10.1145/1390156.1390290;
        Du and Mordatch (2019), arXiv:1903.08689 (chains that restart, noise).
    """

    k: int = static(default=1, at_least=1)
    persistent: bool = static(default=False)
    kernel: Any = None
    chains: int | None = static(default=None, at_least=2)
    reinitialise: float = option(default=0.0, at_least=0, below=1)
    noise: Any = None
    temperature: float = static(default=1.0, above=0)
    energy_penalty: float = static(default=0.0, at_least=0)
    traits = Traits(supports_weights=False)
    default_run_length: ClassVar[float] = 5_000.0  # of annealing, where no steps are given

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", kernel_by_name(self.kernel))

    @property
    def target(self) -> str:
        point = (
            f"the fixed point of CD-{self.k} with its kernel, which is not the maximum likelihood "
            "estimate"
        )
        if self.persistent:
            point = "the maximum likelihood estimate"
        if np.any(np.asarray(self.reinitialise) > 0):
            point += (
                f", with a share of {float(self.reinitialise):.3g} of the chains restarted at the "
                "data"
            )
        if self.noise is not None:
            last = float(np.asarray(jax.tree.leaves(self.noise)[-1]))
            point += f", for the data smoothed by normal noise of standard deviation {last:.4g}"
        if self.temperature != 1:
            point = f"a density whose power 1/{self.temperature:.4g} is {point}"
        if self.energy_penalty > 0:
            point += f", biased by the energy penalty {self.energy_penalty:.4g}"
        return point

    @property
    def smoothing(self) -> tuple[float, ...]:
        """Return the standard deviation of the noise at the end, in unconstrained coordinates."""
        return () if self.noise is None else (float(np.asarray(jax.tree.leaves(self.noise)[-1])),)

    def refuse(self, density) -> str | None:
        if self.chains is not None and density.covariates:
            return (
                f"chains is {self.chains!r} and {density.name} has the covariate "
                f"{next(iter(density.covariates))}, so that every row keeps a chain of its own; "
                "expected None; leave chains out"
            )
        if np.any(np.asarray(self.reinitialise) > 0) and not self.persistent:
            return (
                f"reinitialise is {self.reinitialise!r} and the chains are not persistent; "
                "expected persistent chains, because others always start at the data; pass "
                "persistent=True"
            )
        return self._refuse_noise(density) or refuse_support(
            select_kernel(self.kernel, density), density
        )

    def refuse_latent(self, density, events) -> str | None:
        if self.temperature != 1:
            return (
                f"temperature is {self.temperature!r} and data has no values for some entries; "
                "must be 1 where entries are latent; leave temperature out"
            )
        if missing_masks(density.variables, events):
            return None
        latent = latent_target(density, events)
        return refuse_support(self._latent_kernel(density, events), latent)

    def _latent_kernel(self, density, events) -> Any:
        """The kernel of what is latent: the given one, unless it is composed for all variables or
        needs their structure, which missing entries do not share.
        """
        masks = missing_masks(density.variables, events)
        composed = self.kernel is not None and getattr(self.kernel, "composed", False)
        latent = latent_target(density, events)
        return select_kernel(None if composed or masks else self.kernel, latent)

    def _refuse_noise(self, density) -> str | None:
        if self.noise is None:
            return None
        ends = self.noise if isinstance(self.noise, tuple | list) else (self.noise,)
        if len(ends) not in (1, 2) or not all(_is_number(end) and end > 0 for end in ends):
            return f"noise is {self.noise!r}; expected a positive number, or (start, end)"
        for name, support in density.variables.items():
            if support.discrete:
                return (
                    f"noise was given and {name} is {support!r}; expected continuous variables; "
                    "leave noise out"
                )
        return None

    def prepare(self, density, events, key) -> ObjectiveState:
        """Return chains at the data (persistent ones at rows drawn from it), and their tuning."""
        positions = Unconstrained(density).positions_of(events)
        count = count_of(positions)
        if count < 2 and not self.persistent:
            raise ValueError(
                "data has 1 row; expected at least 2 rows, because the spread of the negatives "
                "sets the length of the steps; pass more rows, or persistent=True."
            )
        own, latent = covariates_of(density, events), None
        if latent_variables(density.variables, events):
            kernel = self._latent_kernel(density, events)
            latent = latent_chains(kernel, density, events, key)
        everything = latent.complete(positions, latent.positions) if latent else positions
        rows = RowStarts(positions, jnp.arange(count) if latent or own else None)
        starts = everything
        if self.persistent and not own:
            chosen = jax.random.choice(key, count, (self.chains or max(count, 1000),))
            starts = {name: value[chosen] for name, value in everything.items()}
        kernel = prepare_kernel(select_kernel(self.kernel, density), density, own)
        chains = ChainState(
            kernel,
            initial_tuning(kernel, everything),
            starts if self.persistent else None,
            latent,
            nan_count=jnp.zeros(()),
            iteration=jnp.zeros(()),
            run_length=jnp.asarray(self.default_run_length),
        )
        return ObjectiveState(per_row=rows, shared=chains)

    def rows_of(self, density, state, events) -> RowStarts:
        return RowStarts(Unconstrained(density).positions_of(events), None)

    def sampling_target(self, density) -> Any:
        return density if self.temperature == 1 else density ** (1 / self.temperature)

    def chain_events(self, density, state) -> dict[str, jax.Array] | None:
        chains = state.shared.positions
        return None if chains is None else Unconstrained(density).events_at(chains)

    def with_run_length(self, state, steps) -> ObjectiveState:
        length = jnp.asarray(float(steps))
        return state._replace(shared=state.shared._replace(run_length=length))

    def gradient(self, density, state, events, key, gain=1.0) -> StochasticGradient:
        """Return the gradient, and the state with the chains and their tuning moved on."""
        chains, (rows, number) = state.shared, state.per_row
        own, latent = covariates_of(density, events), chains.latent
        target = Unconstrained(density)
        key, blur, restart = split_keys(key, 3)
        if self.noise is not None:
            rows = add_noise(rows, self._deviation(chains.iteration / chains.run_length), blur)
            events = events | target.events_at(rows)
        if latent is not None:
            latent, found, values = latent.move(
                density, events, number, fold_in(key, 1), self.k, gain
            )
            rows, events = latent.complete(rows, found), latent.complete(events, values)
        starts = rows
        if self.persistent:
            positions = take_rows(chains.positions, number) if own else chains.positions
            starts = restart_chains(positions, rows, self.reinitialise, restart, bool(own))
        positions, acceptance, _ = run_chains(
            chains.kernel, self._negative_target(target), starts, key, self.k, chains.tuning, own
        )
        negatives = target.events_at(positions) | own
        gradient, energies = jax.grad(contrast, has_aux=True)(
            density.free(), density, events, negatives, self.energy_penalty
        )
        if self.persistent and own:
            positions = put_rows(chains.positions, number, positions)
        new = chains._replace(
            tuning=adapt_step_size(chains.kernel, chains.tuning, acceptance, gain, starts),
            positions=positions if self.persistent else None,
            latent=latent,
            nan_count=chains.nan_count + jnp.isnan(energies).sum() * _all_finite(density.free()),
            iteration=chains.iteration + 1,
        )
        return StochasticGradient(gradient, state._replace(shared=new), negatives, acceptance)

    def _negative_target(self, target: Unconstrained) -> Unconstrained:
        return target if self.temperature == 1 else target.temper(jnp.asarray(1 / self.temperature))

    def _deviation(self, share: jax.Array) -> jax.Array:
        first, last = (jax.tree.leaves(self.noise) * 2)[:2]
        return first * (last / first) ** jnp.minimum(share, 1.0)

    def margins(self, density, state, events) -> jax.Array | None:
        # Compiled code does not see which entries are missing; their chains say it.
        has_chains = isinstance(state.shared, ChainState) and state.shared.latent is not None
        return None if has_chains else likelihood_margins(density, events)

    def refuse_nan(self, density, state) -> None:
        """Raise where negatives had a NaN energy at finite parameters: the density is at fault."""
        if state.shared.nan_count > 0:
            raise ValueError(
                f"The log-density of {density.name} is NaN at points that "
                f"{type(state.shared.kernel).__name__} reached from the data; expected finite "
                "numbers or -inf; correct the function there, or give the kernel a smaller "
                "step_size."
            )

    def chain_findings(self, density, state, events, key) -> list[Finding]:
        found = chain_findings(self, self.sampling_target(density), state, events, key)
        return found + self._bias_findings()

    def _bias_findings(self) -> list[Finding]:
        found = []
        if self.temperature != 1:
            what = (
                f"the negatives follow the density's power 1/{self.temperature:.4g}, so that the "
                "fit is not an estimate of the density of the data; its power "
                f"{1 / self.temperature:.4g} is"
            )
            advice = f"use fit.density ** {1 / self.temperature:.4g}, or temperature=1"
            found.append(Finding(what, advice, WARNING, FindingCode.BIASED_OBJECTIVE))
        if self.energy_penalty > 0:
            what = f"the energy penalty {self.energy_penalty:.4g} biases the fit"
            advice = "compare with energy_penalty=0"
            found.append(Finding(what, advice, WARNING, FindingCode.BIASED_OBJECTIVE))
        return found

    def fixed_point_findings(self, density, state, events, key) -> list[Finding]:
        if self.temperature != 1 or self.energy_penalty > 0:
            return []  # the bias is reported as such
        return fixed_point_findings(self, density, state, events, key)

    def covariance(self, density, state, events, key) -> Covariance:
        if self.temperature != 1 or self.energy_penalty > 0:
            raise NoCovarianceError(
                "contrastive divergence with a temperature or an energy penalty has no theory of "
                "its covariance, so there are no standard errors",
                "leave temperature and energy_penalty out, or use the bootstrap",
            )
        return covariance(self, density, state, events, key)

    def fisher_information(self, density, state, events, key) -> np.ndarray:
        if state.shared.latent is not None:
            return latent_information(density, state.shared.latent, events, key)
        return long_run(density, events, key).information


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and not isinstance(value, bool | str) and bool(np.isfinite(value))


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()

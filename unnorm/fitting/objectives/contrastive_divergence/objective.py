"""Contrastive divergence: the gradient of the log-likelihood, with short Markov chains for its
intractable part.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import Finding
from unnorm.core.method import method, option, static
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import ObjectiveState, StochasticGradient, Traits
from unnorm.fitting.chain_kernels import (
    initial_tuning,
    kernel_by_name,
    prepare_kernel,
    refuse_support,
    select_kernel,
)
from unnorm.fitting.existence.margins import likelihood_margins
from unnorm.fitting.inference.sandwich import Covariance
from unnorm.fitting.objectives.contrastive_divergence.chain_checks import chain_findings
from unnorm.fitting.objectives.contrastive_divergence.covariance import (
    covariance,
    fixed_point_findings,
)
from unnorm.fitting.objectives.contrastive_divergence.score_moments import (
    contrast,
    latent_information,
    long_run,
)
from unnorm.fitting.row_normalizers import covariates_of, latent_density, latent_variables
from unnorm.integration.conditional import count_of
from unnorm.sampling.short_runs import adapt_step_size, run_chains


class RowStarts(NamedTuple):
    """Unconstrained positions of the rows; their numbers, where chains belong to rows."""

    starts: dict[str, jax.Array]
    number: jax.Array | None


class LatentChains(NamedTuple):
    """A chain of the latent variables for every row."""

    kernel: Any
    tuning: Any
    positions: dict[str, jax.Array]


class ChainState(NamedTuple):
    """The negative chains, and where the run stands."""

    kernel: Any
    tuning: Any
    positions: dict[str, jax.Array] | None  # of persistent chains
    latent: LatentChains | None
    nan_count: jax.Array  # negatives so far whose energy was NaN at finite parameters
    iteration: jax.Array
    run_length: jax.Array  # iterations over which noise is annealed


@method
class ContrastiveDivergence:
    """Follow mean ∇ log p̃(x_i) − mean ∇ log p̃(x'_i), x'_i after k steps of a kernel that starts
    at the data.

    With `persistent` the chains go on from iteration to iteration in place of starting anew at the
    data, and the fixed point is the maximum likelihood estimate. The loss has no meaning; only its
    gradient does.

    With covariates every chain is that of a row, at the row's covariates; persistent chains are one
    for each row. Where variables h are latent, ∇ log p̃(x_i, h_i) takes the place of the first
    gradient, h_i from a chain of the row's own in which x_i is held, moved k steps an iteration;
    chains that are not persistent start at (x_i, h_i).

    Args:
        k: kernel steps between data (or the last negatives) and the negatives.
        persistent: keep the chains.
        kernel: any kernel, or its name; None: HMC for continuous variables, Gibbs where the states
            can be listed, a random walk for counts. A step size that is not given is adapted to the
            kernel's acceptance rate while the parameters still move.
        chains: persistent chains; None: as many as rows, at least 1,000 where there are no
            covariates.
        reinitialise: share of the persistent chains that start anew at random rows of the data each
            iteration: chains that are stuck do not stay so, at the price of a bias towards CD.
        noise: standard deviation of the normal noise that is added to the data, and so to the
            chains' starts there, in unconstrained coordinates; a number, or (start, end), annealed
            geometrically over the run. For neural energies: the density that is learned is the
            data's, smoothed.

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
        Du and Mordatch (2019), arXiv:1903.08689 (chains that start anew, noise).
    """

    k: int = static(default=1, at_least=1)
    persistent: bool = static(default=False)
    kernel: Any = None
    chains: int | None = static(default=None, at_least=2)
    reinitialise: float = option(default=0.0, at_least=0, below=1)
    noise: Any = None
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
                f", but for a share of {float(self.reinitialise):.3g} of the chains that starts "
                "anew at the data"
            )
        if self.noise is not None:
            last = float(np.asarray(jax.tree.leaves(self.noise)[-1]))
            point += f", for the data smoothed by normal noise of standard deviation {last:.4g}"
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
                "expected persistent=True, for else all of them start at the data; pass that too"
            )
        return self._refuse_noise(density) or refuse_support(
            select_kernel(self.kernel, density), density
        )

    def refuse_latent(self, density, events) -> str | None:
        latent = latent_density(density, events)
        return refuse_support(self._latent_kernel(latent), latent)

    def _latent_kernel(self, latent) -> Any:
        """The kernel of the latent variables: the given one, unless it is composed for all."""
        composed = self.kernel is not None and getattr(self.kernel, "composed", False)
        return select_kernel(None if composed else self.kernel, latent)

    def _refuse_noise(self, density) -> str | None:
        if self.noise is None:
            return None
        ends = self.noise if isinstance(self.noise, tuple | list) else (self.noise,)
        if len(ends) not in (1, 2) or not all(_is_number(end) and end > 0 for end in ends):
            return f"noise is {self.noise!r}; expected a positive number, or (start, end) of such"
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
                "data has 1 row; expected at least 2, for the spread of the negatives sets the "
                "length of the steps; pass more rows, or persistent=True."
            )
        own, latent = covariates_of(density, events), self._latent_chains(density, events, key)
        everything = positions | (latent.positions if latent else {})
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

    def with_run_length(self, state, steps) -> ObjectiveState:
        length = jnp.asarray(float(steps))
        return state._replace(shared=state.shared._replace(run_length=length))

    def _latent_chains(self, density, events, key) -> LatentChains | None:
        """The chains of the latent variables, each at its row of the data; None without any."""
        if not latent_variables(density, events):
            return None
        latent = latent_density(density, events)
        kernel = prepare_kernel(self._latent_kernel(latent), latent, events)
        target, dtype = Unconstrained(latent), jnp.result_type(*events.values())
        keys = jax.random.split(jax.random.fold_in(key, 1), count_of(events))
        positions = jax.vmap(lambda one: target.random_position(one, dtype))(keys)
        return LatentChains(kernel, initial_tuning(kernel, positions), positions)

    def gradient(self, density, state, events, key, gain=1.0) -> StochasticGradient:
        """Return the gradient, and the state with the chains and their tuning moved on."""
        chains, (rows, number) = state.shared, state.per_row
        own, latent = covariates_of(density, events), chains.latent
        target = Unconstrained(density)
        key, blur, restart = jax.random.split(key, 3)
        if self.noise is not None:
            rows = _add_noise(rows, self._deviation(chains.iteration / chains.run_length), blur)
            events = events | target.events_at(rows)
        if latent is not None:
            latent, found = self._move_latent(
                density, latent, events, number, jax.random.fold_in(key, 1), gain
            )
            rows, events = rows | found, events | target.events_at(found)
        starts = rows
        if self.persistent:
            positions = _take(chains.positions, number) if own else chains.positions
            starts = _restart(positions, rows, self.reinitialise, restart, bool(own))
        positions, acceptance, _ = run_chains(
            chains.kernel, target, starts, key, self.k, chains.tuning, own
        )
        negatives = target.events_at(positions) | own
        gradient, energies = jax.grad(contrast, has_aux=True)(
            density.free(), density, events, negatives
        )
        if self.persistent and own:
            positions = _put(chains.positions, number, positions)
        new = chains._replace(
            tuning=adapt_step_size(chains.kernel, chains.tuning, acceptance, gain, starts),
            positions=positions if self.persistent else None,
            latent=latent,
            nan_count=chains.nan_count + jnp.isnan(energies).sum() * _all_finite(density.free()),
            iteration=chains.iteration + 1,
        )
        return StochasticGradient(gradient, state._replace(shared=new), negatives, acceptance)

    def _move_latent(
        self, density, chains: LatentChains, events: dict, number, key, gain
    ) -> tuple[LatentChains, dict]:
        """Move the latent chains of these rows with the rows fixed; return their positions too."""
        starts, target = (
            _take(chains.positions, number),
            Unconstrained(latent_density(density, events)),
        )
        positions, acceptance, _ = run_chains(
            chains.kernel, target, starts, key, self.k, chains.tuning, events
        )
        moved = chains._replace(
            tuning=adapt_step_size(chains.kernel, chains.tuning, acceptance, gain, starts),
            positions=_put(chains.positions, number, positions),
        )
        return moved, target.events_at(positions)

    def _deviation(self, share: jax.Array) -> jax.Array:
        first, last = (jax.tree.leaves(self.noise) * 2)[:2]
        return first * (last / first) ** jnp.minimum(share, 1.0)

    def margins(self, density, state, events) -> jax.Array | None:
        return likelihood_margins(density, events)

    def refuse_nan(self, density, state) -> None:
        """Raise where negatives had a NaN energy at finite parameters: the density is at fault."""
        if state.shared.nan_count > 0:
            raise ValueError(
                f"The log-density of {density.name} is NaN at points that "
                f"{type(state.shared.kernel).__name__} came to from the data; expected finite "
                "numbers or -inf; correct the function there, or give the kernel a smaller "
                "step_size."
            )

    def chain_findings(self, density, state, events, key) -> list[Finding]:
        return chain_findings(self, density, state, events, key)

    def fixed_point_findings(self, density, state, events, key) -> list[Finding]:
        return fixed_point_findings(self, density, state, events, key)

    def covariance(self, density, state, events, key) -> Covariance:
        return covariance(self, density, state, events, key)

    def fisher_information(self, density, state, events, key) -> np.ndarray:
        if state.shared.latent is not None:
            return latent_information(density, state.shared.latent, events, key)
        return long_run(density, events, key).information


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and not isinstance(value, bool | str) and bool(np.isfinite(value))


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _add_noise(positions: dict, deviation: jax.Array, key: jax.Array) -> dict:
    keys = jax.random.split(key, len(positions))
    return {
        name: value + deviation * jax.random.normal(one, value.shape, value.dtype)
        for one, (name, value) in zip(keys, positions.items(), strict=True)
    }


def _take(chains: dict, number: jax.Array) -> dict:
    return {name: value[number] for name, value in chains.items()}


def _put(chains: dict, number: jax.Array, moved: dict) -> dict:
    return {name: value.at[number].set(moved[name]) for name, value in chains.items()}


def _restart(chains: dict, rows: dict, share: Any, key: jax.Array, own: bool) -> dict:
    """Restart a share of the chains at random rows of the data, or each at its own."""
    toss, pick = jax.random.split(key)
    count, size = (len(next(iter(group.values()))) for group in (chains, rows))
    restarted = jax.random.bernoulli(toss, share, (count,))
    chosen = jnp.arange(count) if own else jax.random.randint(pick, (count,), 0, size)

    def one(old, row):
        return jnp.where(restarted.reshape(-1, *[1] * (old.ndim - 1)), row[chosen], old)

    return {name: one(value, rows[name]) for name, value in chains.items()}

"""Contrastive divergence: the gradient of the log-likelihood, its intractable part by short Markov
chains.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.method import method, option, static
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.chain_kernels import (
    initial_tuning,
    kernel_by_name,
    prepare_kernel,
    refuse_support,
    select_kernel,
)
from unnorm.fitting.existence.margins import of_likelihood
from unnorm.fitting.objectives.contrastive_divergence.chain_checks import health
from unnorm.fitting.row_normalizers import covariates_of, latent_density, latent_variables
from unnorm.integration.conditional import count_of
from unnorm.sampling.short_runs import adapt_step_size, run_chains

# iterations over which the noise is annealed, where the fit does not say how many it takes
_ANNEALED = 5_000.0


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
        >>> p = un.Density(lambda x, *, field: field * x, {"x": un.Binary}, {"field": (un.Real, 0.0)})
        >>> fit = un.fit(p, [0, 1, 1, 1] * 25, ContrastiveDivergence(persistent=True), seed=0, progress=False)
        >>> abs(float(fit.density.parameters["field"]) - 1.0986) < 0.1  # log 3
        True

    References:
        Hinton (2002), doi:10.1162/089976602760128018; Tieleman (2008), doi:10.1145/1390156.1390290;
        Du and Mordatch (2019), arXiv:1903.08689 (chains that start anew, noise).
    """

    k: int = static(1, at_least=1)
    persistent: bool = static(False)
    kernel: Any = None
    chains: int | None = static(None, at_least=2)
    reinitialise: float = option(0.0, at_least=0, below=1)
    noise: Any = None
    stochastic = True

    def __post_init__(self):
        object.__setattr__(self, "kernel", kernel_by_name(self.kernel))

    @property
    def target(self) -> str:
        point = f"the fixed point of CD-{self.k} with its kernel, which is not the maximum likelihood estimate"
        if self.persistent:
            point = "the maximum likelihood estimate"
        if np.any(np.asarray(self.reinitialise) > 0):
            point += f", but for a share of {float(self.reinitialise):.3g} of the chains that starts anew at the data"
        if self.noise is not None:
            last = float(np.asarray(jax.tree.leaves(self.noise)[-1]))
            point += f", for the data smoothed by normal noise of standard deviation {last:.4g}"
        return point

    @property
    def smooths_data(self) -> bool:
        return self.noise is not None

    @property
    def smoothing(self) -> tuple[float, ...]:
        """The standard deviation of the noise in the data that the fit aims at, in unconstrained
        coordinates.
        """
        return () if self.noise is None else (float(np.asarray(jax.tree.leaves(self.noise)[-1])),)

    def refuse(self, density):
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            return f"k is {self.k!r}; expected an integer of at least 1; pass such a one"
        if self.chains is not None and (not isinstance(self.chains, int) or self.chains < 2):
            return f"chains is {self.chains!r}; expected an integer of at least 2, or None; pass such a one"
        if self.chains is not None and density.covariates:
            return (
                f"chains is {self.chains!r} and {density.name} has the covariate "
                f"{next(iter(density.covariates))}, so "
                "that every row keeps a chain of its own; expected None; leave chains out"
            )
        return (
            self._bad_share()
            or self._bad_noise(density)
            or refuse_support(select_kernel(self.kernel, density), density)
        )

    def refuse_latent(self, density, events):
        latent = latent_density(density, events)
        return refuse_support(self._latent_kernel(latent), latent)

    def _latent_kernel(self, latent) -> Any:
        """What moves the latent variables: the kernel given, unless it is composed for all
        variables.
        """
        composed = self.kernel is not None and getattr(self.kernel, "composed", False)
        return select_kernel(None if composed else self.kernel, latent)

    def _bad_share(self) -> str | None:
        if not _is_number(self.reinitialise) or not 0 <= self.reinitialise < 1:
            return f"reinitialise is {self.reinitialise!r}; expected a share from 0 to below 1; pass such a one"
        if self.reinitialise > 0 and not self.persistent:
            return (
                f"reinitialise is {self.reinitialise!r} and the chains are not persistent; "
                "expected persistent=True, "
                "for else all of them start at the data; pass that too"
            )
        return None

    def _bad_noise(self, density) -> str | None:
        if self.noise is None:
            return None
        ends = self.noise if isinstance(self.noise, tuple | list) else (self.noise,)
        if len(ends) not in (1, 2) or not all(_is_number(end) and end > 0 for end in ends):
            return f"noise is {self.noise!r}; expected a number above 0, or (start, end) of such; pass one of the two"
        for name, support in density.variables.items():
            if support.discrete:
                return f"noise was given and {name} is {support!r}; expected continuous variables; leave noise out"
        return None

    def prepare(self, density, events, key):
        """Chains at the data (persistent ones at rows drawn from it), and the kernel's first
        tuning.
        """
        positions = Unconstrained(density).positions_of(events)
        count = count_of(positions)
        if count < 2 and not self.persistent:
            raise ValueError(
                "data has 1 row; expected at least 2, for the spread of the negatives sets the "
                "length of the steps; "
                "pass more rows, or persistent=True."
            )
        rows, own = {"starts": positions}, covariates_of(density, events)
        shared = self._clamped(density, events, jax.random.fold_in(key, 1))
        everything = positions | shared.get("latent", {}).get("positions", {})
        if latent_variables(density, events) or own:
            rows["number"] = jnp.arange(count)
        starts = everything
        if self.persistent and not own:
            chosen = jax.random.choice(key, count, (self.chains or max(count, 1000),))
            starts = {name: value[chosen] for name, value in everything.items()}
        kernel = prepare_kernel(select_kernel(self.kernel, density), density, own)
        shared |= {
            "kernel": kernel,
            "tuning": initial_tuning(kernel, everything),
            "gain": jnp.ones(()),  # of the step size's adaptation: the driver lets it fall to zero
            "negatives": Unconstrained(density).events_at(starts) | own,
            "acceptance": jnp.zeros(()),
            "nan": jnp.zeros(()),  # negatives so far whose energy was NaN
            "iteration": jnp.zeros(()),
            "iterations": jnp.asarray(
                _ANNEALED
            ),  # the driver knows better where it was told how many
        }
        if self.persistent:
            shared["chains"] = starts
        return ObjectiveState(per_row=rows, shared=shared)

    def _clamped(self, density, events, key) -> dict:
        """The chains of the latent variables, each at its row of the data; nothing where none are
        latent.
        """
        if not latent_variables(density, events):
            return {}
        latent = latent_density(density, events)
        kernel, target = (
            prepare_kernel(self._latent_kernel(latent), latent, events),
            Unconstrained(latent),
        )
        dtype = jnp.result_type(*events.values())
        keys = jax.random.split(key, count_of(events))
        positions = jax.vmap(lambda one: target.random_position(one, dtype))(keys)
        return {
            "latent": {
                "kernel": kernel,
                "tuning": initial_tuning(kernel, positions),
                "positions": positions,
            }
        }

    def gradient(self, density, state, events, key):
        """The gradient; the new state holds the moved chains, the tuning and the negatives."""
        shared, rows, number = (
            dict(state.shared),
            state.per_row["starts"],
            state.per_row.get("number"),
        )
        kernel, own = shared["kernel"], covariates_of(density, events)
        key, blur, anew = jax.random.split(key, 3)
        if self.noise is not None:
            rows = _blurred(rows, self._deviation(shared["iteration"] / shared["iterations"]), blur)
            events = events | Unconstrained(density).events_at(rows)
        if "latent" in shared:
            shared["latent"], found = self._latent_moved(
                density, shared, events, number, jax.random.fold_in(key, 1)
            )
            rows, events = rows | found, events | Unconstrained(density).events_at(found)
        starts = rows
        if self.persistent:
            chains = _of_rows(shared["chains"], number) if own else shared["chains"]
            starts = _started_anew(chains, rows, self.reinitialise, anew, bool(own))
        target = Unconstrained(density)
        positions, acceptance, _ = run_chains(
            kernel, target, starts, key, self.k, shared["tuning"], own
        )
        negatives = target.events_at(positions) | own
        gradient, energies = jax.grad(_contrast, has_aux=True)(
            density.free(), density, events, negatives
        )
        shared |= {
            "tuning": adapt_step_size(kernel, shared["tuning"], acceptance, shared["gain"], starts),
            "negatives": negatives,
            "acceptance": acceptance,
            "nan": shared["nan"] + jnp.isnan(energies).sum() * _all_finite(density.free()),
            "iteration": shared["iteration"] + 1,
        }
        if self.persistent:
            shared["chains"] = _put(shared["chains"], number, positions) if own else positions
        return gradient, state._replace(shared=shared)

    def _latent_moved(self, density, shared: dict, events: dict, number, key) -> tuple[dict, dict]:
        """The latent chains of these rows, moved on with the rows held; and where they came to."""
        chains, latent = shared["latent"], Unconstrained(latent_density(density, events))
        starts = _of_rows(chains["positions"], number)
        found, acceptance, _ = run_chains(
            chains["kernel"], latent, starts, key, self.k, chains["tuning"], events
        )
        moved = {
            "tuning": adapt_step_size(
                chains["kernel"], chains["tuning"], acceptance, shared["gain"], starts
            ),
            "positions": _put(chains["positions"], number, found),
        }
        return chains | moved, found

    def _deviation(self, share: jax.Array) -> jax.Array:
        first, last = (jax.tree.leaves(self.noise) * 2)[:2]
        return first * (last / first) ** jnp.minimum(share, 1.0)

    def margins(self, density, state, events):
        return of_likelihood(density, events)

    def refuse_nan(self, density, state) -> None:
        """Raise where negatives had a NaN energy at finite parameters: not the parameters, the
        density is at fault.
        """
        if state.shared["nan"] > 0:
            raise ValueError(
                f"The log-density of {density.name} is NaN at points that "
                f"{type(state.shared['kernel']).__name__} came "
                "to from the data; expected finite numbers or -inf; mend the function there, or "
                "give the kernel a "
                "smaller step_size."
            )

    def findings(self, density, state, events, key):
        """Whether the chains mix at the fit, and whether the negatives' energies are the data's."""
        return health(self, density, state, events, key)


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and not isinstance(value, bool | str) and bool(np.isfinite(value))


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _blurred(positions: dict, deviation: jax.Array, key: jax.Array) -> dict:
    keys = jax.random.split(key, len(positions))
    return {
        name: value + deviation * jax.random.normal(one, value.shape, value.dtype)
        for one, (name, value) in zip(keys, positions.items(), strict=True)
    }


def _of_rows(chains: dict, number: jax.Array) -> dict:
    return {name: value[number] for name, value in chains.items()}


def _put(chains: dict, number: jax.Array, moved: dict) -> dict:
    return {name: value.at[number].set(moved[name]) for name, value in chains.items()}


def _started_anew(chains: dict, rows: dict, share: Any, key: jax.Array, own: bool) -> dict:
    """The chains, some of them put back to random rows of the data, or each to its own."""
    toss, pick = jax.random.split(key)
    count, size = (len(next(iter(group.values()))) for group in (chains, rows))
    anew, chosen = (
        jax.random.bernoulli(toss, share, (count,)),
        jax.random.randint(pick, (count,), 0, size),
    )
    chosen = jnp.arange(count) if own else chosen

    def one(old, row):
        return jnp.where(anew.reshape(-1, *[1] * (old.ndim - 1)), row[chosen], old)

    return {name: one(value, rows[name]) for name, value in chains.items()}


def _contrast(free: dict, density, events: dict, negatives: dict) -> tuple[jax.Array, jax.Array]:
    # One pass over both, which a network takes faster than two.
    both = jax.tree.map(
        lambda *parts: jnp.concatenate(parts), {name: negatives[name] for name in events}, events
    )
    energies, on_data = jnp.split(
        jax.vmap(density.at(free).log_density)(both), [count_of(negatives)]
    )
    return energies.mean() - on_data.mean(), energies


def contrast(free: dict, density, events: dict, negatives: dict) -> jax.Array:
    """mean log p̃(negatives) − mean log p̃(data): only its gradient has a meaning."""
    return _contrast(free, density, events, negatives)[0]

"""Contrastive divergence: the gradient of the log-likelihood, its intractable part by short Markov chains."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.fitting.base import Extra
from unnorm.fitting.chain_health import health
from unnorm.fitting.chains import (
    adapted,
    advance,
    chosen_kernel,
    constrained,
    named_kernel,
    prepared_kernel,
    starting_tuning,
    unconstrained,
    unserved,
)
from unnorm.methods import method, static

_ANNEALED = 5_000.0  # iterations over which the noise is annealed, where the fit does not say how many it takes


@method
class ContrastiveDivergence:
    """Follow mean ∇ log p̃(x_i) − mean ∇ log p̃(x'_i), x'_i after k steps of a kernel that starts at the data.

    With `persistent` the chains go on from iteration to iteration in place of starting anew at the data, and the fixed
    point is the maximum likelihood estimate. The loss has no meaning; only its gradient does.

    Args:
        k: kernel steps between data (or the last negatives) and the negatives.
        persistent: keep the chains.
        kernel: any kernel, or its name; None: HMC for continuous variables, Gibbs where the states can be listed, a
            random walk for counts. A step size that is not given is adapted to the kernel's acceptance rate while the
            parameters still move.
        chains: persistent chains; None: as many as rows, at least 1,000.
        reinitialise: share of the persistent chains that start anew at random rows of the data each iteration: chains
            that are stuck do not stay so, at the price of a bias towards CD.
        noise: standard deviation of the normal noise that is added to the data, and so to the chains' starts there, in
            unconstrained coordinates; a number, or (start, end), annealed geometrically over the run. For neural
            energies: the density that is learned is the data's, smoothed.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, field: field * x, {"x": un.Binary}, {"field": (un.Real, 0.0)})
        >>> fit = un.fit(p, [0, 1, 1, 1] * 25, ContrastiveDivergence(persistent=True), seed=0, progress=False)
        >>> abs(float(fit.density.parameters["field"]) - 1.0986) < 0.1  # log 3
        True

    References:
        Hinton (2002), doi:10.1162/089976602760128018; Tieleman (2008), doi:10.1145/1390156.1390290; Du and Mordatch
        (2019), arXiv:1903.08689 (chains that start anew, noise).
    """

    k: int = static(1)
    persistent: bool = static(False)
    kernel: Any = None
    chains: int | None = static(None)
    reinitialise: float = 0.0
    noise: Any = None
    stochastic = True

    def __post_init__(self):
        object.__setattr__(self, "kernel", named_kernel(self.kernel))

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

    def refuse(self, density):
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            return f"k is {self.k!r}; expected a whole number of at least 1; pass such a one"
        if self.chains is not None and (not isinstance(self.chains, int) or self.chains < 2):
            return f"chains is {self.chains!r}; expected a whole number of at least 2, or None; pass such a one"
        return (
            self._bad_share()
            or self._bad_noise(density)
            or unserved(chosen_kernel(self.kernel, density), density)
            or (
                f"ContrastiveDivergence does not serve the covariate {next(iter(density.covariates))} yet; use "
                "un.objectives.ScoreMatching"
                if density.covariates
                else None
            )
        )

    def _bad_share(self) -> str | None:
        if not _is_number(self.reinitialise) or not 0 <= self.reinitialise < 1:
            return f"reinitialise is {self.reinitialise!r}; expected a share from 0 to below 1; pass such a one"
        if self.reinitialise > 0 and not self.persistent:
            return (
                f"reinitialise is {self.reinitialise!r} and the chains are not persistent; expected persistent=True, "
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
        """Chains at the data (persistent ones at rows drawn from it), and the kernel's first tuning."""
        positions = unconstrained(density, events)
        rows = len(next(iter(positions.values())))
        if rows < 2 and not self.persistent:
            raise ValueError(
                "data has 1 row; expected at least 2, for the spread of the negatives sets the length of the steps; "
                "pass more rows, or persistent=True."
            )
        starts = positions
        if self.persistent:
            chosen = jax.random.choice(key, rows, (self.chains or max(rows, 1000),))
            starts = {name: value[chosen] for name, value in positions.items()}
        kernel = prepared_kernel(chosen_kernel(self.kernel, density), density)
        shared = {
            "kernel": kernel,
            "tuning": starting_tuning(kernel, positions),
            "gain": jnp.ones(()),  # of the step size's adaptation: the driver lets it fall to zero
            "negatives": constrained(density, starts),
            "acceptance": jnp.zeros(()),
            "nan": jnp.zeros(()),  # negatives so far whose energy was NaN
            "iteration": jnp.zeros(()),
            "iterations": jnp.asarray(_ANNEALED),  # the driver knows better where it was told how many
        }
        if self.persistent:
            shared["chains"] = starts
        return Extra(rows={"starts": positions}, shared=shared)

    def gradient(self, density, extra, events, key):
        """The gradient; the new extra holds the moved chains, the tuning and the negatives."""
        shared, rows = dict(extra.shared), extra.rows["starts"]
        kernel = shared["kernel"]
        key, blur, anew = jax.random.split(key, 3)
        if self.noise is not None:
            rows = _blurred(rows, self._deviation(shared["iteration"] / shared["iterations"]), blur)
            events = events | constrained(density, rows)
        starts = rows
        if self.persistent:
            starts = _started_anew(shared["chains"], rows, self.reinitialise, anew)
        positions, negatives, acceptance = advance(kernel, density, shared["tuning"], starts, key, self.k)
        gradient, energies = jax.grad(_contrast, has_aux=True)(density.free(), density, events, negatives)
        shared |= {
            "tuning": adapted(kernel, shared["tuning"], acceptance, shared["gain"], starts),
            "negatives": negatives,
            "acceptance": acceptance,
            "nan": shared["nan"] + jnp.isnan(energies).sum() * _all_finite(density.free()),
            "iteration": shared["iteration"] + 1,
        }
        if self.persistent:
            shared["chains"] = positions
        return gradient, extra._replace(shared=shared)

    def _deviation(self, share: jax.Array) -> jax.Array:
        first, last = (jax.tree.leaves(self.noise) * 2)[:2]
        return first * (last / first) ** jnp.minimum(share, 1.0)

    def refuse_lost(self, density, extra) -> None:
        """Raise where negatives had a NaN energy at finite parameters: not the parameters, the density is at fault."""
        if extra.shared["nan"] > 0:
            raise ValueError(
                f"The log-density of {density.name} is NaN at points that {type(extra.shared['kernel']).__name__} came "
                "to from the data; expected finite numbers or -inf; mend the function there, or give the kernel a "
                "smaller step_size."
            )

    def findings(self, density, extra, events, key):
        """Whether the chains mix at the fit, and whether the negatives' energies are the data's."""
        return health(self, density, extra, events, key)


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


def _started_anew(chains: dict, rows: dict, share: Any, key: jax.Array) -> dict:
    """The chains, some of them put back to random rows of the data."""
    toss, pick = jax.random.split(key)
    count, size = (len(next(iter(group.values()))) for group in (chains, rows))
    anew, chosen = jax.random.bernoulli(toss, share, (count,)), jax.random.randint(pick, (count,), 0, size)

    def one(old, row):
        return jnp.where(anew.reshape(-1, *[1] * (old.ndim - 1)), row[chosen], old)

    return jax.tree.map(one, chains, rows)


def _contrast(free: dict, density, events: dict, negatives: dict) -> tuple[jax.Array, jax.Array]:
    log_density = jax.vmap(density.at(free).log_density)
    energies = log_density(negatives)
    return energies.mean() - log_density(events).mean(), energies


def contrast(free: dict, density, events: dict, negatives: dict) -> jax.Array:
    """mean log p̃(negatives) − mean log p̃(data): only its gradient has a meaning."""
    return _contrast(free, density, events, negatives)[0]

"""Contrastive divergence: the gradient of the log-likelihood, its intractable part by short Markov chains."""

from typing import Any

import jax
import jax.numpy as jnp

from unnorm.fitting.base import Extra
from unnorm.fitting.chains import adapted, advance, starting_tuning, unconstrained
from unnorm.methods import look_up, method, static
from unnorm.sampling.kernels import HMC, KERNELS, Gibbs, kernels_for


@method
class ContrastiveDivergence:
    """Follow mean ∇ log p̃(x_i) − mean ∇ log p̃(x'_i), x'_i after k steps of a kernel that starts at the data.

    With `persistent` the chains go on from iteration to iteration in place of starting anew at the data, and the fixed
    point is the maximum likelihood estimate. The loss has no meaning; only its gradient does.

    Args:
        k: kernel steps between data (or the last negatives) and the negatives.
        persistent: keep the chains.
        kernel: any kernel, or its name; None: HMC for continuous, Gibbs for two-valued variables. A step size that is
            not given is adapted to the kernel's acceptance rate while the parameters still move.
        chains: persistent chains; None: as many as rows, at least 1,000.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, field: field * x, {"x": un.Binary}, {"field": (un.Real, 0.0)})
        >>> fit = un.fit(p, [0, 1, 1, 1] * 25, ContrastiveDivergence(persistent=True), seed=0, progress=False)
        >>> abs(float(fit.density.parameters["field"]) - 1.0986) < 0.1  # log 3
        True

    References:
        Hinton (2002), doi:10.1162/089976602760128018; Tieleman (2008), doi:10.1145/1390156.1390290.
    """

    k: int = static(1)
    persistent: bool = static(False)
    kernel: Any = None
    chains: int | None = static(None)
    stochastic = True

    def __post_init__(self):
        if isinstance(self.kernel, str):  # a name becomes its object here, for a string is no leaf of a pytree
            object.__setattr__(self, "kernel", look_up(self.kernel, KERNELS, "kernel", "build"))

    @property
    def target(self) -> str:
        if self.persistent:
            return "the maximum likelihood estimate"
        return f"the fixed point of CD-{self.k} with its kernel, which is not the maximum likelihood estimate"

    def refuse(self, density):
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            return f"k is {self.k!r}; expected a whole number of at least 1; pass such a one"
        if self.chains is not None and (not isinstance(self.chains, int) or self.chains < 2):
            return f"chains is {self.chains!r}; expected a whole number of at least 2, or None; pass such a one"
        kernel = self.chosen_kernel(density)
        for name, support in density.variables.items():
            if not kernel.serves(support):
                return f"{type(kernel).__name__} cannot move {name}, which is {support!r}; use {kernels_for(support)}"
        if density.covariates:
            return (
                f"ContrastiveDivergence does not serve the covariate {next(iter(density.covariates))} yet; use "
                "un.objectives.ScoreMatching"
            )
        return None

    def chosen_kernel(self, density) -> Any:
        if self.kernel is None:
            discrete = all(support.discrete for support in density.variables.values())
            return Gibbs() if discrete else HMC()
        return look_up(self.kernel, KERNELS, "kernel", "build")

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
        negatives = {name: jax.vmap(s.constrain)(starts[name]) for name, s in density.variables.items()}
        shared = {
            "tuning": starting_tuning(self.chosen_kernel(density), positions),
            "gain": jnp.ones(()),  # of the step size's adaptation: the driver lets it fall to zero
            "negatives": negatives,
            "acceptance": jnp.zeros(()),
        }
        if self.persistent:
            return Extra(shared=shared | {"chains": starts})
        return Extra(rows={"starts": positions}, shared=shared)

    def gradient(self, density, extra, events, key):
        """The gradient; the new extra holds the moved chains, the tuning and the negatives."""
        kernel, shared = self.chosen_kernel(density), dict(extra.shared)
        starts = shared["chains"] if self.persistent else extra.rows["starts"]
        positions, negatives, acceptance = advance(kernel, density, shared["tuning"], starts, key, self.k)
        gradient = jax.grad(contrast)(density.free(), density, events, negatives)
        shared |= {
            "tuning": adapted(kernel, shared["tuning"], acceptance, shared["gain"], starts),
            "negatives": negatives,
            "acceptance": acceptance,
        }
        if self.persistent:
            shared["chains"] = positions
        return gradient, extra._replace(shared=shared)


def contrast(free: dict, density, events: dict, negatives: dict) -> jax.Array:
    """mean log p̃(negatives) − mean log p̃(data): only its gradient has a meaning."""
    log_density = jax.vmap(density.at(free).log_density)
    return log_density(negatives).mean() - log_density(events).mean()

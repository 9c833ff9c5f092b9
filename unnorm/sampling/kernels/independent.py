"""Independent Metropolis-Hastings."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.method import method
from unnorm.core.validation import refuse_other_measure
from unnorm.sampling.base import Options, SamplingAlgorithm, metropolis, tree_where


class IndependentState(NamedTuple):
    """A position, its log-density, and its log importance weight."""

    position: dict
    logdensity: jax.Array
    log_weight: jax.Array  # log p̃ − log q of the event


@method
class IndependentMH(Options):
    """Independent Metropolis-Hastings: propose y ~ q whatever x is, accept with min(1, p̃(y) q(x) /
    (p̃(x) q(y))).

    Args:
        proposal: a NumPyro distribution over an event, or ``{variable: distribution}``; its tails
            must not be lighter than the density's.

    Example:
        >>> import numpyro.distributions as dist
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> kernel = IndependentMH(dist.StudentT(3.0))
        >>> draws = un.sample(normal, kernel, draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10)

    References:
        Tierney (1994), doi:10.1214/aos/1176325750.
    """

    proposal: Any
    composed = True

    def serves(self, support) -> bool:
        return True

    def _proposals(self, target) -> dict[str, Any]:
        if isinstance(self.proposal, dict):
            return self.proposal
        return {next(iter(target.supports)): self.proposal}

    def prepare(self, target) -> Any:
        proposals = self._proposals(target)
        if set(proposals) != set(target.supports):
            raise ValueError(
                f"IndependentMH's proposal is for {', '.join(proposals)}; expected one for each "
                "variable "
                f"({', '.join(target.supports)}); pass proposal={{variable: distribution}}."
            )
        for name, shape in target.density.shapes().items():
            refuse_other_measure("proposal for", name, target.supports[name], proposals[name])
            found = jnp.shape(proposals[name].sample(jax.random.key(0)))
            if found != shape:
                raise ValueError(
                    f"IndependentMH's proposal for {name} draws the shape {found}; expected "
                    f"{shape}; use expand(...).to_event(...)."
                )
        return self

    def build(self, target, tuning) -> SamplingAlgorithm:
        proposals, plain = self._proposals(target), target.without_jacobian()

        def init(position, key=None):
            event = target.constrain(position)
            log_q = sum(jnp.sum(proposals[name].log_prob(value)) for name, value in event.items())
            return IndependentState(
                position, target.log_density(position), plain.log_density(position) - log_q
            )

        def step(key, state):
            accept, *keys = jax.random.split(key, 1 + len(proposals))
            event = {
                name: proposals[name].sample(one).astype(state.logdensity.dtype)
                for one, name in zip(keys, target.supports, strict=True)
            }
            proposal = init(target.unconstrain(event))
            log_uniform = jnp.log(jax.random.uniform(accept, dtype=state.logdensity.dtype))
            info = metropolis(
                proposal.log_weight - state.log_weight, log_uniform, proposal.logdensity
            )
            return tree_where(info.is_accepted, proposal, state), info

        return SamplingAlgorithm(init, step)

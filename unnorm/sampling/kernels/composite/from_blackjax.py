"""Any of BlackJAX's own samplers as a kernel."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp

from unnorm.core.method import method, static
from unnorm.sampling.base import Options, SamplingAlgorithm


@method
class FromBlackJAX(Options):
    """A kernel from a function of the log-density that returns BlackJAX's sampling algorithm.

    Args:
        factory: for example ``lambda logdensity: blackjax.hmc(logdensity, 0.1, jnp.ones(3), 10)``;
            positions are dicts by variable in unconstrained coordinates. Keep one function object:
            a new lambda is compiled again.

    Example:
        >>> import blackjax
        >>> import unnorm as un
        >>> def factory(logdensity):
        ...     return blackjax.barker_proposal(logdensity, 0.5)
        >>> kernel = un.kernels.FromBlackJAX(factory)

    References:
        Cabezas et al. (2024), BlackJAX, arXiv:2402.10797.
    """

    factory: Callable = static()

    def build(self, target, tuning) -> SamplingAlgorithm:
        algorithm = self.factory(target.log_density)
        if not (hasattr(algorithm, "init") and hasattr(algorithm, "step")):
            raise ValueError(
                f"FromBlackJAX's factory returned {algorithm!r}; expected a BlackJAX sampling "
                "algorithm with init and step; return, for example, blackjax.hmc(...)."
            )
        takes_key = len(inspect.signature(algorithm.init).parameters) > 1

        def init(position, key=None):
            return algorithm.init(position, key) if takes_key else algorithm.init(position)

        return SamplingAlgorithm(init, algorithm.step)

    def stats(self, info) -> dict[str, jax.Array]:
        """Keep the scalars that BlackJAX's info has, under ArviZ's names."""
        names = {
            "is_divergent": "diverging",
            "num_integration_steps": "n_steps",
            "num_trajectory_expansions": "tree_depth",
        }
        fields = info._asdict() if hasattr(info, "_asdict") else {}
        return {
            names.get(k, k): v
            for k, v in fields.items()
            if hasattr(v, "dtype") and jnp.shape(v) == ()
        }

"""Maximum likelihood with an exact log Z: the yardstick of all other objectives."""

import jax
import jax.numpy as jnp

from unnorm.fitting.base import Extra, PerExample
from unnorm.methods import method
from unnorm.partition.exact import has_plan, plan_for
from unnorm.partition.nodes import log_integral

_TOLERANCE = 1e-9  # nats by which log Z may change on new nodes before the fit goes on with them


@method
class MaximumLikelihood(PerExample):
    """Minimise −mean log p̃(x_i; θ) + log Z(θ), with Z by enumeration or quadrature.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], MaximumLikelihood(), seed=0, progress=False)
        >>> round(float(fit.density.parameters["rate"]), 4)  # one over the mean
        0.5

    References:
        Casella and Berger (2002), Statistical Inference, ch. 7; White (1982), doi:10.2307/1912526 (misspecified
        models).
    """

    target = "the maximum likelihood estimate"

    def refuse(self, density):
        if not has_plan(density):
            return (
                f"MaximumLikelihood needs an exact log Z, and {density.name} has neither at most 2^20 states nor at "
                "most three continuous dimensions; use un.objectives.NCE, ScoreMatching or ContrastiveDivergence"
            )
        return None

    def prepare(self, density, events, key):
        return Extra(shared={"plan": plan_for(density, *location(density, events))})

    def refreshed(self, density, extra, events):
        plan = plan_for(density, *location(density, events))
        change = log_z_on(density, plan) - log_z_on(density, extra.shared["plan"])
        return None if abs(change) < _TOLERANCE else extra._replace(shared={"plan": plan})

    def loss_i(self, density, extra, event, key):
        plan = extra.shared["plan"]
        return log_integral(density, plan.events, plan.log_weights) - density.log_density(event)


@jax.jit
def log_z_on(density, plan) -> jax.Array:
    """log Z on a plan's nodes."""
    return log_integral(density, plan.events, plan.log_weights)


def location(density, events) -> tuple[dict | None, dict | None]:
    """Where the data lie in unconstrained coordinates: the fitted density will be there too."""
    if all(support.discrete for support in density.variables.values()):
        return None, None
    free = unconstrained(density, events)
    centre = {name: jnp.mean(value, 0) for name, value in free.items()}
    scale = {name: jnp.std(value, 0) + 1e-3 for name, value in free.items()}
    return centre, scale


def unconstrained(density, events) -> dict:
    """The data in unconstrained coordinates, those on a bound moved just inside."""
    import numpy as np

    return {
        name: jax.vmap(support.unconstrain)(jnp.asarray(support.inward(np.asarray(events[name]))))
        for name, support in density.variables.items()
    }

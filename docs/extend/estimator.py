"""An estimator of log Z: uniform draws from the box of a density's intervals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

import unnorm as un
from unnorm.core.findings import Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.partition.base import LogZ, measures
from unnorm.partition.estimators.registry import ESTIMATORS


@jax.jit
def log_weights(density, events):
    return jax.vmap(density.log_density)(events)


@method
class UniformSampling:
    """log Z = log V + log mean_i p̃(x_i), x_i uniform on a box of volume V.

    Args:
        draws: number of draws, at least 100.
        least_ess: ESS as a fraction of the draws below which the verdict is "unreliable".

    Raises:
        ValueError: a variable is not on an Interval.
    """

    draws: int = static(default=10_000, at_least=100)
    least_ess: float = static(default=0.05, above=0)

    def __call__(self, density, key):
        volume, events = 0.0, {}
        for name, support in density.variables.items():
            if not isinstance(support, type(un.Interval(0, 1))):
                raise ValueError(f"Variable {name} is {support!r}; must be on an Interval.")
            shape, width = density.shapes()[name], support.upper - support.lower
            key, own = jax.random.split(key)
            uniform = jax.random.uniform(own, (self.draws, *shape), jnp.result_type(float))
            events[name] = support.lower + width * uniform
            volume += math.prod(shape) * math.log(width)
        weights = np.asarray(log_weights(density, events))
        ess = float(np.exp(2 * logsumexp(weights) - logsumexp(2 * weights)))
        findings = []
        if not ess >= self.least_ess * self.draws:
            what = f"ESS = {ess:,.0f} of {self.draws:,} draws"
            advice = "use un.estimators.SMC"
            findings.append(Finding(what, advice, code=FindingCode.UNRELIABLE_WEIGHTS))
        return LogZ(
            value=float(logsumexp(weights)) - math.log(self.draws) + volume,
            standard_error=math.sqrt(max(1 / ess - 1 / self.draws, 0.0)),
            evaluations={"values": self.draws, "gradients": 0},
            verdict="unreliable" if findings else "ok",
            measure=measures(density),
            estimator="uniform_sampling",
            findings=findings,
        )


ESTIMATORS["uniform_sampling"] = UniformSampling


if __name__ == "__main__":
    bump = un.Density(lambda x: -x @ x, {"x": un.Interval(-1, 1)[2]})
    print(un.log_z(bump, "uniform_sampling", seed=0, progress=False))

"""Energy discrepancy: a datum among points that diffused away from it and back."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import WARNING, Finding, FindingCode
from unnorm.core.method import method, option, static
from unnorm.core.random_keys import make_key, split_keys
from unnorm.fitting.base import LossObjective, ObjectiveState
from unnorm.fitting.data.read import event_size
from unnorm.fitting.objectives.auxiliary_noise import (
    at_draws,
    draw_variance,
    point_of,
    refuse_one_row,
    shift_draws,
)


@dataclass(frozen=True)
class NoiseCriteria:
    """Mean probability of the datum, beyond which its noise points carry little information.

    Attributes:
        separable: above it nearly every datum stands out among its noise points.
        chance: times 1/(M + 1), below which it is one of M + 1 alike.
    """

    separable: float = 0.95
    chance: float = 1.05


@method
class EnergyDiscrepancy(LossObjective):
    """Minimise mean_i log(1 + Σ_j p̃(x_ij)/p̃(x_i)), x_ij = x_i + s (ξ_i + ξ_ij), with M standard
    normal ξ_ij and one ξ_i that they share: no derivatives in x, no Z and no sampler.

    Given x_i + s ξ_i, the datum and its M noise points differ by p̃ alone, so that the loss is that
    of finding the datum among them: the minimum is the data's density for every M, and the loss
    (less log M) tends to the energy discrepancy as M grows. The paper's stabilisation w is 1.

    Args:
        noise_ratio: M, noise points per row, drawn once; the standard errors count them. In
            training they are drawn for every batch.
        scale: s in standard deviations of the columns; None: √(2/d) for d entries. Modes further
            apart than 2s get their weights slowly.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -0.5 * rate * x**2, {"x": un.Real}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> data = np.random.default_rng(0).normal(size=2000)
        >>> fit = un.fit(p, data, un.objectives.EnergyDiscrepancy(), seed=0, progress=False)
        >>> abs(float(fit.density.parameters["rate"]) - 1.0) < 0.1
        True

    References:
        Schröder, Ou, Lim, Li, Vollmer and Duncan (2023), Energy discrepancies: a score-independent
        loss for energy-based models, arXiv:2307.06431.
    """

    noise_ratio: int = static(default=16, at_least=1)
    scale: float | None = option(default=None, above=0)
    target = (
        "the minimum of the energy discrepancy (the maximum likelihood estimate only if the model "
        "is true)"
    )

    def refuse(self, density) -> str | None:
        for name, support in density.variables.items():
            if support.score_matching not in ("plain", "circle", "generalized"):
                alone = all(one.states for one in density.variables.values())
                other = "PseudoLikelihood" if support.states and alone else "ConditionalNCE"
                return (
                    f"EnergyDiscrepancy adds normal noise, and {name} is {support!r}; expected "
                    f"numbers on an interval, on the line or on a circle; use un.objectives.{other}"
                )
        return None

    # -- noise -------------------------------------------------------------------------------------
    def prepare(self, density, events, key) -> ObjectiveState:
        refuse_one_row(self, events)
        per_row = self.resample_noise(density, ObjectiveState(), events, key)
        return ObjectiveState(per_row=per_row, shared=self._spread(density, events))

    def resample_noise(self, density, state, events, key) -> Any:
        dtype = jnp.result_type(*(events[name] for name in density.variables))
        rows, size = len(next(iter(events.values()))), event_size(density.shapes())
        there, back = split_keys(key)
        shape = (rows, int(self.noise_ratio), size)
        common = jax.random.normal(there, (rows, 1, size), dtype)
        return common + jax.random.normal(back, shape, dtype)

    def _spread(self, density, events) -> jax.Array:
        """s of every entry, in the units of the data."""
        rows = {name: jnp.asarray(value) for name, value in events.items()}
        spread = jax.vmap(lambda event: point_of(density, event)[0])(rows).std(0)
        if not bool(jnp.all(spread > 0)):
            raise ValueError(
                "data has a column that never changes; EnergyDiscrepancy must have some spread "
                "to scale its noise by; drop the column, or pass more rows."
            )
        scale = math.sqrt(2 / spread.size) if self.scale is None else self.scale
        return scale * spread

    # -- the loss ----------------------------------------------------------------------------------
    def _log_odds(self, density, state, events) -> jax.Array:
        """log p̃ at the noise points minus log p̃ at the row, (n, M)."""

        def there(event, draw):
            point, unravel = ravel_pytree({name: event[name] for name in density.variables})
            moved = unravel(point + state.shared * draw)
            return density.log_density_on_support(event | moved)

        at_noise = at_draws(there, events, state.per_row)
        return at_noise - jax.vmap(density.log_density)(events)[:, None]

    def losses(self, density, state, events) -> jax.Array:
        odds = self._log_odds(density, state, events)
        return jax.nn.logsumexp(jnp.pad(odds, ((0, 0), (1, 0))), axis=1)

    # -- errors and findings -----------------------------------------------------------------------
    def noise_variance(self, density, state, events) -> jax.Array | None:
        return draw_variance(
            self, density, state, events, state._replace(per_row=shift_draws(state.per_row))
        )

    def findings(self, density, state, events) -> list[Finding]:
        criteria, points = NoiseCriteria(), int(self.noise_ratio)
        fresh = state._replace(per_row=self.resample_noise(density, state, events, make_key(0)))
        found = float(_mean_probability(self, density, fresh, events))
        if criteria.chance / (points + 1) <= found <= criteria.separable:
            return []
        separable = found > criteria.separable
        words = "trivially separable" if separable else "indistinguishable"
        what = (
            f"data and their noise points are {words}: the datum is found among {points + 1} with "
            f"probability {found:.3g} on average"
        )
        advice = f"give a {'smaller' if separable else 'larger'} scale"
        return [Finding(what, advice, WARNING, code=FindingCode.UNSUITABLE_NOISE)]


@compiled
def _mean_probability(objective, density, state: ObjectiveState, events: dict) -> jax.Array:
    """The mean probability of the datum among its noise points."""
    return jnp.mean(jnp.exp(-objective.losses(density, state, events)))


__all__ = ["EnergyDiscrepancy"]

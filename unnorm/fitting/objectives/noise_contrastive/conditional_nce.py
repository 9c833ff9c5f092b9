"""Conditional noise contrastive estimation: noise that moves the data by a symmetric kernel."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.core.method import method, option, static
from unnorm.core.random_keys import key_array, split_keys
from unnorm.fitting.base import LossObjective, ObjectiveState
from unnorm.fitting.objectives.auxiliary_noise import at_draws, draw_variance, shift_draws


@dataclass(frozen=True)
class OverlapCriteria:
    """Range of mean 4h(1 − h); outside it standard errors are twice those of a good scale."""

    lowest: float = 0.1
    highest: float = 0.95
    # Pairs that tell something: with 0.1 of 5,000, intervals of a normal's width covered in half of
    # the data sets; with 10 they covered.
    min_pairs: float = 5.0


class Moves(NamedTuple):
    """Standard displacements by variable; which entry takes another state, and by how many states
    it is shifted.
    """

    displacements: dict[str, jax.Array]
    shifts: dict[str, jax.Array]
    entry: jax.Array | None


@method
class ConditionalNCE(LossObjective):
    """Tell a datum from a point moved off it by a symmetric kernel, so that only the ratio p̃(x) /
    p̃(y) is needed.

    Minimise mean_i (2/ν) Σ_k softplus(−G_ik), G_ik = log p̃(x_i) − log p̃(y_ik), y_ik drawn from
    x_i once: no noise density is chosen, no Z is needed or learned, and covariates are served.
    Entries on a scale move by scale · sd · ε, ε standard normal, in the support's own measure
    (angles wrap, directions move along geodesics, counts by whole steps); outside the support p̃ =
    0. Of all entries with finitely many states one, drawn uniformly, takes another state.

    Args:
        noise_ratio: ν, moved points per data point.
        scale: standard deviation of the moves, in standard deviations of the columns; None: 2 / √d
            for d entries on a scale, where the variance is lowest for normal data, whatever d.
            Trivially separable or indistinguishable points are a finding.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -0.5 * rate * x**2, {"x": un.Real}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> data = np.random.default_rng(0).normal(size=2000)
        >>> fit = un.fit(p, data, un.objectives.ConditionalNCE(), seed=0, progress=False)
        >>> abs(float(fit.density.parameters["rate"]) - 1.0) < 0.1
        True

    References:
        Ceylan and Gutmann (2018), arXiv:1806.03664.
    """

    noise_ratio: int = static(default=10, at_least=1)
    scale: Any = option(default=None, above=0)
    target = "a fixed point of its own (the maximum likelihood estimate only if the model is true)"

    def refuse(self, density) -> str | None:
        if self.scale is not None and not _on_a_scale(density):
            return (
                f"scale is {self.scale!r}, and the entries of {', '.join(density.variables)} "
                "have finitely many states, one of which changes; expected None; leave scale out"
            )
        return None

    # -- the moves ---------------------------------------------------------------------------------
    def prepare(self, density, events, key) -> ObjectiveState:
        return ObjectiveState(
            per_row=self.resample_noise(density, ObjectiveState(), events, key),
            shared=self._steps(density, events),
        )

    def resample_noise(self, density, state, events, key) -> Any:
        shapes, size = density.shapes(), (len(next(iter(events.values()))), int(self.noise_ratio))
        moving, flipping = _on_a_scale(density), _with_states(density)
        move_key, place_key, shift_key = split_keys(key, 3)
        dtype = jnp.result_type(*(events[name] for name in density.variables))
        displacements, shifts, entry = {}, {}, None
        for k, name in zip(key_array(move_key, len(shapes)), moving, strict=False):
            displacements[name] = jax.random.normal(k, size + shapes[name], dtype)
        for k, (name, support) in zip(
            key_array(shift_key, len(shapes)), flipping.items(), strict=False
        ):
            shifts[name] = jax.random.randint(k, size, 1, len(support.states))
        if flipping:
            entry = jax.random.randint(place_key, size, 0, sum(_free_sizes(density).values()))
        return Moves(displacements, shifts, entry)

    def _steps(self, density, events: dict) -> dict[str, jax.Array]:
        """Return the standard deviation of every entry's move."""
        moving = _on_a_scale(density)
        spread = {name: jnp.std(jnp.asarray(events[name]), 0) for name in moving}
        for name, values in spread.items():
            if not bool(jnp.all(values > 0)):
                raise ValueError(
                    f"{name} has a column that never changes in the data; expected some spread to "
                    "scale steps by; drop it, or pass more rows."
                )
            # A geodesic is as likely as its reverse if all directions have the same scale.
            if not density.variables[name].bijective:
                spread[name] = jnp.broadcast_to(
                    jnp.sqrt(jnp.mean(values**2, -1, keepdims=True)), values.shape
                )
        count = sum(values.size for values in spread.values())
        scale = 2 / math.sqrt(max(count, 1)) if self.scale is None else self.scale
        return {name: scale * values for name, values in spread.items()}

    def _move(self, density, state: ObjectiveState, event: dict, draws: Moves) -> dict:
        """Return the point to which these draws move an event."""
        moved = {
            name: density.variables[name].jitter(event[name], state.shared[name] * move)
            for name, move in draws.displacements.items()
        }
        first = 0
        for name, size in _free_sizes(density).items():
            assert draws.entry is not None
            place, shift = draws.entry - first, draws.shifts[name]
            moved[name] = _with_other_state(density.variables[name], event[name], place, shift)
            first += size
        return event | moved

    def _log_odds(self, density, state: ObjectiveState, events: dict) -> jax.Array:
        """Return G at the moved points, (n, ν)."""

        def there(event, draws):
            return density.log_density_on_support(self._move(density, state, event, draws))

        return jax.vmap(density.log_density)(events)[:, None] - at_draws(
            there, events, state.per_row
        )

    def losses(self, density, state, events) -> jax.Array:
        return 2 * jax.nn.softplus(-self._log_odds(density, state, events)).mean(1)

    def margins(self, density, state, events) -> jax.Array | None:
        return None if _on_a_scale(density) else self._log_odds(density, state, events).ravel()

    # -- errors and findings -----------------------------------------------------------------------
    def noise_variance(self, density, state, events) -> jax.Array | None:
        return draw_variance(
            self, density, state, events, state._replace(per_row=shift_draws(state.per_row))
        )

    def findings(self, density, state, events) -> list[Finding]:
        criteria, overlap = OverlapCriteria(), float(_mean_overlap(self, density, state, events))
        if criteria.lowest <= overlap <= criteria.highest:
            return []
        separable = not overlap > criteria.highest
        words = "trivially separable" if separable else "indistinguishable"
        what = (
            f"data and moved points are {words}: 4h(1 − h) is {overlap:.3g} on average, and 0.3 to "
            "0.8 is good"
        )
        advice = f"give a {'smaller' if separable else 'larger'} scale"
        if not _on_a_scale(density):
            advice = (
                "raise noise_ratio, or use un.objectives.PseudoLikelihood, which needs no draws"
            )
        share = overlap if separable else 1 - overlap
        pairs = share * len(jax.tree.leaves(events)[0]) * self.noise_ratio
        severity = WARNING if pairs >= criteria.min_pairs else ERROR
        return [Finding(what, advice, severity, code=FindingCode.UNSUITABLE_NOISE)]


@compiled
def _mean_overlap(
    objective: ConditionalNCE, density, state: ObjectiveState, events: dict
) -> jax.Array:
    """Mean of 4h(1 − h), h the probability that the moved point is classified as the datum."""
    h = jax.nn.sigmoid(-objective._log_odds(density, state, events))
    return jnp.mean(4 * h * (1 - h))


def _on_a_scale(density) -> list[str]:
    return [name for name, support in density.variables.items() if support.states is None]


def _with_states(density) -> dict[str, Any]:
    return {
        name: support for name, support in density.variables.items() if support.states is not None
    }


def _free_sizes(density) -> dict[str, int]:
    """The number of entries that may change, of every variable with finitely many states."""
    shapes = density.shapes()
    return {
        name: math.prod(s.free_shape(shapes[name])) for name, s in _with_states(density).items()
    }


def _with_other_state(support, value: jax.Array, place: jax.Array, shift: jax.Array) -> jax.Array:
    """Shift the state of one free entry cyclically; no change where there is no such entry."""
    free = support.unconstrain(value)
    states, flat = jnp.asarray(support.states, free.dtype), free.reshape(-1)
    own = jnp.argmin(jnp.abs(flat[:, None] - states), axis=1)
    others = states[(own + shift) % len(states)]
    return support.constrain(
        jnp.where(jnp.arange(flat.size) == place, others, flat).reshape(free.shape)
    )

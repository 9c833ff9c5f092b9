"""Noise for objectives that contrast data with it: chosen, fitted, drawn, checked, and what it does
to the errors.

Noise that was fitted to the data moves the estimate too: every row's score gets d E[ψ]/dφ' ·
IF_φ(x_i), where E runs over the noise points as well, for they are drawn from p_n(·; φ̂); φ are
data means of `noise_statistics`, whose influence function is the row's statistic less the mean.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.method import static
from unnorm.fitting.base import ObjectiveState, PerExample
from unnorm.fitting.objectives.auxiliary_noise import at_draws, not_whole, refuse_one_row
from unnorm.fitting.objectives.noise_contrastive.noise_checks import (
    check_given,
    finite_log_z,
    refuse_uncovered,
    too_easy,
)
from unnorm.fitting.solvers.newton import parameters_of

_BLOCK = 256  # rows at once


class ByVariable(dict):
    """Noise by variable, hashable as the structure of a method must be."""

    def __hash__(self):
        return hash(frozenset(self.items()))


class Point(NamedTuple):
    """What the standard errors need of one event: r = log p̃ − log Z − log p_n, ∇r in what is
    estimated, ∇_φ log p_n.
    """

    log_ratio: jax.Array
    gradient: jax.Array
    noise_score: jax.Array


@dataclasses.dataclass(frozen=True)
class WithNoise(PerExample):
    """What objectives share that draw ν noise points for every row, once; `state.per_row` holds
    them.
    """

    noise: Any = static(None)
    noise_ratio: int = static(10, at_least=1)
    takes_weights = False  # the fitted noise's part in the errors is unweighted

    def __post_init__(self):
        if isinstance(self.noise, Mapping):
            object.__setattr__(self, "noise", ByVariable(self.noise))

    def refuse(self, density):
        return not_whole("noise_ratio", self.noise_ratio)

    # -- the noise ---------------------------------------------------------------------------------
    def distributions(self, density, statistics: dict) -> dict[str, Any]:
        """The noise of every variable: given, or the support's default at these statistics."""
        shapes = density.shapes()
        if self.noise is None:
            return {
                name: s.noise(statistics[name], shapes[name])
                for name, s in density.variables.items()
            }
        given = self.noise if isinstance(self.noise, Mapping) else {next(iter(shapes)): self.noise}
        check_given(given, shapes, density.variables)
        return {name: given[name] for name in shapes}

    def log_model(self, density) -> Callable:
        """log p̃ at noise; given noise may leave the support, where the model has no mass."""
        return density.log_density if self.noise is None else density.masked

    def log_noise(self, density, statistics: dict, event: dict) -> jax.Array:
        """log p_n at one event."""
        distributions = self.distributions(density, statistics)
        return sum(jnp.sum(d.log_prob(event[name])) for name, d in distributions.items())

    def statistics_i(self, density, event: dict) -> dict:
        """What the fitted noise takes from one row: the noise's parameters are the data means of
        these.
        """
        return {
            name: support.noise_statistics(event[name])
            for name, support in density.variables.items()
        }

    def fitted_noise(self, density, events: dict) -> tuple[dict, dict[str, Any]]:
        """The statistics and the noise at them, or in our words why NumPyro cannot build it from
        these data.
        """
        refuse_one_row(self, events)
        contributions = jax.vmap(lambda event: self.statistics_i(density, event))(events)
        statistics = jax.tree.map(lambda leaf: leaf.mean(0), contributions)
        try:
            return statistics, self.distributions(density, statistics)
        except ValueError as error:
            if "got invalid" not in str(error):
                raise
            rows = len(next(iter(events.values())))
            raise ValueError(
                f"The default noise cannot be fitted to {rows} rows of "
                f"{', '.join(density.variables)}; expected data "
                "that vary in every direction; pass more rows, drop columns that others "
                "determine, or pass noise=."
            ) from None

    def prepare(self, density, events, key):
        """Draw the noise, and its log-density at the data and at itself."""
        events = {name: jnp.asarray(value) for name, value in events.items()}
        statistics, _ = self.fitted_noise(density, events)
        rows = self.drawn_rows(density, statistics, events, key)
        refuse_uncovered(np.asarray(rows["on_data"]), np.asarray(rows["on_noise"]))
        return ObjectiveState(per_row=rows, shared={"statistics": statistics})

    def resample_noise(self, density, state, events, key):
        return self.drawn_rows(density, state.shared["statistics"], events, key)

    def drawn_rows(self, density, statistics: dict, events: dict, key: jax.Array) -> dict:
        """ν noise points for every row, and the noise's log-density at them and at the row."""
        values, shapes = [events[name] for name in density.variables], density.shapes()
        size, dtype = (len(values[0]), int(self.noise_ratio)), jnp.result_type(*values)
        distributions = self.distributions(density, statistics)
        keys = jax.random.split(key, len(distributions))
        noise = {
            name: jnp.asarray(d.sample(k, size), dtype).reshape(size + shapes[name])
            for k, (name, d) in zip(keys, distributions.items(), strict=True)
        }
        log_noise = jax.vmap(lambda event: self.log_noise(density, statistics, event))
        return {
            "noise": noise,
            "on_noise": jax.vmap(log_noise)(noise),
            "on_data": log_noise(events),
        }

    # -- the loss ----------------------------------------------------------------------------------
    def log_ratios(
        self, density, state: ObjectiveState, events: dict
    ) -> tuple[jax.Array, jax.Array]:
        """log p̃ − log Z − log p_n at every row (n,), Z = 1 where it is not learned, and at its
        noise (n, ν).
        """
        log_z, rows, log_model = (
            state.nuisance.get("log_z", 0.0),
            state.per_row,
            self.log_model(density),
        )
        on_data = jax.vmap(density.log_density)(events) - log_z - rows["on_data"]
        on_noise = at_draws(lambda event, noise: log_model(event | noise), events, rows["noise"])
        return on_data, on_noise - log_z - rows["on_noise"]

    # -- standard errors ---------------------------------------------------------------------------
    def noise_slope(self, density, state: ObjectiveState, events: dict) -> jax.Array:
        """d E[ψ] / dφ, (p, q)."""
        raise NotImplementedError

    def score_correction(self, density, state, events):
        """The influence of each row through the noise that was fitted to it; none where noise was
        given.
        """
        if self.noise is not None:
            return None
        values = jax.vmap(lambda event: ravel_pytree(self.statistics_i(density, event))[0])(events)
        return (values - values.mean(0)) @ self.noise_slope(density, state, events).T

    # -- findings ----------------------------------------------------------------------------------
    def information(self, density, state: ObjectiveState, events: dict) -> float:
        """The share of the data's information that the contrast leaves: the data's mean chance to
        pass for noise.
        """
        raise NotImplementedError

    def findings(self, density, state, events):
        share = float(self.information(density, state, events))
        log_weights = None  # the noise's exact expectation has no draws to count
        if (
            "noise" in state.per_row and not density.covariates
        ):  # with those every row has a Z of its own
            log_weights = np.asarray(noise_log_ratios(self, density, state, events)).ravel()
        return too_easy(density, share, log_weights, parameters_of(density, state)[0].size)


@jax.jit
def noise_log_ratios(
    objective: WithNoise, density, state: ObjectiveState, events: dict
) -> jax.Array:
    """log p̃ − log Z − log p_n at all noise points, (n, ν)."""
    return objective.log_ratios(density, state, events)[1]


def sampled_log_z(objective: WithNoise, density, state: ObjectiveState, events: dict) -> jax.Array:
    """log Z by importance sampling with the noise points, or a sentence where it is no number."""
    ratios = noise_log_ratios(objective, density, state, events)
    return finite_log_z(density, jax.nn.logsumexp(ratios) - math.log(ratios.size))


def point_at(objective: WithNoise, density, state: ObjectiveState) -> Callable[[dict], Point]:
    """A function from an event to its `Point`."""
    vector, unravel = parameters_of(density, state)
    statistics, unravel_noise = ravel_pytree(state.shared["statistics"])

    def log_model(vector, event):
        free, nuisance = unravel(vector)
        return objective.log_model(density.at(free))(event) - nuisance.get("log_z", 0.0)

    def log_noise(statistics, event):
        return objective.log_noise(density, unravel_noise(statistics), event)

    def at(event):
        value, gradient = jax.value_and_grad(log_model)(vector, event)
        on_noise, score = jax.value_and_grad(log_noise)(statistics, event)
        return Point(value - on_noise, gradient, score)

    return at


def total_of(function: Callable, rows: Any) -> Any:
    """The sum over all rows of a function of one row: a block at a time, so that memory stays
    bounded.
    """

    def of(part):
        return jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(function)(part))

    count = len(jax.tree.leaves(rows)[0])
    whole = count // _BLOCK
    blocks = jax.tree.map(
        lambda x: x[: whole * _BLOCK].reshape((whole, _BLOCK) + x.shape[1:]), rows
    )
    total = of(jax.tree.map(lambda x: x[whole * _BLOCK :], rows))  # zero where nothing is left
    if not whole:
        return total
    return jax.lax.scan(
        lambda carry, part: (jax.tree.map(jnp.add, carry, of(part)), None), total, blocks
    )[0]

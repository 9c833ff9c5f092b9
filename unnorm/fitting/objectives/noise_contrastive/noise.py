"""The noise of noise contrastive objectives: its choice, fit and draws, and its part in the errors.

Noise that was fitted to the data moves the estimate too: every row's score gets d E[ψ]/dφ' ·
IF_φ(x_i), where E runs over the noise points as well, because they are drawn from p_n(·; φ̂). φ are
data means of `noise_statistics`, whose influence function is the row's statistic minus the mean.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.special import logsumexp

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import Finding
from unnorm.core.method import static
from unnorm.core.random_keys import key_array
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.loss import parameters_of
from unnorm.fitting.objectives.auxiliary_noise import at_draws, refuse_one_row
from unnorm.fitting.objectives.flow_distribution import read_flow
from unnorm.fitting.objectives.noise_contrastive.noise_checks import (
    NOISE,
    check_noise,
    overlap_findings,
    refuse_infinite_log_z,
    refuse_uncovered,
    relative_information,
)
from unnorm.supports.noise import has_valid_parameters


class ByVariable(dict):
    """Noise by variable, hashable as the structure of a method must be."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


class Point(NamedTuple):
    """What the standard errors need of one event: r = log p̃ − log Z − log p_n, its gradient in all
    that is estimated, and ∇_φ log p_n.
    """

    log_ratio: jax.Array
    gradient: jax.Array
    noise_score: jax.Array


class NoiseRows(NamedTuple):
    """log p_n at every row (n,), the row's noise points, and log p_n at these (n, ν)."""

    on_data: jax.Array
    noise: dict[str, jax.Array] | None = None
    on_noise: jax.Array | None = None


class NoiseStates(NamedTuple):
    """All states of positive noise probability, log p_n at them, and ν p_n as weights."""

    events: dict[str, jax.Array]
    log_noise: jax.Array
    weights: jax.Array


class FittedNoise(NamedTuple):
    """The statistics at which the noise was fitted; all states, where nothing is drawn."""

    statistics: dict[str, Any]
    states: NoiseStates | None = None


@dataclasses.dataclass(frozen=True)
class WithNoise(LossObjective):
    """Base of objectives with ν noise points for every row, drawn once."""

    noise: Any = static(default=None)  # noqa: RUF009 - a dataclass field
    noise_ratio: int = static(default=10, at_least=1)
    traits = Traits(supports_weights=False)  # the fitted noise's part in the errors is unweighted

    def __post_init__(self) -> None:
        noise: Any = read_flow(self.noise)
        if isinstance(noise, Mapping):
            noise = ByVariable({name: read_flow(one) for name, one in noise.items()})
        object.__setattr__(self, "noise", noise)

    # -- the noise ---------------------------------------------------------------------------------
    def distributions(self, density, statistics: dict) -> dict[str, Any]:
        """Return every variable's noise: the user's, or the support's default."""
        shapes = density.shapes()
        if self.noise is None:
            return {
                name: s.noise(statistics[name], shapes[name])
                for name, s in density.variables.items()
            }
        given = self.noise if isinstance(self.noise, Mapping) else {next(iter(shapes)): self.noise}
        check_noise(given, shapes, density.variables)
        return {name: given[name] for name in shapes}

    def log_model(self, density) -> Callable:
        """Return log p̃ as evaluated at noise, which may leave the support if the user gave it."""
        return density.log_density if self.noise is None else density.log_density_on_support

    def log_noise(self, density, statistics: Any, event: dict) -> jax.Array:
        """Return log p_n at one event."""
        distributions = self.distributions(density, statistics)
        logs = (jnp.sum(d.log_prob(event[name])) for name, d in distributions.items())
        return sum(logs)  # type: ignore[return-value]

    def statistics_i(self, density, event: dict) -> dict:
        """Return the statistics of one row whose data means are the noise's parameters."""
        return {
            name: support.noise_statistics(event[name])
            for name, support in density.variables.items()
        }

    def fit_noise(self, density, events: dict) -> tuple[dict, dict[str, Any]]:
        """Return the statistics and the noise at them, or raise why it cannot be fitted."""
        refuse_one_row(self, events)
        statistics, valid = _fit_default(self, density, events)
        # NumPyro checks parameters outside of programs alone, where each operation compiles.
        with _degenerate_data_refused(density, events):
            return statistics, {} if valid else self.distributions(density, statistics)

    def prepare(self, density, events, key) -> ObjectiveState:
        """Draw the noise, and evaluate its log-density at the data and at itself."""
        events = {name: jnp.asarray(value) for name, value in events.items()}
        statistics, _ = self.fit_noise(density, events)
        with _degenerate_data_refused(density, events):
            rows = self.draw_rows(density, statistics, events, key)
        if self.noise is None and np.isnan(np.asarray(rows.on_data)).any():
            raise _degenerate(density, events)  # a spread of rounding errors passed the check
        refuse_uncovered(np.asarray(rows.on_data), np.asarray(rows.on_noise))
        return ObjectiveState(per_row=rows, shared=FittedNoise(statistics))

    def resample_noise(self, density, state, events, key) -> Any:
        return self.draw_rows(density, state.shared.statistics, events, key)

    def sample_noise(
        self, density, statistics: Any, size: tuple[int, ...], dtype: Any, key: jax.Array
    ) -> dict[str, jax.Array]:
        """Draw noise points, (*size, ...) by variable."""
        distributions, shapes = self.distributions(density, statistics), density.shapes()
        keys = key_array(key, len(distributions))
        return {
            name: jnp.asarray(d.sample(k, size), dtype).reshape(size + shapes[name])
            for k, (name, d) in zip(keys, distributions.items(), strict=True)
        }

    def draw_rows(
        self, density, statistics: Any, events: dict, key: jax.Array, ratio: int | None = None
    ) -> NoiseRows:
        """Draw ν noise points, or `ratio`, for every row, and evaluate log p_n at them and at the
        row.
        """
        draw = _draw if self.noise is None else _draw.__wrapped__  # a user's may not be traceable
        return draw(self, density, statistics, events, key, int(ratio or self.noise_ratio))

    # -- the loss ----------------------------------------------------------------------------------
    def log_ratios(
        self, density, state: ObjectiveState, events: dict
    ) -> tuple[jax.Array, jax.Array]:
        """Return log p̃ − log Z − log p_n at every row (n,) and at its noise (n, ν); Z = 1 where it
        is not learned.
        """
        log_z, rows = state.nuisance.get("log_z", 0.0), state.per_row
        log_model = self.log_model(density)
        on_data = jax.vmap(density.log_density)(events) - log_z - rows.on_data
        on_noise = at_draws(lambda event, noise: log_model(event | noise), events, rows.noise)
        return on_data, on_noise - log_z - rows.on_noise

    # -- standard errors ---------------------------------------------------------------------------
    def noise_slope(self, density, state: ObjectiveState, events: dict) -> jax.Array:
        """Return d E[ψ] / dφ, (p, q)."""
        raise NotImplementedError

    def score_correction(self, density, state, events) -> np.ndarray | None:
        """Return each row's influence through the fitted noise; None where noise was given."""
        if self.noise is not None:
            return None
        values = np.asarray(_row_statistics(self, density, events))
        return (values - values.mean(0)) @ np.asarray(self.noise_slope(density, state, events)).T

    # -- findings ----------------------------------------------------------------------------------
    def shares(self, density, state: ObjectiveState, events: dict) -> jax.Array:
        """Return the share of each row's information that is left, (n,): its probability to be
        classified as noise.
        """
        raise NotImplementedError

    def information(self, density, state: ObjectiveState, events: dict) -> float:
        """Return the share of the data's information that is left where it is least."""
        shares = np.asarray(self.shares(density, state, events), float)
        if parameters_of(density, state)[0].size > NOISE.most_parameters:
            return float(shares.mean())
        return relative_information(shares, self.gradients(density, state, events))[0]

    def gradients(self, density, state: ObjectiveState, events: dict) -> np.ndarray:
        """Return ∇ log p̃ of every row in all that is estimated, (n, q)."""
        return np.asarray(_gradients(self, density, state, events), float)

    def findings(self, density, state, events) -> list[Finding]:
        information = self.information(density, state, events)
        rows, size = len(state.per_row.on_data), parameters_of(density, state)[0].size
        log_weights = None
        # An exact expectation has no draws to count, and with covariates every row has its own Z.
        if state.per_row.noise is not None and not density.covariates:
            log_weights = np.asarray(noise_log_ratios(self, density, state, events)).ravel()
        return overlap_findings(density, information, rows, log_weights, size)


@compiled
def _fit_default(objective: WithNoise, density, events: dict) -> tuple[dict, jax.Array]:
    """The statistics of the noise, and whether the default noise exists there."""
    contributions = jax.vmap(lambda event: objective.statistics_i(density, event))(events)
    statistics = jax.tree.map(lambda leaf: leaf.mean(0), contributions)
    if objective.noise is not None:
        return statistics, jnp.asarray(False)
    noise = objective.distributions(density, statistics)
    return statistics, jnp.stack([has_valid_parameters(one) for one in noise.values()]).all()


@compiled(static_argnames="ratio")
def _draw(
    objective: WithNoise, density, statistics: Any, events: dict, key: jax.Array, ratio: int
) -> NoiseRows:
    values = [events[name] for name in density.variables]
    size, dtype = (len(values[0]), ratio), jnp.result_type(*values)
    noise = objective.sample_noise(density, statistics, size, dtype, key)
    log_noise = jax.vmap(lambda event: objective.log_noise(density, statistics, event))
    return NoiseRows(log_noise(events), noise, jax.vmap(log_noise)(noise))


@contextlib.contextmanager
def _degenerate_data_refused(density, events: dict) -> Iterator[None]:
    """NumPyro's refusal of the parameters of a noise, as a sentence about the data."""
    try:
        yield
    except ValueError as error:
        if "got invalid" not in str(error):
            raise
        raise _degenerate(density, events) from None


def _degenerate(density, events: dict) -> ValueError:
    rows = len(next(iter(events.values())))
    return ValueError(
        f"The default noise cannot be fitted to {rows} rows of "
        f"{', '.join(density.variables)}; expected data that vary in every direction; pass "
        "more rows, drop columns that others determine, or pass noise=."
    )


@compiled
def _row_statistics(objective: WithNoise, density, events: dict) -> jax.Array:
    return jax.vmap(lambda event: ravel_pytree(objective.statistics_i(density, event))[0])(events)


@compiled
def noise_log_ratios(
    objective: WithNoise, density, state: ObjectiveState, events: dict
) -> jax.Array:
    """Return log p̃ − log Z − log p_n at all noise points, (n, ν)."""
    return objective.log_ratios(density, state, events)[1]


def importance_log_z(
    objective: WithNoise, density, state: ObjectiveState, events: dict
) -> jax.Array:
    """Return log Z by importance sampling with the noise points, or raise where it is infinite."""
    ratios = noise_log_ratios(objective, density, state, events)
    log_z = logsumexp(np.asarray(ratios)) - math.log(ratios.size)
    refuse_infinite_log_z(density, log_z)
    return log_z


def point_at(objective: WithNoise, density, state: ObjectiveState) -> Callable[[dict], Point]:
    """Return the function from an event to its `Point`."""
    vector, unravel = parameters_of(density, state)
    statistics, unravel_noise = ravel_pytree(state.shared.statistics)

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


@compiled
def _gradients(objective: WithNoise, density, state: ObjectiveState, events: dict) -> jax.Array:
    """∇ log p̃ of every row in all that is estimated, (n, q)."""
    vector, unravel = parameters_of(density, state)

    def log_model(vector, event):
        return objective.log_model(density.at(unravel(vector)[0]))(event)

    return jax.vmap(jax.grad(log_model), (None, 0))(vector, events)


def row_sum(function: Callable, rows: Any, block: int = 256) -> Any:
    """Return the sum of a function over all rows, by blocks of rows that bound the memory."""

    def of(part):
        return jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(function)(part))

    count = len(jax.tree.leaves(rows)[0])
    whole = count // block
    blocks = jax.tree.map(lambda x: x[: whole * block].reshape((whole, block) + x.shape[1:]), rows)
    total = of(jax.tree.map(lambda x: x[whole * block :], rows))  # zero where nothing is left
    if not whole:
        return total
    return jax.lax.scan(
        lambda carry, part: (jax.tree.map(jnp.add, carry, of(part)), None), total, blocks
    )[0]

"""The game of flow contrastive estimation: how a flow moves against an energy."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.flow_distribution import FlowDistribution
from unnorm.fitting.objectives.noise_contrastive.contrast import LogisticContrast


@dataclass(frozen=True)
class GameOptions:
    """How the flow moves against the energy.

    Attributes:
        learning_rate: of the flow's Adam.
        clip: norm of its gradients.
        draws: noise points for every row in a step of the flow; the energy's step takes ν.
        default_share: of the noise that is the support's default, whose tails are heavy: where the
            flow is too thin, near a bound or far from the data, nothing would hold the energy down:
            with a tenth, a network on two moons had seven times its mass there.
        start, end: shares of a training between which the flow moves. Before, the energy learns
            what the flow of maximum likelihood lacks; afterwards the flow is frozen.
        rounds, steps, batch: of a game that is not trained: rounds at most, steps of the flow in
            each, and rows of a step.
        rise: a round must raise the energy's loss by more than so many of its standard errors.
        folds: of rows, in a game that is not trained. The noise of a fold is made from the others.
    """

    learning_rate: float = 1e-3
    clip: float = 1.0
    draws: int = 1
    default_share: float = 0.5
    start: float = 1 / 3
    end: float = 2 / 3
    rounds: int = 4
    steps: int = 100
    batch: int = 256
    rise: float = 2.0
    folds: int = 2


GAME = GameOptions()


class FlowStatistics(NamedTuple):
    """What the noise is made of: the statistics of the support's default, and the flow."""

    default: dict[str, Any]
    flow: FlowDistribution


class Game(NamedTuple):
    """Where the game stands."""

    statistics: FlowStatistics
    moments: Any  # of the flow's optimizer
    key: jax.Array  # of rounds
    step: jax.Array  # of the training
    steps: jax.Array  # of the training in all
    rounds: jax.Array  # played
    loss: jax.Array  # the energy's at its best, before the last round
    frozen: jax.Array  # whether the flow has stopped for good
    folds: Any = None  # `Folds`, of a game that is not trained
    states: None = None  # nothing is summed exactly


@functools.cache
def flow_optimizer() -> optax.GradientTransformation:
    """Adam on clipped gradients."""
    return optax.chain(optax.clip_by_global_norm(GAME.clip), optax.adam(GAME.learning_rate))


def flow_step(
    objective: LogisticContrast, density, state: ObjectiveState, events: dict, key: jax.Array
) -> Game:
    """The game after one step of the flow up the energy's loss; none where that is above chance, or
    has no finite gradient (a draw far out).
    """
    game = state.shared
    flow = game.statistics.flow

    def loss(parameters):
        moved = FlowStatistics(game.statistics.default, flow.with_parameters(parameters))
        rows = objective.draw_rows(density, moved, events, key, GAME.draws)
        on_data, on_noise = objective.log_ratios(density, state._replace(per_row=rows), events)
        return _mean_loss(objective, on_data, on_noise)

    value, slope = jax.value_and_grad(loss)(flow.parameters)
    update, moments = flow_optimizer().update(jax.tree.map(jnp.negative, slope), game.moments)
    moved = optax.apply_updates(flow.parameters, update)
    chance = _mean_loss(objective, jnp.zeros(1), jnp.zeros(1))
    goes = (value < chance) & jnp.isfinite(ravel_pytree(slope)[0]).all()
    parameters, moments = jax.tree.map(
        lambda new, old: jnp.where(goes, new, old),
        (moved, moments), (flow.parameters, game.moments),
    )  # fmt: skip
    statistics = FlowStatistics(game.statistics.default, flow.with_parameters(parameters))
    return game._replace(statistics=statistics, moments=moments)


def _mean_loss(objective: LogisticContrast, on_data: jax.Array, on_noise: jax.Array) -> jax.Array:
    """The loss, with the mean over noise points times ν in the place of a sum over ν of them."""
    noise = objective.noise_ratio * objective.noise_term(on_noise).mean()
    return objective.data_term(on_data).mean() + noise


@compiled
def play_round(
    objective: LogisticContrast, density, state: ObjectiveState, events: dict, key: jax.Array
) -> Game:
    """The game after some steps of every fold's flow against a fixed energy, each on fresh draws
    and on rows of the other folds.
    """
    folds = state.shared.folds

    def of_fold(statistics, moments, others, key):
        def step(game, key):
            row_key, key = split_keys(key)
            size = min(GAME.batch, len(others))
            chosen = others[jax.random.randint(row_key, (size,), 0, len(others))]
            batch = jax.tree.map(lambda leaf: leaf[chosen], events)
            return flow_step(objective, density, state._replace(shared=game), batch, key), None

        game = state.shared._replace(statistics=statistics, moments=moments, folds=None)
        game = jax.lax.scan(step, game, key_array(key, GAME.steps))[0]
        return game.statistics, game.moments

    keys = jax.random.split(key, len(folds.members))
    statistics, moments = jax.vmap(of_fold)(folds.statistics, folds.moments, folds.others, keys)
    folds = folds._replace(statistics=statistics, moments=moments)
    return state.shared._replace(folds=folds)


@compiled
def loss_and_error(
    objective: LogisticContrast, density, state: ObjectiveState, events: dict
) -> tuple[jax.Array, jax.Array]:
    """The mean loss, and its standard error."""
    values = objective.losses(density, state, events)
    return values.mean(), jnp.std(values) / jnp.sqrt(len(values))


__all__ = [
    "GAME", "FlowStatistics", "Game", "flow_optimizer", "flow_step", "loss_and_error",
    "play_round",
]  # fmt: skip

"""Training by first-order steps: mini-batches, an Optax optimizer, the last or an averaged iterate,
an honest end.

A schedule that falls to zero averages by itself, and the fit is its last iterate; the average is
for steps that do not die out.

Where training stands is judged by its gradients, not by the loss (contrastive divergence has none):
over W steps, W ‖mean g‖² / tr Cov(g) is about 1 at a stationary point, whose gradients are noise
alone. W is the last third of all steps: a schedule that falls to zero has stopped moving by its
end, where a few gradients cannot be told from noise. The ratio is then 1 + W r², r the norm of the
true gradient over that of the noise of one batch: `TrainingOptions.stationary` is
crossed where r = 0.05 in 5,000
steps.

References: Kingma and Ba (2015), arXiv:1412.6980; Shamir and Zhang (2013), arXiv:1212.1824 (the
average).
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import fold_in, split_keys
from unnorm.fitting.base import (
    HasAdversary,
    ObjectiveState,
    PreparesRows,
    ResamplesNoise,
    Stochastic,
)
from unnorm.fitting.loss import Loss, parameters_of


@dataclass(frozen=True)
class TrainingOptions:
    """Defaults of training, and when it counts as converged.

    Attributes:
        steps, batch_size: where the user gives none.
        learning_rate: of Adam, at the start of its schedule.
        chunks: compiled runs of one training, between which it is reported and stored.
        stationary: of the ratio above, whose expectation is 1 for noise alone.
        died_out: of the median chunk's length: a last chunk shorter than this ends a schedule that
            falls to zero.
        recent: the polynomial average weighs the last 1 / (recent + 1) of the steps most.
        ema_decay: of the exponential moving average; (1 + t) / (10 + t) before step 9,990, so that
            the start is forgotten.
        patience: chunks without a better held-out loss before training stops.
        blow_up: a chunk whose root mean squared gradient, or whose way, is this many times the
            median of the chunks before it is not healthy. A gradient that grows while a network
            learns stays below ten times.
        recoveries: returns to the last healthy chunk, each with steps half as long, before
            training stops.
    """

    steps: int = 5_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    chunks: int = 50
    stationary: float = 5.0
    died_out: float = 0.1
    recent: float = 8.0
    ema_decay: float = 0.999
    patience: int = 10
    blow_up: float = 100.0
    recoveries: int = 3


DEFAULTS = TrainingOptions()
AVERAGES = ("last", "polynomial", "ema")


class Walk(NamedTuple):
    """Where training stands."""

    vector: jax.Array
    average: jax.Array
    moments: optax.OptState
    state: ObjectiveState
    gradient_sum: jax.Array  # over the steps of the current chunk
    gradient_squares: jax.Array
    shortening: jax.Array  # factor of the optimizer's updates, halved after a blow-up


@functools.cache  # one object for equal steps: it is part of what is compiled
def default_optimizer(steps: int) -> optax.GradientTransformation:
    """Adam with a cosine schedule down to zero, gradients clipped to norm 10."""
    return optax.chain(
        optax.clip_by_global_norm(10.0),
        optax.adam(optax.cosine_decay_schedule(DEFAULTS.learning_rate, steps)),
    )


def begin(optimizer, density, state: ObjectiveState) -> Walk:
    """Return the state of the training before its first step."""
    vector = parameters_of(density, state)[0]
    # A copy each: two arguments of a compiled step must not share memory that one of them gives
    # away.
    return Walk(
        vector,
        jnp.copy(vector),
        optimizer.init(vector),
        state,
        jnp.zeros_like(vector),
        jnp.zeros(()),
        jnp.ones((), vector.dtype),
    )


@compiled(work="loop", static_argnames=("optimizer", "average", "batch_size", "steps"))
def run(  # noqa: PLR0913 - the arguments of a compiled program
    objective,
    density,
    events,
    walk: Walk,
    key,
    first,
    *,
    optimizer,
    average: str | None,
    batch_size: int,
    steps: int,
) -> Any:
    """Some steps, each on a batch of its own; returns the walk, and each step's loss (NaN where
    there is none).
    """
    rows = len(next(iter(events.values())))

    def move(walk: Walk, step):
        batch_key, step_key = split_keys(fold_in(key, step))
        chosen = jax.random.randint(batch_key, (batch_size,), 0, rows)
        take = functools.partial(jax.tree.map, lambda leaf: leaf[chosen])
        given = walk.state._replace(
            per_row=take(walk.state.per_row), weights=take(walk.state.weights)
        )
        batch = take(events)
        walk, value, gradient = _gradient(objective, density, batch, given, walk, step_key, step)
        return _move(walk, gradient, step, optimizer, average), value

    walk = walk._replace(
        gradient_sum=jnp.zeros_like(walk.gradient_sum),
        gradient_squares=jnp.zeros_like(walk.gradient_squares),
    )
    return jax.lax.scan(move, walk, first + jnp.arange(steps))


@compiled(work="loop", static_argnames=("optimizer", "average"))
def one_batch(
    objective, density, batch, walk: Walk, key, step, *, optimizer, average: str | None
) -> Any:
    """One step on a batch that the user brought."""
    given, key = walk.state, fold_in(key, step)
    if isinstance(objective, PreparesRows):
        given = given._replace(per_row=objective.rows_of(density, given, batch))
    walk, value, gradient = _gradient(objective, density, batch, given, walk, key, step)
    return _move(walk, gradient, step, optimizer, average), value


def _gradient(
    objective, density, batch, given: ObjectiveState, walk: Walk, key, step
) -> tuple[Walk, jax.Array, jax.Array]:
    """The walk with the sampler or the adversary moved on, the loss of a batch (NaN where there is
    none) and its gradient; `given` is what was prepared for the batch's rows.
    """
    state = walk.state
    free, nuisance = parameters_of(density, state)[1](walk.vector)
    if isinstance(objective, HasAdversary):  # it moves first, and the parameters against its move
        at, other_key = state._replace(nuisance=nuisance), fold_in(key, 1)
        moved = objective.adversary_step(density.at(free), at, batch, other_key)
        state, given = (one._replace(shared=moved.shared) for one in (state, given))
        walk = walk._replace(state=state)
    if isinstance(objective, Stochastic):
        gain = (1.0 + step).astype(walk.vector.dtype) ** -0.5
        found = objective.gradient(density.at(free), given, batch, key, gain)
        tree, state = found.gradient, state._replace(shared=found.state.shared)
        if given.penalty is not None:
            tree = jax.tree.map(jnp.add, tree, jax.grad(given.penalty.of_free, 1)(density, free))
        gradient = ravel_pytree(tree)[0]
        return walk._replace(state=state), jnp.asarray(jnp.nan, walk.vector.dtype), gradient
    if isinstance(objective, ResamplesNoise):
        given = given._replace(per_row=objective.resample_noise(density, state, batch, key))
    value, gradient = jax.value_and_grad(Loss(objective, density, given, batch).mean)(walk.vector)
    return walk, value, gradient


def _move(walk: Walk, gradient: jax.Array, step, optimizer, average: str | None) -> Walk:
    """The walk after one update of the optimizer, and its average moved on."""
    update, moments = optimizer.update(gradient, walk.moments, walk.vector)
    vector = optax.apply_updates(walk.vector, walk.shortening * update)
    if average == "ema":
        share = 1 - jnp.minimum(DEFAULTS.ema_decay, (1.0 + step) / (10.0 + step))
    else:
        share = (DEFAULTS.recent + 1) / (step + DEFAULTS.recent + 1)
    share = share.astype(vector.dtype)
    return walk._replace(
        vector=vector,
        average=(1 - share) * walk.average + share * vector,
        moments=moments,
        gradient_sum=walk.gradient_sum + gradient,
        gradient_squares=walk.gradient_squares + gradient @ gradient,
    )


@compiled
def held_out_loss(objective, density, state: ObjectiveState, events, vector) -> jax.Array:
    """The mean loss of rows that training does not see; `state.per_row` are theirs."""
    state = state._replace(weights=None, penalty=None)
    return Loss(objective, density, state, events).mean(vector)


def has_died_out(lengths: list[float]) -> bool:
    """Whether the last chunk moved much less than the others; `lengths` are the distances that
    chunks went.
    """
    return bool(lengths) and lengths[-1] <= DEFAULTS.died_out * float(np.median(lengths))


class Drift:
    """The gradients of the last third of training: their mean against their noise."""

    def __init__(self, steps: int) -> None:
        self.first = steps - max(steps // 3, 2)
        self.steps, self.squares = 0, 0.0
        self.sum: Any = 0.0

    def add(self, walk: Walk, done: int, steps: int) -> None:
        """Count the chunk of steps that ended at `done`, if it lies in the last third."""
        if done > self.first:
            self.steps += steps
            self.sum = self.sum + np.asarray(walk.gradient_sum, float)
            self.squares += float(walk.gradient_squares)

    @property
    def ratio(self) -> float:
        """W ‖mean g‖² / tr Cov(g): about 1 at rest, infinite without noise."""
        mean = self.sum / self.steps
        squared = float(mean @ mean)
        noise = self.squares / self.steps - squared
        return self.steps * squared / noise if noise > 1e-12 * squared else np.inf

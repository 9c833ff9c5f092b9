"""A normalizing flow of flowjax, built once per dimension and trained by one compiled loop.

The training loop of flowjax compiles in every call and takes one step at a time.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import paramax
from flowjax.bijections import RationalQuadraticSpline
from flowjax.distributions import Normal
from flowjax.flows import masked_autoregressive_flow

from unnorm.core.method import method, static
from unnorm.core.random_keys import make_key, split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.partition.proposals.mixture import StudentMixture


@dataclass(frozen=True)
class FlowOptions:
    """The architecture of the flow, and its training by Adam (Kingma and Ba, 2015)."""

    knots: int = 8  # of the splines
    interval: float = 5.0  # where they differ from the identity, in standard deviations
    width: int = 50  # of the networks
    batch: int = 250
    max_epochs: int = 100
    patience: int = 10  # epochs without a better held-out likelihood
    learning_rate: float = 3e-3
    decay: float = 0.9
    squared_decay: float = 0.999


FLOW = FlowOptions()


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("arrays", "centre", "factor"),
    meta_fields=("layers",),
)
@dataclass(frozen=True)
class Flow:
    """u = centre + factor · y, with y of a flowjax distribution, of which the arrays alone are
    held.
    """

    arrays: Any
    centre: jax.Array  # (D,)
    factor: jax.Array  # (D, D), lower triangular
    layers: int

    @property
    def distribution(self) -> Any:
        """The distribution, as it is sampled and evaluated."""
        rest = initial_flow(len(self.centre), self.layers, str(self.centre.dtype))
        return paramax.unwrap(
            eqx.combine(self.arrays, eqx.filter(rest, eqx.is_array, inverse=True))
        )

    def draw(self, key: jax.Array) -> jax.Array:
        """One point (D,)."""
        return self.centre + self.factor @ self.distribution.sample(key)

    def log_prob(self, point: jax.Array) -> jax.Array:
        """The log-density at a point (D,); minus infinity where it is NaN."""
        white = jax.scipy.linalg.solve_triangular(self.factor, point - self.centre, lower=True)
        value = self.distribution.log_prob(white) - jnp.sum(jnp.log(jnp.diag(self.factor)))
        return jnp.where(jnp.isnan(value), -jnp.inf, value)


class TrainingState(NamedTuple):
    """Where training stands: parameters, Adam's two averages, the best so far."""

    parameters: Any
    mean: Any
    square: Any
    steps: jax.Array
    best: Any
    least: jax.Array  # held-out loss of the best
    idle: jax.Array  # epochs since
    epochs: jax.Array
    key: jax.Array


@functools.cache
def initial_flow(size: int, layers: int, dtype: str) -> Any:
    """The flow before training, one object for a size, so that what is compiled for it is found
    again.
    """
    return masked_autoregressive_flow(
        make_key(0),
        base_dist=Normal(jnp.zeros(size, dtype)),
        flow_layers=layers,
        nn_width=FLOW.width,
        transformer=RationalQuadraticSpline(knots=FLOW.knots, interval=FLOW.interval),
    )


def fit_flow(points: jax.Array, layers: int, key: jax.Array) -> Flow:
    """A flow fitted to one half of the points (N, D), its training ended by the other half."""
    shuffle, key = split_keys(key)
    points = points[jax.random.permutation(shuffle, len(points))]
    own, held, centre, factor = split_and_whiten(points)
    start = initial_flow(points.shape[1], layers, str(points.dtype))
    distribution = train_flow(start, own, held, key)
    return Flow(eqx.filter(distribution, eqx.is_array), centre, factor, layers)


def split_and_whiten(points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The two halves of the points (N, D) in coordinates whitened by the first, and the centre and
    factor of these.
    """
    own, held = jnp.split(points, [len(points) // 2])
    centre, covariance = own.mean(0), jnp.atleast_2d(jnp.cov(own, rowvar=False))
    factor = jnp.linalg.cholesky(covariance + jnp.diag(1e-6 * jnp.diag(covariance) + 1e-30))
    own, held = (
        jax.scipy.linalg.solve_triangular(factor, (part - centre).T, lower=True).T
        for part in (own, held)
    )
    return own, held, centre, factor


def trainable_part(distribution: Any) -> tuple[Any, Any]:
    """The arrays of a flowjax distribution that training moves, and the rest."""
    return eqx.partition(
        distribution,
        eqx.is_inexact_array,
        is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
    )


@eqx.filter_jit
def train_flow(distribution: Any, own: jax.Array, held: jax.Array, key: jax.Array) -> Any:
    """Maximum likelihood by Adam; the parameters of the epoch that was best on the rows held
    out.
    """
    parameters, rest = trainable_part(distribution)
    rows = min(FLOW.batch, len(own))
    batches = len(own) // rows

    def loss(parameters, points):
        return -paramax.unwrap(eqx.combine(parameters, rest)).log_prob(points).mean()

    def step(state, points):
        slope = jax.grad(loss)(state.parameters, points)
        mean = jax.tree.map(lambda m, g: FLOW.decay * m + (1 - FLOW.decay) * g, state.mean, slope)
        square = jax.tree.map(
            lambda v, g: FLOW.squared_decay * v + (1 - FLOW.squared_decay) * g**2,
            state.square,
            slope,
        )
        steps = state.steps + 1
        up, up_square = 1 - FLOW.decay**steps, 1 - FLOW.squared_decay**steps
        parameters = jax.tree.map(
            lambda p, m, v: p - FLOW.learning_rate * (m / up) / (jnp.sqrt(v / up_square) + 1e-8),
            state.parameters,
            mean,
            square,
        )
        return state._replace(parameters=parameters, mean=mean, square=square, steps=steps), None

    def epoch(state):
        key, shuffle = split_keys(state.key)
        shuffled = own[jax.random.permutation(shuffle, len(own))][: batches * rows]
        state, _ = jax.lax.scan(step, state._replace(key=key), shuffled.reshape(batches, rows, -1))
        now = loss(state.parameters, held)
        better = now < state.least
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), state.parameters, state.best
        )
        idle = jnp.where(better, 0, state.idle + 1)
        return state._replace(
            best=best, least=jnp.where(better, now, state.least), idle=idle, epochs=state.epochs + 1
        )

    none, zero = jax.tree.map(jnp.zeros_like, parameters), jnp.zeros((), int)
    start = TrainingState(
        parameters, none, none, zero, parameters, loss(parameters, held), zero, zero, key
    )
    last = jax.lax.while_loop(
        lambda state: (state.epochs < FLOW.max_epochs) & (state.idle < FLOW.patience), epoch, start
    )
    return eqx.combine(last.best, rest)


@method
class FlowMixture:
    """A flow, with a mixture of Student's t beside it that keeps weights bounded where the flow is
    too thin.
    """

    flow: Flow
    mixture: StudentMixture
    flow_share: float = static(default=0.5)

    def draw(self, view: Unconstrained, keys: jax.Array) -> Position:
        flat = self.mixture.draw_flat(keys)
        flow_key, choose = split_keys(keys[0])
        from_flow = jax.random.bernoulli(choose, self.flow_share)
        return view.split(jnp.where(from_flow, self.flow.draw(flow_key), flat))

    def log_prob(self, view: Unconstrained, position: Position) -> jax.Array:
        flat = view.flatten(position)
        mixture = self.mixture.log_prob_flat(flat)
        return jnp.logaddexp(
            math.log(self.flow_share) + self.flow.log_prob(flat),
            math.log1p(-self.flow_share) + mixture,
        )

    def wider(self, scale: float) -> "FlowMixture":
        """With a wider mixture beside the flow."""
        return replace(self, mixture=self.mixture.wider(scale))

    def without_tails(self) -> "FlowMixture":
        """With a mixture of normal components beside the flow."""
        return replace(self, mixture=self.mixture.without_tails())


__all__ = [
    "FLOW", "Flow", "FlowMixture", "fit_flow", "initial_flow", "split_and_whiten", "train_flow",
    "trainable_part",
]  # fmt: skip

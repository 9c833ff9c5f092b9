"""A flowjax flow: made once for a dimension, trained by one compiled loop, drawn from and
evaluated.

Its own training loop compiles anew in every call and takes a step at a time.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import paramax
from flowjax.bijections import RationalQuadraticSpline
from flowjax.distributions import Normal
from flowjax.flows import masked_autoregressive_flow

KNOTS, REACH, WIDTH = 8, 5.0, 50  # of the splines, in standard deviations, and of the networks
ROWS, EPOCHS, PATIENCE = 250, 100, 10
RATE, DECAY, SQUARED_DECAY = 3e-3, 0.9, 0.999  # of Adam (Kingma and Ba, 2015, arXiv:1412.6980)


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
    def law(self) -> Any:
        """The distribution, as it is drawn from and evaluated."""
        rest = untrained(len(self.centre), self.layers, str(self.centre.dtype))
        return paramax.unwrap(
            eqx.combine(self.arrays, eqx.filter(rest, eqx.is_array, inverse=True))
        )


class Trained(NamedTuple):
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
def untrained(size: int, layers: int, dtype: str) -> Any:
    """The flow before training, one object for a size, so that what is compiled for it is found
    again.
    """
    return masked_autoregressive_flow(
        jax.random.key(0), base_dist=Normal(jnp.zeros(size, dtype)), flow_layers=layers, nn_width=WIDTH,
        transformer=RationalQuadraticSpline(knots=KNOTS, interval=REACH),
    )  # fmt: skip


def fitted(points: jax.Array, layers: int, key: jax.Array) -> Flow:
    """A flow fitted to one half of the points (N, D), its training ended by the other half."""
    shuffle, key = jax.random.split(key)
    points = points[jax.random.permutation(shuffle, len(points))]
    own, held = jnp.split(points, [len(points) // 2])
    centre, covariance = own.mean(0), jnp.atleast_2d(jnp.cov(own, rowvar=False))
    factor = jnp.linalg.cholesky(covariance + jnp.diag(1e-6 * jnp.diag(covariance) + 1e-30))
    own, held = (
        jax.scipy.linalg.solve_triangular(factor, (part - centre).T, lower=True).T
        for part in (own, held)
    )
    law = _trained(untrained(points.shape[1], layers, str(points.dtype)), own, held, key)
    return Flow(eqx.filter(law, eqx.is_array), centre, factor, layers)


def _split(law: Any) -> tuple[Any, Any]:
    return eqx.partition(
        law, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )


@eqx.filter_jit
def _trained(law: Any, own: jax.Array, held: jax.Array, key: jax.Array) -> Any:
    """Maximum likelihood by Adam; the parameters of the epoch that was best on the rows held
    out.
    """
    parameters, rest = _split(law)
    rows = min(ROWS, len(own))
    batches = len(own) // rows

    def loss(parameters, points):
        return -paramax.unwrap(eqx.combine(parameters, rest)).log_prob(points).mean()

    def step(state, points):
        slope = jax.grad(loss)(state.parameters, points)
        mean = jax.tree.map(lambda m, g: DECAY * m + (1 - DECAY) * g, state.mean, slope)
        square = jax.tree.map(
            lambda v, g: SQUARED_DECAY * v + (1 - SQUARED_DECAY) * g**2, state.square, slope
        )
        steps = state.steps + 1
        up, up_square = 1 - DECAY**steps, 1 - SQUARED_DECAY**steps
        parameters = jax.tree.map(
            lambda p, m, v: p - RATE * (m / up) / (jnp.sqrt(v / up_square) + 1e-8),
            state.parameters,
            mean,
            square,
        )
        return state._replace(parameters=parameters, mean=mean, square=square, steps=steps), None

    def epoch(state):
        key, shuffle = jax.random.split(state.key)
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
    start = Trained(
        parameters, none, none, zero, parameters, loss(parameters, held), zero, zero, key
    )
    last = jax.lax.while_loop(
        lambda state: (state.epochs < EPOCHS) & (state.idle < PATIENCE), epoch, start
    )
    return eqx.combine(last.best, rest)


def draw_of_flow(flow: Flow, key: jax.Array) -> jax.Array:
    """(D,)."""
    return flow.centre + flow.factor @ flow.law.sample(key)


def log_flow(flow: Flow, point: jax.Array) -> jax.Array:
    """The flow's log-density at a point (D,); minus infinity where it is no number."""
    white = jax.scipy.linalg.solve_triangular(flow.factor, point - flow.centre, lower=True)
    value = flow.law.log_prob(white) - jnp.sum(jnp.log(jnp.diag(flow.factor)))
    return jnp.where(jnp.isnan(value), -jnp.inf, value)


__all__ = ["Flow", "draw_of_flow", "fitted", "log_flow"]

"""Deterministic objectives are minimised to convergence: damped Newton for few parameters, L-BFGS for many."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from unnorm.fitting import proximal
from unnorm.fitting.base import Extra
from unnorm.fitting.scaling import scaled

NEWTON_LIMIT = 300  # parameters beyond which a Hessian costs more than it saves
_STEPS = {"newton": 400, "lbfgs": 5000}
_MOST_DAMPING = 1e40  # in units of the curvature: steps that leap over forty orders of magnitude are still shortened
_BATCH = 8  # Hessian columns at once
_ROUNDS = 10  # how often an objective may renew what it prepared (quadrature nodes)


class Minimum(NamedTuple):
    vector: jax.Array
    loss: jax.Array
    decrement: jax.Array  # g' H^-1 g: the squared distance to the optimum in the curvature's own metric
    steps: jax.Array
    history: jax.Array


def parameters_of(density, extra: Extra) -> tuple[jax.Array, Any]:
    """All that is estimated, as one vector, and the function back to (free parameters, learned extras)."""
    return ravel_pytree((density.free(), extra.learned))


def losses(objective, density, extra: Extra, events: dict, vector: jax.Array) -> jax.Array:
    """The loss of every row at this parameter vector."""
    free, learned = parameters_of(density, extra)[1](vector)
    return objective.losses(density.at(free), extra._replace(learned=learned, weights=None), events)


def mean_loss(objective, density, extra: Extra, events: dict, vector: jax.Array) -> jax.Array:
    """The mean over the rows, and the penalties' smooth part: all but the lasso's."""
    values = losses(objective, density, extra, events, vector)
    mean = values.mean() if extra.weights is None else (extra.weights * values).mean()
    if extra.penalty is None:
        return mean
    return mean + extra.penalty.of_free(density, parameters_of(density, extra)[1](vector)[0])


def lasso_strengths(density, extra: Extra) -> jax.Array | None:
    """The lasso's strengths along the vector of all that is estimated; None without one."""
    if extra.penalty is None or not extra.penalty.lasso:
        return None
    return extra.penalty.strengths(density, extra.learned)


def whole_loss(objective, density, extra: Extra, events: dict, vector: jax.Array) -> jax.Array:
    """What is minimised: the mean loss with all penalties."""
    strengths, smooth = lasso_strengths(density, extra), mean_loss(objective, density, extra, events, vector)
    return smooth if strengths is None else smooth + strengths @ jnp.abs(vector)


def hessian(function, x: jax.Array) -> jax.Array:
    """The Hessian by a few columns at a time, so that memory stays bounded."""
    push = jax.linearize(jax.grad(function), x)[1]
    return jax.lax.map(push, jnp.eye(x.size, dtype=x.dtype), batch_size=_BATCH)


@jax.jit
def newton(objective, density, extra: Extra, events: dict) -> Minimum:
    """Newton's method with |eigenvalues| and Levenberg's damping, until the decrement is at rounding level.

    References: Nocedal and Wright (2006), section 3.4 (modified Newton).
    """
    loss = functools.partial(mean_loss, objective, density, extra, events)
    x = parameters_of(density, extra)[0]
    tolerance = objective.rounding * (1e-20 if x.dtype == jnp.float64 else 1e-10)

    def unit(value):
        """In what the loss is measured: a likelihood in nats, others in units of the data."""
        return jnp.abs(value) + (0.0 if objective.in_units_of_data else 1.0)

    def derivatives(x):
        value, gradient = jax.value_and_grad(loss)(x)
        return value, gradient, hessian(loss, x)

    def solve(gradient, curvature, damping):
        """The step, and whether the loss is convex here: where it is not, |eigenvalues| point downhill all the same."""
        inside, scale = scaled(curvature)
        values, vectors = jnp.linalg.eigh(inside)
        rounding = x.size * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(values))
        lengths = jnp.maximum(jnp.abs(values), rounding) + damping
        return -(vectors @ (vectors.T @ (gradient / scale) / lengths)) / scale, values[0] > -rounding

    def go_on(carry):
        _, value, _, _, _, decrement, damping, step, _ = carry
        # written so that a NaN decrement goes on with more damping
        return ~(decrement < tolerance * unit(value)) & (step < _STEPS["newton"]) & (damping < _MOST_DAMPING)

    def iterate(carry):
        x, value, gradient, curvature, _, _, damping, step, history = carry
        move, convex = solve(gradient, curvature, damping)
        trial = x + move
        trial_value = loss(trial)
        decrement = jnp.where(convex & (damping == 0), -gradient @ move, jnp.inf)
        slack = 1e-14 * objective.rounding * unit(value)
        better = jnp.isfinite(trial_value) & (trial_value <= value + slack) & jnp.all(jnp.isfinite(move))
        leap = jnp.where(damping < 1e6, 10.0, 1e3)
        damping = jnp.where(better, jnp.where(damping <= 1e-7, 0.0, damping / leap), jnp.maximum(leap * damping, 1e-4))
        fresh = jax.lax.cond(better, lambda: derivatives(trial), lambda: (value, gradient, curvature))
        x = jnp.where(better, trial, x)
        decrement = jnp.where(better, decrement, jnp.inf)
        return (x, *fresh, better, decrement, damping, step + 1, history.at[step].set(fresh[0]))

    history = jnp.full(_STEPS["newton"], jnp.nan, x.dtype)
    first = derivatives(x)
    zero, infinite = jnp.zeros((), x.dtype), jnp.asarray(jnp.inf, x.dtype)
    end = jax.lax.while_loop(go_on, iterate, (x, *first, True, infinite, zero, 0, history))
    return Minimum(end[0], end[1], end[5], end[7], end[8])


@jax.jit
def lbfgs(objective, density, extra: Extra, events: dict) -> Minimum:
    """L-BFGS (Optax) until the gradient is at rounding level."""
    loss = functools.partial(mean_loss, objective, density, extra, events)
    x = parameters_of(density, extra)[0]
    solver, tolerance = optax.lbfgs(), 1e-8 if x.dtype == jnp.float64 else 1e-4
    value_and_grad = optax.value_and_grad_from_state(loss)

    def iterate(carry):
        x, state, _, step, history = carry
        value, gradient = value_and_grad(x, state=state)
        update, state = solver.update(gradient, state, x, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(x, update), state, jnp.max(jnp.abs(gradient)), step + 1, history.at[step].set(value)

    def go_on(carry):
        return ~(carry[2] < tolerance) & (carry[3] < _STEPS["lbfgs"])

    history = jnp.full(_STEPS["lbfgs"], jnp.nan, x.dtype)
    x, _, norm, step, history = jax.lax.while_loop(
        go_on, iterate, (x, solver.init(x), jnp.asarray(jnp.inf, x.dtype), 0, history)
    )
    return Minimum(x, loss(x), jnp.where(norm < tolerance, 0.0, jnp.inf), step, history)


@jax.jit
def sparse(objective, density, extra: Extra, events: dict) -> Minimum:
    """The lasso: proximal Newton steps for few parameters, accelerated proximal gradient steps for many."""
    loss = functools.partial(mean_loss, objective, density, extra, events)
    x, strengths = parameters_of(density, extra)[0], lasso_strengths(density, extra)
    if x.size > NEWTON_LIMIT:
        tolerance = 1e-8 if x.dtype == jnp.float64 else 1e-4
        return Minimum(*proximal.gradient_steps(loss, x, strengths, tolerance))
    units = 0.0 if objective.in_units_of_data else 1.0
    tolerance = objective.rounding * (1e-20 if x.dtype == jnp.float64 else 1e-10)
    curved = functools.partial(hessian, loss)
    return Minimum(*proximal.newton_steps(loss, curved, x, strengths, tolerance, objective.rounding, units))


class Settled(NamedTuple):
    """A minimum, and whether it was reached and what the objective prepared holds there."""

    loss: jax.Array
    vector: jax.Array
    density: Any
    extra: Extra
    steps: int
    history: np.ndarray
    settled: bool


def few(density, extra: Extra) -> bool:
    """Whether the parameters are few enough for their Hessian."""
    return parameters_of(density, extra)[0].size <= NEWTON_LIMIT


def settled(
    objective, density, extra: Extra, events: dict, tell: Callable[[float], None] = lambda loss: None
) -> Settled:
    """Solve or minimise, and renew what was prepared until it holds at the minimum."""
    minimise = newton if few(density, extra) else lbfgs
    if lasso_strengths(density, extra) is not None:
        minimise = sparse
    for _ in range(_ROUNDS):
        found = objective.solved(density, extra, events)
        found = found or minimise(objective, density, extra, events)
        tell(float(found.loss))
        free, learned = parameters_of(density, extra)[1](found.vector)
        density, extra = density.at(free), extra._replace(learned=learned)
        renewed = objective.refreshed(density, extra, events) if np.isfinite(found.loss) else None
        if renewed is None:
            break
        extra = renewed
    reached = bool(np.isfinite(found.decrement)) and renewed is None
    return Settled(found.loss, found.vector, density, extra, int(found.steps), np.asarray(found.history), reached)

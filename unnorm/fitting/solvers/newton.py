"""Deterministic objectives are minimised to convergence: damped Newton for few parameters, L-BFGS
for many.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from unnorm.fitting.base import HasRowScores, ObjectiveState
from unnorm.numerics import proximal
from unnorm.numerics.diagonal_scaling import scaled

NEWTON_LIMIT = 300  # parameters beyond which a Hessian costs more than it saves
_STEPS = {"newton": 400, "lbfgs": 5000}
_LEAST_UNIT = 1e-8  # of the largest: whitened coordinates serve where units lie farther apart
# in units of the curvature: steps that leap over forty orders of magnitude are still shortened
_MOST_DAMPING = 1e40
_ILL_CONDITIONED = 1e4  # by how much rounding may raise the decrement of an ill-conditioned problem
_BATCH = 8  # Hessian columns at once
_SEEN = 2**22  # entries of the row scores that tell the units of many parameters
_ROUNDS, _CHANGED = (
    4,
    3.0,
)  # how often the units may be renewed; the factor by which they must have changed


class Minimum(NamedTuple):
    vector: jax.Array
    loss: jax.Array
    decrement: (
        jax.Array
    )  # g' H^-1 g: the squared distance to the optimum in the curvature's own metric
    steps: jax.Array
    history: jax.Array


def parameters_of(density, state: ObjectiveState) -> tuple[jax.Array, Any]:
    """All that is estimated, as one vector, and the function back to (free parameters, learned
    extras).
    """
    return ravel_pytree((density.free(), state.nuisance))


def losses(objective, density, state: ObjectiveState, events: dict, vector: jax.Array) -> jax.Array:
    """The loss of every row at this parameter vector."""
    free, nuisance = parameters_of(density, state)[1](vector)
    return objective.losses(
        density.at(free), state._replace(nuisance=nuisance, weights=None), events
    )


def mean_loss(
    objective, density, state: ObjectiveState, events: dict, vector: jax.Array
) -> jax.Array:
    """The mean over the rows, and the penalties' smooth part: all but the lasso's."""
    values = losses(objective, density, state, events, vector)
    mean = values.mean() if state.weights is None else (state.weights * values).mean()
    if state.penalty is None:
        return mean
    return mean + state.penalty.of_free(density, parameters_of(density, state)[1](vector)[0])


@jax.jit
def slope_at(density, state: ObjectiveState) -> jax.Array:
    """The gradient of the penalties' smooth part along the vector of all that is estimated."""
    vector, unravel = parameters_of(density, state)
    if state.penalty is None:
        return jnp.zeros_like(vector)
    return jax.grad(lambda v: state.penalty.of_free(density, unravel(v)[0]))(vector)


def lasso_strengths(density, state: ObjectiveState) -> jax.Array | None:
    """The lasso's strengths along the vector of all that is estimated; None without one."""
    if state.penalty is None or not state.penalty.lasso:
        return None
    return state.penalty.strengths(density, state.nuisance)


def whole_loss(
    objective, density, state: ObjectiveState, events: dict, vector: jax.Array
) -> jax.Array:
    """What is minimised: the mean loss with all penalties."""
    strengths, smooth = (
        lasso_strengths(density, state),
        mean_loss(objective, density, state, events, vector),
    )
    return smooth if strengths is None else smooth + strengths @ jnp.abs(vector)


def hessian(function, x: jax.Array) -> jax.Array:
    """The Hessian by a few columns at a time, so that memory stays bounded."""
    push = jax.linearize(jax.grad(function), x)[1]
    return jax.lax.map(push, jnp.eye(x.size, dtype=x.dtype), batch_size=_BATCH)


@jax.jit
def newton(
    objective, density, state: ObjectiveState, events: dict, basis: jax.Array | None = None
) -> Minimum:
    """Newton's method with |eigenvalues| and Levenberg's damping, until the decrement is at
    rounding level.

    With a `basis` W the steps are taken in y, the parameters being those of the density plus W y.

    References: Nocedal and Wright (2006), section 3.4 (modified Newton).
    """
    origin = parameters_of(density, state)[0]
    x = origin if basis is None else jnp.zeros_like(origin)
    rounding = objective.traits.rounding * (1.0 if basis is None else _ILL_CONDITIONED)
    tolerance = rounding * (1e-20 if x.dtype == jnp.float64 else 1e-10)

    def vector_at(x):
        return x if basis is None else origin + basis @ x

    def loss(x):
        return mean_loss(objective, density, state, events, vector_at(x))

    def unit(value):
        """In what the loss is measured: a likelihood in nats, others in units of the data."""
        return jnp.abs(value) + (0.0 if objective.traits.in_data_units else 1.0)

    def derivatives(x):
        value, gradient = jax.value_and_grad(loss)(x)
        return value, gradient, hessian(loss, x)

    def solve(gradient, curvature, damping):
        """The step, and whether the loss is convex here: where it is not, |eigenvalues| point
        downhill all the same.
        """
        inside, scale = scaled(curvature)
        if (
            basis is None
        ):  # a coordinate that is flat here is not left for another end of the numbers
            scale = jnp.maximum(scale, _LEAST_UNIT * jnp.max(scale))
            inside = curvature / scale[:, None] / scale[None, :]
        values, vectors = jnp.linalg.eigh(inside)
        rounding = x.size * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(values))
        lengths = jnp.maximum(jnp.abs(values), rounding) + damping
        return -(vectors @ (vectors.T @ (gradient / scale) / lengths)) / scale, values[
            0
        ] > -rounding

    def go_on(carry):
        _, value, _, _, _, decrement, damping, step, _ = carry
        # written so that a NaN decrement goes on with more damping
        return (
            ~(decrement < tolerance * unit(value))
            & (step < _STEPS["newton"])
            & (damping < _MOST_DAMPING)
        )

    def iterate(carry):
        x, value, gradient, curvature, _, _, damping, step, history = carry
        move, convex = solve(gradient, curvature, damping)
        trial = x + move
        trial_value = loss(trial)
        decrement = jnp.where(convex & (damping == 0), -gradient @ move, jnp.inf)
        slack = 1e-14 * rounding * unit(value)
        better = (
            jnp.isfinite(trial_value) & (trial_value <= value + slack) & jnp.all(jnp.isfinite(move))
        )
        arrived = better | (
            decrement < tolerance * unit(value)
        )  # of a step that short the loss tells rounding alone
        leap = jnp.where(damping < 1e6, 10.0, 1e3)
        damping = jnp.where(
            better,
            jnp.where(damping <= 1e-7, 0.0, damping / leap),
            jnp.maximum(leap * damping, 1e-4),
        )
        fresh = jax.lax.cond(
            better, lambda: derivatives(trial), lambda: (value, gradient, curvature)
        )
        x = jnp.where(better, trial, x)
        decrement = jnp.where(arrived, decrement, jnp.inf)
        return (x, *fresh, better, decrement, damping, step + 1, history.at[step].set(fresh[0]))

    history = jnp.full(_STEPS["newton"], jnp.nan, x.dtype)
    first = derivatives(x)
    zero, infinite = jnp.zeros((), x.dtype), jnp.asarray(jnp.inf, x.dtype)
    end = jax.lax.while_loop(go_on, iterate, (x, *first, True, infinite, zero, 0, history))
    return Minimum(vector_at(end[0]), end[1], end[5], end[7], end[8])


class Units(NamedTuple):
    """The loss over `loss`, as a function of the vector over `vector`, has a gradient and a
    curvature near 1.
    """

    vector: jax.Array
    loss: jax.Array


@jax.jit
def units_at(objective, density, state: ObjectiveState, events: dict) -> Units:
    """The units in which many parameters are moved: t / rms(ψ_j) and t, with ψ the row scores and t
    = p / (v'Hv).

    v_j = ±1 / rms(ψ_j), so that t is about tr(H⁻¹J)/p: 1 for a likelihood of a true model, and in
    the loss's own units for others. A coordinate without scores has the unit of the others' mean.
    """
    vector = parameters_of(density, state)[0]
    rows = len(jax.tree.leaves(events)[0])
    one = jnp.ones_like(vector)
    if objective.traits.couples_rows or isinstance(
        objective, HasRowScores
    ):  # rows have no loss of their own
        return Units(one, jnp.ones((), vector.dtype))
    chosen = np.unique(
        np.linspace(0, rows - 1, max(1, min(rows, _SEEN // vector.size))).astype(int)
    )

    def squares(given):
        row, event = jax.tree.map(lambda leaf: leaf[None], given)
        return (
            jax.grad(
                lambda v: losses(objective, density, state._replace(per_row=row), event, v)[0]
            )(vector)
            ** 2
        )

    seen = jax.tree.map(lambda leaf: leaf[chosen], (state.per_row, events))
    size = jnp.sqrt(jax.lax.map(squares, seen, batch_size=_BATCH).mean(0))
    known = jnp.isfinite(size) & (size > 0)
    size = jnp.where(known, size, jnp.exp(jnp.mean(jnp.log(size), where=known)))
    size = jnp.where(jnp.isfinite(size), size, 1.0)
    direction = jax.random.rademacher(jax.random.key(0), vector.shape, vector.dtype) / size
    loss = functools.partial(mean_loss, objective, density, state, events)
    bend = jnp.abs(direction @ jax.jvp(jax.grad(loss), (vector,), (direction,))[1])
    of_loss = jnp.where(jnp.isfinite(bend) & (bend > 0), vector.size / bend, 1.0)
    return Units(of_loss / size, of_loss)


@jax.jit
def _lbfgs(objective, density, state: ObjectiveState, events: dict, units: Units) -> Minimum:
    """L-BFGS (Optax) until the gradient, over the rows' scores, is at rounding level."""

    def loss(y):
        return mean_loss(objective, density, state, events, units.vector * y) / units.loss

    y = parameters_of(density, state)[0] / units.vector
    solver, tolerance = optax.lbfgs(), 1e-8 if y.dtype == jnp.float64 else 1e-4
    value_and_grad = optax.value_and_grad_from_state(loss)

    def iterate(carry):
        y, memory, _, step, history = carry
        value, gradient = value_and_grad(y, state=memory)
        update, memory = solver.update(
            gradient, memory, y, value=value, grad=gradient, value_fn=loss
        )
        history = history.at[step].set(value * units.loss)
        return optax.apply_updates(y, update), memory, jnp.max(jnp.abs(gradient)), step + 1, history

    def go_on(carry):
        return ~(carry[2] < tolerance) & (carry[3] < _STEPS["lbfgs"])

    history = jnp.full(_STEPS["lbfgs"], jnp.nan, y.dtype)
    y, _, norm, step, history = jax.lax.while_loop(
        go_on, iterate, (y, solver.init(y), jnp.asarray(jnp.inf, y.dtype), 0, history)
    )
    decrement = jnp.where(norm < tolerance, 0.0, jnp.inf)
    return Minimum(units.vector * y, loss(y) * units.loss, decrement, step, history)


@jax.jit
def _accelerated(objective, density, state: ObjectiveState, events: dict, units: Units) -> Minimum:
    """The lasso of many parameters, by accelerated proximal gradient steps."""

    def loss(y):
        return mean_loss(objective, density, state, events, units.vector * y) / units.loss

    y = parameters_of(density, state)[0] / units.vector
    strengths = lasso_strengths(density, state) * units.vector / units.loss
    tolerance = 1e-8 if y.dtype == jnp.float64 else 1e-4
    y, value, left, steps, history = proximal.gradient_steps(loss, y, strengths, tolerance)
    return Minimum(units.vector * y, value * units.loss, left, steps, history * units.loss)


def _in_units(
    minimise: Callable, objective, density, state: ObjectiveState, events: dict
) -> Minimum:
    """Minimise in the units of the start, and again where those of the end are others."""
    units = units_at(objective, density, state, events)
    for _ in range(_ROUNDS):
        found = minimise(objective, density, state, events, units)
        free, nuisance = parameters_of(density, state)[1](found.vector)
        density, state, before = density.at(free), state._replace(nuisance=nuisance), units
        units = units_at(objective, density, state, events)
        change = jnp.abs(jnp.log(units.vector / units.loss) - jnp.log(before.vector / before.loss))
        if not bool(jnp.max(change) > np.log(_CHANGED)):  # also where it is NaN
            break
    return found


lbfgs = functools.partial(_in_units, _lbfgs)
lbfgs.__doc__ = "L-BFGS in the units of the parameters."


def sparse(objective, density, state: ObjectiveState, events: dict) -> Minimum:
    """The lasso: proximal Newton steps for few parameters, accelerated proximal gradient steps for
    many.
    """
    if few(density, state):
        return _proximal_newton(objective, density, state, events)
    return _in_units(_accelerated, objective, density, state, events)


@jax.jit
def _proximal_newton(objective, density, state: ObjectiveState, events: dict) -> Minimum:
    loss = functools.partial(mean_loss, objective, density, state, events)
    x, strengths = parameters_of(density, state)[0], lasso_strengths(density, state)
    units = 0.0 if objective.traits.in_data_units else 1.0
    tolerance = objective.traits.rounding * (1e-20 if x.dtype == jnp.float64 else 1e-10)
    curved = functools.partial(hessian, loss)
    return Minimum(
        *proximal.newton_steps(
            loss, curved, x, strengths, tolerance, objective.traits.rounding, units
        )
    )


def few(density, state: ObjectiveState) -> bool:
    """Whether the parameters are few enough for their Hessian."""
    return parameters_of(density, state)[0].size <= NEWTON_LIMIT

"""Deterministic objectives are minimized to convergence: damped Newton for few parameters, L-BFGS
for many, proximal steps for the lasso.

Ill-conditioned fits are minimized again in coordinates in which the rows' scores are uncorrelated.
An offset of the data makes parameters nearly collinear: with x around 1,000 and a spread of 1, the
scores x and x² of a normal density correlate by 1 - 10⁻⁷. The Hessian, which squares that, keeps
few digits; the scores themselves keep all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import make_key
from unnorm.fitting.base import HasClosedForm, HasRowScores, Refreshable
from unnorm.fitting.loss import Loss, row_scores
from unnorm.numerics import proximal
from unnorm.numerics.diagonal_scaling import whitening
from unnorm.numerics.newton import Minimum, NewtonOptions, hessian, newton, tolerance_of


@dataclass(frozen=True)
class MinimizerOptions:
    """Budgets and tolerances of the minimizers.

    Attributes:
        lbfgs_steps: of L-BFGS at most.
        whitened_rounding: by how much rounding may raise the decrement of an ill-conditioned
            problem.
        collinear: condition of the scaled Hessian below which a minimum is confirmed in whitened
            coordinates: its Newton step has lost its digits.
        lower: of the mean loss, relatively, by which whitened coordinates refute a minimum that
            was found in others.
        score_entries: entries of the row scores from which the units of many parameters are found.
        unit_rounds: how often the units may be renewed.
        unit_change: the factor by which units must have changed to be renewed.
        refreshes: how often an objective may renew what it prepared (quadrature nodes).
        failures: rounds in a row without a minimum, after which other nodes will not help.
        part_way: Newton steps after which nodes are renewed where a round ended without a minimum.
        part_ways: how often they may be renewed so.
    """

    lbfgs_steps: int = 5000
    whitened_rounding: float = 1e6
    collinear: float = 1e-11
    lower: float = 1e-9
    score_entries: int = 2**22
    unit_rounds: int = 4
    unit_change: float = 3.0
    refreshes: int = 10
    failures: int = 2
    part_way: int = 8
    part_ways: int = 4


DEFAULTS = MinimizerOptions()


def _offset(loss: Loss) -> float:
    """A likelihood is measured in nats, other losses in units of the data."""
    return 0.0 if loss.objective.traits.in_data_units else 1.0


@compiled
def _newton_steps(loss: Loss, steps: jax.Array) -> Minimum:
    rounding = loss.objective.traits.rounding
    return newton(loss.mean, loss.vector, rounding, _offset(loss), steps=steps)


def minimize_newton(loss: Loss, steps: int = NewtonOptions.steps) -> Minimum:
    """The minimum by damped Newton steps from where the loss stands."""
    return _newton_steps(loss, np.int32(steps))


@compiled
def _newton_in_basis(loss: Loss, basis: jax.Array) -> Minimum:
    """Newton's method in y, the vector being where the loss stands plus W y."""
    origin = loss.vector

    def vector_at(y):
        return origin + basis @ y

    rounding = loss.objective.traits.rounding * DEFAULTS.whitened_rounding
    found = newton(
        lambda y: loss.mean(vector_at(y)), jnp.zeros_like(origin), rounding, _offset(loss),
        NewtonOptions(smallest_unit=0.0),
    )  # fmt: skip
    return found._replace(vector=vector_at(found.vector))


_row_scores = compiled(row_scores)


def _minimize_whitened(loss: Loss, found: Minimum) -> Minimum:
    """Newton's method in whitened coordinates from where it stopped; what it found before where
    that does not help.
    """
    if not bool(jnp.all(jnp.isfinite(found.vector))):
        return found
    psi = np.asarray(_row_scores(loss, found.vector))
    basis = whitening(psi) if np.isfinite(psi).all() else None
    if basis is None:  # the scores do not identify all parameters
        return found
    again = _newton_in_basis(loss.at(found.vector), jnp.asarray(basis, found.vector.dtype))
    slack = DEFAULTS.lower * (1 + jnp.abs(found.loss))
    if bool(jnp.isfinite(again.decrement) & ~(again.loss > found.loss + slack)):
        return again
    refuted = bool(again.loss < found.loss - slack)
    return found._replace(decrement=jnp.asarray(jnp.inf)) if refuted else found


# -- many parameters: in units of the rows' scores -------------------------------------------------
class Units(NamedTuple):
    """The loss over `loss`, as a function of the vector over `vector`, has a gradient and a
    curvature near 1.
    """

    vector: jax.Array
    loss: jax.Array


@compiled
def units_at(loss: Loss) -> Units:
    """The units in which many parameters are moved: t / rms(ψ_j) and t, with ψ the row scores and t
    = p / (v'Hv).

    v_j = ±1 / rms(ψ_j), so that t is about tr(H⁻¹J)/p: 1 for a likelihood of a true model, and in
    the loss's own units for others. A coordinate without scores has the unit of the others' mean.
    """
    objective, state, vector = loss.objective, loss.state, loss.vector
    rows = len(jax.tree.leaves(loss.events)[0])
    one = jnp.ones_like(vector)
    # rows have no loss of their own
    if objective.traits.couples_rows or isinstance(objective, HasRowScores):
        return Units(one, jnp.ones((), vector.dtype))
    count = max(1, min(rows, DEFAULTS.score_entries // vector.size))
    chosen = np.unique(np.linspace(0, rows - 1, count).astype(int))

    def squares(given):
        row, event = jax.tree.map(lambda leaf: leaf[None], given)
        of_row = loss._replace(state=state._replace(per_row=row), events=event)
        return jax.grad(lambda v: of_row.rows(v)[0])(vector) ** 2

    seen = jax.tree.map(lambda leaf: leaf[chosen], (state.per_row, loss.events))
    size = jnp.sqrt(jax.lax.map(squares, seen, batch_size=8).mean(0))
    known = jnp.isfinite(size) & (size > 0)
    size = jnp.where(known, size, jnp.exp(jnp.mean(jnp.log(size), where=known)))
    size = jnp.where(jnp.isfinite(size), size, 1.0)
    direction = jax.random.rademacher(make_key(0), vector.shape, vector.dtype) / size
    bend = jnp.abs(direction @ jax.jvp(jax.grad(loss.mean), (vector,), (direction,))[1])
    of_loss = jnp.where(jnp.isfinite(bend) & (bend > 0), vector.size / bend, 1.0)
    return Units(of_loss / size, of_loss)


@compiled
def _lbfgs(loss: Loss, units: Units) -> Minimum:
    """L-BFGS (Optax) until the gradient, over the rows' scores, is at rounding level."""

    def function(y):
        return loss.mean(units.vector * y) / units.loss

    y, limit = loss.vector / units.vector, DEFAULTS.lbfgs_steps
    solver, tolerance = optax.lbfgs(), 1e-8 if y.dtype == jnp.float64 else 1e-4
    value_and_grad = optax.value_and_grad_from_state(function)

    def iterate(carry):
        y, memory, _, step, history = carry
        value, gradient = value_and_grad(y, state=memory)
        update, memory = solver.update(
            gradient, memory, y, value=value, grad=gradient, value_fn=function
        )
        history = history.at[step].set(value * units.loss)
        return optax.apply_updates(y, update), memory, jnp.max(jnp.abs(gradient)), step + 1, history

    def go_on(carry):
        return ~(carry[2] < tolerance) & (carry[3] < limit)

    history = jnp.full(limit, jnp.nan, y.dtype)
    y, _, norm, step, history = jax.lax.while_loop(
        go_on, iterate, (y, solver.init(y), jnp.asarray(jnp.inf, y.dtype), 0, history)
    )
    decrement = jnp.where(norm < tolerance, 0.0, jnp.inf)
    value = function(y) * units.loss
    return Minimum(units.vector * y, value, decrement, step, history)  # type: ignore[arg-type]


@compiled
def _proximal_gradient(loss: Loss, units: Units) -> Minimum:
    """The lasso of many parameters, by accelerated proximal gradient steps."""

    def function(y):
        return loss.mean(units.vector * y) / units.loss

    assert loss.lasso is not None
    y = loss.vector / units.vector
    strengths = loss.lasso * units.vector / units.loss
    tolerance = 1e-8 if y.dtype == jnp.float64 else 1e-4
    y, value, left, steps, history = proximal.gradient_steps(function, y, strengths, tolerance)
    return Minimum(units.vector * y, value * units.loss, left, steps, history * units.loss)


def _minimize_in_units(minimize: Callable, loss: Loss) -> Minimum:
    """Minimize in the units of the start, and again where those of the end differ."""
    units = units_at(loss)
    for _ in range(DEFAULTS.unit_rounds):
        found = minimize(loss, units)
        loss, before = loss.at(found.vector), units
        units = units_at(loss)
        change = jnp.abs(jnp.log(units.vector / units.loss) - jnp.log(before.vector / before.loss))
        if not bool(jnp.max(change) > np.log(DEFAULTS.unit_change)):  # also where it is NaN
            break
    return found


@compiled
def _proximal_newton(loss: Loss) -> Minimum:
    """The lasso of few parameters."""
    assert loss.lasso is not None
    x, rounding = loss.vector, loss.objective.traits.rounding
    return Minimum(
        *proximal.newton_steps(
            loss.mean, lambda v: hessian(loss.mean, v), x, loss.lasso, tolerance_of(x, rounding),
            rounding, _offset(loss),
        )
    )  # fmt: skip


def minimum_of(loss: Loss) -> Minimum:
    """The minimum of a loss by the method that suits its size and penalties."""
    few = loss.has_few_parameters()
    if loss.lasso is not None:
        return _proximal_newton(loss) if few else _minimize_in_units(_proximal_gradient, loss)
    return minimize_newton(loss) if few else _minimize_in_units(_lbfgs, loss)


# -- with what the objective prepares --------------------------------------------------------------
def _with_fresh_nodes(loss: Loss) -> Loss:
    """Where Newton's steps lead when the objective renews what it prepared after every few.

    A density that becomes narrower than the distance of its nodes has a Z of 0, and its loss no
    minimum.
    """
    assert isinstance(loss.objective, Refreshable)
    for _ in range(DEFAULTS.part_ways):
        found = minimize_newton(loss, DEFAULTS.part_way)
        if not np.isfinite(found.loss):
            break
        there = loss.at(found.vector)
        fresh = loss.objective.refresh(there.density, there.state, there.events)
        if fresh is None:
            break
        loss = there._replace(state=fresh)
    return loss


class Convergence(NamedTuple):
    """A minimum, and whether it was reached and what the objective prepared holds there."""

    loss: jax.Array
    vector: jax.Array
    at: Loss
    steps: int
    history: np.ndarray
    converged: bool


def minimize(
    loss: Loss, report: Callable[[float], None] = lambda value: None, whiten: bool = True
) -> Convergence:
    """Solve or minimize, and renew what the objective prepared until it holds at the minimum.

    With `whiten` Newton's method is tried in whitened coordinates where it stops short of a
    minimum; where parameters are nearly collinear, always: rounding may have stopped it.
    """
    objective, events, failures = loss.objective, loss.events, 0
    nodes_may_fail = isinstance(objective, Refreshable)
    newton_steps = loss.has_few_parameters() and loss.lasso is None
    found: Any = None
    for _ in range(DEFAULTS.refreshes):
        found = None
        if isinstance(objective, HasClosedForm):
            found = objective.closed_form_minimum(loss.density, loss.state, events)
        found = found or minimum_of(loss)
        if newton_steps and nodes_may_fail and not np.isfinite(found.decrement):
            nodes_may_fail, held = False, loss.state
            loss = _with_fresh_nodes(loss)
            if loss.state is not held:
                continue
        stopped = whiten and not np.isfinite(found.decrement)
        if newton_steps and (stopped or not abs(found.condition) > DEFAULTS.collinear):
            found = _minimize_whitened(loss, found)
        report(float(found.loss))
        loss = loss.at(found.vector)
        failures = 0 if np.isfinite(found.decrement) else failures + 1
        go_on = np.isfinite(found.loss) and failures < DEFAULTS.failures
        go_on = go_on and isinstance(objective, Refreshable)
        fresh = objective.refresh(loss.density, loss.state, events) if go_on else None
        if fresh is None:
            break
        loss = loss._replace(state=fresh)
    converged = bool(np.isfinite(found.decrement)) and fresh is None
    history = np.asarray(found.history)
    return Convergence(found.loss, found.vector, loss, int(found.steps), history, converged)

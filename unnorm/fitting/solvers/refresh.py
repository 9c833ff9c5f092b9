"""From a start to the minimum of a deterministic objective, what it prepared renewed until it holds
there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.fitting.base import HasClosedForm, ObjectiveState, Refreshable
from unnorm.fitting.solvers.newton import few, lasso_strengths, lbfgs, newton, parameters_of, sparse
from unnorm.fitting.solvers.whitening import newton_again

_FAILURES = 2  # rounds in a row without a minimum, after which other nodes will not help
_ROUNDS = 10  # how often an objective may renew what it prepared (quadrature nodes)


class Settled(NamedTuple):
    """A minimum, and whether it was reached and what the objective prepared holds there."""

    loss: jax.Array
    vector: jax.Array
    density: Any
    state: ObjectiveState
    steps: int
    history: np.ndarray
    settled: bool


def settled(
    objective, density, state: ObjectiveState, events: dict, tell: Callable[[float], None] = lambda loss: None,
    whiten: bool = True,
) -> Settled:  # fmt: skip
    """Solve or minimise, and renew what was prepared until it holds at the minimum.

    With `whiten` Newton's method is tried in whitened coordinates where it stops short of a
    minimum.
    """
    minimise = newton if few(density, state) else lbfgs
    if lasso_strengths(density, state) is not None:
        minimise = sparse
    failures = 0
    for _ in range(_ROUNDS):
        found = None
        if isinstance(objective, HasClosedForm):
            found = objective.closed_form_minimum(density, state, events)
        found = found or minimise(objective, density, state, events)
        if whiten and minimise is newton and not np.isfinite(found.decrement):
            found = newton_again(objective, density, state, events, found)
        tell(float(found.loss))
        free, nuisance = parameters_of(density, state)[1](found.vector)
        density, state = density.at(free), state._replace(nuisance=nuisance)
        failures = 0 if np.isfinite(found.decrement) else failures + 1
        go_on = np.isfinite(found.loss) and failures < _FAILURES
        go_on = go_on and isinstance(objective, Refreshable)
        renewed = objective.refresh(density, state, events) if go_on else None
        if renewed is None:
            break
        state = renewed
    reached = bool(np.isfinite(found.decrement)) and renewed is None
    return Settled(
        found.loss,
        found.vector,
        density,
        state,
        int(found.steps),
        np.asarray(found.history),
        reached,
    )

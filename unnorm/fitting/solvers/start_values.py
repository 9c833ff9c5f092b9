"""A start in the units of the data: where score matching, which needs no start, puts an exponential
family.

A start of 0 and 1 for data around 10^6, or of the size 10^-8, is so far from every minimum that the
loss is flat or overflows on the way. Where log p̃ is linear in the parameters, score matching is
one linear solve from anywhere.
"""

import jax

from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.registry import ScoreMatching
from unnorm.fitting.row_normalizers import latent_variables
from unnorm.fitting.solvers.newton import few, parameters_of


def matched(density, events: dict):
    """The density at its score matching estimate; None where that is no linear solve.

    Args:
        density: bare, in the dtype of the fit.
        events: the data by name.
    """
    objective = ScoreMatching()
    if any(support.discrete for support in density.variables.values()) or latent_variables(
        density, events
    ):
        return None
    if objective.refuse(density) is not None or not few(density, ObjectiveState()):
        return None
    try:
        state = objective.prepare(density, events, jax.random.key(0))
    except ValueError:  # one row, or a column that never changes
        return None
    found = objective.closed_form_minimum(density, state, events)
    return None if found is None else density.at(parameters_of(density, state)[1](found.vector)[0])

"""A start in the units of the data: where score matching, which needs no start, puts an exponential
family.

A start of 0 and 1 for data around 10^6, or of the size 10^-8, is so far from every minimum that the
loss is flat or overflows on the way. Where log p̃ is linear in the parameters, score matching is
one linear solve from anywhere.
"""

from typing import Any

from unnorm.core.random_keys import make_key
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.loss import Loss
from unnorm.fitting.objectives.registry import ScoreMatching


def score_matching_start(density, events: dict) -> Any:
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
    loss = Loss(objective, density, ObjectiveState(), events)
    if objective.refuse(density) is not None or not loss.has_few_parameters():
        return None
    try:
        loss = loss._replace(state=objective.prepare(density, events, make_key(0)))
    except ValueError:  # one row, or a column that never changes
        return None
    found = objective.closed_form_minimum(density, loss.state, events)
    return None if found is None else loss.at(found.vector).density

"""One objective over several data sets: the sum over all rows, and the scores of the rows in all
that is estimated.

Every data set is prepared by the objective for itself. The scores of the rows are centred within
each data set, for the numbers of rows are given.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.method import method
from unnorm.core.random_keys import key_array
from unnorm.fitting.base import (
    CorrectsScores,
    DrawsRowNoise,
    DrawsSharedNoise,
    HasMargins,
    LossObjective,
    ObjectiveState,
    Refreshable,
    ReportsFindings,
    Traits,
)
from unnorm.fitting.joint.shared_parameters import Densities
from unnorm.fitting.loss import Loss, parameters_of, row_scores
from unnorm.integration.representative_rows import count_of


@method
class Together(LossObjective):
    """One objective over several data sets: `events`, and every part of the state, are dicts by the
    set's number.
    """

    each: Any

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        return Traits(
            rounding=self.each.traits.rounding, in_data_units=self.each.traits.in_data_units
        )

    @property
    def target(self) -> str:
        return f"{self.each.target}, over all data sets together"

    def prepare(self, density, events, key) -> Any:
        keys = key_array(key, len(events))
        parts = [self.each.prepare(density.parts[k], events[k], keys[k]) for k in events]
        fields = list(zip(*parts, strict=True))[:3]
        nuisance, per_row, shared = (dict(enumerate(field)) for field in fields)
        return ObjectiveState(nuisance, per_row, shared)

    def of_set(self, state: ObjectiveState, k: int) -> ObjectiveState:
        """Return the state of one data set."""
        return ObjectiveState(state.nuisance[k], state.per_row[k], state.shared[k])

    def _sets(self, density, state: ObjectiveState, events: dict):
        return ((density.parts[k], self.of_set(state, k), events[k]) for k in events)

    def losses(self, density, state, events) -> Any:
        return jnp.concatenate(
            [self.each.losses(*one) for one in self._sets(density, state, events)]
        )

    def refresh(self, density, state, events) -> Any:
        if not isinstance(self.each, Refreshable):
            return None
        new = [self.each.refresh(*one) for one in self._sets(density, state, events)]
        if all(one is None for one in new):
            return None
        fresh = [self.of_set(state, k) if one is None else one for k, one in enumerate(new)]
        return state._replace(
            per_row={k: one.per_row for k, one in enumerate(fresh)},
            shared={k: one.shared for k, one in enumerate(fresh)},
        )

    def margins(self, density, state, events) -> Any:
        if not isinstance(self.each, HasMargins):
            return None
        parts = [self.each.margins(*one) for one in self._sets(density, state, events)]
        known = [part for part in parts if part is not None]
        return None if len(known) < len(parts) else jnp.concatenate(known)

    def findings(self, density, state, events) -> Any:
        if not isinstance(self.each, ReportsFindings):
            return []
        sets = self._sets(density, state, events)
        return [finding for one in sets for finding in self.each.findings(*one)]

    # -- errors: those of each data set, in the vector of all that is estimated --------------------
    def _with_slopes(self, density, state, events):
        """Each data set with the matrix that takes the vector of all that is estimated to its
        own.
        """
        return zip(self._sets(density, state, events), _slopes(density, state), strict=True)

    def row_scores(self, density, state, events, vector) -> Any:
        free, nuisance = parameters_of(density, state)[1](vector)
        return jnp.concatenate(
            _scores(self, density.at(free), state._replace(nuisance=nuisance), events)
        )

    def score_correction(self, density, state, events) -> Any:
        """What each data set's objective adds, and the centre of its scores."""
        parts = []
        scores = _scores(self, density, state, events)
        for (one, slope), psi in zip(
            self._with_slopes(density, state, events), scores, strict=True
        ):
            added = None
            if isinstance(self.each, CorrectsScores):
                added = self.each.score_correction(*one)
            centre = psi.mean(0) if len(psi) > 1 else 0.0
            parts.append(jnp.zeros_like(psi) - centre if added is None else added @ slope - centre)
        return jnp.concatenate(parts)

    def noise_variance(self, density, state, events) -> Any:
        if not isinstance(self.each, DrawsRowNoise):
            return None
        return self._weighted_sum(self.each.noise_variance, 1, density, state, events)

    def shared_noise(self, density, state, events) -> Any:
        if not isinstance(self.each, DrawsSharedNoise):
            return None
        return self._weighted_sum(self.each.shared_noise, 2, density, state, events)

    def _weighted_sum(self, variance: Callable, power: int, density, state, events):
        rows, found = sum(map(count_of, events.values())), None
        for one, slope in self._with_slopes(density, state, events):
            part = variance(*one)
            if part is not None:
                share = (count_of(one[2]) / rows) ** power * slope.T @ part @ slope
                found = share if found is None else found + share
        return found


@compiled
def _slopes(density: Densities, state: ObjectiveState) -> list[jax.Array]:
    """∂ (all that is estimated from one data set) / ∂ (all that is estimated), for each data
    set.
    """
    vector, unravel = parameters_of(density, state)

    def own(v, k):
        free, nuisance = unravel(v)
        return ravel_pytree(
            ({name: free[name] for name in density.parts[k].supports}, nuisance[k])
        )[0]

    return [jax.jacobian(functools.partial(own, k=k))(vector) for k in range(len(density.parts))]


@compiled
def _scores(
    objective: Together, density: Densities, state: ObjectiveState, events: dict
) -> list[jax.Array]:
    """The rows' scores in all that is estimated, by data set."""
    return [
        _scores_of(Loss(objective.each, *one)) @ slope
        for one, slope in objective._with_slopes(density, state, events)
    ]


def _scores_of(loss: Loss) -> jax.Array:
    return row_scores(loss, loss.vector)


__all__ = ["Together"]

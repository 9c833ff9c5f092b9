"""One objective over several data sets: the sum over all rows, and the scores of the rows in all
that is estimated.

Every data set is prepared by the objective for itself. The scores of the rows are centred within
each data set, for the numbers of rows are given.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.core.method import method
from unnorm.fitting.base import Extra, PerExample
from unnorm.fitting.inference.sandwich import row_scores
from unnorm.fitting.joint.shared_parameters import Densities
from unnorm.fitting.solvers.newton import parameters_of
from unnorm.integration.conditional import count_of


@method
class Together(PerExample):
    """One objective over several data sets: `events`, and every part of `extra`, are dicts by the
    set's number.
    """

    each: Any

    @property
    def rounding(self):
        return self.each.rounding

    @property
    def in_units_of_data(self):
        return self.each.in_units_of_data

    @property
    def target(self):
        return f"{self.each.target}, over all data sets together"

    def prepare(self, density, events, key):
        keys = jax.random.split(key, len(events))
        parts = [self.each.prepare(density.parts[k], events[k], keys[k]) for k in events]
        return Extra(*(dict(enumerate(part)) for part in list(zip(*parts, strict=True))[:3]))

    def of_set(self, extra: Extra, k: int) -> Extra:
        """What was prepared for one data set."""
        return Extra(extra.learned[k], extra.rows[k], extra.shared[k])

    def _sets(self, density, extra: Extra, events: dict):
        return ((density.parts[k], self.of_set(extra, k), events[k]) for k in events)

    def losses(self, density, extra, events):
        return jnp.concatenate(
            [self.each.losses(*one) for one in self._sets(density, extra, events)]
        )

    def refreshed(self, density, extra, events):
        new = [self.each.refreshed(*one) for one in self._sets(density, extra, events)]
        if all(one is None for one in new):
            return None
        new = [self.of_set(extra, k) if one is None else one for k, one in enumerate(new)]
        return extra._replace(rows={k: one.rows for k, one in enumerate(new)},
                              shared={k: one.shared for k, one in enumerate(new)})  # fmt: skip

    def margins(self, density, extra, events):
        parts = [self.each.margins(*one) for one in self._sets(density, extra, events)]
        return None if any(part is None for part in parts) else jnp.concatenate(parts)

    def findings(self, density, extra, events):
        return [
            told for one in self._sets(density, extra, events) for told in self.each.findings(*one)
        ]

    # -- errors: those of each data set, in the vector of all that is estimated --------------------
    def _with_slopes(self, density, extra, events):
        """Each data set with the matrix that takes the vector of all that is estimated to its
        own.
        """
        return zip(self._sets(density, extra, events), _slopes(density, extra), strict=True)

    def row_scores(self, density, extra, events, vector):
        free, learned = parameters_of(density, extra)[1](vector)
        return jnp.concatenate(
            _scores(self, density.at(free), extra._replace(learned=learned), events)
        )

    def score_correction(self, density, extra, events):
        """What each data set's objective adds, and the centre of its scores."""
        parts = []
        scores = _scores(self, density, extra, events)
        for (one, slope), psi in zip(
            self._with_slopes(density, extra, events), scores, strict=True
        ):
            added = self.each.score_correction(*one)
            centre = psi.mean(0) if len(psi) > 1 else 0.0
            parts.append(jnp.zeros_like(psi) - centre if added is None else added @ slope - centre)
        return jnp.concatenate(parts)

    def noise_variance(self, density, extra, events):
        return self._summed("noise_variance", 1, density, extra, events)

    def shared_noise(self, density, extra, events):
        return self._summed("shared_noise", 2, density, extra, events)

    def _summed(self, what: str, power: int, density, extra, events):
        rows, found = sum(map(count_of, events.values())), None
        for one, slope in self._with_slopes(density, extra, events):
            part = getattr(self.each, what)(*one)
            if part is not None:
                share = (count_of(one[2]) / rows) ** power * slope.T @ part @ slope
                found = share if found is None else found + share
        return found


@jax.jit
def _slopes(density: Densities, extra: Extra) -> list[jax.Array]:
    """∂ (all that is estimated from one data set) / ∂ (all that is estimated), for each data
    set.
    """
    vector, unravel = parameters_of(density, extra)

    def own(v, k):
        free, learned = unravel(v)
        return ravel_pytree(({name: free[name] for name in density.parts[k].supports}, learned[k]))[
            0
        ]

    return [jax.jacobian(functools.partial(own, k=k))(vector) for k in range(len(density.parts))]


@jax.jit
def _scores(objective: Together, density: Densities, extra: Extra, events: dict) -> list[jax.Array]:
    """The rows' scores in all that is estimated, by data set."""
    return [
        row_scores(objective.each, *one, parameters_of(*one[:2])[0]) @ slope
        for one, slope in objective._with_slopes(density, extra, events)
    ]


__all__ = ["Together"]

"""A density whose bounded parameters may take any value: in those, an exponential family is linear.

log p̃ = θ'T(x) + b(x) is linear in θ, and no longer in log θ or in a Cholesky factor. What is
quadratic in θ is solved for θ at once, and the solution counts where it keeps the bounds.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.density import unconstrain_all
from unnorm.supports import Interval, Ordered, Positive, PositiveDefinite, Real, Symmetric


def _linear_space(support):
    """The linear space that holds a support, or the support itself where there is none."""
    if isinstance(support, type(PositiveDefinite)):
        return dataclasses.replace(Symmetric(diagonal=True), axes=support.axes)
    if isinstance(support, type(Positive) | type(Interval(0, 1)) | type(Ordered)):
        return dataclasses.replace(Real, axes=support.axes)
    return support


def without_bounds(density) -> Any:
    """The density without bounds on its parameters; None where none has any."""
    structure, parameters = density._structure, density.supports
    slots = tuple(
        dataclasses.replace(slot, support=_linear_space(slot.support))
        if slot.name in parameters
        else slot
        for slot in structure.slots
    )
    if slots == structure.slots:
        return None
    new = object.__new__(type(density))
    return new._set(dataclasses.replace(structure, slots=slots), dict(density._held))


def within_bounds(density, values: dict) -> Any:
    """The density at values found without bounds; None where a value is not strictly within
    them.
    """
    values = {name: values[name] for name in density.supports}
    free = unconstrain_all(tuple(density.supports.items()), values)
    finite = all(np.isfinite(np.asarray(leaf)).all() for leaf in free.values())
    return density.at(free) if finite else None


def covariance_with_bounds(covariance, density, unbounded, state) -> Any:
    """A covariance of the parameters without bounds as one of the unconstrained coordinates, by the
    delta method.
    """
    slope = np.asarray(_slope_in_bounds(density, unbounded, state.nuisance))
    return type(covariance)(*(slope @ part @ slope.T for part in covariance))


@compiled
def _slope_in_bounds(density, unbounded, nuisance) -> jax.Array:
    vector, unravel = ravel_pytree((unbounded.free(), nuisance))

    def free(vector):
        values, nuisance = unravel(vector)
        values = unbounded.at(values).parameters
        return ravel_pytree(
            ({name: s.unconstrain(values[name]) for name, s in density.supports.items()}, nuisance)
        )[0]

    return jax.jacobian(free)(vector)

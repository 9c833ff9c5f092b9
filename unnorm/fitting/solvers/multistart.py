"""Several optima: a minimum is looked for from other starts too, and what they find is said."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.supports.directional import CircleSupport


@dataclass(frozen=True)
class MultistartOptions:
    """Where other starts lie, and when two minima are one.

    Attributes:
        half_width: of the box of starts around the first, in unconstrained coordinates: Stan's.
        of_circles: more starts where none are asked for, of a circular response with covariates: a
            slope that winds around the circle is a local optimum.
        same_loss, same_place: relative differences that an optimizer leaves at one minimum.
    """

    half_width: float = 2.0
    of_circles: int = 4
    same_loss: float = 1e-8
    same_place: float = 1e-4


DEFAULTS = MultistartOptions()


def restarts_of(supports: Iterable, has_covariates: bool, asked: int) -> int:
    """How many more starts to minimize from, by the supports of the variables."""
    winds = has_covariates and any(isinstance(support, CircleSupport) for support in supports)
    return asked or (DEFAULTS.of_circles if winds else 0)


def best_of(
    minimise: Callable, density, restarts: int, key: jax.Array, findings: list[Finding]
) -> Any:
    """The lowest of the minima from `density` and from random starts around it; `minimise(density)`
    returns one.

    A minimum is anything with a `loss` and a `vector`; a start at which the loss is not finite
    gives none.
    """
    found = [minimise(density)]
    if not restarts:
        return found[0]
    free, unravel = ravel_pytree(density.free())
    width = DEFAULTS.half_width
    for start in jax.random.uniform(key, (restarts, free.size), free.dtype, -width, width):
        another = minimise(density.at(unravel(free + start)))
        if np.isfinite(another.loss):
            found.append(another)
    best = min(found, key=lambda one: float(one.loss) if np.isfinite(one.loss) else np.inf)
    findings += _other_optima(best, found, restarts + 1)
    return best


def _other_optima(best, found: list, starts: int) -> list[Finding]:
    losses, vectors = np.array([one.loss for one in found]), np.stack([one.vector for one in found])
    higher = losses > losses.min() + DEFAULTS.same_loss * (1 + np.abs(losses.min()))
    at = np.asarray(best.vector)
    apart = np.abs(vectors - at) > DEFAULTS.same_place * (1 + np.abs(at))
    twins = ~higher & apart.any(1)
    lowest = f"{len(found) - higher.sum()} of {starts} starts came to the lowest loss"
    notes = [Finding(lowest, "", NOTE)]
    if higher.any():
        what = f"there are several optima: {higher.sum()} of {starts} starts ended at a higher loss"
        notes.append(
            Finding(
                what,
                "raise restarts until the lowest loss is found often",
                NOTE,
                code=FindingCode.SEVERAL_OPTIMA,
            )
        )
    if twins.any():
        what = (
            f"{twins.sum()} of {starts} starts came to the same loss at other parameters: labels "
            "that may be switched, or parameters that the density does not tell apart"
        )
        notes.append(
            Finding(
                what,
                "fix an order of the parameters, and read the errors as those of one optimum",
                WARNING,
                code=FindingCode.SEVERAL_OPTIMA,
            )
        )
    return notes

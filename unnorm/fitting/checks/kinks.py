"""Whether second derivatives that an objective takes miss kinks of the log-density (ReLU networks).

Along the segment from one data row to another, d/dt log p̃ changes by the integral of the second
derivative wherever log p̃ is smooth. A piecewise linear network has a second derivative of zero
almost everywhere, and all of its curvature in kinks, which automatic differentiation does not see:
the two sides then differ, whatever smooth terms are added.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.data.latent_variables import covariates_of


@dataclass(frozen=True)
class KinkOptions:
    """How kinks are looked for, and how much curvature they may hold."""

    # Between pairs of rows.
    segments: int = 64
    # Of a segment.
    cells: int = 128
    # Share of the slope's variation, on the median segment, above which the loss is invalid.
    max_share: float = 0.05
    # A smooth function's share falls to a quarter when cells are halved; that of kinks stays.
    smooth_ratio: float = 0.6


KINKS = KinkOptions()


def kink_findings(objective, density, events: dict, key: jax.Array) -> list[Finding]:
    """An error where the objective takes second derivatives of a log-density whose curvature is in
    kinks.
    """
    if not objective.traits.uses_second_derivatives:
        return []
    target = Unconstrained(density)
    everywhere = target.positions_of(events)
    positions, held = target.continuous(everywhere), target.discrete(everywhere)
    rows = len(next(iter(events.values())))
    if not positions or rows < 2:
        return []
    ends = np.asarray(jax.random.randint(key, (2, min(KINKS.segments, rows)), 0, rows))
    everything = positions, held, covariates_of(density, events)
    first, last = (jax.tree.map(lambda leaf, at=at: leaf[at], everything) for at in ends)
    missed, coarse = np.median(np.asarray(_missed(density, first, last)), 0)
    if not (missed > KINKS.max_share and missed > KINKS.smooth_ratio * coarse):
        return []
    what = (
        f"{missed:.0%} of the variation of the slope of log p̃ between data rows is in kinks, as "
        "of a ReLU network, "
        f"which the second derivatives that {type(objective).__name__} takes do not see"
    )
    advice = (
        "use softplus, silu or tanh in the network, or un.objectives.DenoisingScoreMatching or NCE"
    )
    return [Finding(what, advice, ERROR, FindingCode.OBJECTIVE_CONDITIONS)]


@compiled
def _missed(density, first: tuple, last: tuple) -> jax.Array:
    """By segment, the share of the slope's variation that second derivatives miss: with fine and
    with coarse cells.
    """

    def one(first, last):
        (start, held, row), (stop, _, _) = first, last
        target = Unconstrained(density).at_row(row)
        start = target.flatten(start)
        move = target.flatten(stop) - start
        slope = jax.grad(lambda t: target.log_density(target.split(start + t * move) | held))
        places = jnp.linspace(0.0, 1.0, 2 * KINKS.cells + 1, dtype=start.dtype)
        slopes, curvatures = jax.vmap(lambda t: jax.jvp(slope, (t,), (jnp.ones_like(t),)))(places)
        return jnp.stack([_share(slopes, curvatures, 1), _share(slopes, curvatures, 2)])

    return jax.vmap(one)(first, last)


def _share(slopes: jax.Array, curvatures: jax.Array, half: int) -> jax.Array:
    """Σ |change of slope − integral by the midpoint rule| over Σ |change of slope|, cells of two
    `half` steps each.
    """
    changes = jnp.diff(slopes[:: 2 * half])
    integrals = curvatures[half :: 2 * half] * (2 * half / (len(slopes) - 1))
    tiny = jnp.finfo(slopes.dtype).tiny
    return jnp.sum(jnp.abs(changes - integrals)) / jnp.maximum(jnp.sum(jnp.abs(changes)), tiny)

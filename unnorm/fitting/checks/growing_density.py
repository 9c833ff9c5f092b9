"""Whether a fitted density grows without end along some ray, so that its Z is infinite: objectives
that need no Z do not notice.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.supports.continuous import PositiveSupport, RealSupport
from unnorm.supports.discrete import CountSupport


@dataclass(frozen=True)
class RayOptions:
    """Along which rays a density is followed.

    Attributes:
        rows: of the data, through which rays go.
        directions: random ones besides, in units of the data's spread.
        distances: in multiples of the data's own; a density that rises over the last three, beyond
            its values at the data, is taken not to fall.
    """

    rows: int = 64
    directions: int = 256
    distances: tuple[float, ...] = (1e2, 1e3, 1e4, 1e5)


def growth_findings(
    density: Density, events: dict[str, Any], options: RayOptions = RayOptions()
) -> list[Finding]:
    """Return an error if log p̃ rises along a ray at all distances.

    Real variables move away from their mean, counts and positive ones from 0; others stay.

    Args:
        density: with its estimates.
        events: the data.
        options: the rays.
    """
    supports = density.variables
    free = [
        name
        for name, support in supports.items()
        if isinstance(support, RealSupport | PositiveSupport | CountSupport)
    ]
    given = all(name in events and np.size(events[name]) for name in supports)
    if not free or not given or any(isinstance(value, dict) for value in events.values()):
        return []
    rng, rows = np.random.default_rng(0), len(next(iter(events.values())))
    chosen = rng.integers(0, rows, options.rows + options.directions)
    starts = {name: np.asarray(value, float)[chosen] for name, value in events.items()}
    if not all(np.isfinite(value).all() for value in starts.values()):
        return []
    lines = {name for name in free if isinstance(supports[name], RealSupport)}
    ways = {name: _ways(name in lines, starts[name], options.rows, rng) for name in free}
    heights = []
    for distance in (0.0, *options.distances):
        moved = dict(starts)
        for name in free:
            origin = np.mean(starts[name], 0) if name in lines else 0.0
            far = origin + distance * ways[name]
            far = np.round(far) if supports[name].discrete else far
            moved[name] = starts[name] if distance == 0 else far
        heights.append(np.asarray(_heights(density, jax.tree.map(jnp.asarray, moved))))
    here, *beyond = heights
    with np.errstate(invalid="ignore"):
        rises = np.all(np.diff(beyond[-3:], axis=0) > 0, 0) & (beyond[-1] > np.nanmax(here))
    if not rises.any():
        return []
    ray = int(np.argmax(rises))
    place = ", ".join(f"{name} ~ {np.array2string(ways[name][ray], precision=3)}" for name in free)
    return [
        Finding(
            f"the fitted {density.name} cannot be normalized: its log-density rises without end "
            f"along {place}",
            "bound the parameters so that it falls, bound its variables, or name another model",
            code=FindingCode.NOT_NORMALIZABLE,
        )
    ]


def _ways(on_line: bool, starts: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Directions: of the data, then random ones, every fourth along a single coordinate."""
    flat = starts.reshape(len(starts), -1)
    spread = flat.std(0) + 1e-300
    random = rng.normal(size=(len(flat) - rows, flat.shape[1]))
    alone = np.arange(len(random)) % 4 == 0
    keep = np.eye(flat.shape[1])[rng.integers(0, flat.shape[1], len(random))]
    random = np.where(alone[:, None], random * keep, random) * spread
    if not on_line:
        return np.concatenate([flat[:rows], np.abs(random)]).reshape(starts.shape)
    return np.concatenate([flat[:rows] - flat.mean(0), random]).reshape(starts.shape)


@compiled
def _heights(density: Density, events: dict[str, Any]) -> jax.Array:
    return jax.vmap(density.log_density)(events)


__all__ = ["RayOptions", "growth_findings"]

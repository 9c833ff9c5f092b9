"""Curvature for directions in which a mode has none: from how far out log p̃ has fallen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FlatDirectionOptions:
    """When a direction is flat, and how far out the fall of log p̃ along it is followed."""

    # curvature relative to the largest, below which it does not show how far the mass reaches (a
    # shell, a quartic)
    level: float = 1e-4
    doublings: int = 15  # in units of the widest curved direction
    blind_start: float = 1e-4  # and four-fold steps, where no direction is curved (Laplace)
    max_fall: float = 8.0  # nats: beyond, the step left the support


FLAT = FlatDirectionOptions()


def curve_flat_directions(
    value: Callable[[np.ndarray], np.ndarray],
    ends: np.ndarray,
    heights: np.ndarray,
    curves: np.ndarray,
    options: FlatDirectionOptions = FLAT,
) -> np.ndarray:
    """The curvatures (K, D, D), along flat directions from the first fall by half a nat or more.

    Args:
        value: log p̃ at points (S, D).
        ends: (K, D).
        heights: log p̃ there, (K,).
        curves: minus the Hessians there.
        options: see `FlatDirectionOptions`.
    """
    curves, level = np.array(curves), []
    blind = options.blind_start * 4.0 ** np.arange(options.doublings)
    for k in np.flatnonzero(np.isfinite(heights) & np.isfinite(curves).all((1, 2))):
        sizes, axes = np.linalg.eigh(curves[k])
        curved = sizes[sizes > options.level * sizes[-1]]
        ladder = (
            curved.min() ** -0.5 * 2.0 ** np.arange(options.doublings) if curved.size else blind
        )
        level += [
            (k, axes[:, i], ladder)
            for i in np.flatnonzero(np.abs(sizes) <= options.level * sizes[-1])
        ]
    if not level:
        return curves
    steps = np.array([ladder for *_, ladder in level])
    moves = steps[..., None] * np.array([axis for _, axis, _ in level])[:, None]
    tops = np.array([k for k, *_ in level])
    points = np.stack([ends[tops, None] + moves, ends[tops, None] - moves])
    found = value(points.reshape(-1, ends.shape[1])).reshape(points.shape[:-1])
    falls = heights[tops, None] - np.where(np.isfinite(found), found, -np.inf).max(0)
    for (k, axis, _), fall, step in zip(level, falls, steps, strict=True):
        if (fall >= 0.5).any():
            first = np.argmax(fall >= 0.5)
            at = min(fall[first], options.max_fall)
            curves[k] += 2 * at / step[first] ** 2 * np.outer(axis, axis)
    return curves


__all__ = ["FlatDirectionOptions", "curve_flat_directions"]

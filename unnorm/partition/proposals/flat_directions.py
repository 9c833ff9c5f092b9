"""Curvature for directions in which a mode has none: from how far out log p̃ has fallen."""

import numpy as np

# of the largest curvature: one below tells nothing of how far the mass reaches (a shell, a quartic)
LEVEL = 1e-4
LADDER = 2.0 ** np.arange(
    15
)  # in units of the widest curved direction: how far a level one is followed
BLIND = 1e-4 * 4.0 ** np.arange(15)  # the same where no direction is curved (a Laplace density)
MOST_FALL = 8.0  # nats: beyond, the step went over the edge of the support


def bent(value, ends: np.ndarray, heights: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """The curvatures (K, D, D) with level directions bent as the fall of half a nat or more along
    them says.

    Args:
        value: log p̃ at points (S, D).
        ends: (K, D), with their heights (K,).
        curves: minus the Hessians there.
    """
    curves, level = np.array(curves), []
    for k in np.flatnonzero(np.isfinite(heights) & np.isfinite(curves).all((1, 2))):
        sizes, axes = np.linalg.eigh(curves[k])
        curved = sizes[sizes > LEVEL * sizes[-1]]
        ladder = curved.min() ** -0.5 * LADDER if curved.size else BLIND
        level += [
            (k, axes[:, i], ladder) for i in np.flatnonzero(np.abs(sizes) <= LEVEL * sizes[-1])
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
            at = min(fall[first], MOST_FALL)
            curves[k] += 2 * at / step[first] ** 2 * np.outer(axis, axis)
    return curves


__all__ = ["bent"]

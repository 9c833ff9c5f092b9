"""Evidence that quadrature has seen the mass: points up to 10^5 times a mode's own scale away, in
all directions.

Two levels of a rule agree on what both stepped over. A second mode shows itself in its basin, the
region where it rules the log-density; that of a normal of width w at the distance a from a normal
of width 1 is about w a wide, a fixed share of the space at that distance however far it is. So
points are spread evenly over the logarithm of the distance and over the directions: every point
that is higher than its neighbours starts a climb, and all of them together are an importance sample
whose estimate must not lie above that of the rule.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from unnorm.integration.adaptive_grid import Integrand
from unnorm.integration.nodes import Frame

GRIDS = {
    1: (2**14,),
    2: (360, 182),
    3: (144, 24, 76),
}  # points over the distance and the angles; two basins' widths
LEAST = 2**12  # points where there are many discrete states, each of which costs an evaluation
MOST = 2**22  # evaluations
NEAR, FAR = 4.0, math.asinh(1e5)  # half of the points lie within sinh(4) = 27 scales
ABOVE = 5.0  # standard errors of the importance sample by which it may exceed the rule
SLACK = 0.02  # nats besides, for values that round onto a bound are off by as much


class Look(NamedTuple):
    """Points u (N, D) about a frame, with log p̃ there, and asinh of their distances, on a grid of
    this shape.
    """

    frame: Frame
    points: np.ndarray
    values: np.ndarray
    t: np.ndarray
    shape: tuple[int, ...]


def look_about(integrand: Integrand, frame: Frame) -> Look:
    size, most = len(frame.centre), max(LEAST, MOST / integrand.count)
    finer = min(1.0, (most / math.prod(GRIDS[size])) ** (1 / size))
    shape = tuple(2 * max(int(n * finer / 2), 2) for n in GRIDS[size])
    t, directions = _spread(shape)
    points = frame.centre + (directions * np.sinh(t)[:, None]) @ frame.factor.T
    return Look(frame, points, integrand.resolved_values(points), t, shape)


@functools.cache
def _spread(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """asinh of the distances (N,), and the directions (N, D)."""
    if len(shape) == 1:
        t = _distances(shape[0] // 2)
        return np.concatenate([t[::-1], t]), np.repeat([[-1.0], [1.0]], len(t), axis=0)
    middles = [(np.arange(n) + 0.5) / n for n in shape[1:]]
    if len(shape) == 2:
        angle = 2 * math.pi * middles[0]
        directions = np.stack([np.cos(angle), np.sin(angle)], -1)
    else:
        height, angle = np.meshgrid(2 * middles[0] - 1, 2 * math.pi * middles[1], indexing="ij")
        width = np.sqrt(1 - height**2)
        directions = np.stack([width * np.cos(angle), width * np.sin(angle), height], -1).reshape(
            -1, 3
        )
    t = _distances(shape[0])
    return np.repeat(t, len(directions)), np.tile(directions, (len(t), 1))


def _distances(count: int) -> np.ndarray:
    even = (np.arange(count // 2) + 0.5) / (count // 2)
    return np.concatenate([even * NEAR, NEAR + even * (FAR - NEAR)])


def tops(look: Look) -> np.ndarray:
    """The points (K, D) that are higher than all their neighbours, those with room for most mass
    first.
    """
    values = look.values.reshape(look.shape)
    around = np.full(values.shape, -np.inf)
    padded = np.pad(values, 1, constant_values=-np.inf)
    if values.ndim > 1:  # around the last angle one comes back to its beginning
        padded[..., 0], padded[..., -1] = padded[..., -2], padded[..., 1]
        padded[0] = np.inf  # the nearest points lie about the mode itself
    for shift in itertools.product((0, 1, 2), repeat=values.ndim):
        if shift != (1,) * values.ndim:
            here = tuple(
                slice(first, first + n) for first, n in zip(shift, values.shape, strict=True)
            )
            around = np.maximum(around, padded[here])
    at = np.flatnonzero(np.isfinite(values) & (values > around))
    potential = look.values[at] - log_spread(look.frame, look.points[at])
    return look.points[at[np.argsort(-potential, kind="stable")]]


def log_spread(frame: Frame, points: np.ndarray) -> np.ndarray:
    """The log density of the points of a look about a frame."""
    size = len(frame.centre)
    r = np.linalg.norm(np.linalg.solve(frame.factor, (points - frame.centre).T), axis=0)
    r = np.maximum(r, 1e-12)
    t = np.arcsinh(r)
    of_t = np.where(t < NEAR, 0.5 / NEAR, 0.5 / (FAR - NEAR)) * (t <= FAR)
    log_area = math.log(2) + 0.5 * size * math.log(math.pi) - math.lgamma(size / 2)
    log_det = np.linalg.slogdet(frame.factor)[1]
    with np.errstate(divide="ignore"):
        return np.log(of_t) - np.log(np.cosh(t)) - (size - 1) * np.log(r) - log_area - log_det


class Sampled(NamedTuple):
    """log Z of the points as an importance sample, and the standard error."""

    value: float
    error: float

    def exceeds(self, value: float) -> bool:
        return self.value - value > SLACK + ABOVE * self.error


def sampled(looks: list[Look]) -> Sampled:
    """From all looks together, weighted by the mixture of what they were spread by."""
    points, values = (
        np.concatenate([getattr(look, part) for look in looks]) for part in ("points", "values")
    )
    spread = [
        log_spread(look.frame, points) + math.log(len(look.points) / len(points)) for look in looks
    ]
    weights = values - np.logaddexp.reduce(spread)
    top = weights.max()
    if not np.isfinite(top):
        return Sampled(-math.inf, math.inf)
    shares = np.exp(weights - top)
    mean = shares.mean()
    return Sampled(float(top + math.log(mean)), float(shares.std() / mean / math.sqrt(len(shares))))


__all__ = ["Look", "Sampled", "log_spread", "look_about", "sampled", "tops"]

"""Scans for mass that quadrature has missed, up to 10^5 times a mode's scale away.

Two levels of a rule agree on what both stepped over. A second mode shows in its basin, the region
where it dominates the log-density. The basin of a normal of width w at the distance a from a normal
of width 1 is about w a wide, a fixed share of the space at that distance. So points are spread
evenly over the logarithm of the distance and over the directions. Each point that is higher than
its neighbours starts an ascent, and all points together are an importance sample, whose estimate
must not exceed that of the rule.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from unnorm.integration.frame import Frame
from unnorm.integration.options import QUADRATURE, ScanOptions
from unnorm.integration.quadrature.integrand import Integrand


class Scan(NamedTuple):
    """Points u (N, D) about a frame, with log p̃ and asinh of their distances, on a grid; whether
    they are resolved, and where log p̃ is NaN or +∞.
    """

    frame: Frame
    points: np.ndarray
    values: np.ndarray
    t: np.ndarray
    shape: tuple[int, ...]
    resolved: np.ndarray
    broken: np.ndarray

    def amid_mass(self, wanted: np.ndarray, negligible: float) -> np.ndarray | None:
        """A wanted point next to one on its ray that has mass; None without any."""
        finite = np.where(np.isfinite(self.values), self.values, -np.inf)
        high = (finite > finite.max() - negligible).reshape(self.shape)
        beside = np.zeros_like(high)
        beside[1:] |= high[:-1]
        beside[:-1] |= high[1:]
        found = np.flatnonzero(wanted & beside.ravel())
        return self.points[found[0]] if len(found) else None

    @property
    def empty(self) -> np.ndarray:
        """Where log p̃ is −∞ without being lost to rounding."""
        return self.resolved & np.isneginf(self.values) & ~self.broken


def scan_about(integrand: Integrand, frame: Frame) -> Scan:
    """Evaluate log p̃ at points of all distances and directions about a frame."""
    options, size = integrand.options.scan, len(frame.centre)
    most = max(options.min_points, options.max_evaluations / integrand.count)
    full = options.shapes[size - 1]
    finer = min(1.0, (most / math.prod(full)) ** (1 / size))
    shape = tuple(2 * max(int(n * finer / 2), 2) for n in full)
    t, directions = _spread(shape, options)
    points = frame.centre + (directions * np.sinh(t)[:, None]) @ frame.factor.T
    values, resolved, broken = integrand.check_at(points)
    return Scan(frame, points, values, t, shape, resolved, broken)


@functools.cache
def _spread(shape: tuple[int, ...], options: ScanOptions) -> tuple[np.ndarray, np.ndarray]:
    """asinh of the distances (N,), and the directions (N, D)."""
    if len(shape) == 1:
        t = _distances(shape[0] // 2, options)
        return np.concatenate([t[::-1], t]), np.repeat([[-1.0], [1.0]], len(t), axis=0)
    middles = [(np.arange(n) + 0.5) / n for n in shape[1:]]
    if len(shape) == 2:
        angle = 2 * math.pi * middles[0]
        directions = np.stack([np.cos(angle), np.sin(angle)], -1)
    else:
        height, angle = np.meshgrid(2 * middles[0] - 1, 2 * math.pi * middles[1], indexing="ij")
        width = np.sqrt(1 - height**2)
        directions = np.stack([width * np.cos(angle), width * np.sin(angle), height], -1)
        directions = directions.reshape(-1, 3)
    t = _distances(shape[0], options)
    return np.repeat(t, len(directions)), np.tile(directions, (len(t), 1))


def _distances(count: int, options: ScanOptions) -> np.ndarray:
    even = (np.arange(count // 2) + 0.5) / (count // 2)
    return np.concatenate([even * options.near, options.near + even * (options.far - options.near)])


def local_maxima(scan: Scan) -> np.ndarray:
    """The points (K, D) higher than all their neighbours, by decreasing potential mass."""
    values = scan.values.reshape(scan.shape)
    around = np.full(values.shape, -np.inf)
    padded = np.pad(values, 1, constant_values=-np.inf)
    if values.ndim > 1:  # the last angle is periodic
        padded[..., 0], padded[..., -1] = padded[..., -2], padded[..., 1]
        padded[0] = np.inf  # the nearest points lie about the mode itself
    for shift in itertools.product((0, 1, 2), repeat=values.ndim):
        if shift != (1,) * values.ndim:
            shifts = zip(shift, values.shape, strict=True)
            here = tuple(slice(first, first + n) for first, n in shifts)
            around = np.maximum(around, padded[here])
    at = np.flatnonzero(np.isfinite(values) & (values > around))
    potential = scan.values[at] - scan_log_density(scan.frame, scan.points[at])
    return scan.points[at[np.argsort(-potential, kind="stable")]]


def scan_log_density(
    frame: Frame, points: np.ndarray, options: ScanOptions = QUADRATURE.scan
) -> np.ndarray:
    """The log-density of the points of a scan about a frame, as if drawn at random."""
    size, near, far = len(frame.centre), options.near, options.far
    r = np.linalg.norm(np.linalg.solve(frame.factor, (points - frame.centre).T), axis=0)
    r = np.maximum(r, 1e-12)
    t = np.arcsinh(r)
    of_t = np.where(t < near, 0.5 / near, 0.5 / (far - near)) * (t <= far)
    log_area = math.log(2) + 0.5 * size * math.log(math.pi) - math.lgamma(size / 2)
    log_det = np.linalg.slogdet(frame.factor)[1]
    with np.errstate(divide="ignore"):
        return np.log(of_t) - np.log(np.cosh(t)) - (size - 1) * np.log(r) - log_area - log_det


class ScanEstimate(NamedTuple):
    """log Z by the points of scans as an importance sample, and its standard error."""

    value: float
    error: float

    def exceeds(self, value: float, options: ScanOptions = QUADRATURE.scan) -> bool:
        """Whether the points hold more mass than the estimate `value`, beyond chance."""
        return self.value - value > options.slack + options.max_excess * self.error


def estimate_from_scans(scans: list[Scan], options: ScanOptions = QUADRATURE.scan) -> ScanEstimate:
    """The estimate of all scans together, weighted by the mixture of their densities."""
    points = np.concatenate([scan.points for scan in scans])
    values = np.concatenate([scan.values for scan in scans])
    densities = [
        scan_log_density(scan.frame, points, options) + math.log(len(scan.points) / len(points))
        for scan in scans
    ]
    log_weights = values - np.logaddexp.reduce(densities)
    top = log_weights.max()
    if not np.isfinite(top):
        return ScanEstimate(-math.inf, math.inf)
    shares = np.exp(log_weights - top)
    mean = shares.mean()
    error = float(shares.std() / mean / math.sqrt(len(shares)))
    return ScanEstimate(float(top + math.log(mean)), error)


__all__ = [
    "Scan",
    "ScanEstimate",
    "estimate_from_scans",
    "local_maxima",
    "scan_about",
    "scan_log_density",
]

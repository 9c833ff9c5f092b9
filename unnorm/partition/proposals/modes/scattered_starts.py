"""Starting points at every scale about known modes, so that basins with a fixed share of space are
found.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter
from scipy.special import gammaln, logsumexp

from unnorm.integration.quadrature.laplace import Mode
from unnorm.partition.proposals.mixture import StudentMixture


@dataclass(frozen=True)
class ScanOptions:
    """Where points are evaluated for further modes, in widths of the known modes."""

    farthest: float = 1e4
    near: float = 10.0  # most boxes of a scan reach no farther
    near_share: float = 0.75  # of the boxes
    radius_ratio: float = 1.15  # of successive radii along a ray
    rays: int = 24  # at most: the coordinate axes, the main diagonal, other diagonals
    compared: int = 9  # points in order of distance, whose heights are compared
    ring: int = 256  # points in order of distance, whose spread is the unit
    min_spread: float = 1e-3  # nats


SCAN = ScanOptions()


def far_points(modes: list[Mode], generator: np.random.Generator, count: int) -> np.ndarray:
    """Points (count, D) about the modes in turn, as far as 1 to 10⁴ of a mode's widths, all scales
    alike.

    A half-space that begins r widths away, r < 10³, holds at least a tenth of them in any number of
    dimensions.
    """
    size = len(modes[0].place)
    scales = SCAN.farthest ** generator.uniform(size=(count, 1))
    steps = scales * generator.normal(size=(count, size))
    which = np.arange(count) % len(modes)
    factors = [_root(mode.covariance) for mode in modes]
    return np.array(
        [modes[k].place + factors[k] @ step for k, step in zip(which, steps, strict=True)]
    )


def scan_points(modes: list[Mode], generator: np.random.Generator, count: int) -> np.ndarray:
    """Points (count, D) at which to look for narrow modes: along rays from the modes, and in boxes
    about them.

    Most boxes reach from 2 to 10 widths, the others to 10⁴. A mode that is narrow and far is found
    where it lies near an axis or a diagonal, or where its basin holds a share of such a box that is
    not small against 1 / count.
    """
    rays = np.concatenate(
        [_along_rays(mode, generator) for mode in modes[: max(1, len(modes) // 2)]]
    )
    rays = rays[generator.permutation(len(rays))[: count // 3]]
    rest, size = count - len(rays), len(modes[0].place)
    near = int(SCAN.near_share * rest)
    sides = np.concatenate([
        2.0 * (SCAN.near / 2.0) ** generator.uniform(size=near),
        SCAN.near * (SCAN.farthest / SCAN.near) ** generator.uniform(size=rest - near),
    ])  # fmt: skip
    steps = sides[:, None] * generator.uniform(-1.0, 1.0, size=(rest, size))
    which = generator.integers(len(modes), size=rest)
    places, widths = (
        np.array(part)[which] for part in zip(*((m.place, m.widths) for m in modes), strict=True)
    )
    return np.concatenate([rays, places + widths * steps])


def _along_rays(mode: Mode, generator: np.random.Generator) -> np.ndarray:
    size = len(mode.place)
    axes = np.eye(size)[generator.permutation(size)[: SCAN.rays // 4]]
    ones = np.ones((1, size))
    signs = generator.choice([-1.0, 1.0], size=(SCAN.rays // 2 - len(axes) - 1, size))
    directions = np.concatenate([axes, ones, signs])
    radii = SCAN.radius_ratio ** np.arange(
        math.log(2) / math.log(SCAN.radius_ratio),
        math.log(SCAN.farthest) / math.log(SCAN.radius_ratio),
    )
    steps = np.array(
        [sign * r * way for sign, r, way in itertools.product((-1.0, 1.0), radii, directions)]
    )
    return mode.place + mode.widths * steps


def anomalies(modes: list[Mode], points: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """By how much heights (N,) exceed those of points at the same distance from the nearest mode,
    in units of their spread.

    In the basin of a narrow mode log p̃ stands out among these even if it is far lower than at the
    wide mode.
    """
    gaps = [
        np.linalg.norm(np.linalg.solve(_root(m.covariance), (points - m.place).T), axis=0)
        for m in modes
    ]
    order = np.argsort(np.min(gaps, axis=0), kind="stable")
    order = order[np.isfinite(heights[order])]
    found = np.full(len(points), -np.inf)
    rise = heights[order] - median_filter(
        heights[order], SCAN.compared
    )  # 0 where heights only fall with the distance
    for ring in np.array_split(np.arange(len(order)), max(1, len(order) // SCAN.ring)):
        if len(ring):
            found[order[ring]] = rise[ring] / (np.median(np.abs(rise[ring])) + SCAN.min_spread)
    return found


def _root(covariance: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return np.diag(np.sqrt(np.maximum(np.diag(covariance), 0.0)))


def log_mixture(mixture: StudentMixture, points: np.ndarray) -> np.ndarray:
    """The log-density at points (N, D) of a mixture of Student's t."""
    size, logs = points.shape[1], []
    parts = (
        mixture.log_shares,
        mixture.centres,
        mixture.inverse_factors,
        mixture.log_dets,
        mixture.degrees_of_freedom,
    )
    for share, centre, inverse_factor, log_det, freedom in zip(
        *(np.asarray(part, float) for part in parts), strict=True
    ):
        z = (
            (points - centre) @ inverse_factor.T
            if inverse_factor.ndim == 2
            else (points - centre) * inverse_factor
        )
        constant = (
            gammaln((freedom + size) / 2)
            - gammaln(freedom / 2)
            - 0.5 * size * np.log(freedom * np.pi)
        )
        logs.append(
            share + constant - log_det - 0.5 * (freedom + size) * np.log1p((z**2).sum(1) / freedom)
        )
    return logsumexp(logs, axis=0)


__all__ = ["anomalies", "far_points", "log_mixture", "scan_points"]

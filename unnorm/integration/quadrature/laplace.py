"""Modes by their Laplace approximations."""

import math
from typing import NamedTuple

import numpy as np

from unnorm.integration.frame import Frame


class Mode(NamedTuple):
    """A local maximum: place, precision, Laplace covariance and log mass, height."""

    place: np.ndarray
    precision: np.ndarray
    covariance: np.ndarray
    log_mass: float
    height: float

    @property
    def frame(self) -> Frame:
        """The frame centred on the mode, in its own scale."""
        return Frame(self.place, np.linalg.cholesky(self.covariance))

    @property
    def scale(self) -> float:
        """The geometric mean of the standard deviations along the principal axes."""
        return float(np.exp(np.linalg.slogdet(self.covariance)[1] / (2 * len(self.place))))

    @property
    def widths(self) -> np.ndarray:
        """The standard deviations of the Laplace approximation."""
        return np.sqrt(np.diag(self.covariance))

    def squared_distance(self, points: np.ndarray) -> np.ndarray:
        """Of points (N, D), in the mode's own scale."""
        z = np.linalg.solve(np.linalg.cholesky(self.covariance), (points - self.place).T)
        return np.minimum(np.sum(z**2, 0), 1e300)


def distinct_modes(ends: np.ndarray, heights: np.ndarray, precisions: np.ndarray) -> list[Mode]:
    """The modes among the ends of ascents, each once, the highest first."""
    modes: list[Mode] = []
    for i in np.argsort(-np.nan_to_num(heights, nan=-np.inf), kind="stable"):
        if not np.isfinite(heights[i]) or not _is_maximum(precisions[i]):
            continue
        covariance = _covariance(precisions[i])
        gaps = [
            (ends[i] - m.place) @ np.linalg.solve(m.covariance, ends[i] - m.place) for m in modes
        ]
        if min(gaps, default=np.inf) > 0.01:
            log_mass = heights[i] + 0.5 * np.linalg.slogdet(covariance)[1]
            modes.append(Mode(ends[i], precisions[i], covariance, log_mass, heights[i]))
    return modes


def _is_maximum(precision: np.ndarray) -> bool:
    """Whether no direction curves upwards, as on the algebraic tails where an ascent may stop."""
    if not np.all(np.isfinite(precision)):
        return False
    curves = np.linalg.eigvalsh(precision)
    return bool(curves[0] >= -1e-6 * np.abs(curves).max())


def _covariance(precision: np.ndarray, flat_scale: float = 100.0) -> np.ndarray:
    """The inverse; directions without downward curvature become `flat_scale` times the widest."""
    curves, axes = np.linalg.eigh(np.nan_to_num(precision))
    good = curves > 1e-8 * max(curves.max(), 0.0)
    largest = 1 / math.sqrt(curves[good].min()) if good.any() else 1.0
    deviations = np.where(good, 1 / np.sqrt(np.where(good, curves, 1.0)), flat_scale * largest)
    return (axes * deviations**2) @ axes.T

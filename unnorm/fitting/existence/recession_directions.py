"""Directions of recession, in which a loss that decreases in every margin decreases without end.

A loss Σ_r ℓ_r(m_r) with each ℓ_r strictly decreasing in its margin m = A θ + b has no finite
minimum if and only if there is a direction d with A d ≥ 0 and A d ≠ 0 (Haberman, 1974; Albert and
Anderson, 1984). Directions with A d = 0 are not identified at all.

References:
    Albert and Anderson (1984), doi:10.1093/biomet/71.1.1; Konis (2007), Linear programming
    algorithms for detecting separated data, Oxford (the programme); Geyer (2009),
    doi:10.1214/08-EJS349 (the limit).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
from scipy.optimize import linprog


@dataclass(frozen=True)
class ConeOptions:
    """Tolerances and sizes of the linear programmes."""

    # Share of the largest eigenvalue of a scaled Gram matrix, below which one is 0.
    null: float = 1e-13
    # Entries of rows and directions of length 1 below this are 0.
    zero: float = 1e-9
    # Of a direction over the margins that it opens.
    max_length: float = 1e6
    # Of one programme; at a minimum there are few.
    max_rows: int = 20_000
    # Parameters whose signs are found in the whole cone; beyond, in one direction of it.
    max_signs: int = 60


CONE = ConeOptions()


class Cone(NamedTuple):
    """The directions of recession of p parameters, and what stays determined in their limit."""

    direction: np.ndarray  # (p,) in the relative interior; 0 where there is none
    signs: np.ndarray  # (p,) ±1 if the parameter diverges in all directions alike, else 0
    undetermined: np.ndarray  # (p,) bool: neither finite nor of one sign in the limit
    unidentified: np.ndarray  # (p,) bool: part of a direction in which no margin changes
    limit: np.ndarray  # (p, q) basis of the combinations θ'v that are determined in the limit
    separated: np.ndarray  # (m,) bool: the margins that increase along the direction

    def any(self) -> bool:
        return bool(self.separated.any())


def cone(matrix: np.ndarray, tight: np.ndarray) -> Cone:
    """Return the directions d with A d ≥ 0, given that A d = 0 in the rows that are `tight`.

    At a minimum Σ_r w_r A_r = 0 with weights w_r > 0, so that A_r d = 0 in every row whose weight
    is distinguishable from 0. These equations leave a small linear programme, or usually none.
    """
    size = matrix.shape[1]
    scale = np.abs(matrix).max(0, initial=0.0)
    scale = np.where(scale > 0, scale, 1.0)
    rows = matrix / scale
    lengths = np.abs(rows).max(1, initial=0.0)
    rows = rows / np.where(lengths > CONE.zero, lengths, np.inf)[:, None]
    free = _null_space(rows[tight])
    separated = np.zeros(len(rows), bool)
    direction = np.zeros(size)
    if free.shape[1]:
        loose = np.flatnonzero(~tight)
        direction, opened = _opening(rows[loose] @ free)
        direction = free @ direction
        separated[loose[opened]] = True
    limit = _null_space(rows[~separated])
    signs, undetermined = _signs(limit, rows[separated], direction)
    unidentified = np.abs(_null_space(rows)).max(1, initial=0.0) > 1e-6
    basis = _null_space(limit.T) if limit.shape[1] else np.eye(size)
    unidentified &= ~undetermined & (signs == 0)
    return Cone(
        direction / scale, signs, undetermined, unidentified, basis * scale[:, None], separated
    )


def _null_space(rows: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (p, k) of the null space."""
    if not rows.size:
        return np.eye(rows.shape[1])
    values, vectors = np.linalg.eigh(rows.T @ rows)
    return vectors[:, values <= CONE.null * len(values) * max(values[-1], 1.0)]


def _opening(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximise Σ t subject to R z ≥ t, 0 ≤ t ≤ 1.

    Returns:
        z, which increases every margin that some direction increases, and their indices.
    """
    lengths = np.abs(rows).max(1, initial=0.0)
    matters = np.flatnonzero(lengths > CONE.zero)
    nothing = np.zeros(rows.shape[1]), np.zeros(0, int)
    if not matters.size:
        return nothing
    unique, place = np.unique(
        np.round(rows[matters] / lengths[matters, None], 10), axis=0, return_inverse=True
    )
    count, size = unique.shape
    if count > CONE.max_rows:
        return nothing
    found = linprog(
        np.concatenate([np.zeros(size), -np.ones(count)]),
        A_ub=scipy.sparse.hstack([scipy.sparse.csr_array(-unique), scipy.sparse.eye_array(count)]),
        b_ub=np.zeros(count),
        bounds=[(-CONE.max_length, CONE.max_length)] * size + [(0.0, 1.0)] * count,
    )
    if not found.success:
        return nothing
    opened = unique @ found.x[:size] > 0.5
    return (found.x[:size], matters[opened[place.ravel()]]) if opened.any() else nothing


def _signs(
    limit: np.ndarray, rows: np.ndarray, direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the common signs of all directions of the cone, and which parameters have none."""
    size = len(limit)
    signs, undetermined = np.zeros(size, int), np.zeros(size, bool)
    involved = np.flatnonzero(np.abs(limit).max(1, initial=0.0) > 1e-6)
    if not len(rows):
        return signs, undetermined
    matrix = np.unique(np.round(rows @ limit, 10), axis=0)
    for place in involved:
        if len(involved) > CONE.max_signs:
            least, most = min(direction[place], 0.0), max(direction[place], 0.0)
        else:
            least, most = (_extreme(matrix, sign * limit[place]) * sign for sign in (-1, 1))
        up, down = most > 1e-6, least < -1e-6
        signs[place] = int(up) - int(down)
        undetermined[place] = up and down
    return signs, undetermined


def _extreme(rows: np.ndarray, objective: np.ndarray) -> float:
    """Return max c'z over the cone R z ≥ 0 within the box [−1, 1]."""
    found = linprog(
        -objective, A_ub=-rows, b_ub=np.zeros(len(rows)), bounds=[(-1.0, 1.0)] * rows.shape[1]
    )
    return -float(found.fun) if found.success else 0.0

"""Which h finds the edges of a non-negative graphical model: the simulation of Yu, Drton and
Shojaie (2019).

Their design, arXiv:1812.10551, section 6, with 50 variables: a block-diagonal precision, five
blocks of ten, whose entries are uniform on [.5, 1] with probability .2 (200 rows) or .8 (1,000
rows) and else 0, the diagonal such that the smallest eigenvalue is .1; a Gaussian around 0,
truncated to x ≥ 0.
"""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

import unnorm as un

SIZE, BLOCK, SMALLEST, SETS = 50, 10, 0.1, 20
ABOVE = np.triu_indices(SIZE, 1)


@un.density
def non_negative(
    x: un.Positive["d"], *, own: un.Real["d"] = 1.0, coupling: un.Symmetric["d"] = 0.0
):
    """A truncated Gaussian with the diagonal of its precision apart, which the lasso leaves
    alone."""
    return -0.5 * (own @ x**2 + x @ coupling @ x)


def precision(rng, share: float) -> np.ndarray:
    blocks = np.zeros((SIZE, SIZE))
    for first in range(0, SIZE, BLOCK):
        kept = rng.uniform(0.5, 1, (BLOCK, BLOCK)) * (rng.uniform(size=(BLOCK, BLOCK)) < share)
        blocks[first : first + BLOCK, first : first + BLOCK] = np.triu(kept, 1) + np.triu(kept, 1).T
    return blocks + np.eye(SIZE) * (SMALLEST - np.linalg.eigvalsh(blocks)[0])


def truncated_normal(matrix: np.ndarray, rows: int, rng, sweeps: int = 1000) -> np.ndarray:
    """Rows from as many Gibbs chains, each variable drawn from its exact conditional."""
    x = np.ones((rows, SIZE))
    for _ in range(sweeps):
        for j in range(SIZE):
            deviation = matrix[j, j] ** -0.5
            mean = x[:, j] - x @ matrix[:, j] / matrix[j, j]
            above = rng.uniform(size=rows) * ndtr(
                mean / deviation
            )  # P(X > x_j), uniform up to P(X > 0)
            x[:, j] = np.maximum(mean - deviation * ndtri(above), 1e-12)
    return x


def area(found: np.ndarray, edges: np.ndarray) -> float:
    """Under the curve of true against false positives: `found` (strengths, pairs), `edges`
    (pairs,)."""
    true, false = found[:, edges].mean(1), found[:, ~edges].mean(1)
    order = np.lexsort((true, false))
    return float(
        np.trapezoid(
            np.concatenate([[0], true[order], [1]]), np.concatenate([[0], false[order], [1]])
        )
    )


def area_of_path(x: np.ndarray, edges: np.ndarray, h: str) -> float:
    objective, penalty = un.objectives.ScoreMatching(h=h), {"coupling": un.L1()}
    found = un.path(non_negative, x, objective, penalty=penalty, seed=0, progress=False)
    return area(found.coefficients[found.penalised].to_numpy() != 0, edges)


def test_the_area_counts_pairs_that_come_in_order():
    found, edges = (
        np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]) > 0,
        np.array([1, 1, 0, 0]) > 0,
    )
    assert area(found, edges) == 1
    assert area(found, ~edges) == 0
    assert area(found[[0, 3]], edges) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "share"), [(200, 0.2), (1000, 0.8)])
def test_log1p_finds_more_edges_than_the_square(rows, share):
    areas = {"log1p": [], "square": []}
    for seed in range(SETS):
        rng = np.random.default_rng(seed)
        matrix = precision(rng, share)
        x = truncated_normal(matrix, rows, rng)
        for h, kept in areas.items():
            kept.append(area_of_path(x, matrix[ABOVE] != 0, h))
    gain = np.subtract(areas["log1p"], areas["square"])
    print({h: (np.mean(kept), np.std(kept)) for h, kept in areas.items()}, gain, flush=True)
    assert gain.mean() > 3 * gain.std(ddof=1) / SETS**0.5

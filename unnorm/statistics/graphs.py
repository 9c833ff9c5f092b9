"""Distributions in a graph: degrees, edgewise shared partners, geodesic distances.

Graphs are matrices of 0 and 1, (..., d, d), with y_ij = 1 for a tie from i to j.
"""

import numpy as np


def degree_counts(graphs: np.ndarray) -> np.ndarray:
    """How many nodes have 0, 1, ..., d − 1 ties, (..., d); of directed graphs, that leave them."""
    return _counts(graphs.sum(-1), graphs.shape[-1])


def shared_partner_counts(graphs: np.ndarray) -> np.ndarray:
    """How many ties ij have 0, 1, ..., d − 2 nodes k with ties ik and kj, (..., d − 1).

    Example:
        >>> triangle = 1.0 - np.eye(3)
        >>> shared_partner_counts(triangle).tolist()
        [0.0, 3.0]
    """
    size = graphs.shape[-1]
    partners = graphs @ graphs
    counted = np.stack(
        [np.sum(graphs * (partners == m), (-1, -2)) for m in range(max(size - 1, 1))], -1
    )
    return counted * _weight(graphs)[..., None]


def distance_counts(graphs: np.ndarray) -> np.ndarray:
    """How many pairs are 1, ..., d − 1 ties apart along the shortest path, and how many are not
    connected, (..., d).
    """
    from scipy.sparse.csgraph import shortest_path

    size = graphs.shape[-1]
    flat = graphs.reshape(-1, size, size)
    off = ~np.eye(size, dtype=bool)
    counts = np.zeros((len(flat), size))
    for number, graph in enumerate(flat):
        steps = shortest_path(graph, unweighted=True)[off]
        apart = np.where(np.isfinite(steps), steps, size).astype(int)
        counts[number] = np.bincount(apart, minlength=size + 1)[1:]
    return counts.reshape(*graphs.shape[:-2], size) * _weight(graphs)[..., None]


def _counts(values: np.ndarray, size: int) -> np.ndarray:
    return np.stack([np.sum(values == k, -1) for k in range(size)], -1).astype(float)


def _weight(graphs: np.ndarray) -> np.ndarray:
    """1/2 where the graph is symmetric, each of whose pairs stands twice."""
    symmetric = np.all(graphs == np.swapaxes(graphs, -1, -2))
    return np.full(graphs.shape[:-2], 0.5 if symmetric else 1.0)


__all__ = ["degree_counts", "distance_counts", "shared_partner_counts"]

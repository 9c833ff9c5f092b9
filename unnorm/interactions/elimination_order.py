"""Orders of variable elimination with small tables."""

import math
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee


class StructureError(Exception):
    """The structure of a density does not admit the method.

    The message is the second half of a sentence; `evaluations` are those spent so far.
    """

    def __init__(self, why: str, evaluations: dict[str, int] | None = None) -> None:
        super().__init__(why)
        self.evaluations = evaluations or {"values": 0, "gradients": 0}


def elimination_order(
    sites: int, pairs: list[tuple[int, int]], bases: np.ndarray, largest: int = 2**22
) -> list[int]:
    """An order with small tables: reverse Cuthill-McKee, or a greedy order if its tables are large.

    The greedy orders eliminate the site with the smallest table, or with the least fill.

    Args:
        sites: the number of sites.
        pairs: (i, j), the sites that interact.
        bases: the number of states of each site.
        largest: the limit on the entries of a table.

    Raises:
        StructureError: every order needs a table with more entries.

    Example:
        >>> elimination_order(3, [(0, 1), (1, 2)], np.array([2, 2, 2]))
        [2, 1, 0]

    References:
        Cuthill and McKee (1969), doi:10.1145/800195.805928; Kjærulff (1990), Triangulation of
        graphs: algorithms giving small total state space (the greedy orders).
    """
    bits, most = np.log2(bases), math.log2(largest) + 1e-9
    found = [_width_of(_reverse_cuthill_mckee(sites, pairs), _neighbours(sites, pairs), bits, most)]
    if found[0][0] > 14:  # bits: below, a better order would make no difference
        greedy = [_greedy(_neighbours(sites, pairs), bits, fill, most) for fill in (False, True)]
        found += greedy
    width, order = min(found, key=lambda one: one[0])
    if width > most:
        raise StructureError(f"elimination would need tables of more than {largest:,} entries")
    return order


def _neighbours(sites: int, pairs: list[tuple[int, int]]) -> list[set[int]]:
    beside: list[set[int]] = [set() for _ in range(sites)]
    for i, j in pairs:
        beside[i].add(j)
        beside[j].add(i)
    return beside


def _reverse_cuthill_mckee(sites: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Sites by their distance from one end: on a strip, the front is as wide as the strip."""
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    graph = csr_array(
        (np.ones(2 * len(rows)), (np.r_[rows, columns], np.r_[columns, rows])), shape=(sites, sites)
    )
    return reverse_cuthill_mckee(graph, symmetric_mode=True).tolist()


def _width_of(
    order: list[int], beside: list[set[int]], bits: np.ndarray, most: float
) -> tuple[float, list[int]]:
    """The base-2 logarithm of the largest table, infinite if above `most`, and the order."""
    width = 0.0
    for site in order:
        width = max(width, _bits(site, beside, bits))
        if width > most:
            return math.inf, order
        _take_out(site, beside)
    return width, order


def _greedy(
    beside: list[set[int]], bits: np.ndarray, by_fill: bool, most: float
) -> tuple[float, list[int]]:
    """The base-2 logarithm of the largest table, infinite if above `most`, and a greedy order."""
    left, width = set(range(len(beside))), 0.0
    order: list[int] = []
    cost: dict[int, Any] = {}
    while left:
        for site in left - cost.keys():
            size = _bits(site, beside, bits)
            too_large = size > most
            cost[site] = (
                too_large,
                _fill(site, beside) if by_fill and not too_large else 0,
                size,
                site,
            )
        too_large, _, size, site = min(cost[one] for one in left)
        if too_large:
            return math.inf, order
        around = _take_out(site, beside)
        # The costs of neighbours have changed and, if fill is counted, those of their neighbours.
        for one in around.union(*(beside[n] for n in around)) if by_fill else around:
            cost.pop(one, None)
        left.discard(site)
        order.append(site)
        width = max(width, size)
    return width, order


def _bits(site: int, beside: list[set[int]], bits: np.ndarray) -> float:
    """The base-2 logarithm of the entries in the table of a site and its neighbours."""
    return float(bits[site] + sum(bits[one] for one in beside[site]))


def _take_out(site: int, beside: list[set[int]]) -> set[int]:
    """Eliminate a site: its neighbours, which are returned, become neighbours of each other."""
    around = beside[site]
    for one in around:
        beside[one] |= around
        beside[one] -= {one, site}
    return around


def _fill(site: int, beside: list[set[int]]) -> int:
    """The number of pairs of the site's neighbours that are not neighbours themselves."""
    around = list(beside[site])
    return sum(other not in beside[one] for k, one in enumerate(around) for other in around[:k])


__all__ = ["StructureError", "elimination_order"]

"""In which order sites are summed out, one after the other, so that the tables stay small."""

import math

import numpy as np

LARGEST = 2**22  # entries of a table


class Refused(Exception):
    """Why elimination does not serve a density, as the latter half of a sentence."""


def elimination_order(sites: int, pairs: list[tuple[int, int]], bases: np.ndarray) -> list[int]:
    """The better of two greedy orders: the site with the least fill first, or the one with the smallest table.

    Args:
        sites: how many.
        pairs: (i, j) of the sites that interact.
        bases: the number of states of each site.

    Raises:
        Refused: either comes to a table of more than 2^22 entries.

    Example:
        >>> elimination_order(3, [(0, 1), (1, 2)], np.array([2, 2, 2]))  # a chain: its ends first
        [0, 1, 2]

    References:
        Kjærulff (1990), Triangulation of graphs: algorithms giving small total state space (both orders).
    """
    found = [_greedy(sites, pairs, np.log2(bases), fill) for fill in (False, True)]
    _, order = min(found, key=lambda one: one[0])
    if order is None:
        raise Refused(f"elimination would come to tables of more than {LARGEST:,} entries")
    return order


def _greedy(sites: int, pairs, bits: np.ndarray, by_fill: bool) -> tuple[float, list[int] | None]:
    """A greedy order and the base-2 logarithm of its largest table; None as soon as every choice is too large."""
    beside: list[set[int]] = [set() for _ in range(sites)]
    for i, j in pairs:
        beside[i].add(j)
        beside[j].add(i)
    left, width, order, cost = set(range(sites)), 0.0, [], {}
    while left:
        for site in left - cost.keys():
            size = bits[site] + sum(bits[one] for one in beside[site])
            fill = _fill(beside, site) if by_fill and size <= math.log2(LARGEST) else 0
            cost[site] = (size > math.log2(LARGEST), fill, size, site)
        too_large, _, size, site = min(cost[one] for one in left)
        if too_large:
            return math.inf, None
        around = beside[site]
        for one in around:
            beside[one] |= around - {one}
            beside[one].discard(site)
        # Costs of neighbours have changed, and, where fill is counted, those of their neighbours.
        for one in around | (set().union(*(beside[n] for n in around)) if by_fill else set()):
            cost.pop(one, None)
        del cost[site]
        left.discard(site)
        order.append(site)
        width = max(width, float(size))
    return width, order


def _fill(beside: list[set[int]], site: int) -> int:
    """How many pairs of the site's neighbours are not neighbours yet."""
    around = list(beside[site])
    return sum(other not in beside[one] for k, one in enumerate(around) for other in around[:k])


__all__ = ["LARGEST", "Refused", "elimination_order"]

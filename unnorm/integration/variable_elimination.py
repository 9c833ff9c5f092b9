"""log Z of many discrete sites that interact in pairs, by variable elimination: chains, strips,
small lattices.

The sites are summed out one after the other. A sum costs the number of joint states of the site and
its neighbours; on a chain or a strip it is the product with a transfer matrix.

References: Kramers and Wannier (1941), doi:10.1103/PhysRev.60.252 (the transfer matrix); Dechter
(1999), doi:10.1016/S0004-3702(99)00059-4 (elimination).
"""

import numpy as np

from unnorm.declaration.density import Density
from unnorm.interactions.elimination_order import StructureError
from unnorm.interactions.pairwise import Pairwise, pairwise_form


def has_elimination(density: Density) -> bool:
    """Whether `eliminate` serves: discrete sites, 1,024 at most, that interact in pairs, and an
    order with small tables.

    Args:
        density: with every value present.
    """
    try:
        pairwise_form(density.on_chart().for_jit())
    except StructureError:
        return False
    return True


def eliminate(form: Pairwise) -> tuple[float, int]:
    """log Z and the number of entries of the largest table.

    For each site the tables that contain it are added, and the site is summed out.

    Example:
        >>> import unnorm as un
        >>> chain = un.Density(lambda x: 0.5 * (x[1:] * x[:-1]).sum(), {"x": un.Spin[50]})
        >>> closed = 50 * np.log(2) + 49 * np.log(np.cosh(0.5))
        >>> bool(abs(eliminate(pairwise_form(chain))[0] - closed) < 1e-9)
        True
    """
    tables: list[tuple[tuple[int, ...], np.ndarray]] = [
        *(((i,), part) for i, part in enumerate(form.sites)),
        *form.pairs.items(),
    ]
    total, largest = form.constant, 1
    for site in form.order:
        meeting = [table for table in tables if site in table[0]]
        tables = [table for table in tables if site not in table[0]]
        others = tuple(sorted({one for names, _ in meeting for one in names} - {site}))
        spread = (_spread(names, table, (site, *others)) for names, table in meeting)
        joint: np.ndarray = sum(spread)  # type: ignore[assignment]
        largest = max(largest, joint.size)
        remaining = _log_sum(joint)
        if others:
            tables.append((others, remaining))
        else:
            total += float(remaining)
    return total, largest


def _spread(names: tuple[int, ...], table: np.ndarray, onto: tuple[int, ...]) -> np.ndarray:
    """A table over some sites, broadcast to a larger set of sites."""
    table = np.transpose(table, np.argsort([onto.index(name) for name in names]))
    held = set(names)
    return np.expand_dims(table, [axis for axis, name in enumerate(onto) if name not in held])


def _log_sum(table: np.ndarray) -> np.ndarray:
    """log Σ exp over the first axis; minus infinity where all entries are."""
    top = np.max(table, 0)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(table - safe), 0)) + safe


__all__ = ["eliminate", "has_elimination"]

"""Chains that are copies of each other: R-hat and effective sample sizes count such a chain
twice.
"""

import itertools

import numpy as np

from unnorm.core.findings import Finding, FindingCode, listed
from unnorm.diagnostics.draws import Drawn

MAX_CHAINS = 64  # compared pair by pair; of more, so many are
FEWEST_MOVES = 10  # in common, before chains count as copies
SHARED = 0.2  # of a chain's draws found in another, in whatever order
CHANCE = 1e-6  # of a false alarm, for chains of few states
LAGS = (7, 31, 101, 211)  # at which independent chains would agree as often as copies do by chance


def copy_findings(drawn: Drawn, discrete: set[str]) -> list[Finding]:
    """Return which chains repeat another's draws, bit by bit, wholly or in part.

    Args:
        drawn: the draws.
        discrete: the variables that are discrete; chains of these alone agree often by chance.

    Returns:
        One finding, or none.
    """
    chains = np.unique(np.linspace(0, drawn.chains - 1, min(drawn.chains, MAX_CHAINS)).astype(int))
    if len(chains) < 2:
        return []
    ids = _numbered(drawn, chains)
    alone = set(drawn.values) <= discrete
    pairs = itertools.combinations(range(len(chains)), 2)
    test = _agree_beyond_chance if alone else _share_draws
    found = [(a, b) for a, b in pairs if test(ids[a], ids[b], drawn.chains)]
    if not found:
        return []
    named = [f"chain {chains[b]} of chain {chains[a]}" for a, b in found]
    same = all((ids[a] == ids[b]).all() for a, b in found)
    what = "are copies, bit by bit" if same else "are copies in part"
    return [
        Finding(
            f"Chains {what}: {listed(named)}, so that R-hat and effective sample sizes count "
            "draws twice",
            "sample every chain with a seed of its own, or pass each chain once",
            code=FindingCode.EQUAL_CHAINS,
        )
    ]


def _numbered(drawn: Drawn, chains: np.ndarray) -> np.ndarray:
    """A number for each different draw of all variables, (chain, draw)."""
    columns = [np.ascontiguousarray(value[chains].reshape(len(chains) * drawn.draws, -1)) for value in
               drawn.values.values()]  # fmt: skip
    rows = np.concatenate([column.view(np.uint8).reshape(len(column), -1) for column in columns], 1)
    rows = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1]))).ravel()
    return np.unique(rows, return_inverse=True)[1].reshape(len(chains), drawn.draws)


def _share_draws(a: np.ndarray, b: np.ndarray, chains: int) -> bool:
    """Whether continuous draws that each chain visits once are the other's, too: at one time, or
    many at any.
    """
    once_a, once_b = _visited_once(a), _visited_once(b)
    together = a[1:][(a[1:] == b[1:]) & (a[1:] != a[:-1])]
    if np.isin(together, np.intersect1d(once_a, once_b)).sum() >= FEWEST_MOVES:
        return True
    shared = len(np.intersect1d(once_a, once_b))
    return shared >= max(FEWEST_MOVES, SHARED * min(len(once_a), len(once_b)))


def _visited_once(ids: np.ndarray) -> np.ndarray:
    """Draws to which a chain does not come back: a value at a bound, where rounding puts many, is
    none.
    """
    entries = ids[np.concatenate([[True], ids[1:] != ids[:-1]])]
    values, counts = np.unique(entries, return_counts=True)
    return values[counts == 1]


def _agree_beyond_chance(a: np.ndarray, b: np.ndarray, chains: int) -> bool:
    """Whether chains of few states move alike for longer than independent ones would."""
    lags = [lag for lag in LAGS if lag < len(a) // 2]
    if not lags:
        return False
    chance = np.mean([_agreement(a, np.roll(b, lag)).mean() for lag in lags])
    longest = _longest_run(_agreement(a, b))
    if longest < FEWEST_MOVES:
        return False
    trials = len(a) * chains**2
    return bool(longest * np.log(np.clip(chance, 0.05, 1 - 1e-9)) < np.log(CHANCE / trials))


def _agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether two chains agree, at the times at which one of them has moved."""
    moved = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    agree = (a[1:] == b[1:])[moved]
    return agree if len(agree) else np.ones(1, bool)


def _longest_run(flags: np.ndarray) -> int:
    breaks = np.flatnonzero(np.concatenate([[True], ~flags, [True]]))
    return int(np.diff(breaks).max() - 1)

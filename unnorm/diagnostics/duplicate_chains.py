"""Chains that are copies of each other: R-hat and effective sample sizes count such a chain
twice.
"""

import itertools

import numpy as np

from unnorm.core.findings import Finding, FindingCode, join_names
from unnorm.diagnostics.draws import Draws
from unnorm.diagnostics.options import DUPLICATES, DuplicateCriteria


def duplicate_findings(
    draws: Draws, discrete: set[str], criteria: DuplicateCriteria = DUPLICATES
) -> list[Finding]:
    """Return which chains repeat another's draws, bit for bit, in whole or in part.

    Args:
        draws: the draws.
        discrete: the variables that are discrete; chains of these alone agree often by chance.
        criteria: what counts as a copy.

    Returns:
        One finding, or none.
    """
    compared = min(draws.chains, criteria.max_chains)
    chains = np.unique(np.linspace(0, draws.chains - 1, compared).astype(int))
    if len(chains) < 2:
        return []
    ids = _draw_ids(draws, chains)
    pairs = itertools.combinations(range(len(chains)), 2)
    few_states = set(draws.values) <= discrete
    test = _agree_beyond_chance if few_states else _share_draws
    found = [(a, b) for a, b in pairs if test(ids[a], ids[b], draws.chains, criteria)]
    if not found:
        return []
    named = [f"chain {chains[b]} of chain {chains[a]}" for a, b in found]
    same = all((ids[a] == ids[b]).all() for a, b in found)
    what = "are copies, bit for bit" if same else "are copies in part"
    return [
        Finding(
            f"Chains {what}: {join_names(named)}, so that R-hat and effective sample sizes count "
            "draws twice",
            "sample every chain with a seed of its own, or pass each chain once",
            code=FindingCode.EQUAL_CHAINS,
        )
    ]


def _draw_ids(draws: Draws, chains: np.ndarray) -> np.ndarray:
    """A number for each different draw of all variables, (chain, draw)."""
    rows = len(chains) * draws.draws
    columns = [
        np.ascontiguousarray(value[chains].reshape(rows, -1)) for value in draws.values.values()
    ]
    bits = np.concatenate([column.view(np.uint8).reshape(len(column), -1) for column in columns], 1)
    whole = np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1]))).ravel()
    return np.unique(whole, return_inverse=True)[1].reshape(len(chains), draws.draws)


def _share_draws(a: np.ndarray, b: np.ndarray, chains: int, criteria: DuplicateCriteria) -> bool:
    """Whether continuous draws that each chain visits once also occur in the other: at the same
    time, or many at any time.
    """
    once_a, once_b = _unique_visits(a), _unique_visits(b)
    together = a[1:][(a[1:] == b[1:]) & (a[1:] != a[:-1])]
    if np.isin(together, np.intersect1d(once_a, once_b)).sum() >= criteria.min_moves:
        return True
    shared = len(np.intersect1d(once_a, once_b))
    return shared >= max(criteria.min_moves, criteria.shared * min(len(once_a), len(once_b)))


def _unique_visits(ids: np.ndarray) -> np.ndarray:
    """Draws to which a chain does not return; rounding puts many on a bound."""
    entries = ids[np.concatenate([[True], ids[1:] != ids[:-1]])]
    values, counts = np.unique(entries, return_counts=True)
    return values[counts == 1]


def _agree_beyond_chance(
    a: np.ndarray, b: np.ndarray, chains: int, criteria: DuplicateCriteria
) -> bool:
    """Whether chains of few states move alike for longer than independent ones would."""
    lags = [lag for lag in criteria.lags if lag < len(a) // 2]
    if not lags:
        return False
    chance = np.mean([_agreement(a, np.roll(b, lag)).mean() for lag in lags])
    longest = _longest_run(_agreement(a, b))
    if longest < criteria.min_moves:
        return False
    log_level = np.log(criteria.false_alarm / (len(a) * chains**2))
    return bool(longest * np.log(np.clip(chance, 0.05, 1 - 1e-9)) < log_level)


def _agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether two chains agree, at the times at which one of them has moved."""
    moved = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    agree = (a[1:] == b[1:])[moved]
    return agree if len(agree) else np.ones(1, bool)


def _longest_run(flags: np.ndarray) -> int:
    breaks = np.flatnonzero(np.concatenate([[True], ~flags, [True]]))
    return int(np.diff(breaks).max() - 1)

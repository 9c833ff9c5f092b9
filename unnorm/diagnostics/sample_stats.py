"""Findings from what the sampler tells of its own steps."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, listed
from unnorm.diagnostics.draws import Drawn

STUCK_ACCEPTANCE = 0.01  # below this a chain is as good as not moving
LOW_ACCEPTANCE = 0.05
HIGH_ACCEPTANCE = 0.95  # of a random walk: its steps are too short to get anywhere
LOW_BFMI = 0.3  # Betancourt (2016), arXiv:1604.00695
MAX_TREE_DEPTH = 10  # the usual limit, where the draws do not tell theirs
SATURATED_SHARE = 0.01
FEW_DIVERGENCES = 1e-3  # a share of the trajectories that is told as a warning: 10 in 10,000
PLACES = 2  # entries by which the place of divergences is told

Stats = Mapping[str, np.ndarray]


def sampler_findings(drawn: Drawn) -> list[Finding]:
    """Return what the statistics of the steps, arrays (chain, draw) by ArviZ's names, give rise to.

    Args:
        drawn: the draws; of their statistics acceptance_rate, is_accepted, diverging, energy,
            tree_depth, nan_proposal and inf_proposal, of their attributes `kernel`, `tuning`,
            `findings` and `incomplete` are read.

    Returns:
        The findings, errors and warnings mixed.

    References:
        Betancourt (2017), A conceptual introduction to Hamiltonian Monte Carlo, arXiv:1701.02434.
    """
    stats, attrs = drawn.stats, drawn.attrs
    return [
        *_told_by_sampling(attrs),
        *_bad_proposals(stats),
        *_divergences(drawn),
        *_acceptance(stats, str(attrs.get("kernel", ""))),
        *_tree_depth(stats, attrs),
        *_energy(stats),
    ]


def _json(attrs: Mapping[str, Any], name: str, kind: type) -> Any:
    """An attribute that holds JSON; draws from elsewhere may hold anything under its name."""
    try:
        found = json.loads(attrs[name])
    except (KeyError, TypeError, ValueError):
        return kind()
    return found if isinstance(found, kind) else kind()


def _told_by_sampling(attrs):
    for told in _json(attrs, "findings", list):
        if isinstance(told, list) and len(told) in (3, 4) and told[2] in (ERROR, WARNING, NOTE):
            yield Finding(*map(str, told[:3]), _code(*told[3:]))
    if attrs.get("incomplete"):
        yield Finding(
            "The run did not come to its end, so that these are only its first draws",
            "resume it from its store, or judge the draws as the short run that they are",
            code=FindingCode.INTERRUPTED,
        )


def _code(name: Any = FindingCode.OTHER) -> FindingCode:
    """A code that was saved; drawn by another version it may be unknown here."""
    return FindingCode(name) if name in list(FindingCode) else FindingCode.OTHER


def _count(stats: Stats, name: str) -> tuple[int, int]:
    values = np.asarray(stats[name], bool) if name in stats else np.zeros(1, bool)
    return int(values.sum()), values.size


def _bad_proposals(stats):
    count, total = _count(stats, "nan_proposal")
    if count:
        yield Finding(
            f"The log-density was NaN at {count:,} of {total:,} proposals; a NaN is treated as a "
            "rejection, so the "
            "draws are restricted to where it is defined",
            "mend the density where it is NaN (the log or root of a negative number, 0 · inf), "
            "or narrow its support",
            code=FindingCode.NOT_FINITE,
        )
    count, total = _count(stats, "inf_proposal")
    if count:
        yield Finding(
            f"The log-density was +inf at {count:,} of {total:,} proposals, where a chain never "
            "leaves again",
            "mend the density: an infinite peak cannot be sampled; bound it, or narrow the support",
            code=FindingCode.NOT_FINITE,
        )


def _divergences(drawn: Drawn):
    count, total = _count(drawn.stats, "diverging")
    if count:
        few = count / total <= FEW_DIVERGENCES
        consequence = (
            "too few to matter by themselves"
            if few
            else "so the draws may miss a region of strong curvature"
        )
        yield Finding(
            f"{count:,} of {total:,} trajectories diverged ({count / total:.2%}){_place(drawn)}, "
            f"{consequence}",
            "raise target_acceptance_rate (to .95 or .99), or reparametrise the density",
            WARNING if few else ERROR,
            FindingCode.DIVERGENCES,
        )


def _place(drawn: Drawn) -> str:
    """The entries in which the draws at the divergences are least typical, with their values
    there.
    """
    at = np.asarray(drawn.stats["diverging"], bool)
    found = []
    for label, values in drawn.columns().items():
        if values.shape != at.shape or not np.isfinite(values).all():
            continue
        middle = float(np.median(values[at]))
        below = float((values < middle).mean() + (values == middle).mean() / 2)
        found.append(
            (abs(below - 0.5), f"{label} near {middle:.3g} (above {below:.0%} of its draws)")
        )
    if not found:
        return ""
    worst = sorted(found, key=lambda one: -one[0])[:PLACES]
    return " around " + " and ".join(words for _, words in worst)


def _acceptance(stats, kernel):
    rate = stats.get(
        "acceptance_rate", stats.get("is_accepted")
    )  # the flag of a thinned draw is that of any step
    if rate is None:
        return
    by_chain = np.asarray(rate, float).mean(1)
    stuck = ~(by_chain >= STUCK_ACCEPTANCE)  # so that NaN counts as stuck
    if stuck.any():
        named = [f"chain {c} ({by_chain[c]:.2%})" for c in np.flatnonzero(stuck)]
        yield Finding(
            f"Hardly any proposal was accepted in {listed(named)}",
            "take a smaller step_size or a longer warm-up, and check the density at the chain's "
            "start",
            code=FindingCode.STUCK_CHAIN,
        )
    mean = by_chain[~stuck].mean() if not stuck.all() else np.nan
    if mean < LOW_ACCEPTANCE:
        yield Finding(
            f"Only {mean:.1%} of the proposals were accepted",
            "take a smaller step_size or a longer warm-up",
            WARNING,
            code=FindingCode.LOW_ACCEPTANCE,
        )
    if kernel == "random_walk_mh" and mean > HIGH_ACCEPTANCE:
        yield Finding(
            f"{mean:.1%} of the random walk's proposals were accepted, because its steps are short",
            "take a larger step_size (about a quarter of the proposals accepted is best)",
            WARNING,
            code=FindingCode.LOW_ACCEPTANCE,
        )


def _tree_depth(stats, attrs):
    if "tree_depth" not in stats:
        return
    limit = _json(attrs, "tuning", dict).get("max_tree_depth", MAX_TREE_DEPTH)
    share = float(np.mean(stats["tree_depth"] >= limit))
    if share > SATURATED_SHARE:
        yield Finding(
            f"{share:.1%} of the trajectories were cut off at the tree depth {limit}",
            "warm up longer, rescale the variables to similar spreads, or raise max_tree_depth",
            WARNING,
            code=FindingCode.TREE_DEPTH,
        )


def _energy(stats):
    energy = np.asarray(stats.get("energy", np.zeros((0, 0))), float)
    if energy.size == 0 or energy.shape[1] < 2:
        return
    spread = energy.var(1)
    bfmi = np.divide(
        (np.diff(energy, axis=1) ** 2).mean(1), spread, out=np.ones(len(energy)), where=spread > 0
    )
    low = np.flatnonzero(bfmi < LOW_BFMI)
    if len(low):
        named = [f"chain {c} ({bfmi[c]:.2f})" for c in low]
        yield Finding(
            f"The energy hardly changes between draws: E-BFMI is below {LOW_BFMI} in "
            f"{listed(named)}",
            "reparametrise the density (heavy tails, or a funnel), or warm up longer",
            WARNING,
            code=FindingCode.LOW_ENERGY,
        )

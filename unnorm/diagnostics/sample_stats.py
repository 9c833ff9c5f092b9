"""Findings from the statistics that a sampler keeps of its own steps."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, join_names
from unnorm.diagnostics.draws import Draws
from unnorm.diagnostics.options import SAMPLER, SamplerCriteria

Stats = Mapping[str, np.ndarray]


def sampler_findings(draws: Draws, criteria: SamplerCriteria = SAMPLER) -> list[Finding]:
    """Return the findings from the statistics of the steps, arrays (chain, draw) by ArviZ name.

    Args:
        draws: the draws; of their statistics acceptance_rate, is_accepted, diverging, energy,
            tree_depth, nan_proposal and inf_proposal, of their attributes `kernel`, `tuning`,
            `findings` and `incomplete` are read.
        criteria: limits.

    Returns:
        The findings, errors and warnings mixed.

    References:
        Betancourt (2017), A conceptual introduction to Hamiltonian Monte Carlo, arXiv:1701.02434.
    """
    stats, attrs = draws.stats, draws.attrs
    return [
        *_of_the_run(attrs),
        *_bad_proposals(stats),
        *_divergences(draws, criteria),
        *_acceptance(stats, str(attrs.get("kernel", "")), criteria),
        *_tree_depth(stats, attrs, criteria),
        *_energy(stats, criteria),
    ]


def _json(attrs: Mapping[str, Any], name: str, kind: type) -> Any:
    """An attribute that holds JSON; draws from elsewhere may hold anything under its name."""
    try:
        found = json.loads(attrs[name])
    except (KeyError, TypeError, ValueError):
        return kind()
    return found if isinstance(found, kind) else kind()


def _of_the_run(attrs):
    for saved in _json(attrs, "findings", list):
        if isinstance(saved, list) and len(saved) in (3, 4) and saved[2] in (ERROR, WARNING, NOTE):
            what, advice, severity = map(str, saved[:3])
            yield Finding(what, advice, severity, _code(*saved[3:]))
    if attrs.get("incomplete"):
        yield Finding(
            "The run did not come to its end, so that these are only its first draws",
            "resume it from its store, or treat the draws as a short run",
            code=FindingCode.INTERRUPTED,
        )


def _code(name: Any = FindingCode.OTHER) -> FindingCode:
    """A saved code; one of another version may be unknown here."""
    return FindingCode(name) if name in list(FindingCode) else FindingCode.OTHER


def _count(stats: Stats, name: str) -> tuple[int, int]:
    values = np.asarray(stats[name], bool) if name in stats else np.zeros(1, bool)
    return int(values.sum()), values.size


def _bad_proposals(stats):
    count, total = _count(stats, "nan_proposal")
    if count:
        yield Finding(
            f"The log-density was NaN at {count:,} of {total:,} proposals; a NaN is treated as a "
            "rejection, so the draws are restricted to where it is defined",
            "correct the density where it is NaN (the log or root of a negative number, 0 · inf), "
            "or narrow its support",
            code=FindingCode.NOT_FINITE,
        )
    count, total = _count(stats, "inf_proposal")
    if count:
        yield Finding(
            f"The log-density was +inf at {count:,} of {total:,} proposals, where a chain never "
            "leaves again",
            "correct the density: an infinite peak cannot be sampled; bound it, or narrow the "
            "support",
            code=FindingCode.NOT_FINITE,
        )


def _divergences(draws: Draws, criteria: SamplerCriteria):
    count, total = _count(draws.stats, "diverging")
    if count:
        few = count / total <= criteria.few_divergences
        place = _place(draws, criteria.places)
        consequence = (
            "too few to matter by themselves"
            if few
            else "so the draws may miss a region of strong curvature"
        )
        yield Finding(
            f"{count:,} of {total:,} trajectories diverged ({count / total:.2%}){place}, "
            f"{consequence}",
            "raise target_acceptance_rate (to .95 or .99), or reparametrise the density",
            WARNING if few else ERROR,
            FindingCode.DIVERGENCES,
        )


def _place(draws: Draws, places: int) -> str:
    """The entries in which draws at divergences are least typical, with their values there."""
    at = np.asarray(draws.stats["diverging"], bool)
    found = []
    for label, values in draws.columns().items():
        if values.shape != at.shape or not np.isfinite(values).all():
            continue
        middle = float(np.median(values[at]))
        below = float((values < middle).mean() + (values == middle).mean() / 2)
        found.append(
            (abs(below - 0.5), f"{label} near {middle:.3g} (above {below:.0%} of its draws)")
        )
    if not found:
        return ""
    worst = sorted(found, key=lambda one: -one[0])[:places]
    return " around " + " and ".join(words for _, words in worst)


def _acceptance(stats, kernel, criteria):
    rate = stats.get(
        "acceptance_rate", stats.get("is_accepted")
    )  # the flag of a thinned draw is that of any step
    if rate is None:
        return
    by_chain = np.asarray(rate, float).mean(1)
    stuck = ~(by_chain >= criteria.stuck_acceptance)  # so that NaN counts as stuck
    if stuck.any():
        named = [f"chain {c} ({by_chain[c]:.2%})" for c in np.flatnonzero(stuck)]
        yield Finding(
            f"Hardly any proposal was accepted in {join_names(named)}",
            "take a smaller step_size or a longer warm-up, and check the density at the chain's "
            "start",
            code=FindingCode.STUCK_CHAIN,
        )
    mean = by_chain[~stuck].mean() if not stuck.all() else np.nan
    if mean < criteria.low_acceptance:
        yield Finding(
            f"Only {mean:.1%} of the proposals were accepted",
            "take a smaller step_size or a longer warm-up",
            WARNING,
            code=FindingCode.LOW_ACCEPTANCE,
        )
    if kernel == "random_walk_mh" and mean > criteria.high_acceptance:
        yield Finding(
            f"{mean:.1%} of the random walk's proposals were accepted, because its steps are short",
            "take a larger step_size (about a quarter of the proposals accepted is best)",
            WARNING,
            code=FindingCode.LOW_ACCEPTANCE,
        )


def _tree_depth(stats, attrs, criteria):
    if "tree_depth" not in stats:
        return
    limit = _json(attrs, "tuning", dict).get("max_tree_depth", criteria.max_tree_depth)
    share = float(np.mean(stats["tree_depth"] >= limit))
    if share > criteria.saturated_share:
        yield Finding(
            f"{share:.1%} of the trajectories were cut off at the tree depth {limit}",
            "warm up longer, rescale the variables to similar spreads, or raise max_tree_depth",
            WARNING,
            code=FindingCode.TREE_DEPTH,
        )


def _energy(stats, criteria):
    energy = np.asarray(stats.get("energy", np.zeros((0, 0))), float)
    if energy.size == 0 or energy.shape[1] < 2:
        return
    spread = energy.var(1)
    bfmi = np.divide(
        (np.diff(energy, axis=1) ** 2).mean(1), spread, out=np.ones(len(energy)), where=spread > 0
    )
    low = np.flatnonzero(bfmi < criteria.low_bfmi)
    if len(low):
        named = [f"chain {c} ({bfmi[c]:.2f})" for c in low]
        yield Finding(
            f"The energy hardly changes between draws: E-BFMI is below {criteria.low_bfmi} in "
            f"{join_names(named)}",
            "reparametrise the density (heavy tails, or a funnel), or warm up longer",
            WARNING,
            code=FindingCode.LOW_ENERGY,
        )

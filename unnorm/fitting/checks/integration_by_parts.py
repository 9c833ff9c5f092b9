"""The conditions under which integration by parts has no boundary terms, tested along lines through
some rows, parallel to the axes.

Score matching replaces E[h ∂f_data ∂f] by −E[∂(h ∂f)], f = log p̃. That holds where h p ∂f vanishes
at every bound, and where f has no wall (log p̃ = −inf inside its support), no jump and no kink, at
which ∂²f has an atom that no row can show.

References: Hyvärinen (2005), JMLR 6, 695-709, Theorem 1; Yu, Drton and Shojaie (2019),
arXiv:1812.10551, section 3.
"""

from typing import Any

import jax
import numpy as np

from unnorm.core.findings import Finding, FindingCode
from unnorm.fitting.checks.discontinuities import LINES, Break, breaks

_ADVICE = (
    "declare the support (un.Positive, un.Interval, or un.truncate), or use "
    "un.objectives.MaximumLikelihood or NCE",
    "use un.objectives.MaximumLikelihood, NCE or ContrastiveDivergence, or make the function "
    "smooth",
)


def smoothness_findings(density, events: dict, objective: str, kinks: str = "all") -> list[Finding]:
    """Return findings for discontinuities that give integration by parts a boundary term.

    Args:
        density: at the fit.
        events: the data by name.
        objective: its name.
        kinks: which kinks matter. "all" for an objective of second derivatives; "moving" for one of
            first derivatives, because the gradient of its loss misses kinks that move with the
            parameters; "none" for one of values.
    """
    found = breaks(density, events)
    if not found and any(
        np.any(np.abs(leaf) > LINES.far) for leaf in jax.tree.leaves(density.free())
    ):
        found = breaks(_without_divergence(density), events)
    if kinks == "none":
        found = [one for one in found if one.kind != "kink"]
    if kinks == "moving" and any(one.kind == "kink" for one in found):
        others = {(one.kind, one.entry): one.place for one in breaks(_nearby(density), events)}
        found = [
            one
            for one in found
            if one.kind != "kink" or not _is_near(one.place, others.get(one[:2]))
        ]
    return [
        Finding(
            _words(one, objective, kinks),
            _ADVICE[one.kind == "kink"],
            code=FindingCode.OBJECTIVE_CONDITIONS,
        )
        for one in found
    ]


def _words(one: Break, objective: str, kinks: str) -> str:
    what = _WHAT["moving kink" if one.kind == "kink" and kinks == "moving" else one.kind]
    return what.format(entry=one.entry, place=one.place, objective=objective)


def _without_divergence(density) -> Any:
    """Return the density with divergent parameters, which make it flat, set to ±1."""

    def tame(leaf):
        leaf = np.asarray(leaf)
        return np.where(np.abs(leaf) > LINES.far, np.sign(leaf), leaf)

    return density.at(jax.tree.map(tame, density.free()))


def _nearby(density) -> Any:
    """Return the density at parameters nearby."""
    rng = np.random.default_rng(0)

    def near(leaf):
        steps = rng.normal(0.0, LINES.parameter_step, np.shape(leaf))
        return np.asarray(leaf) + steps.astype(leaf.dtype)

    return density.at(jax.tree.map(near, density.free()))


def _is_near(place: float, other: float | None) -> bool:
    return other is None or abs(place - other) <= 1e-6 * (1 + abs(place))


_WHAT = {
    "wall": (
        "the density ends in a wall at {entry} = {place:.4g}, beside which it is not small: "
        "{objective} leaves out a boundary term there, and its estimate is not consistent"
    ),
    "jump": (
        "the density jumps at {entry} = {place:.4g}: {objective} leaves out a boundary term "
        "there, and its estimate is not consistent"
    ),
    "kink": (
        "the slope of log p̃ jumps at {entry} = {place:.4g}, where its second derivative has an "
        "atom that no row shows: the estimate of {objective} is not consistent"
    ),
    "moving kink": (
        "the slope of log p̃ jumps at {entry} = {place:.4g}, a place that moves with the "
        "parameters: the gradient of {objective} misses the effect of this motion on the loss, and "
        "its estimate is not consistent"
    ),
}

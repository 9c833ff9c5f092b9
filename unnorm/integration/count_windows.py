"""Where the mass of a density of one count lies: stretches of the integers that hold all but a
negligible part.

A count has no last state, and its mass may lie anywhere: near 0, in a second mode at 7,000, or
about a million. The terms are evaluated on a ladder, every count at first and then steps of a fixed
share of the count, up to the largest integers that the dtype holds. Each local maximum of the
ladder is refined until its neighbours show its shape.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.density import Density
from unnorm.integration.options import COUNTS, CountOptions


class Ladder(NamedTuple):
    """The terms log p̃ at increasing counts."""

    counts: np.ndarray
    values: np.ndarray

    @property
    def log_masses(self) -> np.ndarray:
        """Of the cells from each rung up to the next: the larger term times the number of
        counts.
        """
        return np.maximum(self.values[:-1], self.values[1:]) + np.log(np.diff(self.counts))

    def merge(self, other: "Ladder") -> "Ladder":
        """The rungs of both."""
        counts = np.concatenate([self.counts, other.counts])
        order = np.argsort(counts, kind="stable")
        return Ladder(counts[order], np.concatenate([self.values, other.values])[order])


class Windows(NamedTuple):
    """Disjoint increasing stretches of counts [start, stop); the middle of every `stride` counts
    stands for them.
    """

    stretches: tuple[tuple[int, int], ...]
    stride: int = 1

    @property
    def states(self) -> int:
        """The number of counts that are evaluated."""
        return sum(len(self._of(*stretch)) for stretch in self.stretches)

    def counts(self) -> np.ndarray:
        """The counts that are evaluated."""
        return np.concatenate([np.array(self._of(*stretch), float) for stretch in self.stretches])

    def _of(self, start: int, stop: int) -> range:
        return range(start + (self.stride - 1) // 2, stop, self.stride)


def lone_count(density: Density) -> str | None:
    """The name of the only variable, if that is one count."""
    (name, support), *others = density.variables.items()
    is_count = support.discrete and support.states is None
    return name if is_count and not others and math.prod(density.shapes()[name]) == 1 else None


def as_events(density: Density, counts: np.ndarray) -> dict[str, jax.Array]:
    """Counts (S,) as events."""
    name = lone_count(density)
    assert name is not None
    return {name: jnp.asarray(counts, jnp.result_type(float)).reshape(-1, *density.shapes()[name])}


@compiled
def _log_terms(density: Density, events: dict) -> jax.Array:
    return jax.vmap(density.log_density)(events)


def log_terms(density: Density, counts: np.ndarray, options: CountOptions = COUNTS) -> np.ndarray:
    """log p̃ at any number of counts."""
    padded = np.pad(counts, (0, -len(counts) % options.block), mode="edge")
    blocks = [
        np.asarray(_log_terms(density, as_events(density, part)), float)
        for part in padded.reshape(-1, options.block)
    ]
    return np.concatenate(blocks)[: len(counts)]


def scan_counts(density: Density, options: CountOptions = COUNTS) -> Ladder:
    """The terms on the ladder, refined about their local maxima; NaN is kept where every count is
    evaluated.
    """
    dense = options.dense
    last = float(2 ** min(jnp.finfo(jnp.result_type(float)).nmant, 50))
    octaves = math.log2(last / dense)
    rungs = np.round(np.geomspace(dense, last, math.ceil(octaves * options.per_octave)))
    counts = np.concatenate([np.arange(dense, dtype=float), rungs])
    values = log_terms(density, counts)
    values[dense:] = np.where(np.isnan(values[dense:]), -np.inf, values[dense:])
    ladder = Ladder(counts, values)
    for _ in range(options.rounds):
        new = _between(ladder, options)
        if not len(new):
            break
        values = log_terms(density, new)
        ladder = ladder.merge(Ladder(new, np.where(np.isnan(values), -np.inf, values)))
    return ladder


def _between(ladder: Ladder, options: CountOptions) -> np.ndarray:
    """New rungs about the highest local maxima whose neighbours are neither adjacent nor close in
    value.
    """
    counts, values = ladder
    inner, left, right = values[1:-1], values[:-2], values[2:]
    with np.errstate(invalid="ignore"):
        rough = (inner >= left) & (inner >= right)
        rough &= inner - np.minimum(left, right) > options.shape_shown
    rough &= np.isfinite(inner) & (counts[2:] - counts[:-2] > 2)
    at = 1 + np.flatnonzero(rough)
    at = at[np.argsort(-values[at], kind="stable")][: options.max_refined]
    if not len(at):
        return np.zeros(0)
    between = np.linspace(counts[at - 1], counts[at + 1], options.inserted + 2)[1:-1]
    return np.setdiff1d(np.unique(np.round(between)), counts)


def windows_of(ladder: Ladder, options: CountOptions = COUNTS) -> Windows:
    """The cells that hold more than a negligible part of the whole, plus one cell on either
    side.
    """
    masses = np.nan_to_num(ladder.log_masses, nan=np.inf)
    kept = masses > np.logaddexp.reduce(masses) - options.negligible - math.log(len(masses))
    kept = kept | np.append(kept[1:], False) | np.insert(kept[:-1], 0, False)
    starts, stops = ladder.counts[:-1][kept].astype(int), ladder.counts[1:][kept].astype(int)
    return union(list(zip(starts.tolist(), stops.tolist(), strict=True)))


def union(stretches: list[tuple[int, int]]) -> Windows:
    """Windows of stretches that may touch or overlap."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return Windows(tuple(merged))


def from_zero(windows: Windows, options: CountOptions = COUNTS) -> Windows:
    """From 0 to a power of two, where that takes at most twice the states: few sizes, so that
    little is compiled.
    """
    last = 1 << (windows.stretches[-1][1] - 1).bit_length()
    cheap = last <= max(2 * windows.states, options.dense)
    return Windows(((0, last),)) if cheap else windows


def thin_out(windows: Windows, most: int) -> Windows:
    """An odd number of counts in the place of each, so that about `most` are left."""
    if windows.states <= most:
        return windows
    return windows._replace(stride=-(-windows.states // most) | 1)


__all__ = [
    "Ladder",
    "Windows",
    "as_events",
    "from_zero",
    "log_terms",
    "lone_count",
    "scan_counts",
    "thin_out",
    "union",
    "windows_of",
]

"""Where the mass of a density of one count lies: stretches of the whole numbers that hold all but a
negligible part.

A count has no last state, and its mass may lie anywhere: near 0, in a second mode at 7,000, or
about a million. The terms are looked at on a ladder, every count at first and then steps of a fixed
share of the count, up to the largest whole numbers that the dtype holds; each local maximum of the
ladder is refined until its neighbours show its shape.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density

DENSE = 2**14  # counts from 0 on that are all looked at: a narrow second mode may lie some way off
# rungs of the ladder between M and 2M: a mode as wide as 1/300 of its place is not stepped over
PER_OCTAVE = 224
BLOCK = 4096  # counts in one call of the compiled terms: one program, however many
CLIMBED, INSERTED = 64, 64  # local maxima refined in a round, and rungs inserted about each
ROUNDS = 12
RESOLVED = 0.5  # nats: neighbouring rungs of a maximum that differ by less show its shape
NEGLIGIBLE = 40.0  # nats below the whole: a cell that holds less is left out


class Look(NamedTuple):
    """The terms log p̃ at increasing counts."""

    counts: np.ndarray
    values: np.ndarray

    @property
    def log_masses(self) -> np.ndarray:
        """Of the cells from each rung up to the next: the larger term times the number of
        counts.
        """
        return np.maximum(self.values[:-1], self.values[1:]) + np.log(np.diff(self.counts))


class Windows(NamedTuple):
    """Disjoint increasing stretches of counts [start, stop); the middle of every `stride` counts
    stands for them.
    """

    stretches: tuple[tuple[int, int], ...]
    stride: int = 1

    @property
    def states(self) -> int:
        return sum(len(self._of(*stretch)) for stretch in self.stretches)

    def counts(self) -> np.ndarray:
        return np.concatenate([np.array(self._of(*stretch), float) for stretch in self.stretches])

    def _of(self, start: int, stop: int) -> range:
        return range(start + (self.stride - 1) // 2, stop, self.stride)


def lone_count(density: Density) -> str | None:
    """The name of the only variable, if that is one count."""
    (name, support), *others = density.variables.items()
    unlisted = support.discrete and support.states is None
    return name if unlisted and not others and math.prod(density.shapes()[name]) == 1 else None


def as_events(density: Density, counts: np.ndarray) -> dict[str, jax.Array]:
    name = lone_count(density)
    return {name: jnp.asarray(counts, jnp.result_type(float)).reshape(-1, *density.shapes()[name])}


@jax.jit
def _terms(density: Density, events: dict) -> jax.Array:
    return jax.vmap(density.log_density)(events)


def terms(density: Density, counts: np.ndarray) -> np.ndarray:
    """log p̃ at any number of counts."""
    padded = np.pad(counts, (0, -len(counts) % BLOCK), mode="edge")
    blocks = [
        np.asarray(_terms(density, as_events(density, part)), float)
        for part in padded.reshape(-1, BLOCK)
    ]
    return np.concatenate(blocks)[: len(counts)]


def look(density: Density) -> Look:
    """The terms on the ladder, refined about their local maxima; NaN is kept where every count is
    looked at.
    """
    last = float(2 ** min(jnp.finfo(jnp.result_type(float)).nmant, 50))
    octaves = math.log2(last / DENSE)
    rungs = np.round(np.geomspace(DENSE, last, math.ceil(octaves * PER_OCTAVE)))
    counts = np.concatenate([np.arange(DENSE, dtype=float), rungs])
    values = terms(density, counts)
    values[DENSE:] = np.where(np.isnan(values[DENSE:]), -np.inf, values[DENSE:])
    seen = Look(counts, values)
    for _ in range(ROUNDS):
        inserted = _between(seen)
        if not len(inserted):
            break
        values = terms(density, inserted)
        seen = _merged(seen, Look(inserted, np.where(np.isnan(values), -np.inf, values)))
    return seen


def _between(seen: Look) -> np.ndarray:
    """New rungs about the highest local maxima whose neighbours are neither next to them nor close
    in value.
    """
    counts, values = seen
    inner, left, right = values[1:-1], values[:-2], values[2:]
    with np.errstate(invalid="ignore"):
        rough = (inner >= left) & (inner >= right) & (inner - np.minimum(left, right) > RESOLVED)
    rough &= np.isfinite(inner) & (counts[2:] - counts[:-2] > 2)
    at = 1 + np.flatnonzero(rough)
    at = at[np.argsort(-values[at], kind="stable")][:CLIMBED]
    if not len(at):
        return np.zeros(0)
    new = np.unique(np.round(np.linspace(counts[at - 1], counts[at + 1], INSERTED + 2)[1:-1]))
    return np.setdiff1d(new, counts)


def _merged(one: Look, other: Look) -> Look:
    counts, values = (
        np.concatenate([one.counts, other.counts]),
        np.concatenate([one.values, other.values]),
    )
    order = np.argsort(counts, kind="stable")
    return Look(counts[order], values[order])


def windows_of(seen: Look) -> Windows:
    """The cells that hold more than a negligible part of the whole, each with one cell more on
    either side.
    """
    masses = np.nan_to_num(seen.log_masses, nan=np.inf)
    kept = masses > np.logaddexp.reduce(masses) - NEGLIGIBLE - math.log(len(masses))
    kept = kept | np.append(kept[1:], False) | np.insert(kept[:-1], 0, False)
    starts, stops = seen.counts[:-1][kept].astype(int), seen.counts[1:][kept].astype(int)
    return joined(list(zip(starts.tolist(), stops.tolist(), strict=True)))


def joined(stretches: list[tuple[int, int]]) -> Windows:
    """Windows of stretches that may touch or overlap."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return Windows(tuple(merged))


def from_zero(windows: Windows) -> Windows:
    """From 0 to a power of two, where that takes at most twice the states: few sizes, so that
    little is compiled.
    """
    last = 1 << (windows.stretches[-1][1] - 1).bit_length()
    return Windows(((0, last),)) if last <= max(2 * windows.states, DENSE) else windows


def strided(windows: Windows, most: int) -> Windows:
    """An odd number of counts in the place of each, so that about `most` are left."""
    return (
        windows._replace(stride=-(-windows.states // most) | 1)
        if windows.states > most
        else windows
    )


__all__ = [
    "Look", "Windows", "as_events", "from_zero", "joined", "lone_count", "look", "strided", "terms", "windows_of",
]  # fmt: skip

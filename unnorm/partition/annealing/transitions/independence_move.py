"""Moves between modes: some of the coordinates are drawn from the particles' own margins."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.method import method
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.tempered import Particle, PathDensity
from unnorm.partition.annealing.transitions.base import SamplingAlgorithm, Tuning, metropolis


@method
class IndependenceMove:
    """An independence sampler of a random subset of the coordinates, from one of them to all.

    The bins of the margins are fixed beforehand by other particles, so that the move is reversible.
    """

    discrete: ClassVar[bool] = False
    global_moves: ClassVar[bool] = False

    def build(self, tempered: PathDensity, tuning: Tuning) -> SamplingAlgorithm:
        view, edges = tempered.path.target, tuning.bin_edges
        bins = edges.shape[1] - 1

        def step(key: jax.Array, particle: Particle) -> tuple[Particle, jax.Array]:
            choose, size, bin_key, place, accept = jax.random.split(key, 5)
            flat, discrete = view.flatten(particle.position), view.discrete(particle.position)
            octaves = jnp.ceil(jnp.log2(max(flat.size, 1))) + 1
            share = 2.0 ** -jnp.floor(jax.random.uniform(size, (), flat.dtype) * octaves)
            moving = jax.random.bernoulli(choose, share, flat.shape)
            chosen = jax.random.randint(bin_key, flat.shape, 0, bins)
            rows = jnp.arange(flat.size)
            low, high = edges[rows, chosen], edges[rows, chosen + 1]
            inside = low + (high - low) * jax.random.uniform(place, flat.shape, flat.dtype)
            new = jnp.where(moving, inside, flat)
            there = tempered.path.evaluate(view.split(new) | discrete)
            back, forth = _log_margins(edges, flat), _log_margins(edges, new)
            gain = tempered.log_density(there) - tempered.log_density(particle)
            gain = gain + jnp.sum(jnp.where(moving, back - forth, 0.0))
            return metropolis(accept, gain, there, particle, there.nonfinite)

        return SamplingAlgorithm(tempered.path.evaluate, step)

    def reverse(self) -> "IndependenceMove":
        return self

    def evaluations(self, view: Unconstrained) -> dict[str, int]:
        return {"values": 0, "gradients": 1}


def bin_edges(
    flat: jax.Array, weights: jax.Array, bins: int = 32, margin: float = 0.5
) -> jax.Array:
    """The edges (D, bins + 1) of bins of equal probability of each coordinate.

    Args:
        flat: (N, D), weighted draws.
        weights: (N,), their sum 1.
        bins: their number.
        margin: of a bin's width, that the outermost bins reach beyond the draws.
    """
    shares = jnp.linspace(0.0, 1.0, bins + 1, dtype=flat.dtype)

    def of(column):
        order = jnp.argsort(column)
        below = jnp.cumsum(weights[order]) - 0.5 * weights[order]
        edges = jnp.interp(shares, below, column[order])
        first, last = edges[1] - edges[0], edges[-1] - edges[-2]
        edges = edges.at[0].add(-margin * first).at[-1].add(margin * last)
        width = 1e-6 * (edges[-1] - edges[0]) + 1e-30  # bins of ties have a width too
        return edges + width * jnp.arange(bins + 1)

    return jax.vmap(of, in_axes=1)(flat)


def has_two_modes(flat: np.ndarray, threshold: float = 0.6) -> bool:
    """Whether a coordinate of draws (N, D) looks bimodal, by Sarle's coefficient.

    (skewness² + 1) / kurtosis is 1 for two points, .56 for a uniform or an exponential, and .33 for
    a normal distribution.
    """
    apart = flat - flat.mean(0)
    scaled = apart / np.maximum(apart.std(0), 1e-300)
    skewness, kurtosis = (scaled**3).mean(0), np.maximum((scaled**4).mean(0), 1.0)
    return bool(np.any((skewness**2 + 1) / kurtosis > threshold))


def _log_margins(edges: jax.Array, flat: jax.Array) -> jax.Array:
    """The log-density (D,) of each coordinate's bins, up to a constant; minus infinity outside."""
    search = jax.vmap(lambda row, value: jnp.searchsorted(row, value, side="right"))
    place, bins = search(edges, flat) - 1, edges.shape[1] - 1
    inside = (place >= 0) & (place < bins)
    safe, rows = jnp.clip(place, 0, bins - 1), jnp.arange(len(flat))
    return jnp.where(inside, -jnp.log(edges[rows, safe + 1] - edges[rows, safe]), -jnp.inf)


__all__ = ["IndependenceMove", "bin_edges", "has_two_modes"]

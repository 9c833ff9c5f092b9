"""Moves between modes: some of the coordinates are drawn anew from the walkers' own margins."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.partition.proposals.mixture import parts

BINS = 32
JUMPS = 4  # after each trajectory, where a margin has two modes
# of (skewness² + 1) / kurtosis: 1 for two points, .56 if uniform or exponential, .33 if normal
TWO_MODES = 0.6
MARGIN = 0.5  # of a bin's width, that the outermost bins reach beyond what was seen


def margins(flat: jax.Array, weights: jax.Array) -> jax.Array:
    """The ends (D, BINS + 1) of bins that hold equal shares of the weighted values (N, D) of each
    coordinate.
    """
    shares = jnp.linspace(0.0, 1.0, BINS + 1, dtype=flat.dtype)

    def of(column):
        order = jnp.argsort(column)
        below = jnp.cumsum(weights[order]) - 0.5 * weights[order]
        ends = jnp.interp(shares, below, column[order])
        first, last = ends[1] - ends[0], ends[-1] - ends[-2]
        ends = ends.at[0].add(-MARGIN * first).at[-1].add(MARGIN * last)
        return ends + (1e-6 * (ends[-1] - ends[0]) + 1e-30) * jnp.arange(
            BINS + 1
        )  # bins of ties have a width too

    return jax.vmap(of, in_axes=1)(flat)


def has_two_modes(flat: np.ndarray) -> bool:
    """Whether a coordinate of these draws (N, D) looks as if it had two modes, by Sarle's
    coefficient.
    """
    apart = flat - flat.mean(0)
    scaled = apart / np.maximum(apart.std(0), 1e-300)
    skewness, kurtosis = (scaled**3).mean(0), np.maximum((scaled**4).mean(0), 1.0)
    return bool(np.any((skewness**2 + 1) / kurtosis > TWO_MODES))


def jumped(density, look, tempered, walker, key, widths):
    """An independence sampler of a random subset of the coordinates, from one coordinate to all of
    them.

    The bins are fixed beforehand by other walkers, so that the move is reversible.
    """
    choose, size, bin_key, place, accept = jax.random.split(key, 5)
    flat, unravel = ravel_pytree(parts(density, walker.position)[0])
    discrete = parts(density, walker.position)[1]
    octaves = jnp.ceil(jnp.log2(max(flat.size, 1))) + 1
    share = 2.0 ** -jnp.floor(jax.random.uniform(size, (), flat.dtype) * octaves)
    moving = jax.random.bernoulli(choose, share, flat.shape)
    chosen = jax.random.randint(bin_key, flat.shape, 0, BINS)
    rows = jnp.arange(flat.size)
    low, high = widths.ends[rows, chosen], widths.ends[rows, chosen + 1]
    fresh = jnp.where(
        moving, low + (high - low) * jax.random.uniform(place, flat.shape, flat.dtype), flat
    )
    there = look(unravel(fresh) | discrete)
    back, forth = _log_margin(widths.ends, flat), _log_margin(widths.ends, fresh)
    gain = tempered(there) - tempered(walker) + jnp.sum(jnp.where(moving, back - forth, 0.0))
    take = -jax.random.exponential(accept, (), flat.dtype) < jnp.where(
        jnp.isnan(gain), -jnp.inf, gain
    )
    bad = walker.bad + there.bad
    return jax.tree.map(lambda new, old: jnp.where(take, new, old), there, walker)._replace(
        bad=bad
    ), take


def _log_margin(ends: jax.Array, z: jax.Array) -> jax.Array:
    """The log-density (D,) of each coordinate's bins, up to a constant; minus infinity outside all
    of them.
    """
    place = jax.vmap(lambda row, value: jnp.searchsorted(row, value, side="right"))(ends, z) - 1
    inside = (place >= 0) & (place < BINS)
    safe, rows = jnp.clip(place, 0, BINS - 1), jnp.arange(len(z))
    return jnp.where(inside, -jnp.log(ends[rows, safe + 1] - ends[rows, safe]), -jnp.inf)


__all__ = ["BINS", "JUMPS", "has_two_modes", "jumped", "margins"]

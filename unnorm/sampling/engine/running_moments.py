"""Running moments of the two halves of a run, by Welford's update."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unnorm.declaration.unconstrained import Unconstrained


class Moments(NamedTuple):
    """Running means and sums of squared deviations of each half of a run: (2, ...) by variable."""

    count: jax.Array  # type: ignore[assignment]
    mean: dict
    squares: dict


def no_moments(target: Unconstrained, positions: dict) -> Moments:
    """Moments of no draws, for every chain."""
    events = jax.vmap(target.constrain)(positions)
    empty = jax.tree.map(
        lambda leaf: jnp.zeros((leaf.shape[0], 2) + leaf.shape[1:], leaf.dtype), events
    )
    chains = len(next(iter(events.values())))
    return Moments(jnp.zeros((chains, 2), next(iter(events.values())).dtype), empty, empty)


def update_moments(moments: Moments, event: dict, index: jax.Array, draws: int) -> Moments:
    """Welford's update of the half that draw number `index` belongs to; draws beyond the last are
    left out.
    """
    half, counts = (index >= draws // 2).astype(int), (index < draws).astype(moments.count.dtype)
    count = moments.count.at[:, half].add(counts)
    now = jnp.maximum(count[:, half], 1)

    def update(mean, squares, value):
        weight = (counts / now).reshape((-1,) + (1,) * (value.ndim - 1))
        before = value - mean[:, half]
        after = mean[:, half] + weight * before
        return mean.at[:, half].set(after), squares.at[:, half].add(
            counts * before * (value - after)
        )

    pairs = {name: update(moments.mean[name], moments.squares[name], event[name]) for name in event}
    return Moments(
        count, {n: pair[0] for n, pair in pairs.items()}, {n: pair[1] for n, pair in pairs.items()}
    )

"""Tie-no-tie proposals for a sparse graph: half of them take one of its ties."""

from typing import Any

import jax
import jax.numpy as jnp

from unnorm.core.method import method
from unnorm.interactions.ties import (
    TieChanges,
    nth_tie,
    pack,
    tie_changes_of_target,
    unpack,
)
from unnorm.sampling.base import Options, SamplingAlgorithm, metropolis
from unnorm.sampling.kernels.gibbs import GibbsState
from unnorm.supports import Graph, Support


@method
class TieNoTie(Options):
    """Metropolis steps on a graph: with chance 1/2 remove a random tie, else toggle a random pair.

    Accepted with probability min(1, exp(f(y') − f(y)) q(y | y') / q(y' | y)). With D pairs and E
    ties, q(y' | y) is 1/(2E) + 1/(2D) for a removal and 1/(2D) for an addition; of a graph without
    ties every pair is proposed with 1/D. A sparse graph's ties change as often as its empty pairs
    do, of which Gibbs visits many more. One step of the kernel makes a quarter as many proposals as
    there are pairs, rounded up. The density must declare what a tie changes, as
    `un.models.exponential_random_graph` does.

    Example:
        >>> import unnorm as un
        >>> p = un.models.exponential_random_graph("edges").with_dimensions(d=4).bind(edges=-1.0)
        >>> draws = un.sample(p, un.kernels.TieNoTie(), draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["y"].shape
        (2, 10, 4, 4)

    References:
        Morris, Handcock and Hunter (2008), doi:10.18637/jss.v024.i04; Snijders (2002), Journal of
        Social Structure 3(2).
    """

    def serves(self, support: Support) -> bool:
        return type(support) is type(Graph)

    def prepare(self, target: Any) -> Any:
        if tie_changes_of_target(target) is None:
            raise ValueError(
                f"TieNoTie was given {target.density.name}, which does not declare what a tie "
                "changes; expected a density of one graph by un.models.exponential_random_graph; "
                "use un.kernels.Gibbs."
            )
        return self

    def stats(self, info: Any) -> dict[str, jax.Array]:
        return info

    def noise(self, key: jax.Array, position: Any, leading: tuple[int, ...] = ()) -> jax.Array:
        """Four uniforms for each proposal: which kind, which tie, which pair, whether accepted."""
        (value,) = position.values()
        return jax.random.uniform(key, (*leading, -(-value.size // 4), 4), value.dtype)

    def block_noise(self, key: jax.Array, position: Any, steps: int) -> jax.Array:
        return self.noise(key, position, (steps,))

    def build(self, target: Any, tuning: dict[str, jax.Array]) -> SamplingAlgorithm:
        changes = tie_changes_of_target(target)
        assert changes is not None
        return _algorithm(target, changes)


def _algorithm(target: Any, changes: TieChanges) -> SamplingAlgorithm:
    name, support = changes.name, target.supports[changes.name]
    size = target.density.shapes()[name][-1]
    twice = 1 if changes.directed else 2  # how often a tie stands in the rows
    places, nodes = size * (size - 1), jnp.arange(size)
    pairs = places // twice

    def init(position, key=None):
        return GibbsState(position, target.log_density(position))

    def propose(state, uniforms):
        rows, ends = state  # the bits of the rows, and the running count of their ties
        kind, which, anywhere, accept = uniforms
        count = ends[-1] // twice
        of_tie = nth_tie(rows, ends, (which * ends[-1]).astype(jnp.int32))
        place = jnp.minimum((anywhere * places).astype(jnp.int32), places - 1)
        row, other = place // (size - 1), place % (size - 1)
        of_pair = row, other + (other >= row)
        takes_tie = (kind < 0.5) & (count > 0)
        i, j = (jnp.where(takes_tie, a, b) for a, b in zip(of_tie, of_pair, strict=True))
        gain, tie = changes.gain(rows, i, j)
        change = jnp.where(tie > 0, -gain, gain)
        info = metropolis(change + _log_proposal_ratio(count, tie, pairs), jnp.log(accept), change)
        by = jnp.where(info.is_accepted, 1 - 2 * tie, 0)
        counted = (nodes >= i).astype(jnp.int32)
        ends = ends + by * (counted if changes.directed else counted + (nodes >= j))
        return (changes.toggled(rows, i, j, info.is_accepted), ends), info

    def step(noise, state):
        free = state.position[name]
        ties = support.constrain(free)
        start = pack(ties), jnp.cumsum(ties.sum(1)).astype(jnp.int32)
        (rows, _), info = jax.lax.scan(propose, start, noise)
        return init({name: support.unconstrain(unpack(rows).astype(free.dtype))}), {
            "acceptance_rate": jnp.mean(info.acceptance_rate),
            "nan_proposal": info.nan_proposal.any(),
            "inf_proposal": info.inf_proposal.any(),
        }

    return SamplingAlgorithm(init, step)


def _log_proposal_ratio(count: jax.Array, tie: jax.Array, pairs: int) -> jax.Array:
    """log q(y | y') / q(y' | y), of a graph with `count` ties of which the pair is one (`tie` 1) or
    none: that of the removal from the larger graph, or of its reverse.
    """
    larger = count + 1 - tie  # ties of the graph that has this one
    removal = 0.5 / larger + 0.5 / pairs
    addition = jnp.where(larger > 1, 0.5, 1.0) / pairs
    log_ratio = jnp.log(addition / removal)
    return jnp.where(tie > 0, log_ratio, -log_ratio)

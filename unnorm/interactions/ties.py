"""What single ties of a graph change in its log-density, where the density declares it.

A density declares it by its function: beside being called, the function then has `tie_change(pair,
**parameters)`, log p̃(y with the tie) − log p̃(y without) at a `Pair`, and `ties_interact`, whether
that depends on other ties.

A graph is held as the bits of its rows, in row i those of the ties from i: an and and a count of
bits give the common neighbours of
two nodes, in d / 32 steps.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_BITS = jnp.iinfo(jnp.uint32).bits  # of a word


class Pair(NamedTuple):
    """Two nodes of a graph, and what surrounds them apart from a tie between them.

    Of a directed graph the tie is that from i to j, and degrees, common neighbours and partners are
    by the ties from a node.
    """

    i: jax.Array
    j: jax.Array
    tie: jax.Array  # 1 where there is one
    degree_i: jax.Array  # ties to other nodes
    degree_j: jax.Array
    common: jax.Array  # (d,): 1 for a common neighbour
    partners_i: jax.Array  # (d,): for a common neighbour k, the common neighbours of i and k
    partners_j: jax.Array
    reverse: jax.Array  # of a directed graph: 1 where there is a tie from j to i
    in_degree_j: jax.Array  # ties to j from nodes other than i


class TieChanges(NamedTuple):
    """The declared changes of one density of one graph."""

    density: Any
    scale: Any = 1.0  # β of a tempered target

    @property
    def name(self) -> str:
        """The variable that is the graph."""
        return next(iter(self.density.variables))

    @property
    def ties_interact(self) -> bool:
        """Whether the change by a tie depends on other ties."""
        return self.density._structure.function.ties_interact

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The nodes of every pair, in the order of the graph's coordinates."""
        size = self.density.shapes()[self.name][-1]
        return self.density.variables[self.name]._upper(size)

    @property
    def directed(self) -> bool:
        """Whether a tie from i to j is another than that from j to i."""
        return self.density.variables[self.name].directed

    def toggled(self, rows: jax.Array, i: Any, j: Any, flip: jax.Array) -> jax.Array:
        """The rows with the tie ij added or removed, where `flip` holds."""
        return toggled(rows, i, j, flip, self.directed)

    def gain(self, rows: jax.Array, i: Any, j: Any) -> tuple[jax.Array, jax.Array]:
        """log p̃ with the tie ij minus log p̃ without it, and whether the graph has it; traceable.

        Args:
            rows: as `pack` gives them.
            i: a node.
            j: another one.
        """
        pair = pair_at(rows, i, j)
        _, named = self.density.arguments_at({self.name: rows})
        return self.scale * self.density._structure.function.tie_change(pair, **named), pair.tie

    def gains(self, ties: jax.Array) -> jax.Array:
        """The gains of all pairs, as `pairs` has them, of a graph (d, d)."""
        rows, (i, j) = pack(ties), self.pairs()
        return jax.vmap(lambda i, j: self.gain(rows, i, j)[0])(jnp.asarray(i), jnp.asarray(j))


def pack(ties: jax.Array) -> jax.Array:
    """The bits of a graph's rows, (words, d): words first, so that a loop over nodes vectorizes."""
    size = len(ties)
    bits = jnp.pad((ties > 0).astype(jnp.uint32), ((0, 0), (0, -size % _BITS)))
    places = jnp.arange(_BITS, dtype=jnp.uint32)
    return jnp.sum(bits.reshape(size, -1, _BITS) << places, -1, dtype=jnp.uint32).T


def unpack(rows: jax.Array) -> jax.Array:
    """The graph of rows, as 0 or 1: (d, d)."""
    return jax.vmap(bits_of, (1, None))(rows, rows.shape[1])


def bits_of(words: jax.Array, size: int) -> jax.Array:
    """The bits of one row's words (words,), as 0 or 1: (size,)."""
    nodes = jnp.arange(size, dtype=jnp.uint32)
    found = words[0]
    for number in range(1, len(words)):
        found = jnp.where(nodes // _BITS == number, words[number], found)
    return ((found >> (nodes % _BITS)) & 1).astype(jnp.int32)


def count_bits(words: jax.Array) -> jax.Array:
    """The bits that are set, summed over the words, which come first; unrolled, because a sum over
    two of them is slow.
    """
    return sum(jax.lax.population_count(word) for word in words).astype(jnp.int32)  # type: ignore[union-attr]


def _node_bit(node: Any, words: int) -> jax.Array:
    """The word in which a node's bit is set, (words,)."""
    bit = jnp.uint32(1) << (jnp.asarray(node) % _BITS).astype(jnp.uint32)
    return jnp.where(jnp.arange(words) == node // _BITS, bit, jnp.uint32(0))


def pair_at(rows: jax.Array, i: Any, j: Any) -> Pair:
    """What surrounds two nodes."""
    words, size = rows.shape
    bit_i, bit_j = _node_bit(i, words), _node_bit(j, words)
    row_i, row_j = rows[:, i] & ~bit_j, rows[:, j] & ~bit_i
    return Pair(
        i, j, count_bits(rows[:, i] & bit_j), count_bits(row_i), count_bits(row_j),
        bits_of(row_i & row_j, size), count_bits(rows & row_i[:, None]),
        count_bits(rows & row_j[:, None]),
        count_bits(rows[:, j] & bit_i), _in_degree(rows, j) - count_bits(rows[:, i] & bit_j),
    )  # fmt: skip


def _in_degree(rows: jax.Array, node: Any) -> jax.Array:
    """How many rows have the node's bit."""
    bit = (jnp.asarray(node) % _BITS).astype(jnp.uint32)
    return jnp.sum((rows[node // _BITS] >> bit) & 1, dtype=jnp.int32)


def nth_tie(rows: jax.Array, ends: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nodes of a tie, where every row's ties are numbered after those of the row before it.

    Args:
        rows: as `pack` gives them.
        ends: the running count of ties after each row, (d,).
        number: from 0 to `ends[-1]` − 1.
    """
    words, size = rows.shape
    i = jnp.minimum(jnp.sum(ends <= number, dtype=jnp.int32), size - 1)
    within = number - jnp.max(jnp.where(ends <= number, ends, 0))
    # the bits up to each node, of the words before its own and of its own
    nodes = jnp.arange(size, dtype=jnp.uint32)
    upto = jnp.uint32(0xFFFFFFFF) >> (_BITS - 1 - nodes % _BITS)
    word, here = nodes // _BITS, rows[:, i]
    running = sum(
        jax.lax.population_count(
            here[k] & jnp.where(word > k, jnp.uint32(0xFFFFFFFF), jnp.where(word == k, upto, 0))
        )
        for k in range(words)
    )
    j = jnp.minimum(jnp.sum(running.astype(jnp.int32) <= within, dtype=jnp.int32), size - 1)  # type: ignore[union-attr]
    return i, j


def toggled(rows: jax.Array, i: Any, j: Any, flip: jax.Array, directed: bool = False) -> jax.Array:
    """The rows with the tie ij added or removed, where `flip` holds; of a directed graph in the row
    of i alone.
    """
    words, nodes = len(rows), jnp.arange(rows.shape[1])
    bits = jnp.where(nodes == i, _node_bit(j, words)[:, None], 0)
    if not directed:
        bits = bits | jnp.where(nodes == j, _node_bit(i, words)[:, None], 0)
    return rows ^ jnp.where(flip, bits, 0)


def tie_changes(density: Any) -> TieChanges | None:
    """The changes that a density declares; None where it declares none, or is a product."""
    function = density._structure.function
    declared = hasattr(function, "tie_change") and len(density.variables) == 1
    return TieChanges(density) if declared else None


def tie_changes_of_target(target: Any) -> TieChanges | None:
    """The same of what a kernel samples; None also where it is tempered towards a reference."""
    found = tie_changes(target.density)
    if found is None or target.held or target.reference is not None:
        return None
    beta = target.inverse_temperature
    return found if beta is None else found._replace(scale=beta)


__all__ = [
    "Pair",
    "TieChanges",
    "nth_tie",
    "pack",
    "pair_at",
    "tie_changes",
    "tie_changes_of_target",
    "toggled",
    "unpack",
]

"""Conditionals of a few entries of a discrete event given the others, which do not involve Z.

An entry is a free coordinate of a variable (a tie of a graph); entries are numbered across the
variables in declared order.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.interactions.ties import TieChanges, tie_changes


class Group(NamedTuple):
    """Blocks with the same joint states, which are vectorized together."""

    entries: np.ndarray  # (blocks, entries)
    states: np.ndarray  # (joint states, entries)


def variable_of_entries(density) -> list[str]:
    """The variable of every entry."""
    shapes = density.shapes()
    sizes = {
        name: math.prod(support.free_shape(shapes[name]))
        for name, support in density.variables.items()
    }
    return [name for name, size in sizes.items() for _ in range(size)]


def groups_of(
    density, blocks: tuple[tuple[int, ...], ...] | None = None, counts: int = 0
) -> list[Group]:
    """The blocks by their joint states.

    Args:
        density: of discrete variables.
        blocks: tuples of entries; None: every entry is a block.
        counts: counts are summed over 0, ..., `counts` − 1.
    """
    owners = variable_of_entries(density)
    together: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for block in blocks or [(entry,) for entry in range(len(owners))]:
        together.setdefault(tuple(owners[entry] for entry in block), []).append(block)
    states = {name: s.states or range(counts) for name, s in density.variables.items()}
    return [
        Group(
            np.array(members),
            np.array(list(itertools.product(*(states[name] for name in names))), float),
        )
        for names, members in together.items()
    ]


def coordinates_of(density, event: dict) -> tuple[jax.Array, Callable[[jax.Array], dict]]:
    """The entries of an event as one vector, and the function from the vector to the event."""
    supports = density.variables
    flat, unravel = ravel_pytree(
        [support.unconstrain(event[name]) for name, support in supports.items()]
    )

    def back(flat: jax.Array) -> dict:
        parts = zip(supports.items(), unravel(flat), strict=True)
        return event | {name: support.constrain(free) for (name, support), free in parts}

    return flat, back


def log_odds(density, event: dict, groups: list[Group]) -> list[jax.Array]:
    """log p̃(x with another joint state at a block) − log p̃(x), by group: (blocks, states − 1).

    Single ties whose changes the density declares are not evaluated one by one.
    """
    flat, back = coordinates_of(density, event)
    changes = tie_changes(density)
    return [
        _log_odds_of(lambda moved: density.log_density(back(moved)), flat, group)
        if changes is None or group.entries.shape[1] > 1
        else _log_odds_of_ties(changes, event, flat, group)
        for group in groups
    ]


def _log_odds_of_ties(changes: TieChanges, event: dict, flat: jax.Array, group: Group) -> jax.Array:
    """As `log_odds`, of single ties: the other state is to have the tie, or to have it no more."""
    odds = (1 - 2 * flat) * changes.gains(event[changes.name])
    return odds[group.entries]


def log_odds_of(log_density: Callable, value: jax.Array, support) -> jax.Array:
    """The log-odds of every other state of every entry of one variable, (entries, states − 1)."""
    free = support.unconstrain(value)
    group = Group(np.arange(free.size)[:, None], np.array(support.states, float)[:, None])
    return _log_odds_of(
        lambda moved: log_density(support.constrain(moved.reshape(free.shape))),
        jnp.ravel(free),
        group,
    )


def _log_odds_of(
    log_density: Callable, flat: jax.Array, group: Group, at_once: int = 2**10
) -> jax.Array:
    """As `log_odds`, of one group; larger blocks are evaluated by `at_once` joint states."""
    states, here = jnp.asarray(group.states, flat.dtype), log_density(flat)

    def of_block(entries):
        own = jnp.argmin(jnp.sum(jnp.abs(states - flat[entries]), 1))

        def at_shift(shift):
            state = states[(own + shift) % len(states)]
            return log_density(flat.at[entries].set(state)) - here

        shifts = jnp.arange(1, len(states))
        if len(states) <= at_once:
            return jax.vmap(at_shift)(shifts)
        # checkpoint: a gradient must not store the intermediate values of every state
        return jax.lax.map(jax.checkpoint(at_shift), shifts, batch_size=at_once)

    return jax.vmap(of_block)(jnp.asarray(group.entries))


def objective_for(support: Any) -> str:
    """The objective that serves a variable of this support, where another does not."""
    if support.discrete:
        return "PseudoLikelihood"
    return "ScoreMatching" if support.score_matching else "NCE"


def not_enumerable(objective: str, density, two_states: bool = False) -> str | None:
    """Why an objective of conditionals does not apply to a density, as a sentence, or None."""
    wanted = "two states" if two_states else "finitely many states or are counts"
    expected = (
        "Binary, Spin or Graph" if two_states else "Binary, Spin, Categorical, Graph or Count"
    )
    for name, support in density.variables.items():
        if not support.discrete or (
            two_states and (support.states is None or len(support.states) > 2)
        ):
            return (
                f"{objective} needs variables whose entries have {wanted}, and {name} is "
                f"{support!r}; expected {expected}; use un.objectives.{objective_for(support)}"
            )
    return None


def wrong_blocks(density, blocks: Any, max_states: int = 2**16) -> str | None:
    """Why these blocks are not valid, as a sentence, or None if they are."""
    owners = variable_of_entries(density)
    if (
        not isinstance(blocks, tuple)
        or not blocks
        or not all(isinstance(b, tuple) and b for b in blocks)
    ):
        return (
            f"blocks is {blocks!r}; expected a tuple of tuples of entry numbers; pass for example "
            "((0, 1), (2,))"
        )
    for block in blocks:
        wrong = [entry for entry in block if not _is_entry(entry, len(owners))]
        if wrong:
            return (
                f"blocks holds the entry {wrong[0]!r}; expected integers from 0 to "
                f"{len(owners) - 1}, because {density.name} has {len(owners)} entries; correct it"
            )
        if len(set(block)) < len(block):
            return (
                f"blocks holds {block}, with an entry twice; expected distinct entries in a block; "
                "remove one"
            )
        sizes = [density.variables[owners[entry]].states for entry in block]
        if len(block) > 1 and None in sizes:
            name = owners[block[sizes.index(None)]]
            return (
                f"blocks holds {block} with the count {name}; expected counts in blocks of their "
                "own; split it"
            )
        count = math.prod(len(states) for states in sizes if states)
        if count > max_states:
            return (
                f"blocks holds a block of {len(block)} entries with {count:,} joint states; "
                f"expected at most {max_states:,}; split it"
            )
    return None


def _is_entry(entry: Any, size: int) -> bool:
    integer = isinstance(entry, int | np.integer) and not isinstance(entry, bool)
    return bool(integer and 0 <= entry < size)

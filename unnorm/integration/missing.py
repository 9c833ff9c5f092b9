"""log Σ_m p̃(observed, m) of rows in which different entries m are missing: a table of nodes.

Rows with the same key, which says what is missing, share their nodes: for finitely many states the
number of missing entries of each variable, else the entries themselves.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.composite.missing_entries import (
    counts_in,
    missing_masks,
    missing_name,
    most_missing,
)
from unnorm.declaration.composite.partly_observed import latent_part
from unnorm.declaration.density import Density
from unnorm.integration.conditional import plan_for_rows
from unnorm.integration.nodes import Plan, log_integral
from unnorm.integration.options import PLAN
from unnorm.integration.plan import has_plan
from unnorm.integration.representative_rows import count_of, spread_rows
from unnorm.integration.states import count_states


@dataclass(frozen=True)
class MissingOptions:
    """Limits of sums over missing entries."""

    max_states: int = 2**16  # joint states of the missing entries of a row
    max_patterns: int = 200  # of missing continuous entries; each has nodes of its own
    rows_per_pattern: int = 32  # on which the nodes of a pattern are placed and checked


OPTIONS = MissingOptions()


class MissingPlan(NamedTuple):
    """A table of nodes: those of a row stand where its key does."""

    keys: jax.Array  # (Q, k)
    events: dict[str, jax.Array]  # (Q, N, ...)
    log_weights: jax.Array  # (Q, N)


class _Pattern(NamedTuple):
    """Rows with the same key, and the density of what they miss."""

    key: np.ndarray
    density: Density | None  # None: these rows miss nothing
    rows: dict[str, Any]
    first: int  # the number of the first of them


def _missing_by_variable(density: Density, events: dict) -> dict[str, jax.Array]:
    """Which entries are missing, for all variables in the data; traceable."""
    return {name: jnp.isnan(events[name]) for name in density.variables if name in events}


def _key(density: Density, masks: dict[str, jax.Array]) -> jax.Array:
    """What tells rows apart that need other nodes, from the masks of one row."""
    parts = [
        jnp.ravel(mask).astype(int)
        if density.variables[name].states is None
        else jnp.sum(mask).reshape(1).astype(int)
        for name, mask in sorted(masks.items())  # JAX sorts dicts too
    ]
    return jnp.concatenate(parts)


def _patterns(density: Density, events: dict) -> list[_Pattern]:
    masks = _missing_by_variable(density, events)
    keys = np.asarray(jax.vmap(lambda one: _key(density, one))(masks))
    distinct, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    known = {n: np.asarray(value) for n, value in events.items()}
    names, found = tuple(name for name in density.variables if name in events), []
    for q, key in enumerate(distinct):
        rows = np.flatnonzero(number.reshape(-1) == q)
        own = {name: value[rows] for name, value in known.items()}
        counts = most_missing(missing_masks(names, own))
        complete = not counts and len(names) == len(density.variables)
        part = None if complete else latent_part(density, names, counts)
        found.append(_Pattern(key, part, own, int(first[q])))
    return found


def refuse_missing(density: Density, events: dict) -> str | None:
    """Why missing entries cannot be summed or integrated over, as a phrase that names the variable
    and a row, or None.
    """
    patterns, most = _patterns(density, events), 1
    for pattern in patterns:
        part = pattern.density
        if part is None:
            continue
        states = count_states(part)
        if not has_plan(part) or (states is not None and states > OPTIONS.max_states):
            return (
                f"row {pattern.first} misses {_entries(density, pattern.rows)}, which have neither "
                f"at most {OPTIONS.max_states:,} joint states nor at most three continuous "
                "dimensions"
            )
        most = max(most, states or 1)
    continuous = [pattern for pattern in patterns if _needs_nodes(pattern.density)]
    if len(continuous) > OPTIONS.max_patterns:
        return (
            f"the rows have {len(continuous)} patterns of missing continuous entries of "
            f"{', '.join(missing_masks(density.variables, events))}; expected at most "
            f"{OPTIONS.max_patterns}"
        )
    if most * count_of(events) > PLAN.max_row_evaluations:
        worst = max(patterns, key=lambda one: (one.density and count_states(one.density)) or 0)
        return (
            f"row {worst.first} misses {_entries(density, worst.rows)}, whose {most:,} joint "
            f"states are too many for {count_of(events):,} rows"
        )
    return None


def _entries(density: Density, rows: dict) -> str:
    masks = missing_masks(rows, rows)
    parts = [f"{count} entries of {name}" for name, count in most_missing(masks)]
    absent = [name for name in density.variables if name not in rows]
    return " and ".join(parts + [f"all of {name}" for name in absent])


def _needs_nodes(part: Density | None) -> bool:
    return part is not None and any(s.states is None for s in part.variables.values())


def plan_for_missing(density: Density, events: dict) -> MissingPlan:
    """The table of nodes for these rows, for parameters near the present ones."""
    patterns = _patterns(density, events)
    plans = [_plan(pattern) for pattern in patterns]
    most = max(len(plan.log_weights) for plan in plans)
    shapes: dict[str, tuple] = {}
    for plan in plans:
        for name, value in plan.events.items():
            shapes[name] = max(shapes.get(name, ()), value.shape[1:])
    dtype = next(iter(events.values())).dtype
    padded = [
        {name: _pad(plan.events.get(name), most, shape, dtype) for name, shape in shapes.items()}
        for plan in plans
    ]
    weights = [
        jnp.pad(plan.log_weights, (0, most - len(plan.log_weights)), constant_values=-jnp.inf)
        for plan in plans
    ]
    return MissingPlan(
        jnp.asarray(np.stack([pattern.key for pattern in patterns])),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded),
        jnp.stack(weights),
    )


def _plan(pattern: _Pattern) -> Plan:
    """The nodes of one pattern; of complete rows one of weight 1."""
    if pattern.density is None:
        return Plan({}, jnp.zeros(1))
    rows = pattern.rows
    chosen = np.arange(count_of(rows))
    if len(chosen) > OPTIONS.rows_per_pattern:
        chosen = np.array(spread_rows(rows, OPTIONS.rows_per_pattern))
    chosen = np.resize(chosen, OPTIONS.rows_per_pattern)  # patterns share compiled programs
    return plan_for_rows(pattern.density, {n: jnp.asarray(v[chosen]) for n, v in rows.items()})


def _pad(value: jax.Array | None, count: int, shape: tuple, dtype) -> jax.Array:
    """Nodes (N, k) as (count, K): more nodes repeat the first, more entries complete nothing."""
    if value is None:
        return jnp.ones((count, *shape), dtype)
    value = jnp.pad(value, [(0, count - len(value)), *[(0, 0)] * (value.ndim - 1)], mode="edge")
    if value.shape[1:] == shape:
        return value
    return jnp.pad(value, ((0, 0), (0, shape[0] - value.shape[1])))


@compiled
def log_evidence_of_missing(density: Density, plan: MissingPlan, events: dict) -> jax.Array:
    """log Σ_m p̃(observed, m) of every row (n,); NaN for a row whose pattern is not in the table."""
    names = tuple(name for name in density.variables if name in events)
    latent = latent_part(density, names, counts_in(jax.tree.map(lambda leaf: leaf[0], plan.events)))

    def one(row):
        same = jnp.all(_key(density, _missing_by_variable(density, row)) == plan.keys, 1)
        number = jnp.argmax(same)
        nodes = {name: value[number] for name, value in plan.events.items()}
        value = log_integral(latent._at_row(row), nodes, plan.log_weights[number])
        return jnp.where(same.any(), value, jnp.nan)

    batch = max(1, PLAN.batch // plan.log_weights.shape[1])
    # checkpoint: a gradient must not keep what every block computed on its way
    return jax.lax.map(jax.checkpoint(one), events, batch_size=batch)


__all__ = [
    "MissingPlan",
    "log_evidence_of_missing",
    "missing_name",
    "plan_for_missing",
    "refuse_missing",
]

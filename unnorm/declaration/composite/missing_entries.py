"""Missing entries of rows: which they are, whether they may be latent, rows filled in.

An entry of a variable that is NaN in the data is missing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import RowLabels, join_names
from unnorm.supports.base import Support

_PREFIX = "missing "  # no argument of a function has a blank in its name


def missing_name(variable: str) -> str:
    """The name of the variable that holds the missing entries of this one."""
    return _PREFIX + variable


def missing_masks(variables: Iterable[str], events: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Which entries are missing, (n, ...) by variable, for the variables that have some.

    Inside compiled code no entry counts as missing: what was prepared outside says which are.
    """
    masks = {
        name: np.isnan(events[name])
        for name in variables
        if name in events and not isinstance(events[name], jax.core.Tracer)
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def places_of_missing(
    variables: Mapping[str, Support],
    events: Mapping[str, Any],
    rows: RowLabels = RowLabels(),  # noqa: B008 - never written to
) -> list[str]:
    """The first missing entry of each variable that has some, as "x[2] at row 7"."""
    found = []
    for name, mask in missing_masks(variables, events).items():
        where = tuple(int(i) for i in np.argwhere(mask)[0])
        held = rows.entry(name, where, variables[name].shape_axes)
        found.append(f"{held} at {rows.row(where[0], int(mask.sum()))}")
    return found


def refuse_unusable(
    supports: Mapping[str, Support], events: Mapping[str, Any], rows: RowLabels
) -> None:
    """Refuse missing entries that cannot be latent entries of their rows.

    Raises:
        ValueError: entries of a value as a whole, such as a point of a simplex; an entry that no
            row has; a row that has none.
    """
    masks = missing_masks(supports, events)
    for name, mask in masks.items():
        where, axes = tuple(int(i) for i in np.argwhere(mask)[0]), supports[name].shape_axes
        if supports[name].needs_axis:
            raise ValueError(
                f"{rows.entry(name, where, axes)} is missing at "
                f"{rows.row(where[0], int(mask.sum()))}, and {name} is {supports[name]!r}, whose "
                "entries are not variables by themselves; it must be complete; drop the row, or "
                "impute it."
            )
        if mask.all(0).any():
            entry = (0, *(int(i) for i in np.argwhere(mask.all(0))[0]))
            raise ValueError(
                f"{rows.entry(name, entry, axes)} is missing in every row; it must be observed in "
                "at least one; drop it from the density, or leave the whole variable out of the "
                "data if it is latent."
            )
    in_data = [name for name in supports if name in events]
    if masks and all(name in masks for name in in_data):
        nothing = np.all([mask.reshape(len(mask), -1).all(1) for mask in masks.values()], 0)
        if nothing.any():
            first = rows.row(np.argmax(nothing), int(nothing.sum()))
            verb = "is" if len(in_data) == 1 else "are"
            raise ValueError(
                f"{join_names(in_data)} {verb} missing throughout {first}, which then holds no "
                "information on the parameters; it must have an observed entry; drop the row."
            )


def most_missing(masks: Mapping[str, np.ndarray]) -> tuple[tuple[str, int], ...]:
    """The largest number of missing entries in a row, by variable."""
    return tuple(
        (name, int(mask.reshape(len(mask), -1).sum(1).max())) for name, mask in masks.items()
    )


def counts_in(values: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """How many missing entries of a row these values of "missing x" hold, by variable x."""
    return tuple(
        (name.removeprefix(_PREFIX), int(np.shape(value)[1]))
        for name, value in sorted(values.items())
        if name.startswith(_PREFIX)
    )


def places(value: jax.Array, count: int) -> jax.Array:
    """The places of the missing entries of one row, (count,); places beyond its end where it has
    fewer.
    """
    return jnp.nonzero(jnp.isnan(value.ravel()), size=count, fill_value=value.size)[0]


def completed(value: jax.Array, missing: jax.Array) -> jax.Array:
    """One row with its missing entries filled in, in their order."""
    where = places(value, len(missing))
    return value.ravel().at[where].set(missing, mode="drop").reshape(value.shape)


def filled(supports: Mapping[str, Support], events: Mapping[str, Any]) -> dict:
    """The events with some value inside the support in place of missing entries."""
    found = dict(events)
    for name, support in supports.items():
        if name in events and np.isnan(events[name]).any():
            if support.states is not None:
                inside = support.states[0]
            else:
                inside = np.asarray(support.constrain(jnp.zeros(events[name].shape[1:])))
            found[name] = np.where(np.isnan(events[name]), inside, events[name])
    return found

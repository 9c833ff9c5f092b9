"""The density of the missing entries of a row given those that were observed.

An entry of a variable that is NaN in the data is missing. The missing entries of the variable x
are the variable "missing x" of a `PartlyObserved` density, and x itself is its covariate, so that
sums, quadrature and chains take it as they take any density with covariates.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import RowLabels, join_names
from unnorm.declaration.density import Density
from unnorm.declaration.slots import COVARIATE, VARIABLE, Slot
from unnorm.declaration.structure import Structure
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


@jax.tree_util.register_pytree_node_class
class PartlyObserved(Density):
    """log p̃(missing | observed) = log p̃(completed row), for at most so many missing entries.

    Args:
        inner: the density of complete rows, of which variables that are in no row are latent.
        counts: the number of missing entries, by variable; rows with fewer leave the last
            coordinates without effect.
        proper: whether coordinates without effect have a density of their own, as chains need;
            sums over nodes do not, because their last coordinates are fixed.
        row: the values of the observed variables and covariates, once they are known.
    """

    inner: Density
    counts: tuple[tuple[str, int], ...]
    proper: bool
    row: dict[str, jax.Array] | None

    def __init__(
        self,
        inner: Density,
        counts: tuple[tuple[str, int], ...],
        proper: bool = False,
        row: dict[str, jax.Array] | None = None,
    ) -> None:
        for name, value in (("inner", inner), ("counts", counts), ("proper", proper), ("row", row)):
            object.__setattr__(self, name, value)

    def _with(self, inner: Density, row: dict[str, jax.Array] | None) -> "PartlyObserved":
        return PartlyObserved(inner, self.counts, self.proper, row)

    def tree_flatten(self) -> tuple:
        return (self.inner, self.row), (self.counts, self.proper)

    @classmethod
    def tree_unflatten(cls, auxiliary, children) -> "PartlyObserved":
        counts, proper = auxiliary
        return cls(children[0], counts, proper, children[1])

    # -- what it is --------------------------------------------------------------------------------
    @property
    def _structure(self) -> Structure:  # type: ignore[override]
        whole = self.inner._structure
        missing = [
            Slot(missing_name(name), name, VARIABLE, replace(self.inner.variables[name], axes=(k,)))
            for name, k in self.counts
        ]
        slots = [
            replace(slot, role=COVARIATE) if slot.name in dict(self.counts) else slot
            for slot in whole.slots
        ]
        if self.row is not None:
            slots = [slot for slot in slots if slot.role != COVARIATE]
        return replace(whole, function=None, slots=(*missing, *slots), log_z=None)

    @property
    def _held(self):  # type: ignore[override]
        return self.inner._held

    @property
    def name(self) -> str:
        return self.inner.name

    def on_chart(self) -> "PartlyObserved":
        return self._with(self.inner.on_chart(), self.row)

    def for_jit(self) -> "PartlyObserved":
        return self._with(self.inner.for_jit(), self.row)

    def at(self, free: Mapping[str, Any]) -> "PartlyObserved":
        return self._with(self.inner.at(free), self.row)

    def _at_row(self, values: Mapping[str, Any]) -> "PartlyObserved":
        known = self.covariates
        row = {name: jnp.asarray(value) for name, value in values.items() if name in known}
        return self._with(self.inner, row)

    # -- what it does ------------------------------------------------------------------------------
    def log_density(self, event: Mapping[str, Any]) -> jax.Array:
        given = dict(self.row or {}) | dict(event)
        padding = jnp.zeros(())
        supports = self.inner.variables
        for name, _ in self.counts:
            missing, value = given.pop(missing_name(name)), given[name]
            if self.proper:
                padding += _log_density_of_padding(supports[name], value, missing)
            given[name] = _complete_and_encoded(supports[name], value, missing)
        return self.inner.log_density(given) + padding


def _complete_and_encoded(support: Support, value: jax.Array, missing: jax.Array) -> jax.Array:
    """The completed row; one-hot where the missing categories are, as gradients need them."""
    if missing.ndim == 1:
        return completed(value, missing)
    whole = support.encode(jnp.nan_to_num(value))
    flat = whole.reshape(value.size, -1).at[places(value, len(missing))].set(missing, mode="drop")
    return flat.reshape(whole.shape)


def _log_density_of_padding(support: Support, value: jax.Array, missing: jax.Array) -> jax.Array:
    """A log-density of the coordinates that complete nothing, under which chains do not run off:
    normal in unconstrained coordinates, geometric for counts.
    """
    unused = jnp.arange(len(missing)) >= jnp.isnan(value).sum()
    if support.states is not None:
        return jnp.zeros(())
    if support.discrete:
        return -jnp.sum(jnp.where(unused, missing, 0.0))
    one = replace(support, axes=())
    free = jax.vmap(one.unconstrain)(jnp.where(unused, missing, one.constrain(jnp.zeros(()))))
    each = -0.5 * free**2 - jax.vmap(one.log_det)(free)
    return jnp.sum(jnp.where(unused, each, 0.0))


def latent_part(density: Density, names: tuple[str, ...], counts, proper: bool = False) -> Density:
    """The density of what the data do not bring: variables that are not among `names`, and so many
    entries of others.
    """
    missing = dict(counts)
    observed = tuple(name for name in names if name not in missing)
    inner = density._observing(observed) if observed else density
    return PartlyObserved(inner, tuple(counts), proper) if counts else inner


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

"""The density of the missing entries of a row given those that were observed.

The missing entries of the variable x are the variable "missing x" of a `PartlyObserved` density,
and x itself is its covariate, so that sums, quadrature and chains take it as they take any density
with covariates.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from unnorm.declaration.composite.missing_entries import completed, missing_name, places
from unnorm.declaration.density import Density
from unnorm.declaration.slots import COVARIATE, VARIABLE, Slot
from unnorm.declaration.structure import Structure
from unnorm.supports.base import Support


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

"""One view of a density for every algorithm: continuous variables in unconstrained coordinates.

A *position* is a dict of arrays by variable name: unconstrained coordinates of a continuous
variable, the values of a discrete one. The *flat vector* of a position holds its continuous
coordinates alone, concatenated in the alphabetical order of the variables (the order in which JAX
flattens a dict).
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.method import method, static
from unnorm.core.random_keys import key_array, make_key
from unnorm.declaration.density import Density, cast
from unnorm.supports import Support

Position = dict[str, jax.Array]


@method
class Unconstrained:
    """A density on unconstrained coordinates: a frozen pytree, made once at the door of a verb.

    `log_density` includes log |det J| of the bijections, and is minus infinity where an unbounded
    discrete variable has left its support.

    Args:
        density: its dimensions resolved.
        held: values of variables that do not move, by name, as a position.
        inverse_temperature: β of the tempered target p^β q^(1 − β); None: 1.
        reference: q; None: flat.
        jacobian: whether `log_density` includes log |det J|.

    Example:
        >>> import unnorm as un
        >>> view = Unconstrained(un.Density(lambda x, s: -x * s, {"x": un.Positive, "s": un.Spin}))
        >>> view.dimension
        1
        >>> position = {"x": jnp.zeros(()), "s": jnp.ones(())}
        >>> float(view.log_density(position))  # -exp(0) + 0
        -1.0
    """

    density: Density
    held: dict[str, Any] | None = None
    inverse_temperature: Any = None
    reference: Density | None = None
    jacobian: bool = static(default=True)

    # -- views of it -------------------------------------------------------------------------------
    def without_jacobian(self) -> "Unconstrained":
        """The target whose log-density leaves out log |det J|: the user's function alone."""
        return dataclasses.replace(self, jacobian=False)

    def holding(self, position: Position) -> "Unconstrained":
        """The target of the other variables, given the values of these."""
        return dataclasses.replace(self, held=(self.held or {}) | position)

    def temper(
        self, inverse_temperature: jax.Array, reference: Density | None = None
    ) -> "Unconstrained":
        """The target p^β q^(1 − β), over the same coordinates."""
        return dataclasses.replace(
            self, inverse_temperature=inverse_temperature, reference=reference
        )

    def at_row(self, row: dict[str, jax.Array] | None) -> "Unconstrained":
        """The target at one row of covariates; unchanged where the density has none."""
        if not self.density.covariates:
            return self
        assert row is not None, "a density with covariates is evaluated at a row"
        return dataclasses.replace(self, density=self.density._at_row(row))

    def in_precision(self, dtype: Any) -> "Unconstrained":
        """The target with every floating leaf as a JAX array of one strong dtype."""
        return cast(self, dtype)

    # -- what it is made of ------------------------------------------------------------------------
    @property
    def supports(self) -> dict[str, Support]:
        """The supports of the variables that move."""
        held = self.held or {}
        return {name: s for name, s in self.density.variables.items() if name not in held}

    @property
    def factors(self) -> tuple[Density, ...]:
        """The factors of a product; a density that is none is its only factor."""
        return getattr(self.density, "factors", (self.density,))

    @property
    def powers(self) -> tuple[Any, ...]:
        """The power of each factor."""
        return getattr(self.density, "powers", (1.0,))

    @property
    def data(self) -> dict[str, Any]:
        """The constants of the density."""
        return self.density.constants

    @property
    def free_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the continuous coordinates, in the order of the flat vector."""
        shapes, supports = self.density.shapes(), self.supports
        return {
            name: supports[name].free_shape(shapes[name])
            for name in sorted(supports)
            if not supports[name].discrete
        }

    @property
    def dimension(self) -> int:
        """The number of unconstrained coordinates of the continuous variables."""
        return sum(math.prod(shape) for shape in self.free_shapes.values())

    # -- the log-density ---------------------------------------------------------------------------
    def log_density(self, position: Position) -> jax.Array:
        """log p̃ of the constrained event plus log |det J|."""
        position = position if self.held is None else self.held | position
        event = self.constrain(position)
        value = _on_discrete_support(self.density, event)
        if self.inverse_temperature is not None:
            value = self.inverse_temperature * value
            if self.reference is not None:
                reference = _on_discrete_support(self.reference, event)
                value = value + (1 - self.inverse_temperature) * reference
        if not self.jacobian:
            return value
        supports = self.density.variables
        return value + sum(supports[name].log_det(free) for name, free in position.items())

    def within_range(self, position: Position) -> jax.Array:
        """`log_density`, minus infinity where the square of a coordinate would overflow.

        A trajectory that diverges ends there; without it, an overflow of the density could read as
        +inf and absorb the chain.
        """
        limit = float(jnp.finfo(jnp.result_type(*position.values())).max) ** 0.4
        far = jnp.stack([jnp.any(jnp.abs(leaf) > limit) for leaf in position.values()]).any()
        return jnp.where(far, -jnp.inf, self.log_density(position))

    def log_densities(self, positions: Position) -> jax.Array:
        """`log_density` at many positions, (n, ...) by variable: (n,)."""
        return _log_densities(self, positions)

    def log_densities_in(self, positions: Position, dtype: Any) -> np.ndarray:
        """`log_densities` with all arithmetic in this dtype."""
        with jax.enable_x64(dtype == np.float64):
            target = self.in_precision(dtype)
            return np.asarray(target.log_densities(cast(positions, dtype)), float)

    # -- events and positions ----------------------------------------------------------------------
    def constrain(self, position: Position) -> dict[str, jax.Array]:
        """The event at a position."""
        supports = self.density.variables
        return {name: supports[name].constrain(free) for name, free in position.items()}

    def unconstrain(self, event: dict[str, jax.Array]) -> Position:
        """The position of an event strictly inside the support."""
        return {name: support.unconstrain(event[name]) for name, support in self.supports.items()}

    def canonical(self, position: Position) -> Position:
        """The representative among equivalent positions that chains keep: angles wrap."""
        supports = self.density.variables
        return {name: supports[name].canonical(free) for name, free in position.items()}

    def events_at(self, positions: Position) -> dict[str, jax.Array]:
        """The events at many positions, (n, ...) by variable."""
        supports = self.density.variables
        return {name: jax.vmap(supports[name].constrain)(u) for name, u in positions.items()}

    def positions_of(self, events: dict[str, Any], seed: int = 1105) -> Position:
        """The positions of many events, (n, ...) by variable, without variables that are missing.

        Values on a bound are first moved just inside. Coordinates that a value does not determine
        (the length of a direction) are drawn from their own distribution; the seed is fixed, so
        that equal events have equal positions.
        """
        positions = {}
        for name, support in self.supports.items():
            if name in events:
                value: Any = events[name]
                value = value if isinstance(value, jax.core.Tracer) else np.asarray(value)
                values = jnp.asarray(support.inward(value))
                keys = key_array(make_key(seed), len(values))
                positions[name] = jax.vmap(support.lift)(values, keys)
        return positions

    def random_position(self, key: jax.Array, dtype: Any) -> Position:
        """A start for a chain, drawn inside the support."""
        shapes, keys = self.density.shapes(), key_array(key, len(self.supports))
        return {
            name: support.random_free(one, shapes[name], dtype)
            for one, (name, support) in zip(keys, self.supports.items(), strict=True)
        }

    # -- positions and flat vectors ----------------------------------------------------------------
    def continuous(self, position: Position) -> Position:
        """The continuous part of a position."""
        supports = self.density.variables
        return {name: value for name, value in position.items() if not supports[name].discrete}

    def discrete(self, position: Position) -> Position:
        """The discrete part of a position."""
        supports = self.density.variables
        return {name: value for name, value in position.items() if supports[name].discrete}

    def flatten(self, position: Position) -> jax.Array:
        """The flat vector (D,) of the continuous coordinates of a position."""
        parts = [jnp.ravel(position[name]) for name in self.free_shapes]
        return jnp.concatenate(parts) if parts else jnp.zeros(0)

    def split(self, flat: jax.Array) -> Position:
        """The continuous part of the position of a flat vector (D,)."""
        position, start = {}, 0
        for name, shape in self.free_shapes.items():
            size = math.prod(shape)
            position[name] = flat[start : start + size].reshape(shape)
            start += size
        return position

    def event_at(self, flat: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """The continuous part of the event at a flat vector, and log |det J|."""
        position, supports = self.split(flat), self.density.variables
        log_det = sum(
            (supports[name].log_det(free) for name, free in position.items()),
            jnp.zeros((), flat.dtype),
        )
        return self.constrain(position), log_det


@compiled
def _log_densities(target: Unconstrained, positions: Position) -> jax.Array:
    return jax.vmap(target.log_density)(positions)


def _on_discrete_support(density: Density, event: dict[str, jax.Array]) -> jax.Array:
    """log p̃; minus infinity where an unbounded discrete variable has left its support (a negative
    count).
    """
    unbounded = {n: s for n, s in density.variables.items() if s.discrete and s.states is None}
    if not unbounded:
        return density.log_density(event)
    inside = jnp.stack([support.contains(event[name]) for name, support in unbounded.items()]).all()
    safe = {name: jnp.where(inside, event[name], 0) for name in unbounded}
    return jnp.where(inside, density.log_density(event | safe), -jnp.inf)


__all__ = ["Position", "Unconstrained"]

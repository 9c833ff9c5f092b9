"""log p̃ in unconstrained coordinates, summed over the discrete states."""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.integration.nodes import enumerable_count, is_resolved, states_at, to_event
from unnorm.integration.options import QUADRATURE, QuadratureOptions


def log_mass_at(density: Density, states: dict, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log Σ_states p̃(states, x(u)) |det J(u)|, and whether floating point resolves x(u)."""
    event, log_det = to_event(density, u)
    if states:
        value = jax.nn.logsumexp(jax.vmap(lambda state: density.log_density(event | state))(states))
    else:
        value = density.log_density(event)
    return value + log_det, is_resolved(density, u, event)


@jax.jit
def _log_mass(density: Density, states: dict, free: jax.Array):
    return jax.lax.map(lambda u: log_mass_at(density, states, u), free, batch_size=256)


class Integrand:
    """log p̃ in unconstrained coordinates, summed over the discrete states.

    It counts its evaluations and carries the options of the rules that are laid over it.
    """

    def __init__(
        self, density: Density, limit: int, options: QuadratureOptions = QUADRATURE
    ) -> None:
        self.density, self.count = density, enumerable_count(density, limit)
        self.options = options
        self.evaluations = self.gradients = 0
        discrete = any(support.discrete for support in density.variables.values())
        self.states = states_at(density, jnp.arange(self.count)) if discrete else {}

    def __call__(self, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and whether they are resolved at the points (S, D), at most one block of them."""
        self.evaluations += len(free) * self.count
        missing = self.options.grid.block - len(free)
        padded = np.concatenate([free, np.broadcast_to(free[:1], (missing, free.shape[1]))])
        values, resolved = _log_mass(
            self.density, self.states, jnp.asarray(padded, jnp.result_type(float))
        )
        return np.asarray(values, float)[: len(free)], np.asarray(resolved)[: len(free)]

    def resolved_values(self, free: np.ndarray) -> np.ndarray:
        """Values at any number of points; minus infinity where unresolved or NaN."""
        block = self.options.grid.block
        blocks = [self(free[start : start + block]) for start in range(0, len(free), block)]
        values, resolved = (np.concatenate(part) for part in zip(*blocks, strict=True))
        return np.where(resolved & ~np.isnan(values), values, -np.inf)


__all__ = ["Integrand", "log_mass_at"]

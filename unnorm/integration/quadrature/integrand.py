"""log p̃ in unconstrained coordinates, summed over the discrete states."""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.nodes import is_resolved
from unnorm.integration.options import QUADRATURE, QuadratureOptions
from unnorm.integration.states import enumerable_count, states_at


def log_mass_at(view: Unconstrained, states: dict, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log Σ_states p̃(states, x(u)) |det J(u)|, and whether floating point resolves x(u)."""
    (event, log_det), log_density = view.event_at(u), view.density.log_density
    if states:
        value = jax.nn.logsumexp(jax.vmap(lambda state: log_density(event | state))(states))
    else:
        value = log_density(event)
    return value + log_det, is_resolved(view, u, event)


@compiled
def _log_mass(view: Unconstrained, states: dict, free: jax.Array):
    return jax.lax.map(lambda u: log_mass_at(view, states, u), free, batch_size=256)


class Integrand:
    """log p̃ in unconstrained coordinates, summed over the discrete states.

    It counts its evaluations and carries the options of the rules that are laid over it.
    """

    def __init__(
        self, view: Unconstrained, max_states: int, options: QuadratureOptions = QUADRATURE
    ) -> None:
        density = view.density
        self.view, self.options = view, options
        self.count = enumerable_count(density, max_states)
        self.evaluations = self.gradients = 0
        discrete = any(support.discrete for support in density.variables.values())
        self.states = states_at(density, jnp.arange(self.count)) if discrete else {}

    def __call__(self, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and whether they are resolved at the points (S, D), at most one block of them."""
        self.evaluations += len(free) * self.count
        missing = self.options.grid.block - len(free)
        padded = np.concatenate([free, np.broadcast_to(free[:1], (missing, free.shape[1]))])
        values, resolved = _log_mass(
            self.view, self.states, jnp.asarray(padded, jnp.result_type(float))
        )
        return np.asarray(values, float)[: len(free)], np.asarray(resolved)[: len(free)]

    def values_at(self, free: np.ndarray) -> np.ndarray:
        """Values at any number of points; −∞ where they are NaN or lost to rounding."""
        return self.check_at(free)[0]

    def check_at(self, free: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`values_at`, whether the points are resolved, and where those are NaN or +∞."""
        block = self.options.grid.block
        blocks = [self(free[start : start + block]) for start in range(0, len(free), block)]
        values, resolved = (np.concatenate(part) for part in zip(*blocks, strict=True))
        broken = resolved & (np.isnan(values) | np.isposinf(values))
        return np.where(resolved & ~np.isnan(values), values, -np.inf), resolved, broken


__all__ = ["Integrand", "log_mass_at"]

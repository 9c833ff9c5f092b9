"""What is added to the mean loss: L1 and L2 penalties, and minus the log of a prior over the number
of rows.

Penalties are on the constrained values, each listed entry once: of a Symmetric matrix the entries
above the diagonal (with ``diagonal=True`` on it too), of a network all of its arrays.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.supports import PyTreeSupport, Support


@method
class L1:
    """The lasso's penalty strength · Σ |θ_j|, each listed entry once: ``penalty={"coupling":
    un.L1(0.1)}``.

    For parameters without bounds (Real, Symmetric) and every objective, by contrastive divergence
    too; not where a fit is trained by steps of an optimizer. Entries come out as 0.0 exactly, and
    there are no standard errors. The diagonal of a matrix is left out by a declaration of its own:
    ``own: un.Real["d"], coupling: un.Symmetric["d"]``.

    Args:
        strength: a number of at least 0, on the scale of the mean loss; or an array of them, one
            for each entry, in the parameter's own shape or in the order of `Fit.summary`. In
            `un.path`: a grid of them, or None for a default.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, m: m @ x - 0.5 * x @ x, {"x": un.Real[2]},
        ...     {"m": (un.Real[2], 0.0)})
        >>> data = np.array([[2.0, 0.3], [1.0, -0.1], [3.0, -0.5]])
        >>> fit = un.fit(p, data, "score_matching", penalty={"m": un.L1(0.5)}, progress=False)
        >>> # the means 2 and -0.1, moved towards 0 by 0.5
        >>> fit.density.parameters["m"].round(4).tolist()
        [1.5, 0.0]

    References:
        Tibshirani (1996), doi:10.1111/j.2517-6161.1996.tb02080.x.
    """

    strength: Any = None


@method
class L2:
    """The ridge's penalty strength / 2 · Σ θ_j², each listed entry once: ``penalty={"field":
    un.L2(0.1)}``.

    For every parameter and objective; of a network (`un.PyTree`) all arrays. The standard errors
    are then those of the penalised estimand: they do not count the bias.

    Args:
        strength: a number of at least 0, on the scale of the mean loss; or an array of them, one
            for each entry, in the parameter's own shape or in the order of `Fit.summary`.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, m: m * x - 0.5 * x**2, {"x": un.Real},
        ...     {"m": (un.Real, 0.0)})
        >>> fit = un.fit(p, [1.0, 2.0, 3.0], "score_matching", penalty={"m": un.L2(1.0)},
        ...     progress=False)
        >>> round(float(fit.density.parameters["m"]), 4)  # the mean 2, over 1 + strength
        1.0

    References:
        Hoerl and Kennard (1970), doi:10.1080/00401706.1970.10488634.
    """

    strength: Any = None


@method
class Penalties:
    """All that is added to the mean loss, as a pytree that goes along into the compiled loss.

    `lasso` holds the strengths of the free coordinates, by parameter and in their shape; `ridge`
    those of the listed entries (one number for a network); `priors` NumPyro distributions over the
    constrained values; `rows` is n. Along a path the strengths of the parameters in `moving` are 1,
    to be multiplied by those of the `grid` (None: no path; empty: one is chosen), and `gamma` is
    that of the extended BIC.
    """

    lasso: dict[str, Any]
    ridge: dict[str, Any]
    priors: dict[str, Any]
    rows: Any
    grid: Any = None
    moving: tuple[str, ...] = static(default=())
    gamma: float = static(default=0.5)

    def at(self, strength: Any) -> "Penalties":
        """The penalties at one strength of the path."""
        moved = {name: strength * jnp.ones_like(self.lasso[name]) for name in self.moving}
        return replace(self, lasso=self.lasso | moved, grid=None)

    def of_rows(self, rows: int) -> "Penalties":
        """The penalties of so many rows, for all of which a prior counts once."""
        return replace(self, rows=jnp.asarray(rows, jnp.result_type(self.rows)))

    def smooth(self, density: Density) -> jax.Array:
        """The part with a gradient: Σ strength θ² / 2 − log prior(θ) / n."""
        values, supports = density.parameters, density.supports
        total = jnp.zeros(())
        for name, strength in self.ridge.items():
            parts = free_entries(supports[name], values[name])
            total += sum(0.5 * jnp.sum(strength * part**2) for part in parts)
        for name, prior in self.priors.items():
            total -= log_prior(prior, supports[name], values[name]) / self.rows
        return total

    def strengths(self, density: Density, nuisance: Any) -> jax.Array:
        """The lasso's strengths along the vector of all that is estimated
        (`loss.parameters_of`).
        """
        free = {
            name: jax.tree.map(jnp.zeros_like, value)
            if name not in self.lasso
            else self.lasso[name]
            for name, value in density.free().items()
        }
        return ravel_pytree((free, jax.tree.map(jnp.zeros_like, nuisance)))[0]

    def of_free(self, density: Density, free: Any) -> jax.Array:
        """The smooth part as a function of the free parameters."""
        return self.smooth(density.at(free))


class Along(NamedTuple):
    """The `penalty` of a path, as the user gave it: strengths of L1 are a grid, or to be chosen."""

    penalty: Any
    gamma: float = 0.5  # of the extended BIC


@compiled
def slope_and_curvature(
    penalties: Penalties | None, density: Density
) -> tuple[jax.Array, jax.Array]:
    """The gradient and the Hessian of the smooth part in the vector of free parameters; zeros
    without penalties.
    """
    vector, unravel = ravel_pytree(density.free())
    if penalties is None:
        return jnp.zeros_like(vector), jnp.zeros((vector.size,) * 2, vector.dtype)

    def added(vector):
        return penalties.of_free(density, unravel(vector))

    return jax.grad(added)(vector), jax.hessian(added)(vector)


def free_entries(support: Support, value: Any) -> list[jax.Array]:
    """The listed entries of one parameter, as a vector; of a network its arrays."""
    if isinstance(support, PyTreeSupport):
        return [
            leaf
            for leaf in jax.tree.leaves(value)
            if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        ]
    return [value[tuple(np.transpose(support.entries(value.shape)))].reshape(-1)]


def log_prior(prior: Any, support: Support, value: Any) -> jax.Array:
    """log prior of a value: a distribution of one number holds for every listed entry."""
    if isinstance(support, PyTreeSupport):
        parts = (jnp.sum(prior.log_prob(leaf)) for leaf in free_entries(support, value))
        return sum(parts)  # type: ignore[return-value]
    logs = prior.log_prob(value)
    return (
        jnp.sum(free_entries(support, logs)[0])
        if jnp.shape(logs) == jnp.shape(value)
        else jnp.sum(logs)
    )

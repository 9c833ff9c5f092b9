"""States and quadrature nodes: where a density is evaluated so that a sum over them is Z.

Everything runs in the unconstrained coordinates u of the continuous variables, flattened to one
vector (`Unconstrained`); ∫ p̃(x) dx = ∫ p̃(x(u)) |det J(u)| du.

References:
    Takahasi and Mori (1974), doi:10.2977/prims/1195192451; Trefethen and Weideman (2014),
    doi:10.1137/130932132 (the trapezoidal rule in t).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.frame import Frame
from unnorm.integration.options import ENUMERATION, PLAN
from unnorm.integration.states import enumerable_count, states_at


class Plan(NamedTuple):
    """Fixed events and the logs of their weights: Z ≈ Σ_s exp(log p̃(events_s) + log_weights_s)."""

    events: dict[str, jax.Array]
    log_weights: Any  # an array of JAX, or of NumPy where no program made it


# -- the coordinates -------------------------------------------------------------------
def coordinate_names(view: Unconstrained) -> list[str]:
    """A name for every unconstrained coordinate, for messages."""
    return [
        name + (f"[{', '.join(map(str, index))}]" if index else "")
        for name, shape in view.free_shapes.items()
        for index in np.ndindex(shape)
    ]


def is_resolved(view: Unconstrained, flat: jax.Array, event: dict[str, jax.Array]) -> jax.Array:
    """Whether floating point resolves u in the event: farther out its entries have rounded onto a
    bound, or overflowed.
    """
    # without the barrier XLA cancels log(exp(u)), which hides the rounding
    event = jax.lax.optimization_barrier(event)
    parts, drift, size = view.split(flat), [], []
    for name, value in event.items():
        support, part = view.supports[name], parts[name]
        back = support.unconstrain(value) - part if support.bijective else jnp.zeros(1)
        drift.append(jnp.ravel(jnp.abs(back)))
        size.append(jnp.ravel(part) if support.bijective else jnp.zeros(1))
    tolerance = 0.01 + 1e-6 * jnp.abs(jnp.concatenate(size))
    return jnp.all(jnp.concatenate(drift) <= tolerance)  # false for NaN


# -- quadrature nodes ------------------------------------------------------------------
def grid_points(
    frame: Frame, axes: list[np.ndarray], block: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """The points u (S, D) of the tensor rule with these equally spaced t on each axis, and the logs
    of their weights.

    With u = c + A sinh(t) the trapezoidal rule in t converges exponentially: Gaussian tails fall
    doubly exponentially in t, the e^u of a bound and algebraic tails |u|^-a exponentially.
    """
    shape = tuple(len(axis) for axis in axes)
    number = np.arange(*block.indices(math.prod(shape)))
    t = np.stack(
        [axis[i] for axis, i in zip(axes, np.unravel_index(number, shape), strict=True)], -1
    )
    steps = sum(math.log(axis[1] - axis[0]) for axis in axes)
    log_det = float(np.linalg.slogdet(frame.factor)[1])
    return frame.centre + np.sinh(t) @ frame.factor.T, np.log(np.cosh(t)).sum(-1) + steps + log_det


def as_flat(view: Unconstrained, given: dict[str, Any], what: str) -> np.ndarray:
    """Values given by variable, in unconstrained coordinates, as one vector."""
    parts = []
    for name, shape in view.free_shapes.items():
        if name not in given:
            raise ValueError(
                f"{what} has no entry for variable {name}; expected one for each variable; pass "
                f"an array of the shape {shape}."
            )
        value = np.asarray(given[name], float)
        wrong = value.shape not in ((), shape) or not np.all(np.isfinite(value))
        if wrong or (what == "scale" and not np.all(value > 0)):
            kind = "positive" if what == "scale" else "finite"
            raise ValueError(
                f"{what} of variable {name} is {given[name]!r}; expected {kind} numbers of the "
                f"shape {shape}."
            )
        parts.append(np.broadcast_to(value, shape).ravel())
    return np.concatenate(parts) if parts else np.zeros(0)


def require_low_dimension(view: Unconstrained, limit: int = PLAN.max_dimensions) -> int:
    """The number of unconstrained coordinates.

    Raises:
        ValueError: it is above the limit.
    """
    size = view.dimension
    if size > limit:
        raise ValueError(
            f"Density {view.density.name} has {size} continuous dimensions "
            f"({', '.join(view.free_shapes)}); expected at most {limit} for quadrature; use "
            "un.estimators.SMC."
        )
    return size


def nodes_on(view: Unconstrained, frame: Frame, axes: list[np.ndarray]) -> Plan:
    """The plan of a tensor rule, times the states of the discrete variables.

    Unresolved nodes get no weight, and another's place: leaving them out would change the shapes
    with every data set, and each shape would be compiled.
    """
    return _nodes_at(
        view, *(np.asarray(a, jnp.result_type(float)) for a in grid_points(frame, axes))
    )


@compiled
def _nodes_at(view: Unconstrained, free: jax.Array, log_areas: jax.Array) -> Plan:
    events, log_det = jax.vmap(view.event_at)(free)
    kept = jax.vmap(lambda u, event: is_resolved(view, u, event))(free, events)
    log_weights = jnp.where(kept, log_areas + log_det, -jnp.inf)
    place = jnp.where(kept, jnp.arange(len(kept)), jnp.argmax(kept))
    events = jax.tree.map(lambda leaf: leaf[place], events)
    density = view.density
    count = enumerable_count(density)
    if count == 1 and not any(s.discrete for s in density.variables.values()):
        return Plan(events, log_weights)
    states, nodes = states_at(density, jnp.arange(count)), log_weights.shape[0]
    events = {
        name: jnp.tile(value, (count,) + (1,) * (value.ndim - 1)) for name, value in events.items()
    }
    states = {name: jnp.repeat(value, nodes, axis=0) for name, value in states.items()}
    return Plan(events | states, jnp.tile(log_weights, count))


def log_densities(
    density: Density, events: dict[str, jax.Array], batch: int = ENUMERATION.batch
) -> jax.Array:
    """log p̃ at many events, (S,); more than a batch of them are evaluated in blocks."""
    if len(jax.tree.leaves(events)[0]) <= batch:
        return jax.vmap(density.log_density)(events)
    # checkpoint: a gradient must not keep what every block computed on its way
    return jax.lax.map(jax.checkpoint(density.log_density), events, batch_size=batch)


def log_integral(
    density: Density, events: dict[str, jax.Array], log_weights: jax.Array
) -> jax.Array:
    """log Σ_s exp(log p̃(events_s) + log_weights_s): log Z on fixed nodes, differentiable in the
    parameters.

    Its gradient is the mean of ∇_θ log p̃, so that exact maximum likelihood needs nothing else.

    Args:
        density: with the parameters at which log Z is wanted; traceable.
        events: ``{name: (S, *shape)}``.
        log_weights: ``(S,)``; zeros for an enumeration.

    Returns:
        A scalar; minus infinity at an event leaves it out.

    Example:
        >>> import unnorm as un
        >>> from unnorm.integration.states import enumerate_states
        >>> p = un.Density(lambda x: 0.0 * x.sum(), {"x": un.Binary[3]})
        >>> round(float(log_integral(p, enumerate_states(p), jnp.zeros(8))), 4)
        2.0794
    """
    return logsumexp(log_densities(density, events) + log_weights)

"""An identity for densities with walls and jumps, where Stein's does not hold, and a look for
these.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import flat, positions_of
from unnorm.diagnostics.against_density.stein import BATCH, Z_LIMIT, check_of

EVALUATIONS = 200_000  # of the density: draws are thinned to it
PATHS, POINTS = (
    256,
    65,
)  # of the look for jumps: segments one standard deviation long, and points on each
TOLERANCE = 0.1  # by which the integral of the slope along a segment may miss the rise


def explained_by_jumps(p: Density, values: Mapping[str, np.ndarray]) -> bool:
    """Whether the density has walls or jumps near its draws, and the draws keep an identity that
    allows for them.
    """
    with jax.enable_x64(True):
        free = _thinned(positions_of(p, values))
        q = cast(p.bare(), float)
        return _jumps(q, free) and _symmetric_moves_balance(q, free)


def _thinned(free: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    chains, draws = next(iter(free.values())).shape[:2]
    size = sum(int(np.prod(value.shape[2:])) for value in free.values())
    every = int(np.clip(2 * size * chains * draws // EVALUATIONS, 1, max(1, draws // 4)))
    return {name: value[:, ::every] for name, value in free.items()}


def _moving(p: Density) -> list[str]:
    return [name for name, support in p.variables.items() if not support.discrete]


def _symmetric_moves_balance(p: Density, free: dict[str, np.ndarray]) -> bool:
    """E[a(u, u + δ) (g(u + δ) − g(u)) + a(u, u − δ) (g(u − δ) − g(u))] = 0, a(u, v) = p(v) / (p(u)
    + p(v)), for every density and every g: coordinate by coordinate, with δ its standard deviation,
    g = u and g = (u − mean)².
    """
    names, leading = _moving(p), next(iter(free.values())).shape[:2]
    u = np.concatenate([flat(free[name]) for name in names], -1)
    step, apart = u.std((0, 1)), u - u.mean((0, 1))
    events = {name: value.reshape(-1, *value.shape[2:]) for name, value in free.items()}
    up, down = (np.asarray(rate).reshape(*leading, -1) for rate in _rates(p, events, step))
    location = up - down
    spread = up * (2 * apart / step + 1) - down * (2 * apart / step - 1)
    return check_of([str(i) for i in range(u.shape[-1])], location, spread).surest <= Z_LIMIT


@jax.jit
def _rates(p: Density, free: dict[str, jax.Array], step: jax.Array):
    """p(v) / (p(u) + p(v)) of the moves by ± one step in each coordinate, (events, coordinates)."""

    def one(position):
        vector, unravel, held = _vector(p, position)
        here = Unconstrained(p).log_density(position)

        def rate(direction):
            there = Unconstrained(p).log_density(held | unravel(vector + direction))
            return jax.nn.sigmoid(jnp.nan_to_num(there, nan=-jnp.inf, neginf=-jnp.inf) - here)

        moves = jnp.diag(step)
        return jax.lax.map(rate, moves), jax.lax.map(rate, -moves)

    return jax.lax.map(one, free, batch_size=BATCH)


def _vector(p: Density, position: dict[str, jax.Array]) -> tuple[jax.Array, Any, dict]:
    """The continuous coordinates in the order of the variables, the way back, and what is held."""
    names = _moving(p)
    sizes = np.cumsum([position[name].size for name in names])[:-1]

    def unravel(vector):
        parts = jnp.split(vector, sizes)
        return {
            name: part.reshape(position[name].shape)
            for name, part in zip(names, parts, strict=True)
        }

    vector = jnp.concatenate([position[name].ravel() for name in names])
    return vector, unravel, {name: value for name, value in position.items() if name not in names}


def _jumps(p: Density, free: dict[str, np.ndarray]) -> bool:
    rng = np.random.default_rng(0)
    events = {name: value.reshape(-1, *value.shape[2:]) for name, value in free.items()}
    count = len(next(iter(events.values())))
    chosen = rng.integers(0, count, PATHS)
    spread = np.concatenate([flat(free[name]).std((0, 1)) for name in _moving(p)])
    directions = rng.normal(size=(PATHS, len(spread)))
    directions *= spread / np.linalg.norm(directions, axis=1, keepdims=True)
    rise, integral = map(
        np.asarray, _paths(p, {n: v[chosen] for n, v in events.items()}, directions)
    )
    smooth = np.isfinite(rise) & (np.abs(rise - integral) <= TOLERANCE * (1 + np.abs(rise)))
    return not smooth.all()


@jax.jit
def _paths(p: Density, free: dict[str, jax.Array], directions: jax.Array):
    """Along each segment the rise of log p, and the integral of its slope by the trapezoidal
    rule.
    """

    def one(given):
        position, direction = given
        vector, unravel, held = _vector(p, position)

        def along(t):
            return Unconstrained(p).log_density(held | unravel(vector + t * direction))

        places = jnp.linspace(0.0, 1.0, POINTS)
        values, slopes = jax.vmap(jax.value_and_grad(along))(places)
        return values[-1] - values[0], jnp.trapezoid(slopes, places)

    return jax.lax.map(one, (free, directions), batch_size=BATCH)

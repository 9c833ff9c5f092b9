"""Densities with walls and jumps, where Stein's identity does not hold: their detection, and an
identity that allows for them.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import as_events, flat_vectors, positions_of
from unnorm.diagnostics.against_density.stein import make_check
from unnorm.diagnostics.options import STEIN, SteinCriteria


def jumps_explain(
    p: Density, values: Mapping[str, np.ndarray], criteria: SteinCriteria = STEIN
) -> bool:
    """Whether the density has walls or jumps near its draws, and the draws satisfy an identity that
    allows for them.
    """
    with jax.enable_x64(True):
        view = Unconstrained(cast(p.for_jit(), float))
        positions = _thin(positions_of(Unconstrained(p), values), criteria)
        jumps = _has_jumps(view, positions, criteria)
        return jumps and _symmetric_moves_balance(view, positions, criteria)


def _thin(positions: dict[str, np.ndarray], criteria: SteinCriteria) -> dict[str, np.ndarray]:
    chains, draws = next(iter(positions.values())).shape[:2]
    size = sum(int(np.prod(value.shape[2:])) for value in positions.values())
    cost = 2 * size * chains * draws
    every = int(np.clip(cost // criteria.max_evaluations, 1, max(1, draws // 4)))
    return {name: value[:, ::every] for name, value in positions.items()}


def _symmetric_moves_balance(
    view: Unconstrained, positions: dict[str, np.ndarray], criteria: SteinCriteria
) -> bool:
    """E[a(u, u + δ) (g(u + δ) − g(u)) + a(u, u − δ) (g(u − δ) − g(u))] = 0, a(u, v) = p(v) / (p(u)
    + p(v)), for every density and every g: coordinate by coordinate, with δ its standard deviation,
    g = u and g = (u − mean)².
    """
    u = flat_vectors(view, positions)
    step, offset = u.std((0, 1)), u - u.mean((0, 1))
    rates = _rates(view, as_events(positions), step, batch=criteria.batch)
    up, down = (np.asarray(rate).reshape(*u.shape[:2], -1) for rate in rates)
    location = up - down
    spread = up * (2 * offset / step + 1) - down * (2 * offset / step - 1)
    labels = [str(i) for i in range(u.shape[-1])]
    return make_check(labels, location, spread, criteria).largest_z <= criteria.z_limit


@compiled(static_argnames="batch")
def _rates(view: Unconstrained, events: dict[str, jax.Array], step: jax.Array, *, batch: int):
    """p(v) / (p(u) + p(v)) of the moves by ± one step in each coordinate, (events, coordinates)."""

    def one(position):
        vector, discrete = view.flatten(position), view.discrete(position)
        here = view.log_density(position)

        def rate(direction):
            there = view.log_density(view.split(vector + direction) | discrete)
            return jax.nn.sigmoid(jnp.nan_to_num(there, nan=-jnp.inf, neginf=-jnp.inf) - here)

        moves = jnp.diag(step)
        return jax.lax.map(rate, moves), jax.lax.map(rate, -moves)

    return jax.lax.map(one, events, batch_size=batch)


def _has_jumps(
    view: Unconstrained, positions: dict[str, np.ndarray], criteria: SteinCriteria
) -> bool:
    """Whether log p̃ along random segments between draws differs from its integrated slope."""
    rng, segments = np.random.default_rng(0), criteria.segments
    events = as_events(positions)
    chosen = rng.integers(0, len(next(iter(events.values()))), segments)
    spread = flat_vectors(view, positions).std((0, 1))
    directions = rng.normal(size=(segments, len(spread)))
    directions *= spread / np.linalg.norm(directions, axis=1, keepdims=True)
    starts = {name: value[chosen] for name, value in events.items()}
    found = _along_segments(
        view, starts, directions, points=criteria.segment_points, batch=criteria.batch
    )
    rise, integral = map(np.asarray, found)
    gap = np.abs(rise - integral)
    return not np.all(np.isfinite(rise) & (gap <= criteria.max_gap * (1 + np.abs(rise))))


@compiled(static_argnames=("points", "batch"))
def _along_segments(
    view: Unconstrained,
    starts: dict[str, jax.Array],
    directions: jax.Array,
    *,
    points: int,
    batch: int,
):
    """Along each segment the rise of log p, and the integral of its slope by the trapezoidal
    rule.
    """

    def one(given):
        position, direction = given
        vector, discrete = view.flatten(position), view.discrete(position)

        def along(t):
            return view.log_density(view.split(vector + t * direction) | discrete)

        places = jnp.linspace(0.0, 1.0, points)
        values, slopes = jax.vmap(jax.value_and_grad(along))(places)
        return values[-1] - values[0], jnp.trapezoid(slopes, places)

    return jax.lax.map(one, (starts, directions), batch_size=batch)

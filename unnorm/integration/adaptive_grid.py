"""The adaptive part of quadrature: how far a rule must reach, and how fine it must be."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from unnorm.declaration.density import Density
from unnorm.integration.nodes import (
    Frame,
    constrained,
    grid_points,
    listed_states,
    resolved_by_rounding,
    states_at,
)
from unnorm.integration.tails import NOTHING, Completion, completed

# every call of the compiled integrand has this many points: one program, whatever the grid
ROWS = 4096
FARTHEST = math.asinh(1e150)  # squares still fit into float64
LEAST_FALL = (
    0.02  # e-folds over the outer half of the range: below, mass towards a bound does not fall
)
NEGLIGIBLE = 41.0  # e^-41 of the whole is below the rounding of float64
MOST_POINTS = {1: 4096, 2: 512, 3: 96}  # on one axis while the range is looked for


def log_mass_at(density: Density, states: dict, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log Σ_states p̃(states, x(u)) |det J(u)|, and whether u is resolved by the numbers that the
    event holds.
    """
    event, log_det = constrained(density, u)
    if states:
        value = jax.nn.logsumexp(jax.vmap(lambda state: density.log_density(event | state))(states))
    else:
        value = density.log_density(event)
    return value + log_det, resolved_by_rounding(density, u, event)


@jax.jit
def _log_mass(density: Density, states: dict, free: jax.Array):
    return jax.lax.map(lambda u: log_mass_at(density, states, u), free, batch_size=256)


class Integrand:
    """log p̃ in unconstrained coordinates, summed over the discrete states; counts its
    evaluations.
    """

    def __init__(self, density: Density, limit: int):
        self.density, self.count = density, listed_states(density, limit)
        self.evaluations = self.gradients = 0
        discrete = any(support.discrete for support in density.variables.values())
        self.states = states_at(density, jnp.arange(self.count)) if discrete else {}

    def __call__(self, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and whether they are resolved, at the points (S, D), S at most ROWS."""
        self.evaluations += len(free) * self.count
        padded = np.concatenate(
            [free, np.broadcast_to(free[:1], (ROWS - len(free), free.shape[1]))]
        )
        values, resolved = _log_mass(
            self.density, self.states, jnp.asarray(padded, jnp.result_type(float))
        )
        return np.asarray(values, float)[: len(free)], np.asarray(resolved)[: len(free)]

    def resolved_values(self, free: np.ndarray) -> np.ndarray:
        """Values at any number of points, minus infinity where they are not resolved or no
        number.
        """
        blocks = [self(free[start : start + ROWS]) for start in range(0, len(free), ROWS)]
        values, resolved = (np.concatenate(part) for part in zip(*blocks, strict=True))
        return np.where(resolved & ~np.isnan(values), values, -np.inf)


class Cells(NamedTuple):
    """The log mass of every node of a tensor grid, and what could not be had there."""

    axes: list[np.ndarray]
    log_mass: np.ndarray
    resolved: np.ndarray
    nan: np.ndarray
    beyond: Completion = NOTHING

    @property
    def total(self) -> float:
        """log Z: the nodes, and what lies beyond the last that is resolved."""
        return float(logsumexp(self.log_mass)) + self.beyond.added

    def margin(self, axis: int) -> np.ndarray:
        """The log mass of every slab across an axis."""
        return logsumexp(self.log_mass, axis=self._others(axis))

    def unresolved(self, axis: int) -> np.ndarray:
        """The slabs across an axis in which no node is resolved."""
        return ~self.resolved.any(axis=self._others(axis))

    def _others(self, axis: int) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.axes)) if i != axis)


def cells(integrand: Integrand, frame: Frame, axes: list[np.ndarray], power: float = 1.0) -> Cells:
    """Evaluate p̃^power on a tensor grid."""
    shape = tuple(len(axis) for axis in axes)
    size = math.prod(shape)
    log_mass, resolved, nan = np.empty(size), np.empty(size, bool), np.empty(size, bool)
    for start in range(0, size, ROWS):
        block = slice(start, min(start + ROWS, size))
        points, log_weights = grid_points(frame, axes, block)
        values, resolved[block] = integrand(points)
        nan[block] = np.isnan(values) & resolved[block]
        values = np.where(resolved[block] & ~np.isnan(values), np.minimum(values, 1e300), -np.inf)
        log_mass[block] = power * values + log_weights
    log_mass, resolved = log_mass.reshape(shape), resolved.reshape(shape)
    beyond = completed(axes, log_mass, resolved, np.linalg.norm(frame.factor, axis=0))
    return Cells(axes, log_mass, resolved, nan.reshape(shape), beyond)


def reach(
    integrand: Integrand,
    frame: Frame,
    steps: np.ndarray,
    sides: np.ndarray | None = None,
    power: float = 1.0,
) -> Cells:
    """Widen the range of t, from `sides` (D, 2) on, until the mass of its outermost slabs is
    negligible.
    """
    size = len(frame.centre)
    sides = np.array([[-4.0, 4.0]] * size) if sides is None else sides
    for _ in range(16):
        axes = [
            _axis(*side, step, MOST_POINTS[size]) for side, step in zip(sides, steps, strict=True)
        ]
        found = cells(integrand, frame, axes, power)
        ends = np.array([found.margin(i)[[0, -1]] for i in range(size)])
        wider = (ends >= found.total - NEGLIGIBLE) & (np.abs(sides) < FARTHEST)
        if not np.isfinite(found.total) or not wider.any():
            break
        sides = np.where(wider, np.clip(1.7 * sides, -FARTHEST, FARTHEST), sides)
    return found


def _axis(low: float, high: float, step: float, most: int) -> np.ndarray:
    """Equally spaced t from low to high, 0 among them."""
    step = max(step, (high - low) / (most - 2))
    return step * np.arange(math.floor(low / step), math.ceil(high / step) + 1)


def range_of(found: Cells) -> np.ndarray:
    """The part (D, 2) of the range that holds all but a negligible mass, one node more on either
    side.
    """
    sides = []
    for i, axis in enumerate(found.axes):
        counts = np.flatnonzero(found.margin(i) >= found.total - NEGLIGIBLE)
        sides.append((axis[max(counts[0] - 1, 0)], axis[min(counts[-1] + 1, len(axis) - 1)]))
    return np.array(sides)


def open_sides(found: Cells, tolerance: float) -> np.ndarray:
    """The sides (D, 2) whose outermost slab still has mass: a thin ridge may have slipped through a
    coarser grid.
    """
    open_ = np.zeros((len(found.axes), 2), bool)
    for i, axis in enumerate(found.axes):
        density_of_t = found.margin(i)[[0, -1]] - found.total - math.log(axis[1] - axis[0])
        open_[i] = (density_of_t > math.log(tolerance) - 3) & (np.abs(axis[[0, -1]]) < FARTHEST)
    return open_


class Leak(NamedTuple):
    """A side of the range at which the mass has not vanished where floating-point numbers end."""

    axis: int
    upwards: bool
    fall: float  # by how many e-folds the mass of a slab fell over the outer half of the range
    beyond: float  # what lies beyond if it goes on falling so, as a fraction of the whole


def leaks(found: Cells, tolerance: float, rounded: bool = True) -> list[Leak]:
    """The sides where a finite range cannot be told from a part of an infinite mass.

    Without `rounded`, sides where values round onto a bound are left out if the mass falls towards
    it at all: few nodes do not show what lies beyond.

    A density whose integral diverges has mass in the outermost slab however far the range goes; a
    wall that the user set (minus infinity) is no leak.
    """
    result = []
    for i, axis in enumerate(found.axes):
        margin, blank, step = found.margin(i) - found.total, found.unresolved(i), axis[1] - axis[0]
        for upwards in (False, True):
            order = slice(None, None, -1) if upwards else slice(None)
            masses, lost, t = margin[order], blank[order], axis[order]
            out = int(np.argmin(lost))
            tail = next(
                (one for one in found.beyond.tails if (one.axis, one.upwards) == (i, upwards)), None
            )
            if tail is not None:
                if tail.endless:
                    result.append(Leak(i, upwards, 0.0, math.inf))
                elif not tail.follows_power_law:
                    result.append(Leak(i, upwards, math.inf, tail.share))
                continue  # what lies beyond is in the total
            at_the_end = out > 0 or abs(t[0]) > FARTHEST - step
            if not at_the_end or not np.isfinite(masses[out]):
                continue
            half = int(np.argmin(np.abs(t - t[out] / 2)))
            fall = float(masses[half] - masses[out]) if half != out else 0.0
            spread = float(
                np.log(np.cosh(t[out])) - np.log(np.cosh(t[half]))
            )  # nodes are farther apart there
            if out > 0 and not rounded and fall + spread > LEAST_FALL:
                continue
            rate = max(fall, 1e-300) / max(abs(t[half] - t[out]), step)
            beyond = math.exp(min(masses[out] - math.log(step * rate), 700.0))
            if beyond > tolerance / 10:
                result.append(Leak(i, upwards, fall, beyond))
    return result

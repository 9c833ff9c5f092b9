"""Walls, jumps and kinks of log p̃, detected on lines through rows of data."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled


@dataclass(frozen=True)
class LineOptions:
    """How walls, jumps and kinks are detected on lines through the data."""

    rows: int = 8  # through which lines are drawn
    columns: int = 24  # lines through each row, at most
    points: int = 65  # on each line
    beyond: float = 1.0  # extension of lines beyond the data, relative to the data's range
    # Relative to the largest density on a line: below it a wall bounds no mass.
    mass: float = 1e-3
    # Relative to a slope times the data's standard deviation: a smaller jump is rounding.
    jump: float = 1e-3
    # Units in the last place of the largest value: smaller differences are rounding.
    rounding_units: int = 64
    # Share of a jump that must remain when its interval shrinks: under a steep slope it does not.
    remaining: float = 0.3
    parameter_step: float = 0.1  # standard deviation of the step that shows whether a kink moves
    far: float = 20.0  # unconstrained parameters beyond this have diverged: e^20 is 5e8
    near: tuple[float, ...] = (1e-2, 1e-4, 1e-6)  # distances to a wall, in standard deviations


LINES = LineOptions()


class Break(NamedTuple):
    """A discontinuity along an entry: a wall, a jump of f, or of its slope (a kink)."""

    kind: str
    entry: str
    place: float


def breaks(density, events: dict) -> list[Break]:
    """Return the walls, jumps and kinks of log p̃, at most one of each kind per variable."""
    rows = len(next(iter(events.values())))
    chosen = np.unique(np.linspace(0, rows - 1, LINES.rows).astype(int))
    sample = {name: np.asarray(value)[chosen] for name, value in events.items()}
    found: dict[tuple[str, str], Break] = {}
    for name, support in density.variables.items():
        if support.score_matching not in ("plain", "circle", "generalized"):
            continue
        values = np.asarray(events[name]).reshape(rows, -1)
        for column in np.unique(np.linspace(0, values.shape[1] - 1, LINES.columns).astype(int)):
            for one in _breaks_of(density, sample, name, support, values[:, column], int(column)):
                found.setdefault((one.kind, name), one)
    return list(found.values())


def _breaks_of(
    density, sample: dict, name: str, support, values: np.ndarray, column: int
) -> list[Break]:
    spread, low, high = values.std(), values.min(), values.max()
    if not spread > 0:
        return []
    reach = LINES.beyond * (high - low)
    bounds = (
        support.entry_bounds(()) if support.score_matching == "generalized" else (-np.inf, np.inf)
    )
    if support.score_matching == "circle":
        bounds = (-np.pi, np.pi)
    margin = 1e-3 * (high - low)
    ends = max(low - reach, bounds[0] + margin), min(high + reach, bounds[1] - margin)
    shape = np.shape(sample[name])[1:]
    index = [int(i) for i in np.unravel_index(column, shape)] if shape else []
    entry = f"{name}[{','.join(map(str, index))}]" if index else name
    line = functools.partial(_line, density, sample, name=name, column=jnp.asarray(column))
    grid = np.linspace(*ends, LINES.points)
    f, slope, bend = map(np.asarray, line(jnp.asarray(grid, sample[name].dtype)))
    found = []
    wall = _wall(line, grid, f, spread, sample[name].dtype)
    if wall is not None:
        found.append(Break("wall", entry, wall))
    inside = (grid >= low) & (grid <= high)
    for kind, upper, lower, unit in (("jump", f, slope, 1.0), ("kink", slope, bend, spread)):
        place = _jump(
            line, kind, grid[inside], upper[:, inside], lower[:, inside], unit, sample[name].dtype
        )
        if place is not None:
            found.append(Break(kind, entry, place))
    if support.score_matching == "circle" and not found:
        found += _seam(line, entry, sample[name].dtype)
    return found


@compiled(static_argnames="name")
def _line(
    density, sample: dict, points: jax.Array, *, name: str, column
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return f, ∂f and ∂²f with one entry of a variable at these points, (rows, points)."""

    def at(event, point):
        def f(x):
            value = event[name]
            return density.log_density(
                event | {name: value.reshape(-1).at[column].set(x).reshape(value.shape)}
            )

        one = (jnp.ones_like(point),)
        (value, slope), (_, bend) = jax.jvp(lambda x: jax.jvp(f, (x,), one), (point,), one)
        return value, slope, bend

    return jax.vmap(lambda event: jax.vmap(lambda point: at(event, point))(points))(sample)


def _wall(line, grid: np.ndarray, f: np.ndarray, spread: float, dtype) -> float | None:
    """Return the first place where f becomes −inf or NaN beside a density that is not small."""
    finite = np.isfinite(f)
    edges = np.argwhere(finite[:, 1:] != finite[:, :-1])
    for row, left in edges[:: max(1, len(edges) // 4)]:
        inner, outer = (
            (grid[left], grid[left + 1]) if finite[row, left] else (grid[left + 1], grid[left])
        )
        for _ in range(40):
            middle = (inner + outer) / 2
            good = np.isfinite(np.asarray(line(jnp.asarray([middle], dtype))[0])[row, 0])
            inner, outer = (middle, outer) if good else (inner, middle)
        towards = np.sign(inner - outer)
        places = inner + towards * spread * np.array(LINES.near)
        values, slopes, _ = (np.asarray(part)[row] for part in line(jnp.asarray(places, dtype)))
        share = np.exp(np.minimum(values - f[row][finite[row]].max(), 0.0)) * (
            1 + spread * np.abs(slopes)
        )
        if share[-1] > LINES.mass and share[-1] > LINES.remaining * share[-2]:
            return float(inner)
    return None


def _jump(line, kind: str, grid, upper, lower, unit: float, dtype) -> float | None:
    """Return a place where `upper` jumps, or None.

    There its change over an interval is not the integral of `lower`, its derivative.
    """
    if len(grid) < 3:
        return None
    with np.errstate(all="ignore"):
        steps = np.diff(grid)
        excess = np.abs(np.diff(upper, axis=1) - steps * (lower[:, 1:] + lower[:, :-1]) / 2) * unit
    excess = np.where(np.isfinite(excess), excess, 0.0)
    largest, eps = np.max(np.where(np.isfinite(upper), np.abs(upper), 0.0)), np.finfo(dtype).eps
    level = largest if kind == "kink" else 1.0
    row, place = np.unravel_index(excess.argmax(), excess.shape)
    first = excess[row, place]
    if not first > max(
        LINES.jump * level * unit, eps**0.75, LINES.rounding_units * eps * largest * unit
    ):
        return None
    ends, rounding = [grid[place], grid[place + 1]], np.sqrt(eps) * np.ptp(grid)
    pick = {"jump": (0, 1), "kink": (1, 2)}[kind]
    while ends[1] - ends[0] > rounding:
        three = np.array([ends[0], sum(ends) / 2, ends[1]])
        values, slopes = (np.asarray(line(jnp.asarray(three, dtype))[part])[row] for part in pick)
        left = np.abs(np.diff(values) - np.diff(three) * (slopes[1:] + slopes[:-1]) / 2) * unit
        if not np.isfinite(left).all() or left.max() < LINES.remaining * first:
            return None
        ends = list(three[:2] if left[0] >= left[1] else three[1:])
    return float(sum(ends) / 2)


def _seam(line, entry: str, dtype) -> list[Break]:
    """Return a jump or a kink at the angle π, if there is one."""
    f, slope, _ = (np.asarray(part) for part in line(jnp.asarray([-np.pi, np.pi], dtype)))
    apart = [np.abs(part[:, 1] - part[:, 0]).max() for part in (f, slope)]
    level = [1.0, 1 + np.abs(slope).max()]
    return [
        Break(kind, entry, float(np.pi))
        for kind, gap, unit in zip(("jump", "kink"), apart, level, strict=True)
        if not gap <= LINES.jump * unit
    ][:1]

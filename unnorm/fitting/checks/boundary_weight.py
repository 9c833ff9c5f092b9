"""Whether the weight h of generalized score matching meets its boundary condition, as the data see
it.

h p ∂f must vanish at every bound. Where p is like u^c at distance u, that is like u^(k + c − 1)
with h like u^k: it fails for c ≤ 1 − k, unless c = 0. A fit with such an h goes to c = 0, where the
condition holds by itself, whatever the data: so c is asked of a fit with h = u², which is valid for
every density that can be normalized (c > −1).

References: Yu, Drton and Shojaie (2019), arXiv:1812.10551; Scealy and Wood (2023), arXiv:2012.12461
(the simplex).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.fitting.inference.sandwich import NoCovariance, sandwich
from unnorm.fitting.solvers.newton import few, parameters_of
from unnorm.fitting.solvers.refresh import settled

_ROWS = 8  # rows through which the bounds are looked at
_POWER = 1e-2  # u ∂f at the bound is 0 where it is less
_ERRORS = 2.0  # standard errors of c within which the condition may fail
_TRIALS = (
    4  # other parameters at which it is seen whether the density can have a power at its bound
)


class Power(NamedTuple):
    """p is like u^c at a bound of a variable: the least such c at the fit with h = u², and its
    standard error.
    """

    entry: str
    exponent: float
    error: float

    def excess(self, order: float) -> float:
        """k + c − 1, which must be positive, for h of order k."""
        return order + self.exponent - 1

    def fails(self, order: float) -> bool:
        return self.excess(order) <= 0 and abs(self.exponent) > _POWER

    def is_doubtful(self, order: float) -> bool:
        return self.excess(order) <= _ERRORS * self.error


def bounded(density) -> list[str]:
    """The variables whose form of score matching has a weight."""
    return [
        name
        for name, s in density.variables.items()
        if s.score_matching in ("generalized", "simplex")
    ]


def order_of(weight, dtype=float) -> float:
    """k of h ~ u^k as u falls to 0."""
    points = jnp.asarray([1e-6, 1e-4], dtype)
    low, high = (float(value) for value in jax.vmap(weight)(points))
    if not low > 0 or not high > 0:
        return np.inf if low == 0 and high >= 0 else np.nan
    return float(np.log(high / low) / np.log(1e2))


def can_have_powers(density, events: dict) -> bool:
    """Whether the density is like a power below or near 0 at a bound for some parameters near the
    present ones.
    """
    free, unravel = ravel_pytree(density.free())
    steps = (
        np.random.default_rng(0).normal(size=(_TRIALS, free.size))
        if free.size
        else np.zeros((0, 0))
    )
    for step in (0 * free, *steps):
        moved = density.at(unravel(free + jnp.asarray(step, free.dtype)))
        exponents = np.asarray(_exponents(moved, _some(density, events)))
        if np.any(exponents < -_POWER):
            return True
    return False


def least_power(objective, density, events: dict, key) -> Power | None:
    """The exponent at a bound that the data speak for, by a fit of this objective (with h = u²).

    None where there are too many parameters, or that fit does not come to a minimum.
    """
    state = objective.prepare(density, events, key)
    if not few(density, state):
        return None
    found = settled(objective, density, state, events)
    if not found.settled:
        return None
    sample = _some(density, events)
    exponents = np.asarray(_exponents(found.density, sample))
    if not np.isfinite(exponents).any():
        return None
    place = int(np.nanargmin(exponents))
    vector, unravel = parameters_of(found.density, found.state)
    slope = np.asarray(
        jax.jacfwd(lambda v: _exponents(found.density.at(unravel(v)[0]), sample)[place])(vector)
    )
    try:
        covariance = sandwich(objective, found.density, found.state, events).total
        error = float(np.sqrt(max(slope @ covariance @ slope, 0.0)))
    except NoCovariance:
        return None
    return Power(_names(density)[place % len(_names(density))], float(exponents[place]), error)


def least_at(density, events: dict) -> tuple[str, float]:
    """The entry with the least exponent at the present parameters, and that exponent."""
    exponents, names = np.asarray(_exponents(density, _some(density, events))), _names(density)
    place = int(np.nanargmin(np.where(np.isfinite(exponents), exponents, np.inf)))
    return names[place % len(names)], float(exponents[place])


def boundary_findings(objective, density, state, events: dict) -> list[Finding]:
    """Which h was chosen and why, or whether the one that was named fails, at the fit."""
    if not bounded(density):
        return []
    if objective.h is None:
        return _told_of_choice(density, state, events)
    if not can_have_powers(density, events):
        return []
    order, named = (
        order_of(objective.weight),
        objective.h if isinstance(objective.h, str) else "the given function",
    )
    power = Power(*least_at(density, events), 0.0)
    if order < 2:
        safe = dataclasses.replace(objective, h="square")
        power = least_power(safe, density, events, jax.random.key(0)) or power
    if not power.fails(order) and not power.is_doubtful(order):
        return []
    seen = f"the data speak for a density like u^{power.exponent:.3g}"
    seen += f" (standard error {power.error:.2g}) at distance u from {power.entry}"
    if power.fails(order):
        what = f"h = {named} does not meet the boundary condition h p ∂ log p̃ → 0: {seen}, and the estimate is wrong"
        return [
            Finding(what, 'leave h out, or use h="square"', code=FindingCode.OBJECTIVE_CONDITIONS)
        ]
    what = f"h = {named} may not meet the boundary condition h p ∂ log p̃ → 0: {seen}"
    return [
        Finding(what, 'leave h out, or use h="square"', WARNING, FindingCode.OBJECTIVE_CONDITIONS)
    ]


def _told_of_choice(density, state, events: dict) -> list[Finding]:
    if not bool(state.shared.get("squared", False)):
        return []
    entry, exponent = least_at(density, events)
    what = (
        f'h = "square" was taken: at distance u from {entry} the density is like '
        f"u^{exponent:.3g} at the fit, and the "
        'boundary condition h p ∂ log p̃ → 0 of h = "min" asks for more than u^0'
    )
    return [Finding(what, "name h to change it", NOTE, FindingCode.OBJECTIVE_CONDITIONS)]


def _some(density, events: dict) -> dict:
    rows = len(next(iter(events.values())))
    chosen = np.unique(np.linspace(0, rows - 1, _ROWS).astype(int))
    return {name: jnp.asarray(value)[chosen] for name, value in events.items()}


def _names(density) -> list[str]:
    """The entries at their lower bounds, and those that have one at their upper bounds."""
    shapes, names = density.shapes(), []
    for name in bounded(density):
        places = [",".join(map(str, index)) for index in np.ndindex(shapes[name])]
        sides = 2 if np.isfinite(density.variables[name].entry_bounds(())[1]) else 1
        sides = 1 if density.variables[name].score_matching == "simplex" else sides
        for side in range(sides):
            for place in places:
                entry = f"{name}[{place}]" if place else name
                low, high = density.variables[name].entry_bounds(())
                names.append(f"{entry} = {(low, high)[side]:g}")
    return names


@jax.jit
def _exponents(density, sample: dict) -> jax.Array:
    """u ∂f/∂u at a small distance u from every bound of every entry, over the rows: (rows *
    bounds,).
    """

    def of_row(event):
        parts = [_at_bounds(density, event, name, support) for name, support in density.variables.items()
                 if support.score_matching in ("generalized", "simplex")]  # fmt: skip
        return jnp.concatenate(parts)

    return jax.vmap(of_row)(sample).ravel()


def _at_bounds(density, event: dict, name: str, support) -> jax.Array:
    value = event[name]
    flat, near = value.reshape(-1), float(jnp.finfo(value.dtype).eps) ** 0.5
    low, high = support.entry_bounds(())

    def f(flat):
        return density.log_density(event | {name: flat.reshape(value.shape)})

    if support.score_matching == "simplex":
        last = value.shape[-1]

        def moved(place, u):
            row, column = place // last, place % last
            vectors = flat.reshape(-1, last)
            others = jnp.where(jnp.arange(last) == column, 0.0, vectors[row])
            others = others * (1 - u) / jnp.sum(others)
            return vectors.at[row].set(others.at[column].set(u)).reshape(-1)

        sides, scale = (moved,), 1.0
    else:
        scale = (high - low) if np.isfinite(high) else jnp.maximum(jnp.mean(jnp.abs(flat)), near)
        sides = (lambda place, u: flat.at[place].set(low + u),)
        if np.isfinite(high):
            sides += (lambda place, u: flat.at[place].set(high - u),)
    places = jnp.arange(flat.size)
    u = near * scale
    return jnp.concatenate([
        jax.vmap(lambda place, side=side: u * jax.grad(lambda u: f(side(place, u)))(u))(places) for side in sides
    ])  # fmt: skip

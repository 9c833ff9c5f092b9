"""Whether the weight h of generalized score matching satisfies its boundary condition.

h p ∂f must vanish at every bound. Where p behaves like u^c at distance u and h like u^k, the
product behaves like u^(k + c − 1): the condition fails for c ≤ 1 − k, unless c = 0. A fit with an
invalid h converges to c = 0, where the condition holds for any data. Therefore c is estimated by a
fit with h = u², which is valid for every density that can be normalized (c > −1).

References: Yu, Drton and Shojaie (2019), arXiv:1812.10551; Scealy and Wood (2023), arXiv:2012.12461
(the simplex).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.core.random_keys import make_key
from unnorm.fitting.inference.sandwich import NoCovarianceError, sandwich
from unnorm.fitting.loss import Loss
from unnorm.fitting.solvers.minimize import minimize


@dataclass(frozen=True)
class BoundaryOptions:
    """How exponents at bounds are computed and compared."""

    rows: int = 8  # through which the bounds are approached
    zero: float = 1e-2  # |c| below which a density is taken as finite and positive at the bound
    errors: float = 2.0  # standard errors of c within which the condition may fail
    trials: int = 4  # random parameters at which the density may have a power at its bound


DEFAULT = BoundaryOptions()


class Power(NamedTuple):
    """The least c of p ~ u^c at a bound, at the fit with h = u², and its standard error."""

    entry: str
    exponent: float
    error: float

    def excess(self, order: float) -> float:
        """Return k + c − 1, which must be positive, for h of order k."""
        return order + self.exponent - 1

    def fails(self, order: float, options: BoundaryOptions = DEFAULT) -> bool:
        """Return whether the condition fails."""
        return self.excess(order) <= 0 and abs(self.exponent) > options.zero

    def is_doubtful(self, order: float, options: BoundaryOptions = DEFAULT) -> bool:
        """Return whether it may fail within the error of c."""
        return self.excess(order) <= options.errors * self.error


def variables_with_weight(density) -> list[str]:
    """Return the variables whose form of score matching has a weight."""
    return [
        name
        for name, s in density.variables.items()
        if s.score_matching in ("generalized", "simplex")
    ]


def order_of(weight: Callable, dtype=float) -> float:
    """Return k of h ~ u^k as u falls to 0."""
    points = jnp.asarray([1e-6, 1e-4], dtype)
    low, high = (float(value) for value in jax.vmap(weight)(points))
    if not low > 0 or not high > 0:
        return np.inf if low == 0 and high >= 0 else np.nan
    return float(np.log(high / low) / np.log(1e2))


def can_diverge_at_bounds(density, events: dict, options: BoundaryOptions = DEFAULT) -> bool:
    """Return whether the density has an exponent below 0 at a bound for some nearby parameters."""
    if not variables_with_weight(density):
        return False
    free, unravel = ravel_pytree(density.free())
    shape = (options.trials, free.size) if free.size else (0, 0)
    steps = np.random.default_rng(0).normal(size=shape)
    for step in (0 * free, *steps):
        nearby = density.at(unravel(free + jnp.asarray(step, free.dtype)))
        exponents = np.asarray(_exponents(nearby, _sample_rows(density, events, options)))
        if np.any(exponents < -options.zero):
            return True
    return False


def needs_square_weight(objective, weight: Callable, density, events: dict, key) -> bool | None:
    """Return whether `weight` may fail at a bound, by a fit of the objective with h = u²; None
    where no density nearby is infinite at one.
    """
    if not can_diverge_at_bounds(density, events):
        return None
    power = fit_exponent(objective, density, events, key)
    return power is None or power.is_doubtful(order_of(weight))


def fit_exponent(
    objective, density, events: dict, key, options: BoundaryOptions = DEFAULT
) -> Power | None:
    """Return the least exponent at a bound, by a fit of this objective (with h = u²).

    None where there are too many parameters, or that fit does not reach a minimum.
    """
    loss = Loss(objective, density, objective.prepare(density, events, key), events)
    if not loss.has_few_parameters():
        return None
    found = minimize(loss)
    if not found.converged:
        return None
    there, sample = found.at, _sample_rows(density, events, options)
    exponents = np.asarray(_exponents(there.density, sample))
    if not np.isfinite(exponents).any():
        return None
    place = int(np.nanargmin(exponents))
    slope = np.asarray(
        jax.jacfwd(lambda v: _exponents(there.density.at(there.free_at(v)), sample)[place])(
            there.vector
        )
    )
    try:
        covariance = sandwich(there).total
        error = float(np.sqrt(max(slope @ covariance @ slope, 0.0)))
    except NoCovarianceError:
        return None
    names = _bound_names(density)
    return Power(names[place % len(names)], float(exponents[place]), error)


def least_exponent(density, events: dict, options: BoundaryOptions = DEFAULT) -> tuple[str, float]:
    """Return the entry with the least exponent at the present parameters, and that exponent."""
    exponents = np.asarray(_exponents(density, _sample_rows(density, events, options)))
    names = _bound_names(density)
    place = int(np.nanargmin(np.where(np.isfinite(exponents), exponents, np.inf)))
    return names[place % len(names)], float(exponents[place])


def boundary_findings(objective, density, square, events: dict) -> list[Finding]:
    """Return which h was chosen and why, or whether a given one fails, at the fit.

    Args:
        objective: score matching, with `h` and `weight`.
        density: at the fit.
        square: whether h = u² was chosen, or None.
        events: the data by name.
    """
    if not variables_with_weight(density):
        return []
    if objective.h is None:
        return _choice_finding(density, events) if square is not None and bool(square) else []
    if not can_diverge_at_bounds(density, events):
        return []
    order = order_of(objective.weight)
    name = "the given function" if callable(objective.h) else objective.h
    power = Power(*least_exponent(density, events), 0.0)
    if order < 2:
        safe = dataclasses.replace(objective, h="square")
        power = fit_exponent(safe, density, events, make_key(0)) or power
    if not power.fails(order) and not power.is_doubtful(order):
        return []
    evidence = (
        f"the data suggest a density ~ u^{power.exponent:.3g} (standard error "
        f"{power.error:.2g}) at distance u from {power.entry}"
    )
    advice, code = 'leave h out, or use h="square"', FindingCode.OBJECTIVE_CONDITIONS
    if power.fails(order):
        what = (
            f"h = {name} violates the boundary condition h p ∂ log p̃ → 0: {evidence}, and the "
            "estimate is not consistent"
        )
        return [Finding(what, advice, code=code)]
    what = f"h = {name} may violate the boundary condition h p ∂ log p̃ → 0: {evidence}"
    return [Finding(what, advice, WARNING, code)]


def _choice_finding(density, events: dict) -> list[Finding]:
    entry, exponent = least_exponent(density, events)
    what = (
        f'h = "square" was chosen: at the fit the density is ~ u^{exponent:.3g} at distance u from '
        f'{entry}, and the boundary condition h p ∂ log p̃ → 0 of h = "min" requires an exponent '
        "above 0"
    )
    return [Finding(what, "", NOTE, FindingCode.OBJECTIVE_CONDITIONS)]


def _sample_rows(density, events: dict, options: BoundaryOptions) -> dict:
    rows = len(next(iter(events.values())))
    chosen = np.unique(np.linspace(0, rows - 1, options.rows).astype(int))
    return {name: jnp.asarray(value)[chosen] for name, value in events.items()}


def _bound_names(density) -> list[str]:
    """Return names of the bounds in the order of `_exponents`."""
    shapes, names = density.shapes(), []
    for name in variables_with_weight(density):
        places = [",".join(map(str, index)) for index in np.ndindex(shapes[name])]
        sides = 2 if np.isfinite(density.variables[name].entry_bounds(())[1]) else 1
        sides = 1 if density.variables[name].score_matching == "simplex" else sides
        for side in range(sides):
            for place in places:
                entry = f"{name}[{place}]" if place else name
                low, high = density.variables[name].entry_bounds(())
                names.append(f"{entry} = {(low, high)[side]:g}")
    return names


@compiled
def _exponents(density, sample: dict) -> jax.Array:
    """Return u ∂f/∂u at a small distance u from every bound of every entry, (rows * bounds,)."""

    def of_row(event):
        return jnp.concatenate(
            [
                _slopes_at_bounds(density, event, name, density.variables[name])
                for name in variables_with_weight(density)
            ]
        )

    return jax.vmap(of_row)(sample).ravel()


def _slopes_at_bounds(density, event: dict, name: str, support) -> jax.Array:
    """Return u ∂f/∂u at every bound of the entries of one variable."""
    value = event[name]
    flat, near = value.reshape(-1), float(jnp.finfo(value.dtype).eps) ** 0.5
    low, high = support.entry_bounds(())
    sides: tuple[Callable, ...]
    scale: Any

    def f(flat):
        return density.log_density(event | {name: flat.reshape(value.shape)})

    if support.score_matching == "simplex":
        last = value.shape[-1]

        def with_part(place, u):
            row, column = place // last, place % last
            vectors = flat.reshape(-1, last)
            others = jnp.where(jnp.arange(last) == column, 0.0, vectors[row])
            others = others * (1 - u) / jnp.sum(others)
            return vectors.at[row].set(others.at[column].set(u)).reshape(-1)

        sides, scale = (with_part,), 1.0
    else:
        scale = (high - low) if np.isfinite(high) else jnp.maximum(jnp.mean(jnp.abs(flat)), near)
        sides = (lambda place, u: flat.at[place].set(low + u),)
        if np.isfinite(high):
            sides += (lambda place, u: flat.at[place].set(high - u),)
    u = near * scale

    def exponents(side):
        slope = jax.grad(lambda u, place: f(side(place, u)))
        return jax.vmap(lambda place: u * slope(u, place))(jnp.arange(flat.size))

    return jnp.concatenate([exponents(side) for side in sides])

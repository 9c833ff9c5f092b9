"""Identities that hold for draws of discrete variables, whatever the constant of the density."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import (
    as_events,
    coordinate_labels,
    flat,
    positions_of,
)
from unnorm.diagnostics.against_density.stein import SteinCheck, make_check
from unnorm.diagnostics.against_density.stein_pairs import (
    Mismatch,
    pair_mismatches,
    space_evenly,
)
from unnorm.diagnostics.options import PAIRS, STEIN, SteinCriteria


def discrete_check(
    p: Density,
    values: Mapping[str, np.ndarray],
    labels: Mapping[str, list[str]],
    criteria: SteinCriteria = STEIN,
) -> SteinCheck:
    """Check draws of the discrete variables against a density.

    For a site x_j with finitely many states s, E[(1{x_j = s} − P(x_j = s | rest)) g(rest)] = 0 for
    every g; it is taken with g = 1 and g = 2 P(x_j = s | rest) − 1. For a count, which may move up
    or down by h (about its standard deviation) at the rates a = p(y) / (p(x) + p(y)), E[a_up −
    a_down] = 0 and E[a_up (2(x − m)/h + 1) − a_down (2(x − m)/h − 1)] = 0, m the draws' mean. Times
    the deviation of another site all have mean zero too. The other variables are held fixed.

    Args:
        p: the density, its dimensions resolved.
        values: draws inside the support, by variable, with the axes (chain, draw, *event).
        labels: the names of the entries of each variable.
        criteria: limits and budgets.

    Returns:
        The means with their Monte Carlo errors.

    References:
        Zanella (2020), arXiv:1711.07424 (balancing rates); Yang, Liu, Rao and Neville (2018),
        Goodness-of-fit testing for discrete distributions via Stein discrepancy, ICML.
    """
    found: list[_Residual] = []
    deviations: list[np.ndarray] = []
    with jax.enable_x64(True):
        positions = positions_of(Unconstrained(p), values)
        discrete = {name: support for name, support in p.variables.items() if support.discrete}
        cost = sum(_evaluations(s, positions[name], criteria) for name, s in discrete.items())
        conditionals = _Conditionals(
            Unconstrained(cast(p.for_jit(), float)), _thin(positions, cost, criteria), criteria
        )
        for name, support in discrete.items():
            entries = coordinate_labels(name, positions[name].shape[2:], labels[name])
            residuals = _counts if support.states is None else _states
            before = len(deviations)
            found += [
                r._replace(site=before + r.site) for r in residuals(conditionals, name, entries)
            ]
            x = flat(conditionals.positions[name])[..., conditionals.sites(len(entries))]
            deviations += list(np.moveaxis(x - x.mean((0, 1)), -1, 0))
    location = np.stack([one.location for one in found], -1)
    spread = np.stack([one.spread for one in found], -1)
    check = make_check([one.label for one in found], location, spread, criteria)
    check = _with_error_floor(check, location[..., 0].size, criteria)
    return dataclasses.replace(check, further=_pairs(found, deviations, check.limit, criteria))


def _pairs(
    found: list["_Residual"], deviations: list[np.ndarray], limit: float, criteria: SteinCriteria
) -> tuple[Mismatch, ...]:
    """The mismatches of two sites together; a rare state has few visits in either."""
    kept = space_evenly(len(found), PAIRS.most)
    chosen = [found[k] for k in kept]
    units = np.array([one.unit for one in chosen])
    relative = np.stack([one.location * one.unit for one in chosen], -1)
    x = np.stack(deviations, -1)
    spreads = x.std((0, 1))
    inverse = np.divide(1.0, spreads, np.zeros_like(spreads), where=spreads > 0)
    floor = criteria.rare_count / x[..., 0].size / limit * np.outer(units, inverse)
    labels = [(one.label, one.site) for one in chosen]
    return tuple(pair_mismatches(relative, x * inverse, labels, floor))


class _Residual(NamedTuple):
    """Sequences (chain, draw) of a site whose means are zero under the density.

    Attributes:
        label: of the site, and of its state.
        site: its number.
        location, spread: the residual, and its product with a function of the rest.
        unit: of the location, by which a mean with another site's deviation in its standard
            deviations is that of a correlation.
    """

    label: str
    site: int
    location: np.ndarray
    spread: np.ndarray
    unit: float


def _with_error_floor(check: SteinCheck, draws: int, criteria: SteinCriteria) -> SteinCheck:
    """Errors no smaller than a few visits of a rare state would make them."""
    floor = criteria.rare_count / draws / check.limit
    return dataclasses.replace(
        check,
        location_error=np.maximum(np.nan_to_num(check.location_error), floor),
        spread_error=np.maximum(np.nan_to_num(check.spread_error), floor),
    )


class _Conditionals(NamedTuple):
    """The log-density of draws with one site of a variable in another state."""

    view: Unconstrained
    positions: dict[str, np.ndarray]
    criteria: SteinCriteria

    def sites(self, count: int) -> np.ndarray:
        """The sites that are checked of so many."""
        return _sites(count, self.criteria)

    def log_densities(self, name: str, sites: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """log p with one site of a variable at each of its candidates, (chain, draw, sites,
        candidates).
        """
        rows = candidates.reshape(-1, *candidates.shape[2:])
        logs = _log_densities(self.view, as_events(self.positions), sites, rows, name)
        logs = np.asarray(logs).reshape(candidates.shape)
        return np.nan_to_num(logs, nan=-np.inf, posinf=np.inf, neginf=-np.inf)


def _states(conditionals: _Conditionals, name: str, labels: list[str]):
    """The residual of each state but the first, site by site."""
    states = np.array(conditionals.view.supports[name].states)
    sites = conditionals.sites(len(labels))
    x = flat(conditionals.positions[name])[..., sites]
    candidates = np.broadcast_to(states, (*x.shape, len(states)))
    logs = conditionals.log_densities(name, sites, candidates)
    chances = np.exp(logs - logs.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    residual = (x[..., None] == states) - chances
    for i, site in enumerate(sites):
        for k in range(1, len(states)):
            label = labels[site] if len(states) == 2 else f"{labels[site]} = {states[k]:g}"
            part, spread = residual[..., i, k], float((x[..., i] == states[k]).std())
            unit = 1 / spread if spread > 0 else 0.0
            yield _Residual(label, i, -part, -part * (2 * chances[..., i, k] - 1), unit)


def _counts(conditionals: _Conditionals, name: str, labels: list[str]):
    """The balance of the moves up and down, and that of the squares, of each count."""
    sites = conditionals.sites(len(labels))
    x = flat(conditionals.positions[name])[..., sites]
    step = np.maximum(np.round(x.std((0, 1))), 1)
    below = np.maximum(x - step, 0)
    logs = conditionals.log_densities(name, sites, np.stack([x, x + step, below], -1))
    up, down = (_rate(logs[..., k] - logs[..., 0]) for k in (1, 2))
    down = np.where(x - step < 0, 0.0, down)
    offset = (x - x.mean((0, 1))) / step
    for i, site in enumerate(sites):
        balance = up[..., i] - down[..., i]
        squares = up[..., i] * (2 * offset[..., i] + 1) - down[..., i] * (2 * offset[..., i] - 1)
        unit = 2 * float(x[..., i].std() / step[i])  # of small moves of a normal count
        yield _Residual(labels[site], i, balance, squares, unit)


def _rate(rise: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(np.nan_to_num(rise, nan=-np.inf, posinf=np.inf, neginf=-np.inf))


def _sites(count: int, criteria: SteinCriteria) -> np.ndarray:
    return space_evenly(count, criteria.max_sites)


def _evaluations(support: Any, free: np.ndarray, criteria: SteinCriteria) -> int:
    """Of the density, for one draw of a discrete variable."""
    states = 3 if support.states is None else len(support.states)
    return len(_sites(int(np.prod(free.shape[2:])), criteria)) * states


def _thin(
    positions: dict[str, np.ndarray], evaluations: int, criteria: SteinCriteria
) -> dict[str, np.ndarray]:
    """The draws, thinned to the budget at so many evaluations each."""
    chains, draws = next(iter(positions.values())).shape[:2]
    kept = max(criteria.min_draws, criteria.max_evaluations // (evaluations * chains))
    return {name: value[:, :: max(1, draws // kept)] for name, value in positions.items()}


@compiled(static_argnames="name")
def _log_densities(
    view: Unconstrained, events: dict, sites: jax.Array, candidates: jax.Array, name: str
) -> jax.Array:
    def one(given):
        position, candidates = given
        value = position[name].ravel()

        def at(site, candidate):
            moved = value.at[site].set(candidate).reshape(position[name].shape)
            return view.log_density(position | {name: moved})

        return jax.vmap(jax.vmap(at, (None, 0)))(sites, candidates)

    return jax.lax.map(one, (events, candidates))

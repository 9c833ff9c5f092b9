"""Identities that draws of discrete variables keep, whatever the constant of the density."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import flat, named, positions_of
from unnorm.diagnostics.against_density.stein import SteinCheck, check_of

MAX_SITES = 64  # of a variable that are looked at
EVALUATIONS = 200_000  # of the density in all: draws are thinned to it
MIN_DRAWS = 100  # a chain, however many evaluations they take
RARE_COUNT = 10.0  # by so many visits a state may be missed: no normal approximation holds there


def discrete_check(
    p: Density, values: Mapping[str, np.ndarray], labels: Mapping[str, list[str]]
) -> SteinCheck:
    """Check draws of the discrete variables against a density.

    For a site x_j with finitely many states s, E[(1{x_j = s} − P(x_j = s | rest)) g(rest)] = 0 for
    every g; it is taken with g = 1 and g = 2 P(x_j = s | rest) − 1. For a count, which may move up
    or down by h (about its standard deviation) at the rates a = p(y) / (p(x) + p(y)), E[a_up −
    a_down] = 0 and E[a_up (2(x − m)/h + 1) − a_down (2(x − m)/h − 1)] = 0, m the draws' mean. The
    other variables are held.

    Args:
        p: the density, its dimensions resolved.
        values: draws inside the support, by variable, with the axes (chain, draw, *event).
        labels: the names of the entries of each variable.

    Returns:
        The means with their Monte Carlo errors.

    References:
        Zanella (2020), arXiv:1711.07424 (rates that balance); Yang, Liu, Rao and Neville (2018),
        Goodness-of-fit testing for discrete distributions via Stein discrepancy, ICML.
    """
    told, location, spread = [], [], []
    with jax.enable_x64(True):
        free, q = positions_of(p, values), cast(p.bare(), float)
        free = _thinned(
            free, sum(_evaluations(p.variables[name], free[name]) for name in p.variables)
        )
        for name, support in p.variables.items():
            if support.discrete:
                entries = named(name, free[name].shape[2:], labels[name])
                judge = _counts if support.states is None else _states
                for label, first, second in judge(q, free, name, entries):
                    told.append(label)
                    location.append(first)
                    spread.append(second)
    check = check_of(told, np.stack(location, -1), np.stack(spread, -1))
    return _lenient(check, location[0].size)


def _lenient(check: SteinCheck, draws: int) -> SteinCheck:
    """Errors that are no smaller than some visits of a rare state would make them."""
    floor = RARE_COUNT / draws / check.limit
    errors = {
        f"{kind}_error": np.maximum(np.nan_to_num(getattr(check, f"{kind}_error")), floor)
        for kind in ("location", "spread")
    }
    return SteinCheck(check.labels, check.location, errors["location_error"], check.spread, errors["spread_error"],
                      check.limit)  # fmt: skip


def _states(p: Density, free: dict[str, np.ndarray], name: str, labels: list[str]):
    """(label, residual, residual times a function of the rest) of each state but the first, site by
    site.
    """
    states = np.array(p.variables[name].states)
    sites = _sites(len(labels))
    x = flat(free[name])[..., sites]
    candidates = np.broadcast_to(states, (*x.shape, len(states)))
    logs = _tried(p, free, name, sites, candidates)
    chances = np.exp(logs - logs.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    residual = (x[..., None] == states) - chances
    for i, site in enumerate(sites):
        for k in range(1, len(states)):
            label = labels[site] if len(states) == 2 else f"{labels[site]} = {states[k]:g}"
            part = residual[..., i, k]
            yield label, -part, -part * (2 * chances[..., i, k] - 1)


def _counts(p: Density, free: dict[str, np.ndarray], name: str, labels: list[str]):
    """(label, balance of the moves up and down, that of the squares) of each count."""
    sites = _sites(len(labels))
    x = flat(free[name])[..., sites]
    step = np.maximum(np.round(x.std((0, 1))), 1)
    below = np.maximum(x - step, 0)
    logs = _tried(p, free, name, sites, np.stack([x, x + step, below], -1))
    up, down = (_rate(logs[..., k] - logs[..., 0]) for k in (1, 2))
    down = np.where(x - step < 0, 0.0, down)
    apart = (x - x.mean((0, 1))) / step
    for i, site in enumerate(sites):
        balance = up[..., i] - down[..., i]
        squares = up[..., i] * (2 * apart[..., i] + 1) - down[..., i] * (2 * apart[..., i] - 1)
        yield labels[site], balance, squares


def _rate(rise: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(np.nan_to_num(rise, nan=-np.inf, posinf=np.inf, neginf=-np.inf))


def _sites(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, MAX_SITES)).astype(int))


def _evaluations(support: Any, free: np.ndarray) -> int:
    """Of the density, for one draw of a variable."""
    if not support.discrete:
        return 0
    return len(_sites(int(np.prod(free.shape[2:])))) * (
        3 if support.states is None else len(support.states)
    )


def _thinned(free: dict[str, np.ndarray], evaluations: int) -> dict[str, np.ndarray]:
    """The draws, thinned so that so many evaluations each are not too many."""
    chains, draws = next(iter(free.values())).shape[:2]
    kept = max(MIN_DRAWS, EVALUATIONS // (evaluations * chains))
    return {name: value[:, :: max(1, draws // kept)] for name, value in free.items()}


def _tried(
    p: Density, free: dict, name: str, sites: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """log p with one site of a variable at each of its candidates, the shape of `candidates`."""
    leading = candidates.shape[:2]
    events = {n: value.reshape(-1, *value.shape[2:]) for n, value in free.items()}
    logs = _log_densities(p, events, sites, candidates.reshape(-1, *candidates.shape[2:]), name)
    logs = np.asarray(logs).reshape(*leading, *candidates.shape[2:])
    return np.nan_to_num(logs, nan=-np.inf, posinf=np.inf, neginf=-np.inf)


@functools.partial(jax.jit, static_argnames="name")
def _log_densities(
    p: Density, events: dict, sites: jax.Array, candidates: jax.Array, name: str
) -> jax.Array:
    def one(given):
        position, tried = given
        value = position[name].ravel()

        def at(site, candidate):
            moved = value.at[site].set(candidate).reshape(position[name].shape)
            return Unconstrained(p).log_density(position | {name: moved})

        return jax.vmap(jax.vmap(at, (None, 0)))(sites, tried)

    return jax.lax.map(one, (events, candidates))

"""Discrete latent sites summed out: log p(z, y) = log Σ_k p(z, k, y), elements of plates apart.

The model is run once for every combination of states, all elements of a site in the same state.
Then sites are summed out one after another, those with the most plates first, as in Obermeyer et
al. (2019), Tensor variable elimination for plated factor graphs, arXiv:1902.03210. That is right
where the elements of a site meet in no factor; `check` holds it against direct evaluation.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from unnorm.bridges.numpyro.sites import Call, site_shape, states_of


@dataclass(frozen=True)
class EnumerationOptions:
    """What is summed out, and how it is checked."""

    max_combinations: int = 1024  # of states: the model is evaluated at each
    # at which factors are held against the joint density: two in which neighbours differ, and
    # random ones
    assignments: int = 6
    tolerance: float = 1e-5  # of that, relative to the sum of the factors' sizes


@dataclass(frozen=True)
class DiscreteSite:
    """A discrete latent site: the shape of its value, its batch axes, and its states as tuples."""

    name: str
    shape: tuple[int, ...]
    batch: tuple[int, ...]  # axes of more than one element, counted from the right: -1, -2
    states: tuple  # nested, (states, *event shape)

    def value(self, state: jax.Array) -> jax.Array:
        """All elements in the state of this number."""
        return jnp.broadcast_to(jnp.asarray(self.states)[state], self.shape)


class Factor(NamedTuple):
    """The log of a factor: (states of each site or 1, ..., batch axes); on which sites it
    depends.
    """

    values: jax.Array
    sites: frozenset[int]
    batch: frozenset[int]


def discrete_sites(
    latent: Mapping[str, dict], options: EnumerationOptions
) -> tuple[DiscreteSite, ...]:
    """The discrete latent sites, or a sentence where their states are too many to be listed."""
    sites = tuple(_discrete(site) for site in latent.values() if site["fn"].support.is_discrete)
    combinations = math.prod(len(site.states) for site in sites)
    if combinations > options.max_combinations:
        raise ValueError(
            f"The discrete latent sites {', '.join(site.name for site in sites)} have "
            f"{combinations:,} combinations of states; expected at most "
            f"{options.max_combinations:,}; sum them out in the model, or observe some."
        )
    return sites


def _discrete(site: dict) -> DiscreteSite:
    shape, states = site_shape(site), states_of(site)
    batch = shape[: len(shape) - site["fn"].event_dim]
    axes = tuple(place - len(batch) for place, size in enumerate(batch) if size > 1)
    return DiscreteSite(site["name"], shape, axes, _to_tuples(states))


def _to_tuples(array: np.ndarray) -> Any:
    return tuple(map(_to_tuples, array)) if array.ndim else array.item()


# -- the sum ---------------------------------------------------------------------------------------
def marginal(call: Call, values: Mapping[str, Any], sites: tuple[DiscreteSite, ...],
             dependent: Mapping[str, tuple[int, ...]]) -> jax.Array:  # fmt: skip
    """log p of the continuous values and the observed ones, summed over the discrete sites."""
    return _eliminate(_factors(call, values, sites, dependent), sites)


def dependencies(
    call: Call, values: Mapping[str, Any], sites: tuple[DiscreteSite, ...]
) -> dict[str, tuple[int, ...]]:
    """On which discrete sites each factor depends, by the operations of the model."""
    from numpyro.ops.provenance import eval_provenance

    first = {site.name: site.value(jnp.asarray(0)) for site in sites}
    found = eval_provenance(lambda **states: call.log_probs({**values, **states})[0], **first)
    return {
        # its own site is among them: a uniform prior does not look at its value
        name: tuple(n for n, site in enumerate(sites) if site.name in on or site.name == name)
        for name, on in found.items()
    }


def _factors(call: Call, values: Mapping[str, Any], sites: tuple[DiscreteSite, ...],
             dependent: Mapping[str, tuple[int, ...]]) -> list[Factor]:  # fmt: skip
    counts = [len(site.states) for site in sites]
    combinations = jnp.asarray(list(itertools.product(*map(range, counts))))

    def at(states: jax.Array) -> dict[str, jax.Array]:
        given = {site.name: site.value(state) for site, state in zip(sites, states, strict=True)}
        return call.log_probs({**values, **given})[0]

    factors, tables = [], jax.vmap(at)(combinations)
    rank = max(value.ndim - 1 for value in tables.values())
    for name, value in tables.items():
        aligned = (1,) * (rank + 1 - value.ndim)
        table = value.reshape(*counts, *aligned, *value.shape[1:])
        for number in range(len(sites)):
            if number not in dependent[name]:
                table = jax.lax.slice_in_dim(table, 0, 1, axis=number)
        batch = frozenset(i for i in range(1 - value.ndim, 0) if value.shape[i] > 1)
        factors.append(Factor(table, frozenset(dependent[name]), batch))
    return factors


def _eliminate(factors: list[Factor], sites: tuple[DiscreteSite, ...]) -> jax.Array:
    """Sum the sites out, those with the most batch axes first."""
    left = set(range(len(sites)))
    while left:
        number = max(left, key=lambda one: (len(sites[one].batch), one))
        own, left = frozenset(sites[number].batch), left - {number}
        touched = [factor for factor in factors if number in factor.sites]
        factors = [factor for factor in factors if number not in factor.sites]
        joint, others = jnp.zeros(()), frozenset[int]()
        for factor in touched:
            _refuse_coupling(sites, number, factor)
            extra = tuple(factor.batch - own)  # elements of a plate in the same state: a product
            joint = joint + jnp.sum(factor.values, axis=extra, keepdims=True)
            others |= factor.sites - {number}
        factors.append(Factor(logsumexp(joint, axis=number, keepdims=True), others, own))
    return sum((jnp.sum(factor.values) for factor in factors), start=jnp.zeros(()))


def _refuse_coupling(sites: tuple[DiscreteSite, ...], number: int, factor: Factor) -> None:
    """Refuse a factor in which elements of a site meet: their states would multiply."""
    own = frozenset(sites[number].batch)
    for other in factor.sites:
        batch = frozenset(sites[other].batch)
        if not batch <= (factor.batch if other == number else own):
            raise ValueError(
                f"The elements of the discrete site {sites[other].name} occur together in one "
                "factor of the model, so that it cannot be summed out element by element; "
                "expected elements that are independent in a plate; sum it out in the model."
            )


# -- the check -------------------------------------------------------------------------------------
def check(
    call: Call,
    values: Mapping[str, Any],
    sites: tuple[DiscreteSite, ...],
    dependent: Mapping[str, tuple[int, ...]],
    options: EnumerationOptions,
) -> None:
    """Raise where the factors, element by element, are not the model's joint density.

    At random assignments of states to elements the sum of the factors' entries is compared with
    the model's own log-density.
    """
    factors = _factors(call, values, sites, dependent)
    _eliminate(factors, sites)
    rng = np.random.default_rng(0)
    for turn in range(options.assignments):
        states = [_assignment(site, turn, rng) for site in sites]
        given = {
            site.name: jnp.asarray(np.asarray(site.states)[state]).reshape(site.shape)
            for site, state in zip(sites, states, strict=True)
        }
        direct = sum(float(jnp.sum(v)) for v in call.log_probs({**values, **given})[0].values())
        parts = [_entries(factor, states) for factor in factors]
        total, scale = sum(part.sum() for part in parts), sum(abs(part).sum() for part in parts)
        if not abs(total - direct) <= options.tolerance * (1 + scale):
            raise ValueError(
                f"The discrete latent sites {', '.join(site.name for site in sites)} cannot be "
                "summed out element by element, because elements of a plate depend on each "
                "other's states; expected independent elements; sum them out in the model."
            )


def _assignment(site: DiscreteSite, turn: int, rng: np.random.Generator) -> np.ndarray:
    """States of the elements of a site: one after another in the first two turns, then random."""
    shape, count = _batch_shape(site), len(site.states)
    if turn < 2:
        return (np.arange(math.prod(shape)).reshape(shape) + turn) % count
    return rng.integers(count, size=shape)


def _batch_shape(site: DiscreteSite) -> tuple[int, ...]:
    events = np.ndim(np.asarray(site.states)) - 1
    return site.shape[: len(site.shape) - events]


def _entries(factor: Factor, states: list[np.ndarray]) -> np.ndarray:
    """The factor's entries at one assignment of states to elements."""
    values = np.asarray(factor.values, float)
    batch = values.shape[len(states) :]
    index: list[Any] = []
    for number, state in enumerate(states):
        state = state if number in factor.sites else np.zeros((), int)
        index.append(np.broadcast_to(_align(state, len(batch)), batch))
    places: Any = np.indices(batch) if batch else []
    return values[(*index, *places)]


def _align(state: np.ndarray, rank: int) -> np.ndarray:
    return state.reshape(state.shape[max(state.ndim - rank, 0) :])

"""Data sets drawn from a density: exactly where its states can be listed, else by chains that forgot their starts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.fitting.chains import advance, unconstrained
from unnorm.fitting.inference import NoCovariance
from unnorm.fitting.simulated import scores_at
from unnorm.partition.nodes import count_states, enumerate_states
from unnorm.sampling.base import Target
from unnorm.sampling.driver import sample
from unnorm.sampling.kernels import Gibbs

_LISTED = 2**14  # states from which draws are made exactly
_CHAINS = 1000  # at most, but for one row, where each replicate has a chain of its own
_SWEEPS, _DOUBLINGS = 50, 7  # sweeps before the first look, and how often twice as many are tried
_APART = 4.0  # standard errors that two groups of chains may differ by


def simulate(density, events: dict, key: jax.Array, replicates: int) -> dict:
    """Independent data sets as large as the data: ``{name: (replicates, n, ...)}``."""
    rows = len(next(iter(events.values())))
    if density.covariates:
        drawn = _row_by_row(density, events, key, replicates)
    else:
        drawn = _draws(density, events, key, replicates * rows)
        drawn = jax.tree.map(lambda leaf: leaf.reshape((replicates, rows) + leaf.shape[1:]), drawn)
    return {name: value for name, value in drawn.items() if name in events}  # latent variables stay so


def _row_by_row(density, events: dict, key: jax.Array, replicates: int) -> dict:
    """Every row from its own density, and its covariates with it, where the states can be listed."""
    states = _states_to_list(density)
    if states is None:
        raise NoCovariance(
            f"{density.name} has the covariate {next(iter(density.covariates))}, and rows are drawn from densities of "
            f"their own only where these have at most {_LISTED:,} states, so there are no standard errors",
            "give the covariates one value by p.given(...), or pass more rows",
        )
    covariates = {name: jnp.asarray(events[name]) for name in density.covariates}
    drawn = _drawn_rows(density, covariates, key, replicates)
    repeated = {n: jnp.broadcast_to(value, (replicates, *value.shape)) for n, value in covariates.items()}
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), drawn) | repeated


def _states_to_list(density) -> int | None:
    """The number of states where they are few enough to be listed."""
    states = count_states(density) if all(support.discrete for support in density.variables.values()) else None
    return states if states is not None and states <= _LISTED else None


@functools.partial(jax.jit, static_argnums=3)
def _drawn_rows(density, covariates: dict, key, replicates: int) -> dict:
    """(rows, replicates, ...)"""
    states = enumerate_states(density)

    def of_row(given):
        row, key = given
        values = jax.vmap(lambda event: density.log_density(event | row))(states)
        return jax.random.categorical(key, values, shape=(replicates,))

    keys = jax.random.split(key, len(next(iter(covariates.values()))))
    chosen = jax.lax.map(of_row, (covariates, keys))
    return jax.tree.map(lambda leaf: leaf[chosen], states)


def _draws(density, events, key, count: int) -> dict:
    supports = density.variables.values()
    if _states_to_list(density) is not None:
        return _listed_draws(density, key, count)
    chains = count if len(next(iter(events.values()))) == 1 else min(count, _CHAINS)
    each = -(-count // chains)
    latent = any(name not in events for name in density.variables)
    if all(support.states is not None for support in supports) and not latent:
        drawn = _gibbs_draws(density, events, key, chains, each)
    else:
        drawn = _sampled_draws(density, key, chains, each)
    # Shuffled, so that neighbours in a chain fall into different data sets.
    order = jax.random.permutation(jax.random.fold_in(key, 1), chains * each)[:count]
    return jax.tree.map(lambda leaf: leaf[order], drawn)


@functools.partial(jax.jit, static_argnums=2)
def _listed_draws(density, key, count: int) -> dict:
    states = enumerate_states(density)
    chosen = jax.random.categorical(key, jax.vmap(density.log_density)(states), shape=(count,))
    return jax.tree.map(lambda leaf: leaf[chosen], states)


# -- chains ------------------------------------------------------------------------------------------------------------
_advance = jax.jit(advance, static_argnames="steps")


def _gibbs_draws(density, events, key, chains: int, each: int) -> dict:
    """Half of the chains start at the data, half at random: when they agree, as many sweeps are made again."""
    target, rows = Target(density), len(next(iter(events.values())))
    kernel, dtype = Gibbs().prepared(target), jnp.result_type(*events.values())
    starts_key, chosen_key, key = jax.random.split(key, 3)
    anywhere = jax.vmap(lambda one: target.random_position(one, dtype))(jax.random.split(starts_key, chains))
    chosen = jax.random.choice(chosen_key, rows, (chains,))
    at_data = jax.tree.map(lambda leaf: leaf[chosen], unconstrained(density, events))
    from_data = jnp.arange(chains) % 2 == 0
    positions = jax.tree.map(
        lambda a, b: jnp.where(from_data.reshape((-1,) + (1,) * (a.ndim - 1)), a, b), at_data, anywhere
    )

    def swept(positions, sweeps, stage):  # one compiled stretch, however many are needed
        for stretch in range(sweeps // _SWEEPS):
            one = jax.random.fold_in(jax.random.fold_in(key, stage), stretch)
            positions, drawn, _ = _advance(kernel, density, {}, positions, one, steps=_SWEEPS)
        return positions, drawn

    sweeps = _SWEEPS
    for doubling in range(_DOUBLINGS + 1):
        sweeps = _SWEEPS * 2**doubling
        positions, drawn = swept(positions, sweeps, doubling)
        scores = np.asarray(scores_at(density, drawn))
        if _agree(scores[::2], scores[1::2]):
            break
    else:
        _refuse_unmixed(density, sweeps)
    kept = []
    for stage in range(each):
        positions, drawn = swept(positions, sweeps, 100 + stage)
        kept.append(drawn)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *kept)


def _sampled_draws(density, key, chains: int, each: int) -> dict:
    """By the kernels that `un.sample` chooses; the first and last draws of all chains must agree."""
    seed, each, dtype = int(jax.random.bits(key) % 2**31), max(each, 2), jnp.result_type(float)
    options = {"draws": each, "warmup": 500, "chains": chains, "thin": 50, "seed": seed, "dtype": dtype}
    posterior = sample(density, progress=False, **options).posterior
    events = {name: jnp.asarray(posterior[name].to_numpy(), dtype) for name in density.variables}
    first, last = (jax.tree.map(lambda leaf, at=at: leaf[:, at], events) for at in (0, -1))
    if not _agree(*(np.asarray(scores_at(density, part)) for part in (first, last))):
        _refuse_unmixed(density, 50)
    return jax.tree.map(lambda leaf: leaf[:, ::-1].swapaxes(0, 1).reshape((-1,) + leaf.shape[2:]), events)


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two groups of independent draws have the same mean scores, within what chance gives."""
    error = np.sqrt(one.var(0) / len(one) + other.var(0) / len(other))
    return bool(np.all(np.abs(one.mean(0) - other.mean(0)) <= _APART * error + 1e-12))


def _refuse_unmixed(density, sweeps: int) -> None:
    raise NoCovariance(
        f"chains drawn from {density.name} have not forgotten their starts after {sweeps} sweeps, so that data sets "
        "cannot be drawn from the fit and there are no standard errors",
        "look for several modes with un.sample and un.diagnose, or fit fewer parameters",
    )

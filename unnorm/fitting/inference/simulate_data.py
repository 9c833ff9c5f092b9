"""Data sets drawn from a density: exactly where its states can be listed, else by chains that
forgot their starts.
"""

from dataclasses import dataclass
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import CompilationOptions, compiled
from unnorm.core.progress import bar
from unnorm.core.random_keys import fold_in, key_array, split_keys
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.chain_kernels import select_kernel
from unnorm.fitting.inference.predictive import draw_rows
from unnorm.fitting.inference.sandwich import NoCovarianceError
from unnorm.fitting.loss import NewtonOptions, parameters_of
from unnorm.fitting.objectives.contrastive_divergence.covariance import scores_at
from unnorm.fitting.row_normalizers import latent_variables
from unnorm.integration.nodes import count_states, enumerate_states
from unnorm.sampling.driver import sample
from unnorm.sampling.kernels.registry import TieNoTie
from unnorm.sampling.short_runs import run_chains


@dataclass(frozen=True)
class TieOptions:
    """Chains of graphs by tie-no-tie proposals.

    Attributes:
        sweeps: kernel steps before the first look, five proposals a pair: half of the proposals
            take one of few ties.
    """

    sweeps: int = 20


TIES = TieOptions()
_LISTED = 2**14  # states from which draws are made exactly
_CHAINS = 1000  # at most, but for one row, where each replicate has a chain of its own
_FEWEST = 200  # chains that are looked at together, so that two groups of them can be told apart
_SWEEPS, _DOUBLINGS = 50, 7  # sweeps before the first look, and how often twice as many are tried
_STEPS, _TRIALS = (
    50,
    3,
)  # steps of other kernels between two draws, and how often four times as many are tried
_WARMUP = 10  # times as many steps before the first draw
_APART = 4.0  # standard errors that two groups of chains may differ by
_ALIKE = (
    0.5  # correlation of neighbouring draws, of which ten stretches of warm-up leave a thousandth
)


def data_sets(
    density,
    events: dict,
    key: jax.Array,
    replicates: int,
    rows: int | None = None,
    progress: bool = False,
) -> dict:
    """Independent data sets as large as the data, or of so many rows: ``{name: (replicates, rows,
    ...)}``.
    """
    if density.covariates:
        if rows not in (None, len(next(iter(events.values())))):
            raise NoCovarianceError(
                f"{density.name} has the covariate {next(iter(density.covariates))}, and {rows} "
                "rows were asked for; "
                "expected as many as the data have, each at its covariates",
                "leave rows out",
            )
        return _row_by_row(density, events, key, replicates)
    rows = len(next(iter(events.values()))) if rows is None else rows
    count = replicates * rows
    drawn = _draws(
        density, events, key, count, count if rows == 1 else min(count, _CHAINS), progress
    )
    drawn = jax.tree.map(lambda leaf: leaf.reshape((replicates, rows) + leaf.shape[1:]), drawn)
    return {
        name: value for name, value in drawn.items() if name in events
    }  # latent variables stay so


def is_listed(density) -> bool:
    """Whether draws are made exactly, from the list of all states."""
    states = (
        count_states(density)
        if all(support.discrete for support in density.variables.values())
        else None
    )
    return states is not None and states <= _LISTED


def _row_by_row(density, events: dict, key: jax.Array, replicates: int) -> dict:
    """Every row from its own density, and its covariates with it: from the list of its states, or
    from the table of its one response.
    """
    covariates = {name: jnp.asarray(events[name]) for name in density.covariates}
    repeated = {
        n: jnp.broadcast_to(value, (replicates, *value.shape)) for n, value in covariates.items()
    }
    if is_listed(density):
        drawn = _drawn_rows(density, covariates, key, replicates)
        drawn = {name: jnp.swapaxes(leaf, 0, 1) for name, leaf in drawn.items() if name in events}
        return drawn | repeated
    try:
        return draw_rows(density, events, covariates, key, replicates) | repeated
    except ValueError as reason:
        raise NoCovarianceError(
            f"{density.name} has the covariate {next(iter(density.covariates))}, and its rows "
            f"cannot be drawn one by one: {str(reason).rstrip('.')}",
            "give the covariates one value by p.given(...), and use un.sample",
        ) from None


@compiled(static_argnums=3)
def _drawn_rows(density, covariates: dict, key, replicates: int) -> dict:
    """Draw the number of a state for each row and replicate, (rows, replicates)."""
    states = enumerate_states(density)

    def of_row(given):
        row, key = given
        values = jax.vmap(lambda event: density.log_density(event | row))(states)
        return jax.random.categorical(key, values, shape=(replicates,))

    keys = key_array(key, len(next(iter(covariates.values()))))
    chosen = jax.lax.map(of_row, (covariates, keys))
    return jax.tree.map(lambda leaf: leaf[chosen], states)


def _draws(density, events, key, count: int, chains: int, progress: bool) -> dict:
    if is_listed(density):
        return _listed_draws(density, key, count)
    chains = max(chains, _FEWEST)
    each = -(-count // chains)
    latent = bool(latent_variables(density, events))
    if all(support.states is not None for support in density.variables.values()) and not latent:
        drawn = _gibbs_draws(density, events, key, chains, each, progress)
    else:
        drawn = _sampled_draws(density, key, chains, each, progress)
    # Shuffled, so that neighbours in a chain fall into different data sets.
    words = np.asarray(jax.random.key_data(fold_in(key, 1)))
    order = np.random.default_rng(words).permutation(chains * each)[:count]
    return jax.tree.map(lambda leaf: np.asarray(leaf)[order], drawn)


@compiled(static_argnums=2)
def _listed_draws(density, key, count: int) -> dict:
    states = enumerate_states(density)
    chosen = jax.random.categorical(key, jax.vmap(density.log_density)(states), shape=(count,))
    return jax.tree.map(lambda leaf: leaf[chosen], states)


# -- chains ----------------------------------------------------------------------------------------
_run_chains = compiled(run_chains, work="loop", static_argnames="steps")
# A step on a tie is a loop over few nodes: better machine code saves less than it costs.
_run_tie_chains = compiled(
    run_chains, options=CompilationOptions(quick_elements=0), static_argnames="steps"
)


@compiled(static_argnames="chains")
def _starts(density, events, anywhere_key, chosen_key, chains: int) -> dict:
    """Half of the positions at the data, half at random."""
    target, dtype = Unconstrained(density), jnp.result_type(*events.values())
    anywhere = jax.vmap(lambda one: target.random_position(one, dtype))(
        key_array(anywhere_key, chains)
    )
    chosen = jax.random.choice(chosen_key, len(next(iter(events.values()))), (chains,))
    at_data = jax.tree.map(lambda leaf: leaf[chosen], target.positions_of(events))
    from_data = jnp.arange(chains) % 2 == 0
    return jax.tree.map(
        lambda a, b: jnp.where(from_data.reshape((-1,) + (1,) * (a.ndim - 1)), a, b),
        at_data,
        anywhere,
    )


@compiled
def _events_at(target: Unconstrained, positions: dict) -> dict:
    return target.events_at(positions)


def _gibbs_draws(density, events, key, chains: int, each: int, progress: bool) -> dict:
    """Half of the chains start at the data, half at random: when they agree, as many sweeps are
    made again.
    """
    kernel, stretch = select_kernel(None, density).prepare(Unconstrained(density)), _SWEEPS
    starts_key, chosen_key, key = split_keys(key, 3)
    positions = _starts(density, events, starts_key, chosen_key, chains)
    target, run = Unconstrained(density), _run_chains
    if isinstance(kernel, TieNoTie):
        stretch, run = TIES.sweeps, _run_tie_chains

    def sweep(positions, sweeps, stage):  # one compiled stretch, however many are needed
        for number in range(sweeps // stretch):
            one = fold_in(fold_in(key, stage), number)
            positions, *_ = run(kernel, target, positions, one, steps=stretch, tuning={})
        return positions, _events_at(target, positions)

    sweeps = stretch
    for doubling in range(_DOUBLINGS + 1):
        sweeps = stretch * 2**doubling
        positions, drawn = sweep(positions, sweeps, doubling)
        seen = _seen(density, drawn)
        if _agree(seen[::2], seen[1::2]):
            break
    else:
        _refuse_unmixed(density, f"{sweeps:,} sweeps")
    kept = []
    with bar("Gibbs sweeps", each, progress) as shown:
        for stage in range(each):
            positions, drawn = sweep(positions, sweeps, 100 + stage)
            kept.append(drawn)
            shown.step()
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *kept)


def _sampled_draws(density, key, chains: int, each: int, progress: bool) -> dict:
    """By the kernels that `un.sample` chooses, with more and more steps between two draws until
    they forget.

    Chains that never cross between modes agree from draw to draw all the same: they are seen by
    what they remember.
    """
    seed, each, dtype = int(jax.random.bits(key)) % 2**31, max(each, 2), jnp.result_type(float)
    for trial in range(_TRIALS):
        thin = _STEPS * 4**trial
        options = {
            "draws": each,
            "warmup": _WARMUP * thin,
            "chains": chains,
            "thin": thin,
            "seed": seed,
        }
        posterior = sample(density, progress=progress, dtype=dtype, **options).posterior
        events = {
            name: jnp.asarray(posterior[name].to_numpy(), dtype) for name in density.variables
        }
        first, second, last = (
            _seen(density, jax.tree.map(lambda leaf, at=at: leaf[:, at], events))
            for at in (0, 1, -1)
        )
        if _agree(first, last) and _forgot(first, second):
            return jax.tree.map(
                lambda leaf: leaf[:, ::-1].swapaxes(0, 1).reshape((-1,) + leaf.shape[2:]), events
            )
    return _refuse_unmixed(density, f"{_WARMUP * thin:,} steps")


def _seen(density, events: dict) -> np.ndarray:
    return np.asarray(_columns_seen(density, events))


@compiled
def _columns_seen(density, events: dict) -> jax.Array:
    """What draws are judged by, (n, k): log p̃, the means of the variables' entries, and scores
    that are not too many.

    The scores alone do not see which of two mirrored modes a chain is in.
    """
    count = len(next(iter(events.values())))
    columns = [jax.vmap(density.log_density)(events)[:, None]]
    columns += [value.reshape(count, -1).mean(1, keepdims=True) for value in events.values()]
    few = parameters_of(density, ObjectiveState())[0].size <= NewtonOptions.parameters
    columns += [scores_at(density, events)] if few else []
    return jnp.concatenate(columns, 1)


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two groups of independent draws have the same means, within what chance gives."""
    error = np.sqrt(one.var(0) / len(one) + other.var(0) / len(other))
    return bool(np.all(np.abs(one.mean(0) - other.mean(0)) <= _APART * error + 1e-12))


def _forgot(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether draws of the same chains are hardly correlated."""
    one, other = one - one.mean(0), other - other.mean(0)
    scale = np.sqrt((one**2).mean(0) * (other**2).mean(0))
    return bool(np.all(np.abs((one * other).mean(0)) <= _ALIKE * scale + 1e-12))


def _refuse_unmixed(density, run: str) -> NoReturn:
    raise NoCovarianceError(
        f"chains drawn from {density.name} have not forgotten their starts after {run}, so that "
        "data sets cannot be "
        "drawn from the fit",
        "look for several modes with un.sample and un.diagnose, or fit fewer parameters",
    )

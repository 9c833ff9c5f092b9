"""Draws by chains that forgot their starts: more steps are tried until they have."""

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
from unnorm.fitting.inference.sandwich import NoCovarianceError
from unnorm.fitting.loss import NewtonOptions, parameters_of, scores_at
from unnorm.sampling.driver import sample
from unnorm.sampling.kernels.registry import TieNoTie
from unnorm.sampling.short_runs import run_chains


@dataclass(frozen=True)
class SimulationOptions:
    """When draws are exact, and how chains are made to forget their starts.

    Attributes:
        max_listed_states: up to which draws are made exactly, from the list of all states.
        max_chains: but for one row, where each replicate has a chain of its own.
        min_chains: that are looked at together, so that two groups of them can be told apart.
        sweeps: of Gibbs before the first look.
        tie_sweeps: of tie-no-tie proposals, five proposals a pair: half of the proposals take one
            of few ties.
        doublings: how often twice as many sweeps are tried.
        tie_doublings: the same of ties. Graphs that remember their start after 160 sweeps are
            those of a degenerate model; of 34 nodes each doubling takes a minute.
        steps: of other kernels between two draws.
        trials: how often four times as many are tried.
        warmup: times as many steps before the first draw.
        apart: standard errors that two groups of chains may differ by.
        alike: correlation of neighbouring draws, of which ten stretches of warm-up leave a
            thousandth.
    """

    max_listed_states: int = 2**14
    max_chains: int = 1000
    min_chains: int = 200
    sweeps: int = 50
    tie_sweeps: int = 20
    doublings: int = 7
    tie_doublings: int = 3
    steps: int = 50
    trials: int = 3
    warmup: int = 10
    apart: float = 4.0
    alike: float = 0.5


OPTIONS = SimulationOptions()
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


def gibbs_draws(
    density, events, key, chains: int, each: int, progress: bool, options: SimulationOptions
) -> dict:
    """Half of the chains start at the data, half at random: when they agree, as many sweeps are
    made again.
    """
    kernel, stretch = select_kernel(None, density).prepare(Unconstrained(density)), options.sweeps
    starts_key, chosen_key, key = split_keys(key, 3)
    positions = _starts(density, events, starts_key, chosen_key, chains)
    target, run, doublings = Unconstrained(density), _run_chains, options.doublings
    if isinstance(kernel, TieNoTie):
        stretch, run, doublings = options.tie_sweeps, _run_tie_chains, options.tie_doublings

    def sweep(positions, sweeps, stage):  # one compiled stretch, however many are needed
        for number in range(sweeps // stretch):
            one = fold_in(fold_in(key, stage), number)
            positions, *_ = run(kernel, target, positions, one, steps=stretch, tuning={})
        return positions, _events_at(target, positions)

    sweeps = stretch
    for doubling in range(doublings + 1):
        sweeps = stretch * 2**doubling
        positions, drawn = sweep(positions, sweeps, doubling)
        seen = _seen(density, drawn)
        if _agree(seen[::2], seen[1::2], options.apart):
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


def sampled_draws(
    density, key, chains: int, each: int, progress: bool, options: SimulationOptions
) -> dict:
    """By the kernels that `un.sample` chooses, with more and more steps between two draws until
    they forget.

    Chains that never cross between modes agree from draw to draw all the same: they are seen by
    what they remember.
    """
    seed, each, dtype = int(jax.random.bits(key)) % 2**31, max(each, 2), jnp.result_type(float)
    for trial in range(options.trials):
        thin = options.steps * 4**trial
        given = {
            "draws": each,
            "warmup": options.warmup * thin,
            "chains": chains,
            "thin": thin,
            "seed": seed,
        }
        posterior = sample(density, progress=progress, dtype=dtype, **given).posterior
        events = {
            name: jnp.asarray(posterior[name].to_numpy(), dtype) for name in density.variables
        }
        first, second, last = (
            _seen(density, jax.tree.map(lambda leaf, at=at: leaf[:, at], events))
            for at in (0, 1, -1)
        )
        if _agree(first, last, options.apart) and _forgot(first, second, options.alike):
            return jax.tree.map(
                lambda leaf: leaf[:, ::-1].swapaxes(0, 1).reshape((-1,) + leaf.shape[2:]), events
            )
    return _refuse_unmixed(density, f"{options.warmup * thin:,} steps")


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


def _agree(one: np.ndarray, other: np.ndarray, apart: float) -> bool:
    """Whether two groups of independent draws have the same means, within what chance gives."""
    error = np.sqrt(one.var(0) / len(one) + other.var(0) / len(other))
    return bool(np.all(np.abs(one.mean(0) - other.mean(0)) <= apart * error + 1e-12))


def _forgot(one: np.ndarray, other: np.ndarray, alike: float) -> bool:
    """Whether draws of the same chains are hardly correlated."""
    one, other = one - one.mean(0), other - other.mean(0)
    scale = np.sqrt((one**2).mean(0) * (other**2).mean(0))
    return bool(np.all(np.abs((one * other).mean(0)) <= alike * scale + 1e-12))


def _refuse_unmixed(density, run: str) -> NoReturn:
    raise NoCovarianceError(
        f"chains drawn from {density.name} have not forgotten their starts after {run}, so that "
        "data sets cannot be drawn from the fit",
        "look for several modes with un.sample and un.diagnose, or fit fewer parameters",
    )

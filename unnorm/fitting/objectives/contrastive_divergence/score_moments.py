"""Moments of the score under the model, by chains at fixed parameters."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.chain_kernels import initial_tuning, prepare_kernel, select_kernel
from unnorm.fitting.data.latent_variables import covariates_of
from unnorm.fitting.loss import hessian, score_function
from unnorm.integration.representative_rows import count_of
from unnorm.sampling.short_runs import adapt_step_size, run_chains


@dataclass(frozen=True)
class MomentOptions:
    """Lengths of the chains behind covariances."""

    negatives: int = 100  # per datum, behind J and H of CD-k
    min_chains: int = 500  # of the long run: more chains cost little and halve the noise
    thinning: int = 2  # kernel steps in a round of the long run
    min_rounds: int = 500
    max_rounds: int = 4200
    # The relative error of an entry of I⁻¹ is √(2p/draws): more parameters ask for more draws.
    rounds_per_parameter: int = 60
    second_moments_every: int = 5  # rounds; they cost more than the means
    batches: int = 10
    latent_rounds: int = 100  # of each of two halves

    def rounds(self, parameters: int) -> int:
        """Return the rounds of the long run."""
        return max(self.min_rounds, min(self.rounds_per_parameter * parameters, self.max_rounds))


DEFAULT = MomentOptions()


class LongRun(NamedTuple):
    """Moments of the score under the model itself, by chains that had time to mix."""

    batches: np.ndarray  # means of the score over stretches of the run (batches, p)
    information: np.ndarray
    # With covariates: each row's mean score, by two halves of the run (2, n, p).
    expected: np.ndarray | None = None


def contrast(
    free: dict, density, events: dict, negatives: dict, energy_penalty: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Return mean log p̃(negatives) − mean log p̃(data), of which only the gradient has a meaning,
    plus the penalty of the energies; and log p̃ at the negatives.
    """
    # One pass over both, which a network takes faster than two.
    both = jax.tree.map(
        lambda *parts: jnp.concatenate(parts), {name: negatives[name] for name in events}, events
    )
    energies, on_data = jnp.split(
        jax.vmap(density.at(free).log_density)(both), [count_of(negatives)]
    )
    value = energies.mean() - on_data.mean()
    if energy_penalty > 0:
        value += energy_penalty * ((energies**2).mean() + (on_data**2).mean())
    return value, energies


@compiled(static_argnames="replicates")
def negative_scores(
    objective, density, state, events, key, replicates: int
) -> tuple[jax.Array, jax.Array]:
    """Return the scores at the data (n, p), and the mean scores of two groups of negatives
    (2, n, p).
    """
    chains, score = state.shared, score_function(density)
    own, target = covariates_of(density, events), Unconstrained(density)

    def one(total, key):
        starts = state.per_row.starts
        run = run_chains(chains.kernel, target, starts, key, objective.k, chains.tuning, own)
        return total + jax.vmap(score)(target.events_at(run.positions) | own), None

    data = jax.vmap(score)(events)
    keys = jax.random.split(key, (2, replicates // 2))
    sums = jnp.stack([jax.lax.scan(one, jnp.zeros_like(data), group)[0] for group in keys])
    return data, sums / (replicates // 2)


class _Chains(NamedTuple):
    """Chains from the data, with the covariates of each."""

    kernel: Any
    tuning: Any
    starts: dict[str, jax.Array]
    covariates: dict[str, jax.Array]


@compiled(work="loop", static_argnames=("rounds", "options"))
def _long_run(density, events, chains: _Chains, key, *, rounds: int, options: MomentOptions):
    """Run chains at fixed parameters: the first half adapts and is discarded.

    With covariates each chain's mean score is kept too, by two halves (2, chains, p).
    """
    kernel, tuning, starts, own = chains
    score, target = score_function(density), Unconstrained(density)
    kept = len(next(iter(starts.values()))) if own else 0

    def one(carry, given):
        positions, tuning, sums = carry
        key, gain, is_evaluated, half = given
        positions, rate, _ = run_chains(
            kernel, target, positions, key, options.thinning, tuning, own
        )
        reached = target.events_at(positions) | own

        def second():
            scores = jax.vmap(score)(reached)
            return scores.T @ scores / len(scores), scores[:kept]

        nothing = (
            jnp.zeros((vector.size,) * 2, vector.dtype),
            jnp.zeros((kept, vector.size), vector.dtype),
        )
        seconds, scores = jax.lax.cond(is_evaluated, second, lambda: nothing)
        sums = sums + jax.nn.one_hot(half, 2, dtype=vector.dtype)[:, None, None] * scores
        carry = positions, adapt_step_size(kernel, tuning, rate, gain, positions), sums
        return carry, (mean_score(reached), seconds)

    def mean_score(reached):
        return jax.grad(lambda v: jax.vmap(density.at(unravel(v)).log_density)(reached).mean())(
            vector
        )

    vector, unravel = ravel_pytree(density.free())
    gains = jnp.where(jnp.arange(rounds) < rounds // 2, (1.0 + jnp.arange(rounds)) ** -0.5, 0.0)
    every = options.second_moments_every
    is_evaluated = np.arange(rounds) % every == 0
    half = np.where(np.arange(rounds) < rounds // 2, -1, np.arange(rounds) >= rounds - rounds // 4)
    counts = np.array([np.sum(is_evaluated & (half == h)) for h in (0, 1)])
    (positions, _, sums), (means, seconds) = jax.lax.scan(
        one, (starts, tuning, jnp.zeros((2, kept, vector.size), vector.dtype)),
        (key_array(key, rounds), gains, jnp.asarray(is_evaluated), jnp.asarray(half)),
    )  # fmt: skip
    reached = target.events_at(positions) | own
    curvature = hessian(lambda v: contrast(unravel(v), density, events, reached)[0], vector)
    return (
        means[rounds // 2 :],
        every * seconds[rounds // 2 :].mean(0),
        curvature,
        sums / counts[:, None, None],
    )


def long_run(density, events, key, options: MomentOptions = DEFAULT) -> LongRun:
    """Return the model's own moments of the score at these parameters."""
    starts, own = Unconstrained(density).positions_of(events), covariates_of(density, events)
    count = count_of(starts)
    copies = max(1, -(-options.min_chains // count))
    starts, chains_own = (
        jax.tree.map(lambda leaf: jnp.tile(leaf, (copies,) + (1,) * (leaf.ndim - 1)), part)
        for part in (starts, own)
    )
    kernel = prepare_kernel(select_kernel(None, density), density, own)
    chains = _Chains(kernel, initial_tuning(kernel, starts), starts, chains_own)
    rounds = options.rounds(ravel_pytree(density.free())[0].size)
    run = _long_run(density, events, chains, key, rounds=rounds, options=options)
    means, second, curvature, expected = (np.asarray(part) for part in run)
    mean = means.mean(0)
    batches = means.reshape(options.batches, -1, len(mean)).mean(1)
    if not own:
        return LongRun(batches, second - np.outer(mean, mean) + curvature)
    # The second moment of the rows' means, by halves whose noise is independent.
    between = expected[0].T @ expected[1] / expected.shape[1]
    rows = expected.reshape(2, copies, count, len(mean)).mean(1)
    return LongRun(batches, second - (between + between.T) / 2 + curvature, rows)


@compiled(work="loop", static_argnames="rounds")
def _latent_scores(density, latent, events: dict, key, rounds: int) -> jax.Array:
    """E[∇ log p̃(x_i, h) | x_i] over each row's latent chain, by two halves of rounds (2, n, p)."""
    score, target = score_function(density), Unconstrained(latent.density(density, events))

    def one(carry, given):
        positions, sums = carry
        key, half = given
        positions, *_ = run_chains(latent.kernel, target, positions, key, 1, latent.tuning, events)
        scores = jax.vmap(score)(latent.complete(events, target.events_at(positions)))
        sums = sums + jax.nn.one_hot(half, 2, dtype=scores.dtype)[:, None, None] * scores
        return (positions, sums), None

    size, count = ravel_pytree(density.free())[0].size, count_of(events)
    start = latent.positions, jnp.zeros((2, count, size), jnp.result_type(*events.values()))
    half = jnp.arange(2 * rounds) // rounds
    (_, sums), _ = jax.lax.scan(one, start, (key_array(key, 2 * rounds), half))
    return sums / rounds


def latent_information(
    density, latent, events, key, options: MomentOptions = DEFAULT
) -> np.ndarray:
    """Return Cov(E[s | x_i]) over the rows: the information where variables are latent and the
    model is true.

    References: Louis (1982), doi:10.1111/j.2517-6161.1982.tb01203.x (E[s | x] is the score of x).
    """
    one, other = np.asarray(_latent_scores(density, latent, events, key, options.latent_rounds))
    found = (one - one.mean(0)).T @ (other - other.mean(0)) / len(one)
    values, vectors = np.linalg.eigh((found + found.T) / 2)
    # Noise may make a small eigenvalue negative.
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


__all__ = [
    "DEFAULT",
    "LongRun",
    "MomentOptions",
    "contrast",
    "latent_information",
    "long_run",
    "negative_scores",
]

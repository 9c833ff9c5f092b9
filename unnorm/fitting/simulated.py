"""Standard errors and fixed points of contrastive divergence, by chains at the estimate.

CD-k: ψ_i = s(x_i) − E[s(x') | x_i → k steps], s = ∇ log p̃. For a kernel that leaves p_θ invariant, H = E[ψ (s − s̄)'],
and J = mean ψ⁽¹⁾ψ⁽²⁾' from two independent groups of negatives, so that their noise does not enter. Persistent chains
have the covariance of Monte Carlo maximum likelihood: I⁻¹ J I⁻¹ / n, I = Cov_θ(s) + E_θ[∇² log p̃] − mean ∇² log
p̃(x_i).

References: Godambe (1960), doi:10.1214/aoms/1177705693; Geyer (1994), doi:10.1111/j.2517-6161.1994.tb01976.x.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.diagnostics.verdict import ERROR, WARNING, Finding
from unnorm.fitting.chains import (
    adapted,
    advance,
    chosen_kernel,
    constrained,
    prepared_kernel,
    starting_tuning,
    unconstrained,
)
from unnorm.fitting.inference import Covariance, NoCovariance, bread_and_meat
from unnorm.fitting.objectives.contrastive_divergence import contrast
from unnorm.fitting.optimise import NEWTON_LIMIT, hessian
from unnorm.fitting.penalties import slope_and_curvature

_REPLICATES = 100  # negatives per datum behind J and H of CD-k
_LONG_STEPS = 2  # between the rounds of the long run behind I and the bias of a fixed point
_LOOKS = 5  # rounds between two looks at the second moments, which cost more than the means


def _long_rounds(parameters: int) -> int:
    """The relative error of an entry of I⁻¹ is √(2p/draws): more parameters ask for more draws."""
    return max(500, min(60 * parameters, 4200))


class LongRun(NamedTuple):
    """Moments of the score under the model itself, by chains that had time to mix."""

    batches: np.ndarray  # means of the score over ten stretches of the run (10, p)
    information: np.ndarray


def _score_function(density):
    vector, unravel = ravel_pytree(density.free())
    return lambda event: jax.grad(lambda v: density.at(unravel(v)).log_density(event))(vector)


@jax.jit
def scores_at(density, events) -> jax.Array:
    """∇ log p̃ in the free parameters at every event (n, p)."""
    return jax.vmap(_score_function(density))(events)


@functools.partial(jax.jit, static_argnames="replicates")
def replicated_scores(objective, density, extra, events, key, replicates: int):
    """Scores at the data (n, p), and the mean scores of two groups of negatives (2, n, p)."""
    kernel, score = extra.shared["kernel"], _score_function(density)

    def one(total, key):
        _, negatives, _ = advance(kernel, density, extra.shared["tuning"], extra.rows["starts"], key, objective.k)
        return total + jax.vmap(score)(negatives), None

    data = jax.vmap(score)(events)
    keys = jax.random.split(key, (2, replicates // 2))
    sums = jnp.stack([jax.lax.scan(one, jnp.zeros_like(data), group)[0] for group in keys])
    return data, sums / (replicates // 2)


@functools.partial(jax.jit, static_argnames=("rounds", "steps"))
def long_run(kernel, density, events, starts, tuning, key, rounds: int, steps: int):
    """Let chains run on from the data at fixed parameters; the first half adapts and forgets, the second is kept."""
    score = _score_function(density)

    def one(carry, given):
        positions, tuning = carry
        key, gain, looked_at = given
        positions, reached, rate = advance(kernel, density, tuning, positions, key, steps)

        def second():
            scores = jax.vmap(score)(reached)
            return scores.T @ scores / len(scores)

        seconds = jax.lax.cond(looked_at, second, lambda: jnp.zeros((vector.size,) * 2, vector.dtype))
        return (positions, adapted(kernel, tuning, rate, gain, positions)), (mean_score(reached), seconds)

    def mean_score(reached):
        return jax.grad(lambda v: jax.vmap(density.at(unravel(v)).log_density)(reached).mean())(vector)

    vector, unravel = ravel_pytree(density.free())
    gains = jnp.where(jnp.arange(rounds) < rounds // 2, (1.0 + jnp.arange(rounds)) ** -0.5, 0.0)
    looked_at = jnp.arange(rounds) % _LOOKS == 0
    (positions, _), (means, seconds) = jax.lax.scan(
        one, (starts, tuning), (jax.random.split(key, rounds), gains, looked_at)
    )
    reached = constrained(density, positions)
    curvature = hessian(lambda v: contrast(unravel(v), density, events, reached), vector)
    return means[rounds // 2 :], _LOOKS * seconds[rounds // 2 :].mean(0), curvature


def run_long(density, events, key) -> LongRun:
    """The model's own moments of the score at these parameters."""
    starts = unconstrained(density, events)
    count = len(next(iter(starts.values())))
    if count < 500:  # more chains cost little and halve the noise
        starts = jax.tree.map(lambda leaf: jnp.tile(leaf, (-(-500 // count),) + (1,) * (leaf.ndim - 1)), starts)
    kernel = prepared_kernel(chosen_kernel(None, density), density)
    tuning = starting_tuning(kernel, starts)
    rounds = _long_rounds(ravel_pytree(density.free())[0].size)
    run = long_run(kernel, density, events, starts, tuning, key, rounds, _LONG_STEPS)
    means, second, curvature = (np.asarray(part) for part in run)
    mean = means.mean(0)
    return LongRun(means.reshape(10, -1, len(mean)).mean(1), second - np.outer(mean, mean) + curvature)


def covariance(objective, density, extra, events, key) -> Covariance:
    """The covariance of contrastive divergence as the theory gives it, or a sentence raised where it gives none."""
    size = ravel_pytree(density.free())[0].size
    if size > NEWTON_LIMIT:
        what = f"{size} parameters are too many for a covariance, so there are no standard errors"
        raise NoCovariance(what, "use the bootstrap for errors")
    kernel = extra.shared["kernel"]
    n = len(next(iter(events.values())))
    _refuse_disturbed(objective)
    if objective.persistent:
        data = np.asarray(scores_at(density, events))
        centred = data - data.mean(0)
        information = run_long(density, events, key).information + _curvature(density, extra)
        return bread_and_meat(information, centred.T @ centred / n, n)
    if not kernel.exact:
        raise NoCovariance(
            f"{type(kernel).__name__} does not leave the density invariant, and the theory gives no covariance for "
            "contrastive divergence with such a kernel, so there are no standard errors",
            "use an exact kernel such as un.kernels.MALA() or HMC(), or the bootstrap",
        )
    data, groups = (np.asarray(part) for part in replicated_scores(objective, density, extra, events, key, _REPLICATES))
    psi = data - groups
    centred = psi - psi.mean(1, keepdims=True)
    curvature = psi.mean(0).T @ (data - data.mean(0)) / n
    meat = centred[0].T @ centred[1] / n
    return bread_and_meat(curvature + _curvature(density, extra), (meat + meat.T) / 2, n)


def _curvature(density, extra) -> np.ndarray:
    """What the penalties add to H."""
    return np.asarray(slope_and_curvature(extra.penalty, density)[1])


def _refuse_disturbed(objective) -> None:
    if objective.noise is not None:
        what = "noise was added to the data, and the theory of contrastive divergence is without it"
        raise NoCovariance(f"{what}, so there are no standard errors", "leave noise out, or use the bootstrap")
    if objective.reinitialise > 0:
        what = "some chains start anew each iteration, and the theory of persistent chains is without that"
        raise NoCovariance(f"{what}, so there are no standard errors", "leave reinitialise at 0, or use the bootstrap")


def fixed_point_finding(objective, density, extra, events, key) -> list[Finding]:
    """How far the fit lies from maximum likelihood, by one Newton step on chains that had time to mix."""
    if objective.noise is not None:  # it aims at the smoothed data, and says so
        return []
    run = run_long(density, events, key)
    data = np.asarray(scores_at(density, events))
    n, centred = len(data), data - data.mean(0)
    slope, curvature = (np.asarray(part) for part in slope_and_curvature(extra.penalty, density))
    information = run.information + curvature
    try:
        errors = np.sqrt(np.diagonal(bread_and_meat(information, centred.T @ centred / n, n).total))
    except NoCovariance:
        return []
    shifts = np.linalg.solve(information, (data.mean(0) - slope - run.batches).T) / errors[:, None]
    shift, noise = np.abs(shifts.mean(1)), shifts.std(1, ddof=1) / np.sqrt(len(run.batches))
    worst = int(np.argmax(shift))
    if shift[worst] <= 0.25 or shift[worst] <= 4 * noise[worst]:
        return []
    kernel = extra.shared["kernel"]
    why, advice = "its steps hardly move the chains", "raise k, or use a kernel that mixes faster"
    if not kernel.exact:
        why, advice = "the kernel does not leave the density invariant", "use an exact kernel such as un.kernels.HMC()"
    elif objective.reinitialise > 0:
        why, advice = "too many chains start anew at the data", "lower reinitialise"
    elif not objective.persistent:
        advice += ", or persistent=True"
    what = (
        f"the fixed point of {'persistent CD' if objective.persistent else f'CD-{objective.k}'} with "
        f"{type(kernel).__name__} lies about {shift[worst]:.2f} standard errors from the maximum likelihood estimate: "
        f"{why}"
    )
    return [Finding(what, advice, ERROR if shift[worst] > 0.5 else WARNING)]

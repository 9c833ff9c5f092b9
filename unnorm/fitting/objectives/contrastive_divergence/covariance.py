"""Standard errors and fixed points of contrastive divergence, by chains at the estimate.

CD-k: ψ_i = s(x_i) − E[s(x') | x_i → k steps], s = ∇ log p̃. For a kernel that leaves p_θ invariant,
H = E[ψ (s − s̄)'], and J = mean ψ⁽¹⁾ψ⁽²⁾' from two independent groups of negatives, so that their
noise does not enter. Persistent chains have the covariance of Monte Carlo maximum likelihood: I⁻¹ J
I⁻¹ / n, I = Cov_θ(s) + E_θ[∇² log p̃] − mean ∇² log p̃(x_i).

References: Godambe (1960), doi:10.1214/aoms/1177705693; Geyer (1994),
doi:10.1111/j.2517-6161.1994.tb01976.x.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.chain_kernels import initial_tuning, prepare_kernel, select_kernel
from unnorm.fitting.inference.sandwich import Covariance, NoCovariance, bread_and_meat
from unnorm.fitting.objectives.contrastive_divergence.objective import contrast
from unnorm.fitting.penalties.penalized_fit import refuse_lassos_errors
from unnorm.fitting.penalties.terms import slope_and_curvature
from unnorm.fitting.row_normalizers import covariates_of, latent_variables
from unnorm.fitting.solvers.newton import NEWTON_LIMIT, hessian, lasso_strengths
from unnorm.integration.conditional import count_of
from unnorm.numerics.diagonal_scaling import solve
from unnorm.numerics.proximal import least_slopes
from unnorm.sampling.short_runs import adapt_step_size, run_chains

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
    expected: np.ndarray | None = (
        None  # with covariates: each row's mean score, by two halves of the run (2, n, p)
    )


def score_function(density):
    """∇ log p̃ of one event in the free parameters, as one vector."""
    vector, unravel = ravel_pytree(density.free())
    return lambda event: jax.grad(lambda v: density.at(unravel(v)).log_density(event))(vector)


@jax.jit
def scores_at(density, events) -> jax.Array:
    """∇ log p̃ in the free parameters at every event (n, p)."""
    return jax.vmap(score_function(density))(events)


@functools.partial(jax.jit, static_argnames="replicates")
def replicated_scores(objective, density, state, events, key, replicates: int):
    """Scores at the data (n, p), and the mean scores of two groups of negatives (2, n, p)."""
    kernel, score = state.shared["kernel"], score_function(density)

    own, target = covariates_of(density, events), Unconstrained(density)

    def one(total, key):
        starts, tuning = state.per_row["starts"], state.shared["tuning"]
        run = run_chains(kernel, target, starts, key, objective.k, tuning, own)
        return total + jax.vmap(score)(target.events_at(run.positions) | own), None

    data = jax.vmap(score)(events)
    keys = jax.random.split(key, (2, replicates // 2))
    sums = jnp.stack([jax.lax.scan(one, jnp.zeros_like(data), group)[0] for group in keys])
    return data, sums / (replicates // 2)


@functools.partial(jax.jit, static_argnames=("rounds", "steps"))
def long_run(kernel, density, events, starts, tuning, key, own: dict, rounds: int, steps: int):
    """Let chains run on from the data at fixed parameters; the first half adapts and forgets, the
    second is kept.

    `own` are the covariates of every chain: then each chain's mean score is kept too, by two halves
        (2, chains, p).
    """
    score, chains = score_function(density), len(next(iter(starts.values())))
    target = Unconstrained(density)
    kept = chains if own else 0

    def one(carry, given):
        positions, tuning, sums = carry
        key, gain, looked_at, half = given
        positions, rate, _ = run_chains(kernel, target, positions, key, steps, tuning, own)
        reached = target.events_at(positions) | own

        def second():
            scores = jax.vmap(score)(reached)
            return scores.T @ scores / len(scores), scores[:kept]

        nothing = (
            jnp.zeros((vector.size,) * 2, vector.dtype),
            jnp.zeros((kept, vector.size), vector.dtype),
        )
        seconds, scores = jax.lax.cond(looked_at, second, lambda: nothing)
        sums = sums + jax.nn.one_hot(half, 2, dtype=vector.dtype)[:, None, None] * scores
        return (positions, adapt_step_size(kernel, tuning, rate, gain, positions), sums), (
            mean_score(reached),
            seconds,
        )

    def mean_score(reached):
        return jax.grad(lambda v: jax.vmap(density.at(unravel(v)).log_density)(reached).mean())(
            vector
        )

    vector, unravel = ravel_pytree(density.free())
    gains = jnp.where(jnp.arange(rounds) < rounds // 2, (1.0 + jnp.arange(rounds)) ** -0.5, 0.0)
    looked_at = np.arange(rounds) % _LOOKS == 0
    half = np.where(np.arange(rounds) < rounds // 2, -1, np.arange(rounds) >= rounds - rounds // 4)
    counts = np.array([np.sum(looked_at & (half == h)) for h in (0, 1)])
    (positions, _, sums), (means, seconds) = jax.lax.scan(
        one, (starts, tuning, jnp.zeros((2, kept, vector.size), vector.dtype)),
        (jax.random.split(key, rounds), gains, jnp.asarray(looked_at), jnp.asarray(half)),
    )  # fmt: skip
    reached = target.events_at(positions) | own
    curvature = hessian(lambda v: contrast(unravel(v), density, events, reached), vector)
    return (
        means[rounds // 2 :],
        _LOOKS * seconds[rounds // 2 :].mean(0),
        curvature,
        sums / counts[:, None, None],
    )


def run_long(density, events, key) -> LongRun:
    """The model's own moments of the score at these parameters."""
    starts, own = Unconstrained(density).positions_of(events), covariates_of(density, events)
    count = count_of(starts)
    again = -(-500 // count) if count < 500 else 1  # more chains cost little and halve the noise
    starts, chains_own = (
        jax.tree.map(lambda leaf: jnp.tile(leaf, (again,) + (1,) * (leaf.ndim - 1)), part)
        for part in (starts, own)
    )
    kernel = prepare_kernel(select_kernel(None, density), density, own)
    tuning = initial_tuning(kernel, starts)
    rounds = _long_rounds(ravel_pytree(density.free())[0].size)
    run = long_run(kernel, density, events, starts, tuning, key, chains_own, rounds, _LONG_STEPS)
    means, second, curvature, expected = (np.asarray(part) for part in run)
    mean = means.mean(0)
    batches = means.reshape(10, -1, len(mean)).mean(1)
    if not own:
        return LongRun(batches, second - np.outer(mean, mean) + curvature)
    between = (
        expected[0].T @ expected[1] / expected.shape[1]
    )  # of the rows' means, whose noise is independent
    rows = expected.reshape(2, again, count, len(mean)).mean(1)
    return LongRun(batches, second - (between + between.T) / 2 + curvature, rows)


def covariance(objective, density, state, events, key) -> Covariance:
    """The covariance of contrastive divergence as the theory gives it, or a sentence raised where
    it gives none.
    """
    size = ravel_pytree(density.free())[0].size
    if size > NEWTON_LIMIT:
        what = f"{size} parameters are too many for a covariance, so there are no standard errors"
        raise NoCovariance(what, "use the bootstrap for errors")
    kernel = state.shared["kernel"]
    n = len(next(iter(events.values())))
    refuse_lassos_errors(state.penalty)
    _refuse_disturbed(objective)
    if latent_variables(density, events):
        what = "the theory of contrastive divergence's errors here is for densities without latent variables"
        advice = (
            "use un.objectives.MaximumLikelihood where they can be summed out, or the bootstrap"
        )
        raise NoCovariance(f"{what}, so there are no standard errors", advice)
    run = run_long(density, events, key) if objective.persistent or density.covariates else None
    if objective.persistent:
        data = np.asarray(scores_at(density, events))
        return bread_and_meat(
            run.information + _curvature(density, state), _spread_of(data, run), n
        )
    if not kernel.exact:
        raise NoCovariance(
            f"{type(kernel).__name__} does not leave the density invariant, and the theory gives "
            "no covariance for "
            "contrastive divergence with such a kernel, so there are no standard errors",
            "use an exact kernel such as un.kernels.MALA() or HMC(), or the bootstrap",
        )
    data, groups = (
        np.asarray(part)
        for part in replicated_scores(objective, density, state, events, key, _REPLICATES)
    )
    psi = data - groups
    centred = psi - psi.mean(1, keepdims=True)
    centre = data.mean(0) if run is None else run.expected.mean(0)
    curvature = psi.mean(0).T @ (data - centre) / n
    meat = centred[0].T @ centred[1] / n
    return bread_and_meat(curvature + _curvature(density, state), (meat + meat.T) / 2, n)


def _spread_of(data: np.ndarray, run: LongRun) -> np.ndarray:
    """Cov(s − E[s | covariates]) over the rows, the noise of the row's own mean left out."""
    if run.expected is None:
        centred = data - data.mean(0)
        return centred.T @ centred / len(data)
    centred = data - run.expected
    centred = centred - centred.mean(1, keepdims=True)
    meat = centred[0].T @ centred[1] / len(data)
    return (meat + meat.T) / 2


def _curvature(density, state) -> np.ndarray:
    """What the penalties add to H."""
    return np.asarray(slope_and_curvature(state.penalty, density)[1])


def _refuse_disturbed(objective) -> None:
    if objective.noise is not None:
        what = "noise was added to the data, and the theory of contrastive divergence is without it"
        raise NoCovariance(
            f"{what}, so there are no standard errors", "leave noise out, or use the bootstrap"
        )
    if objective.reinitialise > 0:
        what = "some chains start anew each iteration, and the theory of persistent chains is without that"
        raise NoCovariance(
            f"{what}, so there are no standard errors",
            "leave reinitialise at 0, or use the bootstrap",
        )


def fixed_point_finding(objective, density, state, events, key) -> list[Finding]:
    """How far the fit lies from maximum likelihood, by one Newton step on chains that had time to
    mix.
    """
    if objective.noise is not None or latent_variables(
        density, events
    ):  # the first aims at the smoothed data, and says so
        return []
    run = run_long(density, events, key)
    data = np.asarray(scores_at(density, events))
    n = len(data)
    slope, curvature = (np.asarray(part) for part in slope_and_curvature(state.penalty, density))
    information = run.information + curvature
    try:
        errors = np.sqrt(np.diagonal(bread_and_meat(information, _spread_of(data, run), n).total))
    except NoCovariance:
        return []
    uphill, strengths = data.mean(0) - slope - run.batches, lasso_strengths(density, state)
    if strengths is not None:
        uphill = -np.asarray(least_slopes(ravel_pytree(density.free())[0], -uphill, strengths))
    shifts = solve(information, uphill.T) / errors[:, None]
    shift, noise = np.abs(shifts.mean(1)), shifts.std(1, ddof=1) / np.sqrt(len(run.batches))
    worst = int(np.argmax(shift))
    if shift[worst] <= 0.25 or shift[worst] <= 4 * noise[worst]:
        return []
    kernel = state.shared["kernel"]
    why, advice = "its steps hardly move the chains", "raise k, or use a kernel that mixes faster"
    if not kernel.exact:
        why, advice = (
            "the kernel does not leave the density invariant",
            "use an exact kernel such as un.kernels.HMC()",
        )
    elif objective.reinitialise > 0:
        why, advice = "too many chains start anew at the data", "lower reinitialise"
    elif not objective.persistent:
        advice += ", or persistent=True"
    what = (
        f"the fixed point of {'persistent CD' if objective.persistent else f'CD-{objective.k}'} "
        "with "
        f"{type(kernel).__name__} lies about {shift[worst]:.2f} standard errors from the maximum "
        "likelihood estimate: "
        f"{why}"
    )
    return [
        Finding(
            what,
            advice,
            ERROR if shift[worst] > 0.5 else WARNING,
            code=FindingCode.FAR_FROM_MAXIMUM_LIKELIHOOD,
        )
    ]

"""Monte Carlo maximum likelihood: draws at ψ stand for the nodes of Z(θ) / Z(ψ).

log Z(θ)/Z(ψ) ≈ log Σ_j exp(log p̃(y_j; θ) + log w_j), log w_j = −log p̃(y_j; ψ) − log m, so that
the draws are a `Plan` like the states of an enumeration. ψ comes near by scoring steps d =
Cov_ψ(s)⁻¹ (mean s(x_i) − E_ψ s), s = ∇ log p̃, none longer than one in the metric of Cov_ψ(s), the
standard deviation of the log-weights from ψ to ψ + d, and halved until the draws at ψ can stand for
those at ψ + d (a step out of a Conway-Maxwell-Poisson's ν > 0 never comes back).

References: Geyer (1994), doi:10.1111/j.2517-6161.1994.tb01976.x; Hummel, Hunter and Handcock
(2012), doi:10.1080/10618600.2012.679224 (steps of limited length).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp

from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.chain_kernels import initial_tuning, prepare_kernel
from unnorm.integration.nodes import Plan
from unnorm.numerics.diagonal_scaling import ridged, solve
from unnorm.sampling.short_runs import run_rounds
from unnorm.statistics.mcmc import ConvergenceCriteria, split_r_hat

ENOUGH = 0.9  # effective share of the draws at which they need not be drawn anew
CRITERIA = ConvergenceCriteria(max_r_hat=1.1)  # R-hat of the draws' energies: runs are short
_MOST_CHAINS = 1000
_STEPS = 2  # kernel steps between two draws
_SHORT = 20  # rounds of such steps after each move of the parameters
_MOVES, _NEAR = 200, 0.5  # scoring steps at most; the length of the last one
_HELD, _SHORTEST = (
    0.2,
    1e-3,
)  # effective share that the draws must keep over a step; the least part of a step


def brought_near(kernel: Any, density, events: dict, draws: int, key: jax.Array) -> dict:
    """Chains, and the parameters ψ at which they stand, near the maximum likelihood estimate."""
    kernel, rows, (key, choose) = (
        prepare_kernel(kernel, density),
        Unconstrained(density).positions_of(events),
        jax.random.split(key),
    )
    chosen = jax.random.choice(choose, len(next(iter(rows.values()))), (_chains(draws),))
    positions = {name: value[chosen] for name, value in rows.items()}
    tuning, near = initial_tuning(kernel, rows), False
    vector, unravel = ravel_pytree(density.free())
    for _ in range(_MOVES):
        key, move = jax.random.split(key)
        target = Unconstrained(density)
        run = run_rounds(kernel, target, tuning, positions, move, 1.0, rounds=_SHORT, steps=_STEPS)
        tuning, positions = run.tuning, run.positions
        step, length = scoring_step(density, events, run.events)
        if not np.isfinite(length):
            raise ValueError(
                f"The log-density of {density.name} or its gradient is not finite where the "
                "chains of "
                "MaximumLikelihood came; expected finite numbers or -inf; mend the density "
                "there, or pass a start."
            )
        vector = vector + step
        density, near = density.at(unravel(vector)), bool(length < _NEAR)
        if near:
            break
    return {
        "kernel": kernel,
        "tuning": tuning,
        "positions": positions,
        "start": density.free(),
        "near": jnp.array(near),
    }


@jax.jit
def scoring_step(density, events: dict, reached: dict) -> tuple[jax.Array, jax.Array]:
    """Cov(s)⁻¹ (mean s(x_i) − mean s(y_j)), shortened, and its whole length in that metric.

    The first half of the rounds is left out.
    """
    vector, unravel = ravel_pytree(density.free())
    score = jax.vmap(
        jax.grad(lambda v, event: density.at(unravel(v)).log_density(event)), (None, 0)
    )
    late = jax.tree.map(lambda leaf: leaf[len(leaf) // 2 :].reshape(-1, *leaf.shape[2:]), reached)
    scores = score(vector, late)
    gradient, centred = score(vector, events).mean(0) - scores.mean(0), scores - scores.mean(0)
    metric = centred.T @ centred / len(scores)
    step = solve(ridged(metric), gradient)
    length = jnp.sqrt(jnp.maximum(gradient @ step, 0.0))
    held, step = Plan(late, -energies(density, late)), step / jnp.maximum(1.0, length)

    def too_far(part):
        share = effective_share(density.at(unravel(vector + part * step)), held)
        return ~(share >= _HELD) & (part > _SHORTEST)

    return step * jax.lax.while_loop(too_far, lambda part: part / 2, jnp.ones_like(length)), length


def drawn_anew(density, shared: dict, draws: int) -> dict:
    """The same with draws at the present parameters, after the chains have forgotten the last
    ones.
    """
    key, settle, *parts = jax.random.split(
        shared["key"], 2 + -(-draws // (_SHORT * _chains(draws)))
    )
    target = Unconstrained(density)
    run = run_rounds(
        shared["kernel"], target, shared["tuning"], shared["positions"], settle, 1.0,
        rounds=_SHORT, steps=_STEPS,
    )  # fmt: skip
    drawn = []
    for part in parts:  # as long as the stretches before, so that nothing more is compiled
        run = run_rounds(
            shared["kernel"],
            target,
            run.tuning,
            run.positions,
            part,
            0.0,
            rounds=_SHORT,
            steps=_STEPS,
        )
        drawn.append(run.events)
    events = jax.tree.map(_by_chain, *drawn)
    values = energies(density, events)
    plan = Plan(events, -values - jnp.log(len(values)))
    return shared | {
        "key": key, "tuning": run.tuning, "positions": run.positions, "start": density.free(), "plan": plan,
        "r_hat": jnp.asarray(split_r_hat(np.asarray(values).reshape(_chains(draws), -1))), "rejected": run.nan_rate,
    }  # fmt: skip


def _by_chain(*parts: jax.Array) -> jax.Array:
    """Parts (rounds, chains, ...) as one array of draws, chain after chain."""
    whole = jnp.swapaxes(jnp.concatenate(parts), 0, 1)
    return whole.reshape(-1, *whole.shape[2:])


def _chains(draws: int) -> int:
    return min(_MOST_CHAINS, max(10, draws // 100))


@jax.jit
def energies(density, events: dict) -> jax.Array:
    """log p̃ of every event."""
    return jax.vmap(density.log_density)(events)


@jax.jit
def effective_share(density, plan: Plan) -> jax.Array:
    """(Σ w)² / (m Σ w²) of the draws' weights at these parameters."""
    logs = energies(density, plan.events) + plan.log_weights
    return jnp.exp(2 * logsumexp(logs) - logsumexp(2 * logs)) / len(logs)


@functools.partial(jax.jit, static_argnames="batches")
def _batch_means(density, plan: Plan, batches: int) -> jax.Array:
    """Means over each stretch of the chains of w (s − m), w normalised to mean 1 and m = mean w s:
    (batches, p).
    """
    vector, unravel = ravel_pytree(density.free())
    logs = energies(density, plan.events) + plan.log_weights
    weights = jax.nn.softmax(logs) * len(logs)
    cut = jax.tree.map(
        lambda leaf: leaf.reshape(batches, -1, *leaf.shape[1:]), (plan.events, weights)
    )

    def one(given):
        events, weights = given
        return jax.grad(lambda v: jnp.mean(weights * energies(density.at(unravel(v)), events)))(
            vector
        ), weights.mean()

    weighted, shares = jax.lax.map(one, cut)
    return weighted - shares[:, None] * weighted.mean(0)


def long_run_variance(density, plan: Plan, draws: int) -> np.ndarray:
    """Γ / m: the covariance of mean w (s − m) over the draws, by the halves of the chains."""
    means = np.asarray(_batch_means(density, plan, 2 * _chains(draws)))
    return means.T @ means / (len(means) - 1) / len(means)


@jax.jit
def recession(density, events: dict, plan: Plan) -> jax.Array:
    """±1 for each parameter in whose score the data's mean is beyond all draws, or level with the
    last of them.

    Then the likelihood rises for ever as the parameter goes that way (where all draws are alike,
    the way it came).

    References: Geyer (2009), doi:10.1214/08-EJS349.
    """
    vector, unravel = ravel_pytree(density.free())
    score = jax.vmap(
        jax.grad(lambda v, event: density.at(unravel(v)).log_density(event)), (None, 0)
    )
    drawn, mean = score(vector, plan.events), score(vector, events).mean(0)
    slack = 1e-9 * (jnp.abs(mean) + drawn.std(0))
    upwards, downwards = mean >= drawn.max(0) - slack, mean <= drawn.min(0) + slack
    return jnp.where(
        upwards & downwards, jnp.sign(vector), upwards.astype(int) - downwards.astype(int)
    ).astype(int)


def findings(shared: dict) -> list[Finding]:
    """Whether the draws may be believed."""
    found = []
    if not shared["near"]:
        what = f"the parameters were still moving after {_MOVES} steps of limited length: there may be no maximum"
        advice = "look for parameters that run away (statistics at the end of their range), or pass another start"
        found.append(Finding(what, advice, ERROR, code=FindingCode.NOT_CONVERGED))
    if not shared["r_hat"] <= CRITERIA.max_r_hat:
        what = f"the chains behind the draws have not mixed: R-hat of their energies is {float(shared['r_hat']):.2f}"
        found.append(
            Finding(
                what,
                "give more draws, or a kernel that mixes faster",
                ERROR,
                code=FindingCode.NOT_MIXED,
            )
        )
    if shared["rejected"] > 0:
        what = f"the log-density was NaN at {float(shared['rejected']):.1%} of the chains' proposals, which were rejected"
        found.append(
            Finding(
                what,
                "mend the function there (-inf is a wall, NaN is none)",
                ERROR,
                code=FindingCode.NOT_FINITE,
            )
        )
    return found


__all__ = [
    "ENOUGH",
    "brought_near",
    "drawn_anew",
    "effective_share",
    "findings",
    "long_run_variance",
    "recession",
]

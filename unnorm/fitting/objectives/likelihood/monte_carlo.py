"""Monte Carlo maximum likelihood: draws at ψ are the nodes of Z(θ) / Z(ψ).

log Z(θ)/Z(ψ) ≈ log Σ_j exp(log p̃(y_j; θ) + log w_j), log w_j = −log p̃(y_j; ψ) − log m, so that
the draws are a `Plan` like the states of an enumeration. ψ is found by scoring steps d =
Cov_ψ(s)⁻¹ (mean s(x_i) − E_ψ s), s = ∇ log p̃, none longer than one in the metric of Cov_ψ(s), the
standard deviation of the log-weights from ψ to ψ + d, and halved until the draws at ψ can stand for
those at ψ + d (a step out of a Conway-Maxwell-Poisson's ν > 0 never comes back).

References: Geyer (1994), doi:10.1111/j.2517-6161.1994.tb01976.x; Hummel, Hunter and Handcock
(2012), doi:10.1080/10618600.2012.679224 (steps of limited length).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.core.random_keys import split_keys
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.chain_kernels import initial_tuning, prepare_kernel
from unnorm.integration.nodes import Plan
from unnorm.numerics.diagonal_scaling import add_ridge, solve
from unnorm.sampling.short_runs import run_rounds
from unnorm.statistics.mcmc import ConvergenceCriteria, split_r_hat


@dataclass(frozen=True)
class DrawOptions:
    """How draws are made, and when they are accurate enough."""

    ess_fraction: float = 0.9  # of the draws, from which they need not be made again
    # R-hat of the draws' log-densities: runs are short.
    convergence: ConvergenceCriteria = field(default=ConvergenceCriteria(max_r_hat=1.1))
    max_chains: int = 1000
    thinning: int = 2  # kernel steps between two draws
    rounds: int = 20  # of so many steps after each change of the parameters
    max_steps: int = 200  # scoring steps
    last_step: float = 0.5  # length of a scoring step at which ψ is near
    min_ess_fraction: float = 0.2  # that the draws must keep over a step
    min_part: float = 1e-3  # of a step, to which it may be shortened

    def chains(self, draws: int) -> int:
        """Return the number of chains for so many draws."""
        return min(self.max_chains, max(10, draws // 100))


DEFAULT = DrawOptions()


class Draws(NamedTuple):
    """Chains at ψ, and the draws that stand for Z: their nodes, R-hat, and the share of proposals
    whose log-density was NaN.
    """

    kernel: Any
    tuning: Any
    positions: dict[str, jax.Array]
    start: dict[str, Any]  # ψ
    near: jax.Array  # whether the scoring steps came to their end
    key: jax.Array | None = None
    plan: Plan | None = None
    r_hat: jax.Array | None = None
    nan_share: jax.Array | None = None


def approach_estimate(
    kernel: Any, density, events: dict, draws: int, key: jax.Array, options: DrawOptions = DEFAULT
) -> Draws:
    """Return chains and their parameters ψ, near the maximum likelihood estimate."""
    kernel, rows = prepare_kernel(kernel, density), Unconstrained(density).positions_of(events)
    key, choose = split_keys(key)
    chosen = jax.random.choice(choose, len(next(iter(rows.values()))), (options.chains(draws),))
    positions = {name: value[chosen] for name, value in rows.items()}
    tuning, near = initial_tuning(kernel, rows), False
    vector, unravel = ravel_pytree(density.free())
    for _ in range(options.max_steps):
        key, move = split_keys(key)
        run = run_rounds(
            kernel, Unconstrained(density), tuning, positions, move, 1.0,
            rounds=options.rounds, steps=options.thinning,
        )  # fmt: skip
        tuning, positions = run.tuning, run.positions
        step, length = scoring_step(density, events, run.events, options)
        if not np.isfinite(length):
            raise ValueError(
                f"The log-density of {density.name} or its gradient is not finite at states that "
                "the chains of MaximumLikelihood reached; expected finite numbers or -inf; "
                "correct the density there, or pass a start."
            )
        vector = vector + step
        density, near = density.at(unravel(vector)), bool(length < options.last_step)
        if near:
            break
    return Draws(kernel, tuning, positions, density.free(), jnp.array(near))


@compiled(static_argnames="options")
def scoring_step(
    density, events: dict, reached: dict, options: DrawOptions = DEFAULT
) -> tuple[jax.Array, jax.Array]:
    """Return Cov(s)⁻¹ (mean s(x_i) − mean s(y_j)), shortened, and its full length in that metric.

    The first half of the rounds is discarded.
    """
    vector, unravel = ravel_pytree(density.free())
    score = jax.vmap(
        jax.grad(lambda v, event: density.at(unravel(v)).log_density(event)), (None, 0)
    )
    late = jax.tree.map(lambda leaf: leaf[len(leaf) // 2 :].reshape(-1, *leaf.shape[2:]), reached)
    scores = score(vector, late)
    gradient, centred = score(vector, events).mean(0) - scores.mean(0), scores - scores.mean(0)
    metric = centred.T @ centred / len(scores)
    step = solve(add_ridge(metric), gradient)
    length = jnp.sqrt(jnp.maximum(gradient @ step, 0.0))
    plan, step = Plan(late, -energies(density, late)), step / jnp.maximum(1.0, length)

    def too_far(part):
        share = ess_fraction(density.at(unravel(vector + part * step)), plan)
        return ~(share >= options.min_ess_fraction) & (part > options.min_part)

    return step * jax.lax.while_loop(too_far, lambda part: part / 2, jnp.ones_like(length)), length


def resample(density, draws: Draws, count: int, options: DrawOptions = DEFAULT) -> Draws:
    """Return draws at the present parameters, after a stretch that forgets the previous ones."""
    assert draws.key is not None
    chains, target = options.chains(count), Unconstrained(density)
    key, settle, *parts = split_keys(draws.key, 2 + -(-count // (options.rounds * chains)))

    def advance(tuning, positions, key, gain):
        return run_rounds(
            draws.kernel, target, tuning, positions, key, gain,
            rounds=options.rounds, steps=options.thinning,
        )  # fmt: skip

    run, drawn = advance(draws.tuning, draws.positions, settle, 1.0), []
    for part in parts:  # as long as the stretches before, so that nothing more is compiled
        run = advance(run.tuning, run.positions, part, 0.0)
        drawn.append(run.events)
    events = jax.tree.map(_by_chain, *drawn)
    values = energies(density, events)
    return draws._replace(
        key=key,
        tuning=run.tuning,
        positions=run.positions,
        start=density.free(),
        plan=Plan(events, -values - jnp.log(len(values))),
        r_hat=jnp.asarray(split_r_hat(np.asarray(values).reshape(chains, -1))),
        nan_share=run.nan_rate,
    )


def _by_chain(*parts: jax.Array) -> jax.Array:
    """Parts (rounds, chains, ...) as one array of draws, chain after chain."""
    whole = jnp.swapaxes(jnp.concatenate(parts), 0, 1)
    return whole.reshape(-1, *whole.shape[2:])


@compiled
def energies(density, events: dict) -> jax.Array:
    """log p̃ of every event."""
    return jax.vmap(density.log_density)(events)


@compiled
def ess_fraction(density, plan: Plan) -> jax.Array:
    """Return (Σ w)² / (m Σ w²) of the draws' weights at these parameters."""
    logs = energies(density, plan.events) + plan.log_weights
    return jnp.exp(2 * logsumexp(logs) - logsumexp(2 * logs)) / len(logs)


@compiled(static_argnames="batches")
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


def long_run_variance(
    density, plan: Plan, draws: int, options: DrawOptions = DEFAULT
) -> np.ndarray:
    """Return Γ / m, the covariance of mean w (s − m) over the draws, from half-chains."""
    means = np.asarray(_batch_means(density, plan, 2 * options.chains(draws)))
    return means.T @ means / (len(means) - 1) / len(means)


@compiled
def recession_directions(density, events: dict, plan: Plan) -> jax.Array:
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


def findings(draws: Draws, options: DrawOptions = DEFAULT) -> list[Finding]:
    """Return warnings about the draws."""
    found = []
    if not draws.near:
        what = (
            f"the parameters were still moving after {options.max_steps} steps of limited length: "
            "there may be no maximum"
        )
        advice = (
            "look for parameters that run away (statistics at the end of their range), or pass "
            "another start"
        )
        found.append(Finding(what, advice, ERROR, code=FindingCode.NOT_CONVERGED))
    assert draws.r_hat is not None and draws.nan_share is not None
    if not draws.r_hat <= options.convergence.max_r_hat:
        what = (
            "the chains behind the draws have not mixed: R-hat of their energies is "
            f"{float(draws.r_hat):.2f}"
        )
        advice = "give more draws, or a kernel that mixes faster"
        found.append(Finding(what, advice, ERROR, code=FindingCode.NOT_MIXED))
    if draws.nan_share > 0:
        found.append(nan_finding(float(draws.nan_share)))
    return found


def nan_finding(share: float) -> Finding:
    """Return the finding for proposals whose log-density was NaN."""
    return Finding(
        f"the log-density was NaN at {share:.1%} of the chains' proposals, which were rejected",
        "correct the function there (-inf is a wall, NaN is none)",
        ERROR,
        code=FindingCode.NOT_FINITE,
    )

"""Monte Carlo maximum likelihood: draws at ψ are the nodes of Z(θ) / Z(ψ).

log Z(θ)/Z(ψ) ≈ log Σ_j exp(log p̃(y_j; θ) + log w_j), log w_j = −log p̃(y_j; ψ) − log m, so that
the draws are a `Plan` like the states of an enumeration. ψ is found by scoring steps d =
Cov_ψ(s)⁻¹ (mean s(x_i) − E_ψ s), s = ∇ log p̃, none longer than one in the metric of Cov_ψ(s), the
standard deviation of the log-weights from ψ to ψ + d, and halved until the draws at ψ can stand for
those at ψ + d (a step out of a Conway-Maxwell-Poisson's ν > 0 never comes back).

Graphs whose density declares what a tie changes are held by their statistics
(`interactions/tie_statistics.py`): the form of a density and its events below are then functions of
these alone.

References: Geyer (1994), doi:10.1111/j.2517-6161.1994.tb01976.x; Hummel, Hunter and Handcock
(2012), doi:10.1080/10618600.2012.679224 (steps of limited length).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import split_keys
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.chain_kernels import (
    initial_tuning,
    prepare_kernel,
    refuse_support,
    select_kernel,
)
from unnorm.fitting.loss import NewtonOptions
from unnorm.fitting.objectives.likelihood.draw_weights import (
    energies,
    ess_fraction,
    score_moments,
)
from unnorm.fitting.objectives.likelihood.graph_draws import form_of, run_tie_rounds, start_of_ties
from unnorm.integration.nodes import Plan
from unnorm.interactions.tie_statistics import has_tie_statistics
from unnorm.numerics.diagonal_scaling import add_ridge, solve
from unnorm.sampling.short_runs import run_rounds
from unnorm.statistics.mcmc import (
    ConvergenceCriteria,
    potential_scale_reduction,
    split_r_hat,
)


@dataclass(frozen=True)
class DrawOptions:
    """How draws are made, and when they are accurate enough."""

    ess_fraction: float = 0.9  # of the draws, from which they need not be made again
    # R-hat of the draws' log-densities and scores: runs are short.
    convergence: ConvergenceCriteria = field(default=ConvergenceCriteria(max_r_hat=1.1))
    max_chains: int = 1000
    thinning: int = 2  # kernel steps between two draws
    tie_thinning: int = 2  # of tie-no-tie, whose two steps propose half as many ties as there are
    # pairs. With one, R-hat of the karate club was at its limit, and errors a quarter too small.
    max_thinning: int = 8  # to which it is doubled while R-hat is above its limit
    rounds: int = 20  # of so many steps after each change of the parameters
    max_steps: int = 200  # scoring steps
    max_tie_steps: int = 40  # of graphs, which start at the pseudo-likelihood estimate
    last_step: float = 0.5  # length of a scoring step at which ψ is near
    min_ess_fraction: float = 0.2  # that the draws must keep over a step
    min_part: float = 1e-3  # of a step, to which it may be shortened

    # Standard errors by which graphs from the empty and the complete graph may differ from the
    # draws: some ten comparisons, of groups of as few as 25 chains.
    apart: float = 5.0
    start_doublings: int = 4  # how often such chains run twice as long before they are compared

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
    plan: Plan | None = None  # its events are statistics where these suffice
    r_hat: jax.Array | None = None
    nan_share: jax.Array | None = None
    thinning: int = 1  # every so many rounds one is kept

    def needs_thinning(self, options: DrawOptions) -> bool:
        """Whether the draws depend too much on those before, and may be farther apart."""
        assert self.r_hat is not None
        mixed = bool(self.r_hat <= options.convergence.max_r_hat)
        return not mixed and int(self.thinning) < options.max_thinning


def refuse_draws(kernel: Any, density) -> str | None:
    """Why draws of this kernel cannot stand for Z, as a sentence, or None."""
    if density.covariates:
        return (
            "MaximumLikelihood with draws does not serve the covariate "
            f"{next(iter(density.covariates))}, because each row has its own Z; expected no "
            "covariates; use un.objectives.MaximumLikelihood() without draws, "
            "PseudoLikelihood, ScoreMatching, RankingNCE or ContrastiveDivergence"
        )
    kernel = select_kernel(kernel, density)
    size = sum(map(jnp.size, jax.tree.leaves(density.free())))
    if size > NewtonOptions.parameters:
        return (
            f"MaximumLikelihood with draws was given {size} parameters; expected at most "
            f"{NewtonOptions.parameters}; use un.objectives.ContrastiveDivergence(persistent=True)"
        )
    if not kernel.exact:
        return (
            f"kernel is {type(kernel).__name__}, whose draws follow another density; "
            "expected an exact kernel; use un.kernels.HMC or MALA"
        )
    return refuse_support(kernel, density)


def approach_estimate(
    kernel: Any, density, events: dict, draws: int, key: jax.Array, options: DrawOptions = DEFAULT
) -> Draws:
    """Return chains and their parameters ψ, near the maximum likelihood estimate."""
    kernel, rows = prepare_kernel(kernel, density), Unconstrained(density).positions_of(events)
    key, choose = split_keys(key)
    by_ties = has_tie_statistics(density)
    positions = _chosen(rows, choose, options.chains(draws))
    tuning, near = initial_tuning(kernel, rows), False
    data, density = form_of(density, events)[1], start_of_ties(density, events)
    vector, unravel = ravel_pytree(density.free())
    for _ in range(options.max_tie_steps if by_ties else options.max_steps):
        key, move = split_keys(key)
        run = advance(kernel, density, tuning, positions, move, 1.0, options)
        tuning, positions = run.tuning, run.positions
        step, length = scoring_step(form_of(density)[0], data, run.events, options)
        if by_ties and not np.isfinite(length):  # all graphs are alike: a degenerate model
            break
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


def _chosen(rows: dict, key: jax.Array, count: int) -> dict:
    """So many of the rows, with replacement."""
    total = len(next(iter(rows.values())))
    words = np.asarray(jax.random.key_data(key))
    chosen = np.random.default_rng(words).integers(total, size=count)
    return {name: jnp.asarray(np.asarray(value)[chosen]) for name, value in rows.items()}


def advance(kernel, density, tuning, positions, key, gain: float, options: DrawOptions) -> Any:
    """Some rounds of all chains."""
    target, by_ties = Unconstrained(density), has_tie_statistics(density)
    run = run_tie_rounds if by_ties else run_rounds
    steps = options.tie_thinning if by_ties else options.thinning
    return run(kernel, target, tuning, positions, key, gain, rounds=options.rounds, steps=steps)


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
    chains, form = options.chains(count), form_of(density)[0]
    thinning = int(draws.thinning)
    if draws.plan is not None and draws.needs_thinning(options):
        thinning *= 2
    stretches = -(-count // (options.rounds * chains)) * thinning
    key, settle, *parts = split_keys(draws.key, 2 + stretches)

    def move(tuning, positions, key, gain):
        return advance(draws.kernel, density, tuning, positions, key, gain, options)

    run, drawn = move(draws.tuning, draws.positions, settle, 1.0), []
    for part in parts:  # as long as the stretches before, so that nothing more is compiled
        run = move(run.tuning, run.positions, part, 0.0)
        drawn.append(run.events)
    events = jax.tree.map(lambda *parts: _by_chain(*parts, thinning=thinning), *drawn)
    values = energies(form, events)
    return draws._replace(
        key=key,
        tuning=run.tuning,
        positions=run.positions,
        start=density.free(),
        plan=Plan(events, -values - np.log(len(values))),
        r_hat=jnp.asarray(_worst_r_hat(form, events, np.asarray(values), chains)),
        nan_share=run.nan_rate,
        thinning=thinning,
    )


def _worst_r_hat(form, events: dict, values: np.ndarray, chains: int) -> float:
    """The R-hat of the energies and of the scores.

    Modes that mirror each other have the same energies: chains that each keep to one of them
    differ in their scores alone.
    """
    of_energies = split_r_hat(values.reshape(chains, -1))
    if not form.free():
        return of_energies
    means, variances = map(np.asarray, score_moments(form, events, 2 * chains))
    varies = variances.mean(0) + means.var(0, ddof=1) > 1e-20 * (1 + (means**2).mean(0))
    of_scores = potential_scale_reduction(means, variances, len(values) // (2 * chains))
    of_scores = np.where(np.isnan(of_scores), np.inf, of_scores)[varies]
    return float(max([of_energies, *of_scores]))


def _by_chain(*parts: jax.Array, thinning: int = 1) -> jax.Array:
    """Parts (rounds, chains, ...) as one array of draws, chain after chain; of every so many rounds
    the last.
    """
    together = np.concatenate([np.asarray(part) for part in parts])[thinning - 1 :: thinning]
    whole = np.swapaxes(together, 0, 1)
    return jnp.asarray(whole.reshape(-1, *whole.shape[2:]))

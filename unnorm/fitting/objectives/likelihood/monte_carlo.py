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
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import CompilationOptions, compiled
from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.core.random_keys import split_keys
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.chain_kernels import initial_tuning, prepare_kernel
from unnorm.integration.nodes import Plan
from unnorm.interactions.tie_statistics import (
    TieStatistics,
    has_tie_statistics,
    statistics_of,
    tie_design,
    tie_regressions,
)
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
    tie_thinning: int = 2  # of tie-no-tie, whose two steps propose half as many ties as there are
    # pairs. With one, R-hat of the karate club was at its limit, and errors a quarter too small.
    max_tie_thinning: int = 8  # to which it is doubled while R-hat is above its limit
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
        return not mixed and int(self.thinning) < options.max_tie_thinning


def approach_estimate(
    kernel: Any, density, events: dict, draws: int, key: jax.Array, options: DrawOptions = DEFAULT
) -> Draws:
    """Return chains and their parameters ψ, near the maximum likelihood estimate."""
    kernel, rows = prepare_kernel(kernel, density), Unconstrained(density).positions_of(events)
    key, choose = split_keys(key)
    by_ties = has_tie_statistics(density)
    positions = _chosen(rows, choose, options.chains(draws))
    tuning, near = initial_tuning(kernel, rows), False
    data, density = form_of(density, events)[1], _start(density, events)
    vector, unravel = ravel_pytree(density.free())
    for _ in range(options.max_tie_steps if by_ties else options.max_steps):
        key, move = split_keys(key)
        run = _advance(kernel, density, tuning, positions, move, 1.0, options)
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


def form_of(density, events: dict | None = None) -> tuple[Any, Any]:
    """The density and its events as the draws are held: by their statistics where these suffice."""
    if not has_tie_statistics(density):
        return density, events
    seen = None if events is None else _statistics(density, events)
    return TieStatistics(density.free()), seen


_statistics = compiled(statistics_of)


def _chosen(rows: dict, key: jax.Array, count: int) -> dict:
    """So many of the rows, with replacement."""
    total = len(next(iter(rows.values())))
    words = np.asarray(jax.random.key_data(key))
    chosen = np.random.default_rng(words).integers(total, size=count)
    return {name: jnp.asarray(np.asarray(value)[chosen]) for name, value in rows.items()}


def _start(density, events: dict) -> Any:
    """The density at the pseudo-likelihood estimate where that is a logistic regression, and
    finite; else as it is.
    """
    if not has_tie_statistics(density):
        return density
    design = jax.tree.map(np.asarray, tie_design(density, events))
    fits = tie_regressions(design, (1, -1))
    if not fits.regular[0]:
        return density
    vector, unravel = ravel_pytree(density.free())
    return density.at(unravel(jnp.asarray(fits.coefficients[0], vector.dtype)))


def _advance(kernel, density, tuning, positions, key, gain: float, options: DrawOptions) -> Any:
    """Some rounds of all chains."""
    target, by_ties = Unconstrained(density), has_tie_statistics(density)
    run = _tie_rounds if by_ties else run_rounds
    steps = options.tie_thinning if by_ties else options.thinning
    return run(kernel, target, tuning, positions, key, gain, rounds=options.rounds, steps=steps)


# A step on a tie is a loop over few nodes: better machine code saves less than it costs.
@compiled(options=CompilationOptions(quick_elements=0), static_argnames=("rounds", "steps"))
def _tie_rounds(kernel, target, tuning, positions, key, gain, *, rounds, steps) -> Any:
    """As `run_rounds`, of which only the statistics are kept."""
    return run_rounds(
        kernel, target, tuning, positions, key, gain,
        rounds=rounds, steps=steps, observe=_observe_ties,
    )  # fmt: skip


def _observe_ties(target: Unconstrained, positions: Any) -> dict:
    return statistics_of(target.density, target.events_at(positions))


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
    if draws.plan is not None and has_tie_statistics(density) and draws.needs_thinning(options):
        thinning *= 2
    stretches = -(-count // (options.rounds * chains)) * thinning
    key, settle, *parts = split_keys(draws.key, 2 + stretches)

    def advance(tuning, positions, key, gain):
        return _advance(draws.kernel, density, tuning, positions, key, gain, options)

    run, drawn = advance(draws.tuning, draws.positions, settle, 1.0), []
    for part in parts:  # as long as the stretches before, so that nothing more is compiled
        run = advance(run.tuning, run.positions, part, 0.0)
        drawn.append(run.events)
    events = jax.tree.map(lambda *parts: _by_chain(*parts, thinning=thinning), *drawn)
    values = energies(form, events)
    return draws._replace(
        key=key,
        tuning=run.tuning,
        positions=run.positions,
        start=density.free(),
        plan=Plan(events, -values - np.log(len(values))),
        r_hat=jnp.asarray(_worst_r_hat(events, np.asarray(values), chains)),
        nan_share=run.nan_rate,
        thinning=thinning,
    )


def _worst_r_hat(events: dict, values: np.ndarray, chains: int) -> float:
    """The R-hat of the energies, and of the statistics where these are what is held."""
    columns = [values]
    if "statistics" in events:
        columns += list(np.asarray(events["statistics"]).T)
    return max(split_r_hat(column.reshape(chains, -1)) for column in columns)


def _by_chain(*parts: jax.Array, thinning: int = 1) -> jax.Array:
    """Parts (rounds, chains, ...) as one array of draws, chain after chain; of every so many rounds
    the last.
    """
    together = np.concatenate([np.asarray(part) for part in parts])[thinning - 1 :: thinning]
    whole = np.swapaxes(together, 0, 1)
    return jnp.asarray(whole.reshape(-1, *whole.shape[2:]))


def forgets_extremes(density, draws: Draws, options: DrawOptions = DEFAULT) -> bool:
    """Whether chains from the empty and from the complete graph come to the statistics of the
    draws. Those of a degenerate model, which has both sparse and dense graphs, do not, though all
    chains from the data may agree.
    """
    assert draws.key is not None and draws.plan is not None
    (name, held), key = next(iter(draws.positions.items())), draws.key
    chains = len(held)
    complete = np.arange(chains) % 2 == 1
    positions = {name: jnp.asarray(np.broadcast_to(complete[:, None], held.shape), held.dtype)}
    drawn = np.asarray(draws.plan.events["statistics"])
    drawn = drawn.reshape(chains, -1, drawn.shape[1]).mean(1)
    for doubling in range(options.start_doublings + 1):
        for _ in range(2**doubling):
            key, move = split_keys(key)
            run = _advance(draws.kernel, density, draws.tuning, positions, move, 0.0, options)
            positions = run.positions
        reached = np.asarray(run.events["statistics"]).mean(0)
        if all(_alike(group, drawn, options) for group in (reached[complete], reached[~complete])):
            return True
    return False


def _alike(one: np.ndarray, other: np.ndarray, options: DrawOptions) -> bool:
    """Whether the means over chains (chains, p) differ by no more than chance gives."""
    error = np.sqrt(one.var(0, ddof=1) / len(one) + other.var(0, ddof=1) / len(other))
    return bool(np.all(np.abs(one.mean(0) - other.mean(0)) <= options.apart * error + 1e-9))


def log_z_ratio(density, plan: Plan) -> jax.Array:
    """log Z at the density's parameters minus log Z at those of the draws; traceable."""
    return logsumexp(energies(density, plan.events) + plan.log_weights)


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
    """Return Γ / m, the covariance of mean w (s − m) over the draws, from half-chains; of graphs,
    whose chains change one tie at a time, from chains.
    """
    halves = 1 if "statistics" in plan.events else 2
    means = np.asarray(_batch_means(density, plan, halves * options.chains(draws)))
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


def degeneracy(density, draws: Draws, options: DrawOptions = DEFAULT) -> list[Finding]:
    """Return the finding for graphs that keep to a sparse or a dense start."""
    if (
        not has_tie_statistics(density)
        or not draws.near
        or forgets_extremes(density, draws, options)
    ):
        return []
    what = (
        "chains that start at the empty and at the complete graph do not come to the draws: at "
        "this estimate graphs may be sparse or dense (a degenerate model), and the draws know one "
        "kind"
    )
    advice = "use alternating statistics (gwesp, gwdegree) in place of triangles and stars"
    return [Finding(what, advice, ERROR, code=FindingCode.NOT_MIXED)]


def findings(draws: Draws, options: DrawOptions = DEFAULT) -> list[Finding]:
    """Return warnings about the draws."""
    found = []
    if not draws.near:
        what = (
            "the parameters were still moving after all steps of limited length: there may be no "
            "maximum, or the model is degenerate"
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

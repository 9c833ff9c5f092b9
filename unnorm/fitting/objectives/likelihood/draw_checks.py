"""Warnings about the draws that stand for Z: unmixed chains, and graphs of one kind alone."""

import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.core.random_keys import split_keys
from unnorm.fitting.chain_kernels import nan_finding
from unnorm.fitting.objectives.likelihood.monte_carlo import DEFAULT, DrawOptions, Draws, advance
from unnorm.interactions.tie_statistics import has_tie_statistics


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
            run = advance(draws.kernel, density, draws.tuning, positions, move, 0.0, options)
            positions = run.positions
        reached = np.asarray(run.events["statistics"]).mean(0)
        if all(_alike(group, drawn, options) for group in (reached[complete], reached[~complete])):
            return True
    return False


def _alike(one: np.ndarray, other: np.ndarray, options: DrawOptions) -> bool:
    """Whether the means over chains (chains, p) differ by no more than chance gives."""
    error = np.sqrt(one.var(0, ddof=1) / len(one) + other.var(0, ddof=1) / len(other))
    return bool(np.all(np.abs(one.mean(0) - other.mean(0)) <= options.apart * error + 1e-9))


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


def draw_findings(draws: Draws, options: DrawOptions = DEFAULT) -> list[Finding]:
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
            "the chains behind the draws have not mixed: R-hat of their energies and scores is "
            f"{float(draws.r_hat):.2f}"
        )
        advice = "give more draws, or a kernel that mixes faster"
        found.append(Finding(what, advice, ERROR, code=FindingCode.NOT_MIXED))
    if draws.nan_share > 0:
        found.append(nan_finding(float(draws.nan_share)))
    return found

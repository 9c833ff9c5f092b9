"""What annealing estimators share: the pilot's base and temperatures, and what speaks against a
run.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import WARNING, Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.partition.annealing.independence_move import JUMPS, has_two_modes
from unnorm.partition.annealing.particles import Cloud, Run, Schedule, piloted, schedule_along
from unnorm.partition.annealing.stein_checks import coordinates, off_balance
from unnorm.partition.annealing.transitions import Moves, cost_of, moves_for
from unnorm.partition.base import added
from unnorm.partition.proposals.automatic import base_for
from unnorm.partition.proposals.mixture import Base
from unnorm.partition.proposals.user_given import FLOW

FITTED, LAYERS = 2000, 2  # walkers that the flow of base="flow" is fitted to, and its layers
REPEATS = 2  # moves of the pilot's walkers at every stage
LEAST_ACCEPTANCE = 0.02
LOST = 0.01  # share of evaluations that are no number, above which the answer is not believed
IMBALANCE = 1e-3  # level of the test that the last walkers balance
OF_CHAINS = 1e-4  # the same of chains and nested points, which are less than independent


class Path(NamedTuple):
    """A base, the moves, the stages of an adaptive pilot run and its last cloud, and what all that
    cost.
    """

    base: Base
    moves: Moves
    stages: list[Cloud]
    cloud: Cloud
    cost: dict[str, int]

    def schedule(self, temperatures: int) -> Schedule:
        return schedule_along(self.stages, temperatures)


def begun(
    density: Density, key: jax.Array, given: Any = None
) -> tuple[Base | None, dict[str, int], Finding | None]:
    """`base_for`, and from there on to a flow that is fitted to walkers annealed from that base."""
    if given != FLOW:
        return base_for(density, key, given)
    pilot_key, fit_key = jax.random.split(key)
    path, cost, endless = path_for(density, pilot_key, FITTED)
    return (
        (None, cost, endless)
        if endless
        else (with_flow(density, path, LAYERS, fit_key), cost, None)
    )


def with_flow(density: Density, path: Path, layers: int, key: jax.Array) -> Base:
    """The path's base with a flow that is fitted to its last walkers."""
    from unnorm.partition.proposals.normalizing_flow import (
        fitted,  # flowjax, which is slow to import
    )

    flat = jnp.asarray(coordinates(density, path.cloud.walkers), path.base.dtype)
    return path.base._replace(flow=fitted(flat, layers, key), log_step=path.cloud.widths.log_step)


def path_for(
    density: Density, key: jax.Array, walkers: int, given: Any = None
) -> tuple[Path | None, dict[str, int], Finding | None]:
    """The path from a base that is found or `given`, what it cost, and in its place a finding where
    Z is infinite.
    """
    base_key, pilot_key = jax.random.split(key)
    base, cost, endless = begun(density, base_key, given)
    if endless:
        return None, cost, endless
    path = path_from(density, base, cost, pilot_key, walkers)
    return path, path.cost, None


def path_from(
    density: Density,
    base: Base,
    cost: dict[str, int],
    key: jax.Array,
    walkers: int,
    moves: Moves | None = None,
) -> Path:
    """The path from a base that is given, at a cost so far."""
    moves = moves or moves_along(density, base)
    stages, cloud, rounds = piloted(density, base, moves, key, walkers, REPEATS)
    spent = cost_of(density, moves, walkers * (REPEATS * rounds + 1))
    if moves.continuous and has_two_modes(coordinates(density, cloud.walkers)):
        moves = moves._replace(jumps=min(JUMPS, base.centres.shape[1]))
    return Path(base, moves, stages, cloud, added(cost, spent))


def moves_along(density: Density, base: Base) -> Moves:
    """A density's moves, of clusters too where the base knows its couplings."""
    return moves_for(density)._replace(clusters=base.couplings is not None)


def path_findings(density: Density, path: Path, run: Run) -> list[Finding]:
    """What the pilot and the walkers say against the run."""
    findings = not_arrived(path)
    if path.moves.continuous and not np.min(run.acceptance) >= LEAST_ACCEPTANCE:
        what = (
            f"as few as {np.min(run.acceptance):.1%} of the moves were accepted at some temperature"
        )
        findings.append(
            Finding(what, "rescale or smooth the density", code=FindingCode.LOW_ACCEPTANCE)
        )
    findings += not_numbers(density, run)
    if path.moves.continuous and (level := off_balance(density, run)) < IMBALANCE:
        what = f"the last walkers do not balance: E[∂ log p̃] = 0, E[(x − c) ∂ log p̃] = −1 fail (p = {level:.1e})"
        findings.append(
            Finding(
                what,
                "some of the mass was not reached: raise temperatures, or reparametrize",
                code=FindingCode.STEIN_MISMATCH,
            )
        )
    return findings


def not_arrived(path: Path) -> list[Finding]:
    """Whether the pilot gave up before the density."""
    reached = float(path.cloud.power)
    if reached >= 1:
        return []
    return [
        Finding(
            f"the pilot stopped at λ = {reached:.3g} of 1",
            "raise pilot, or rescale the variables",
            code=FindingCode.NOT_CONVERGED,
        )
    ]


def not_numbers(density: Density, run: Run) -> list[Finding]:
    """Whether log p̃ was NaN or +infinity where walkers looked."""
    return numberless(density, int(run.bad), len(run.log_weights) * (1 + len(run.acceptance)))


def numberless(density: Density, bad: int, looks: int) -> list[Finding]:
    """What is to be said of so many NaN or +infinity in so many looks at log p̃."""
    if not bad:
        return []
    what = (
        f"the log-density of {density.name} was NaN or +infinity {bad:,} times in {looks:,} looks"
    )
    severity = {} if bad > LOST * looks else {"severity": WARNING}
    return [
        Finding(
            what,
            "correct the function where it overflows or leaves its domain",
            **severity,
            code=FindingCode.NOT_FINITE,
        )
    ]


__all__ = [
    "OF_CHAINS", "Path", "begun", "moves_along", "not_arrived", "not_numbers", "numberless", "path_findings",
    "path_for", "path_from", "with_flow",
]  # fmt: skip

"""What annealing estimators share: the pilot's base and temperatures, and what speaks against a run."""

from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import WARNING, Finding
from unnorm.partition.annealing import Cloud, Run, Schedule, piloted, schedule_along
from unnorm.partition.bases import Base
from unnorm.partition.clusters import couplings_of
from unnorm.partition.identities import coordinates, off_balance
from unnorm.partition.jumps import JUMPS, has_two_modes
from unnorm.partition.moves import Moves, cost_of, moves_for
from unnorm.partition.pilot import base_for

REPEATS = 2  # moves of the pilot's walkers at every stage
LEAST_ACCEPTANCE = 0.02
LOST = 0.01  # share of evaluations that are no number, above which the answer is not believed
IMBALANCE = 1e-4  # level of the test that the last walkers balance


class Path(NamedTuple):
    """A base, the moves, the stages of an adaptive pilot run and its last cloud, and what all that cost."""

    base: Base
    moves: Moves
    stages: list[Cloud]
    cloud: Cloud
    cost: dict[str, int]

    def schedule(self, temperatures: int) -> Schedule:
        return schedule_along(self.stages, temperatures)


def path_for(
    density: Density, key: jax.Array, walkers: int, given: Any = None
) -> tuple[Path | None, dict[str, int], Finding | None]:
    """The path from a base that is found or `given`, what it cost, and in its place a finding where Z is infinite."""
    base_key, pilot_key = jax.random.split(key)
    base, cost, endless = base_for(density, base_key, given)
    if endless:
        return None, cost, endless
    path = path_from(density, base, cost, pilot_key, walkers)
    return path, path.cost, None


def path_from(
    density: Density, base: Base, cost: dict[str, int], key: jax.Array, walkers: int, moves: Moves | None = None
) -> Path:
    """The path from a base that is given, at a cost so far."""
    if moves is None:
        couplings, found = couplings_of(density)
        moves = moves_for(density)._replace(clusters=couplings is not None)
        base, cost = base._replace(couplings=couplings), added(cost, found)
    stages, cloud = piloted(density, base, moves, key, walkers, REPEATS)
    spent = cost_of(density, moves, walkers * (REPEATS * len(stages) + 1))
    if moves.continuous and has_two_modes(coordinates(density, cloud.walkers)):
        moves = moves._replace(jumps=min(JUMPS, base.centres.shape[1]))
    return Path(base, moves, stages, cloud, added(cost, spent))


def added(*costs: dict[str, int]) -> dict[str, int]:
    """Evaluations together."""
    return {kind: sum(cost[kind] for cost in costs) for kind in ("values", "gradients")}


def path_findings(density: Density, path: Path, run: Run) -> list[Finding]:
    """What the pilot and the walkers say against the run."""
    findings = []
    reached = float(path.cloud.power)
    if reached < 1:
        what = f"the pilot stopped at λ = {reached:.3g} of 1"
        findings.append(Finding(what, "raise pilot, or rescale the variables"))
    if path.moves.continuous and not np.min(run.acceptance) >= LEAST_ACCEPTANCE:
        what = f"as few as {np.min(run.acceptance):.1%} of the moves were accepted at some temperature"
        findings.append(Finding(what, "rescale or smooth the density"))
    findings += not_numbers(density, run)
    if path.moves.continuous and (level := off_balance(density, run)) < IMBALANCE:
        what = f"the last walkers do not balance: E[∂ log p̃] = 0, E[(x − c) ∂ log p̃] = −1 fail (p = {level:.1e})"
        findings.append(Finding(what, "some of the mass was not reached: raise temperatures, or reparametrize"))
    return findings


def not_numbers(density: Density, run: Run) -> list[Finding]:
    """Whether log p̃ was NaN or +infinity where walkers looked."""
    return numberless(density, int(run.bad), len(run.log_weights) * (1 + len(run.acceptance)))


def numberless(density: Density, bad: int, looks: int) -> list[Finding]:
    """What is to be said of so many NaN or +infinity in so many looks at log p̃."""
    if not bad:
        return []
    what = f"the log-density of {density.name} was NaN or +infinity {bad:,} times in {looks:,} looks"
    severity = {} if bad > LOST * looks else {"severity": WARNING}
    return [Finding(what, "correct the function where it overflows or leaves its domain", **severity)]


__all__ = ["Path", "added", "not_numbers", "numberless", "path_findings", "path_for", "path_from"]

"""Comparison of draws of a fitted network with rows of data: whether training has converged.

Two kinds of draws detect different faults. Chains that start at data rows leave them where the
density has its mass nearby; if the fit is correct they are exact draws from the first step on, and
the test has its nominal size. A population annealed from a wide proposal finds mass that no chain
from the data reaches, but may itself miss narrow modes: if, beyond three dimensions, it alone
differs and lies at lower log p̃ than the data, the fit is called unverified instead of wrong.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.random_keys import key_array, make_key
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import SmoothsData, levels_of
from unnorm.fitting.checks.draw_comparison import (
    CRITERIA,
    Comparison,
    DrawCriteria,
    compare_draws,
    flatten_rows,
)
from unnorm.fitting.checks.model_draws import (
    add_noise,
    annealed_draws,
    draws_from_data,
    level_draws,
)
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.simulation.data_sets import is_listed
from unnorm.integration.representative_rows import count_of


class Rows(NamedTuple):
    """Events, with sampling weights or None."""

    events: dict[str, Any]
    weights: np.ndarray | None

    def __len__(self) -> int:
        return len(next(iter(self.events.values())))

    def sample(self, count: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return at most `count` distinct rows.

        With weights they are drawn about in proportion to these, and at most half of the rows.
        """
        if self.weights is None:
            chosen = rng.permutation(len(self))[:count]
        else:
            count = max(1, min(count, len(self) // 2, int(np.count_nonzero(self.weights))))
            chosen = rng.choice(
                len(self), count, replace=False, p=self.weights / self.weights.sum()
            )
        return {name: jnp.asarray(np.asarray(value)[chosen]) for name, value in self.events.items()}


def split_rows(
    rows: int, seed: int, criteria: DrawCriteria = CRITERIA
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the indices of training rows and of held-out rows; None if there are too few."""
    count = min(int(criteria.held_out_share * rows), criteria.max_rows)
    if count < criteria.min_rows:
        return None
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[count:]), np.sort(order[:count])


def draws_findings(
    objective,
    density,
    training: Rows,
    compared: Rows,
    held_out: bool,
    seed: int,
    criteria: DrawCriteria = CRITERIA,
) -> list[Finding]:
    """Compare draws of the fitted density with rows of data.

    Args:
        objective: it may estimate the density of smoothed data (`smoothing`).
        density: for jit, at the fit.
        training: the rows of the training.
        compared: rows that draws are compared with; `training` where none were held out.
        held_out: whether they were held out of training.
        seed: of rows, chains and permutations.
        criteria: sizes and limits.
    """
    if latent_variables(density.variables, training.events):
        what = "draws of the fit were not compared with the data, because variables are latent"
        return [_unlike(what, "compare un.sample(fit.density) with them", WARNING)]
    rng, keys = np.random.default_rng(seed), key_array(make_key(seed), 4)
    if levels_of(objective) is not None:
        criteria = replace(criteria, level=criteria.level_by_noise)
    levels = objective.smoothing if isinstance(objective, SmoothsData) else ()
    starts = training.sample(criteria.max_rows, rng)
    if levels:
        starts = add_noise(density, starts, levels[0], keys[0])
    near, far = draws_from_data(density, starts, keys[1]), None
    if not density.covariates:
        wide = training.sample(criteria.proposal_rows, rng)
        far = annealed_draws(density, wide, count_of(starts), keys[2])
    sampled = compared.sample(criteria.max_rows, rng)
    rows = _without_copies(density, sampled)
    targets = [add_noise(density, rows, level, keys[3]) for level in levels] or [rows]
    local = compare_draws(density, targets, near, rng)
    everywhere = None if far is None else compare_draws(density, targets, far, rng)
    dimension = Unconstrained(density).dimension
    reliable = is_listed(density) or dimension <= criteria.reliable_dimension
    found = _level_findings(objective, density, starts, targets, keys[2], rng, reliable, criteria)
    distinct = "distinct " * (count_of(rows) < count_of(sampled))
    against = f"against {count_of(rows):,} {distinct}{'held-out' if held_out else 'training'} rows"
    if held_out:
        against += _copies_of_training(density, rows, training)
    refusal = _refusal(against, local, everywhere, reliable, criteria)
    return [
        refusal or summary_finding(count_of(rows), against, local, everywhere, criteria),
        *found,
    ]


def _level_findings(
    objective, density, rows, targets, key, rng, reliable: bool, criteria: DrawCriteria
) -> list[Finding]:
    """Compare draws by annealed Langevin, where a wide proposal alone is not reliable."""
    levels = levels_of(objective)
    discrete = any(support.discrete for support in density.variables.values())
    if levels is None or reliable or discrete or density.covariates:
        return []
    found = compare_draws(density, targets, level_draws(density, rows, levels, key), rng)
    words = found.describe("by annealed Langevin through the noise levels,")
    if found.is_far(criteria):
        advice = "raise steps, or give another learning rate by optimizer= or a larger network"
        return [_unlike(f"draws differ from the data: {words}", advice, ERROR)]
    return [Finding(f"draws were compared with the data: {words}", "", NOTE)]


def _without_copies(density, rows: dict) -> dict:
    """Return each row once where a variable is continuous: draws have no equal rows."""
    if not Unconstrained(density).dimension:
        return rows
    first = np.sort(np.unique(flatten_rows(rows), axis=0, return_index=True)[1])
    return {name: value[first] for name, value in rows.items()}


def _copies_of_training(density, rows: dict, training: Rows) -> str:
    """Say how many held-out rows stand in the training data too: a fit that has memorized its rows
    resembles them. Discrete rows are equal by chance.
    """
    if not Unconstrained(density).dimension:
        return ""
    known = {row.tobytes() for row in flatten_rows(training.events)}
    copies = sum(row.tobytes() in known for row in flatten_rows(rows))
    return f" ({copies:,} of them are copies of training rows)" if copies else ""


def _refusal(
    against: str,
    local: Comparison,
    everywhere: Comparison | None,
    reliable: bool,
    criteria: DrawCriteria,
) -> Finding | None:
    """Return the finding for draws that differ too much from the data, or None."""
    train_on = "raise steps, or give another learning rate by optimizer= or a larger network"
    if local.is_far(criteria):
        what = f"chains that start at the data leave them: {local.describe(against)}"
        return _unlike(what, train_on, ERROR)
    if everywhere is None or not everywhere.is_far(criteria):
        return None
    words = everywhere.describe(against)
    what = f"draws annealed from a wide proposal differ from the data: {words}"
    if reliable or everywhere.at_draws >= everywhere.at_rows:
        return _unlike(what, train_on, ERROR)
    advice = (
        "the density has mass away from the data, or annealing missed a mode: compare "
        "un.sample(fit.density) with the data"
    )
    return _unlike(f"the fit could not be verified: {what}", advice, WARNING)


def summary_finding(
    rows: int,
    against: str,
    local: Comparison,
    everywhere: Comparison | None,
    criteria: DrawCriteria,
) -> Finding:
    """Return the finding for a comparison within the limits."""
    if rows < criteria.min_rows:
        what = f"the fit could not be verified: {rows} rows are too few for a comparison with draws"
        return _unlike(what, "pass held_out=, or more rows", WARNING)
    found = [one for one in (local, everywhere) if one is not None]
    worst = max(found, key=lambda one: (one.differs(criteria), one.test.auc))
    what = f"draws of the fit were compared with data: {worst.describe(against)}"
    unconfirmed = max(found, key=lambda one: one.test.auc)
    if unconfirmed.test.auc > criteria.max_auc and not unconfirmed.differs(criteria):
        what = (
            f"the fit could not be verified: {unconfirmed.describe(against)}; an AUC above "
            f"{criteria.max_auc:g} is an error where more rows confirm it, and these "
            f"{rows:,} are too few to tell"
        )
        return _unlike(what, "pass held_out=, or more rows", WARNING)
    if worst.differs(criteria):
        return _unlike(what, "train longer if this difference matters", WARNING)
    return Finding(what, "", NOTE)


def _unlike(what: str, advice: str, severity: str) -> Finding:
    return Finding(what, advice, severity, FindingCode.DRAWS_UNLIKE_DATA)


__all__ = ["CRITERIA", "DrawCriteria", "Rows", "draws_findings", "split_rows", "summary_finding"]

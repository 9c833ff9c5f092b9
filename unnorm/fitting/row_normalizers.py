"""Rows with a Z of their own (covariates), and rows in which variables are latent: log p(x_i | c_i)
as sums over plans.

log p(x_i | c_i) = log Σ_h p̃(x_i, h; c_i) − log Z(c_i). Both are log Z of a density with
covariates: the first is that of the density of h, which has x and c for its covariates.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.composite.missing_entries import missing_masks
from unnorm.declaration.density import Density
from unnorm.fitting.data.latent_variables import absent_variables, covariates_of, latent_density
from unnorm.fitting.data.location import data_location
from unnorm.integration.conditional import log_z_of_rows, plan_for_rows
from unnorm.integration.missing import (
    MissingPlan,
    log_evidence_of_missing,
    plan_for_missing,
    refuse_missing,
)
from unnorm.integration.nodes import Plan, log_integral
from unnorm.integration.options import PLAN
from unnorm.integration.plan import has_plan, plan_for
from unnorm.integration.representative_rows import count_of
from unnorm.integration.states import count_states


@dataclass(frozen=True)
class RowOptions:
    """Limits of sums over latent states and over rows."""

    max_latent_states: int = 2**16  # joint states of the latent variables
    max_distinct_share: float = 0.5  # share of distinct rows above which grouping saves little


ROWS = RowOptions()
LatentPlan = Plan | MissingPlan  # the nodes of what is latent


def declares_log_z(density: Density) -> bool:
    """Whether the density declares a closed form of its log Z."""
    return density._structure.log_z is not None


def refuse_marginalization(density: Density, events: dict) -> str | None:
    """Why what is latent cannot be summed or integrated over, as a sentence, or None."""
    if missing_masks(density.variables, events):
        reason = refuse_missing(density, events)
        return reason and (
            f"MaximumLikelihood sums over missing entries, and {reason}; use "
            "un.objectives.ContrastiveDivergence"
        )
    latent = latent_density(density, events)
    states = count_states(latent)
    if has_plan(latent) and (states is None or states <= ROWS.max_latent_states):
        return None
    return (
        f"MaximumLikelihood sums over the latent {', '.join(latent.variables)}, which have "
        f"neither at most {ROWS.max_latent_states:,} states nor at most three continuous "
        "dimensions; expected so few; use un.objectives.ContrastiveDivergence"
    )


def too_many_rows(density: Density, events: dict) -> bool:
    """Whether the log Z of every row's covariates takes too many sums to be had without being asked
    for.
    """
    states = count_states(density)
    if not density.covariates or states is None:
        return False
    return states * count_of(events) > PLAN.max_row_evaluations


# -- where the nodes lie ---------------------------------------------------------------
def plan_for_log_z(density: Density, events: dict, where: tuple | None = None) -> Plan | None:
    """The nodes of log Z, for every row's covariates where there are some; None where log Z is
    declared.
    """
    if declares_log_z(density):
        return None
    where = data_location(density, events) if where is None else where
    if not density.covariates:
        return plan_for(density, *where)
    return plan_for_rows(density, covariates_of(density, events), *where)


def plan_for_latent(density: Density, events: dict) -> LatentPlan | None:
    """The nodes of log Σ_h, h the latent variables and missing entries; None where all is
    observed.
    """
    if missing_masks(density.variables, events):
        return plan_for_missing(density, events)
    if absent_variables(density.variables, events):
        return plan_for_rows(latent_density(density, events), events)
    return None


def count_nodes(plan: LatentPlan) -> int:
    """The number of nodes of one row."""
    return plan.log_weights.shape[-1]


def group_equal_rows(rows: dict) -> tuple[dict, np.ndarray] | None:
    """The distinct rows and each row's number among them; None where they are not much fewer."""
    flat = np.concatenate([np.asarray(value).reshape(len(value), -1) for value in rows.values()], 1)
    _, first, number = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    if len(first) > ROWS.max_distinct_share * len(flat):
        return None
    return {name: jnp.asarray(value)[first] for name, value in rows.items()}, number.reshape(-1)


# -- the two sums ----------------------------------------------------------------------
@compiled
def log_z_on_plan(density: Density, plan: Plan | None) -> jax.Array:
    """log Z on a plan's nodes; where there is no plan, by the closed form that the density
    declares.
    """
    if plan is not None:
        return log_integral(density, plan.events, plan.log_weights)
    declared = density._log_z()
    assert declared is not None
    return declared


def log_z_of_events(density: Density, plan: Plan | None, events: dict) -> jax.Array:
    """log Z: a number, or with covariates one for each row."""
    if not density.covariates:
        return log_z_on_plan(density, plan)
    return log_z_of_rows(density, plan, covariates_of(density, events))


def log_evidence(density: Density, events: dict, plan: LatentPlan | None) -> jax.Array:
    """log Σ_h p̃(x_i, h) of every row (n,); log p̃(x_i) where nothing is latent."""
    if plan is None:
        return jax.vmap(density.log_density)(events)
    if isinstance(plan, MissingPlan):
        return log_evidence_of_missing(density, plan, events)
    return log_z_of_rows(latent_density(density, events), plan, events)


__all__ = [
    "LatentPlan",
    "count_nodes",
    "covariates_of",
    "declares_log_z",
    "group_equal_rows",
    "log_evidence",
    "log_z_of_events",
    "log_z_on_plan",
    "plan_for_latent",
    "plan_for_log_z",
    "refuse_marginalization",
]  # fmt: skip

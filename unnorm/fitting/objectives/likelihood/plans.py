"""Exact log Z: nodes of log Z and of the sum over latent variables, and the loss on them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.data.latent_variables import covariates_of, latent_variables
from unnorm.fitting.row_normalizers import (
    LatentPlan,
    count_nodes,
    group_equal_rows,
    log_evidence,
    log_z_of_events,
    plan_for_latent,
    plan_for_log_z,
)
from unnorm.integration.conditional import log_z_of_rows
from unnorm.integration.nodes import Plan, log_integral
from unnorm.integration.options import PLAN
from unnorm.integration.representative_rows import count_of


class Plans(NamedTuple):
    """The nodes of log Z and of the sum over latent variables, None where there are none; an event
    near the data; and the distinct covariates.
    """

    plan: Plan | None
    latent: LatentPlan | None
    reference: dict[str, jax.Array] | None = None
    distinct: dict[str, jax.Array] | None = None


def prepare_plans(density, events: dict) -> ObjectiveState:
    """The nodes at the present parameters; with covariates, the number of each row's group."""
    plans = Plans(plan_for_log_z(density, events), plan_for_latent(density, events))
    discrete = any(support.discrete for support in density.variables.values())
    many = discrete or density.covariates or latent_variables(density.variables, events)
    if not many and plans.plan is not None:
        plans = plans._replace(reference=_central_row(events))
    found = group_equal_rows(covariates_of(density, events)) if density.covariates else None
    if found is None:
        return ObjectiveState(shared=plans)
    distinct, group = found
    return ObjectiveState(per_row=jnp.asarray(group), shared=plans._replace(distinct=distinct))


def largest_change(density, events: dict, before: Plans, after: Plans) -> float:
    """By how many nats new nodes change log Z, and the sum over latent variables, of a row."""
    change = np.subtract(
        *(np.asarray(log_z_of_events(density, one.plan, events)) for one in (after, before))
    )
    if before.latent is not None:
        latents = (log_evidence(density, events, one.latent) for one in (after, before))
        change = np.abs(change) + np.abs(np.subtract(*map(np.asarray, latents)))
    return float(np.max(np.abs(change)))


def losses_on_plans(density, state: ObjectiveState, events: dict) -> jax.Array:
    """log Z − log p̃(x_i) of every row, what is latent summed out."""
    plans = state.shared
    if plans.reference is not None:
        return _losses_at_reference(density, plans.reference, plans.plan, events)
    return _log_z(density, state, events) - log_evidence(density, events, plans.latent)


def _log_z(density, state: ObjectiveState, events: dict) -> jax.Array:
    """log Z, or that of each row: once for equal covariates where all rows are given."""
    plan, distinct, group = state.shared.plan, state.shared.distinct, state.per_row
    grouped = distinct is not None and isinstance(group, jax.Array)
    if grouped and count_of(events) > count_of(distinct):
        return log_z_of_rows(density, plan, distinct)[group]
    return log_z_of_events(density, plan, events)


def rows_at_once(density, plans: Plans) -> int:
    """How many rows are computed together, for their nodes to fit into memory."""
    # Without covariates log Z is one number for all rows.
    of_rows = (plans.plan if density.covariates else None, plans.latent)
    nodes = max((count_nodes(plan) for plan in of_rows if plan is not None), default=1)
    return max(1, min(512, 16 * PLAN.batch // nodes))


def _central_row(events: dict) -> dict:
    """The row nearest to the mean of all, in standard deviations."""
    flat = jnp.concatenate(
        [jnp.reshape(value, (len(value), -1)) for value in jax.tree.leaves(events)], 1
    )
    spread = jnp.std(flat, 0)
    distance = jnp.sum(((flat - flat.mean(0)) / jnp.where(spread > 0, spread, 1.0)) ** 2, 1)
    row = int(jnp.argmin(jnp.nan_to_num(distance, nan=jnp.inf)))
    return {name: jnp.asarray(value)[row] for name, value in events.items()}


def _losses_at_reference(density, reference: dict, plan: Plan, events: dict) -> jax.Array:
    """log Z - log p̃(x_i), both minus log p̃ of a reference event.

    The value is the same. The derivatives of log p̃ - log p̃(reference) are small where the data
    are far from 0, and the Hessian of log Z, which is their covariance, is not a difference of
    large squares.
    """
    height = density.log_density(reference)
    log_z = log_integral(density, plan.events, plan.log_weights - height)
    return log_z - (jax.vmap(density.log_density)(events) - height)

"""What the data bring of a density with latent variables: inputs of an encoder, log p(x, z)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.declaration.composite.missing_entries import missing_masks
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import Events
from unnorm.fitting.data.latent_variables import absent_variables, covariates_of, latent_density
from unnorm.fitting.objectives.auxiliary_noise import at_draws


class Inputs(NamedTuple):
    """What an encoder sees of rows: their numbers, standardised column by column."""

    centre: jax.Array
    scale: jax.Array

    def __call__(self, density: Any, events: Events, limit: float = 4.0) -> jax.Array:
        """Inputs (n, D) within ± limit: a pixel that is rarely on would be far out."""
        return jnp.clip((numbers_of(density, events) - self.centre) / self.scale, -limit, limit)

    @classmethod
    def fit_to(cls, density: Any, events: Events) -> tuple["Inputs", int]:
        """The standardisation of these rows, and the number of columns."""
        numbers = numbers_of(density, {k: jnp.asarray(v) for k, v in events.items()})
        spread = jnp.std(numbers, 0)
        return cls(numbers.mean(0), jnp.where(spread > 0, spread, 1)), numbers.shape[1]


def numbers_of(density: Any, events: Events) -> jax.Array:
    """The observed variables and the covariates of all rows as (n, D), categories one-hot."""
    columns = []
    for name, value in sorted(events.items()):
        if name in density.variables:
            value = jax.vmap(density.variables[name].encode)(value)
        columns.append(value.reshape(len(value), -1))
    return jnp.concatenate(columns, 1)


def log_joint(density: Any, events: Events, z: jax.Array) -> jax.Array:
    """log p̃(x, z) with the Jacobian of z, (n, m), at unconstrained z (n, m, D)."""
    view = Unconstrained(latent_density(density, events))

    def one(event, flat):
        return view.at_row(event).log_density(view.split(flat))

    return at_draws(one, events, z)


def log_z_of(density: Any, events: Events) -> jax.Array:
    """The declared log Z: a number, or with covariates one for each row."""
    if not density.covariates:
        return density._log_z()
    return jax.vmap(lambda row: density._at_row(row)._log_z())(covariates_of(density, events))


def refuse_latents(density: Any, events: Events) -> str | None:
    """Why an encoder does not serve what is latent, as a sentence, or None."""
    if missing_masks(density.variables, events):
        return (
            "EvidenceLowerBound does not serve missing entries; expected variables that are "
            "observed, or latent, in every row; drop the rows, or use "
            "un.objectives.ContrastiveDivergence"
        )
    for name in absent_variables(density.variables, events):
        support = density.variables[name]
        if support.discrete:
            return (
                f"EvidenceLowerBound needs continuous latent variables, and {name} is {support!r}; "
                "sum it out in the function, or use un.objectives.ContrastiveDivergence"
            )
    return None


__all__ = ["Inputs", "log_joint", "log_z_of", "refuse_latents"]

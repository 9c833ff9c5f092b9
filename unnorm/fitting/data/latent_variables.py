"""What the data bring of a density: its covariates; the variables that are latent."""

from typing import Any

from unnorm.declaration.composite.missing_entries import missing_masks
from unnorm.declaration.composite.partly_observed import latent_part
from unnorm.declaration.density import Density


def absent_variables(density: Density, events: dict) -> list[str]:
    """The variables that the data do not bring."""
    return [name for name in density.variables if name not in events]


def latent_variables(density: Density, events: dict) -> list[str]:
    """The variables that the data do not bring, or not in every row."""
    return absent_variables(density, events) + list(missing_masks(density.variables, events))


def latent_density(density: Density, events: dict) -> Density:
    """The density of the absent variables given the others, as covariates."""
    return latent_part(density, tuple(name for name in density.variables if name in events), ())


def covariates_of(density: Density, events: dict) -> dict[str, Any]:
    """Return the columns of the covariates."""
    return {name: events[name] for name in density.covariates}

"""What the data bring of a density: its covariates; the variables that are latent."""

from collections.abc import Iterable
from typing import Any

from unnorm.declaration.composite.missing_entries import missing_masks
from unnorm.declaration.composite.partly_observed import latent_part
from unnorm.declaration.density import Density


def absent_variables(variables: Iterable[str], events: dict) -> list[str]:
    """The variables that the data do not bring."""
    return [name for name in variables if name not in events]


def latent_variables(variables: Iterable[str], events: dict) -> list[str]:
    """The variables that the data do not bring, or not in every row."""
    return absent_variables(variables, events) + list(missing_masks(variables, events))


def latent_density(density: Density, events: dict) -> Density:
    """The density of the absent variables given the others, as covariates."""
    return latent_part(density, tuple(name for name in density.variables if name in events), ())


def covariates_of(density: Density, events: dict) -> dict[str, Any]:
    """Return the columns of the covariates."""
    return {name: events[name] for name in density.covariates}

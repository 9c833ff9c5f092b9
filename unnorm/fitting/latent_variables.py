"""What the data do not bring: variables that are absent, and entries that are missing."""

from unnorm.declaration.composite.partly_observed import latent_part, missing_masks
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

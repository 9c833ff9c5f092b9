"""Where the data lie in the unconstrained coordinates of integration."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.data.latent_variables import absent_variables, latent_density
from unnorm.integration.conditional import location_of_rows


@dataclass(frozen=True)
class LocationOptions:
    """Where the data lie."""

    # a standard deviation of so many times that of the middle is that of the tails: of Student's t
    # with 3 degrees of freedom it is 1.4, of 2,000 directions of S¹ on their chart over 5
    heavy_tails: float = 2.0


LOCATION = LocationOptions()


def data_location(density: Density, events: dict) -> tuple[dict | None, dict | None]:
    """Where the data lie in the unconstrained coordinates of integration: the fitted density will
    be there too.

    Latent variables lie where the present parameters and the data put them. None where the nodes
    must be found from the density as it stands.
    """
    variables = density.variables
    if all(support.states is not None for support in variables.values()):
        return None, None
    if any(name in events and s.far_on_chart(events[name]) for name, s in variables.items()):
        return None, None
    charted, absent = density.on_chart(), absent_variables(density.variables, events)
    free = Unconstrained(charted).positions_of(events)
    centre = {name: _middle(value) for name, value in free.items()}
    scale = {name: _spread(value) for name, value in free.items()}
    if any(not density.variables[name].discrete for name in absent):
        means = {name: _with_means(value) for name, value in free.items()}
        complete = events | Unconstrained(charted).events_at(means)
        found = location_of_rows(latent_density(density, events), complete)
        centre, scale = centre | found[0], scale | found[1]
    return centre, scale


def _middle(values: Any) -> np.ndarray:
    """The mean of every column; the median where it has heavy tails."""
    values = np.asarray(values)
    return np.where(_heavy_tailed(values), np.nanmedian(values, 0), np.nanmean(values, 0))


def _spread(values: Any) -> np.ndarray:
    """The standard deviation of every column, without absolute floor; of one that has heavy tails
    that of its middle, of one that is constant its size, or 1.
    """
    values = np.asarray(values)
    spread, size = np.nanstd(values, 0), np.nanmax(np.abs(values), 0)
    spread = np.where(_heavy_tailed(values), _quantile_spread(values), spread)
    resolved = spread > 1e-13 * size
    return np.where(resolved, spread, np.where(size > 0, size, 1.0))


def _quantile_spread(values: np.ndarray) -> np.ndarray:
    """Half the distance of the quantiles that lie a standard deviation from a normal's mean."""
    low, high = np.nanquantile(values, (0.159, 0.841), axis=0)
    return (high - low) / 2


def _heavy_tailed(values: np.ndarray) -> np.ndarray:
    """Whether the standard deviation is that of a few far values, as on the chart of a sphere: a
    scale that is too large hides the peak, one that is too small costs few nodes.
    """
    middle = _quantile_spread(values)
    return (middle > 0) & (np.nanstd(values, 0) > LOCATION.heavy_tails * middle)


def _with_means(values: jax.Array) -> jax.Array:
    """The values with the mean of its column in the place of a missing one."""
    return jnp.where(jnp.isnan(values), jnp.nanmean(values, 0), values)

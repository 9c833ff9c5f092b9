"""Noise-conditional densities: one declared function is a density at every noise level.

The level is the covariate `sigma`, the standard deviation of the noise in the units of the data;
`p.given(sigma=0.1)` is the density at one level.
"""

from typing import Any, NamedTuple

import numpy as np

from unnorm.core.messages import shown

LEVEL = "sigma"  # the name of the covariate


class NoiseLevels(NamedTuple):
    """Geometric noise levels, from the highest to the lowest: a pytree of one leaf."""

    values: Any  # (levels,), descending

    def __repr__(self) -> str:
        values = np.asarray(self.values)
        return f"({values[-1]:.4g}, {values[0]:.4g}, {len(values)})"


def read_levels(sigma: Any, method: str) -> NoiseLevels:
    """Return the levels that ``(low, high, levels)`` stands for, or refuse it."""
    if isinstance(sigma, NoiseLevels):
        return sigma
    try:
        low, high, count = (float(part) for part in sigma)
    except (TypeError, ValueError):
        low, high, count = np.nan, np.nan, np.nan
    if not (0 < low < high < np.inf and count >= 2 and count == int(count)):
        raise ValueError(
            f"sigma is {shown(sigma)} in {method}; expected (low, high, levels) with 0 < low < "
            "high and an integer levels of at least 2; pass, for example, sigma=(0.05, 5.0, 10)."
        )
    return NoiseLevels(np.geomspace(high, low, int(count)))


__all__ = ["LEVEL", "NoiseLevels", "read_levels"]

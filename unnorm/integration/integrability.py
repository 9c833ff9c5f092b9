"""Whether a fitted density has a finite integral, looked at in the units of the data."""

import numpy as np

from unnorm.integration.adaptive_grid import NEGLIGIBLE, Integrand, leaks, reach
from unnorm.integration.centering import WIDEST, endless_line
from unnorm.integration.count_series import lone_count
from unnorm.integration.nodes import Frame, as_flat, free_size
from unnorm.integration.plan import most_states
from unnorm.integration.quadrature import VANISHING

_DISTANCES = 10.0 ** np.arange(
    3.0, 61.0
)  # standard deviations of the data at which a rise is looked for
_TOLERANCE, _HUGE = (
    1e-8,
    1e299,
)  # of the mass that may lie beyond all numbers; a log mass that stands for infinity


def vanishes_from(density, centre: dict | None, scale: dict | None) -> bool:
    """Whether the mass of p̃ vanishes in every direction away from the data, in distances of the
    data's spread.

    A direction along which a density falls over 10^12 looks endless at the distances 1 and 10^8.

    Args:
        density: bare; at most three continuous dimensions.
        centre: ``{name: array of the free shape}``, the data's mean in unconstrained coordinates;
            None: False.
        scale: as `centre`, the data's standard deviation.
    """
    density = density.charted()
    size = free_size(density)
    if centre is None or scale is None or not size or lone_count(density):
        return False
    place, spread = as_flat(density, centre, "centre"), as_flat(density, scale, "scale")
    integrand = Integrand(density, most_states(size))
    found = reach(integrand, Frame(place, np.diag(spread)), np.full(size, WIDEST))
    if not abs(found.total) < _HUGE or found.nan.any():
        return False
    if any(end.fall < VANISHING for end in leaks(found, _TOLERANCE)):
        return False

    def standardised(points):
        return integrand(place + spread * points)[0]

    if _rises_far_out(standardised, size):
        return False
    return size == 1 or endless_line(standardised, np.zeros((1, size)), np.eye(size)[None]) is None


def _rises_far_out(standardised, size: int) -> bool:
    """Whether log p̃ comes back, on rays along the axes and between them, behind a valley in which
    it vanished.
    """
    between = np.random.default_rng(0).normal(size=(8, size))
    rays = np.concatenate([np.eye(size), between / np.linalg.norm(between, axis=1, keepdims=True)])
    points = np.concatenate([rays, -rays])[:, None] * _DISTANCES[:, None]
    heights = standardised(points.reshape(-1, size)) + np.tile(
        size * np.log(_DISTANCES), len(points)
    )
    return not np.all(
        heights < standardised(np.zeros((1, size)))[0] - NEGLIGIBLE
    )  # also where one is NaN

"""Points that stand out among those as far from the known modes."""

import numpy as np

from unnorm.integration.quadrature.laplace import Mode
from unnorm.partition.proposals.modes.scattered_starts import anomalies


def test_a_point_of_a_narrow_basin_stands_out_far_below_the_wide_mode():
    wide = Mode(np.zeros(4), np.eye(4), np.eye(4), 0.0, 0.0)
    points = np.random.default_rng(0).uniform(-8, 8, (4000, 4))
    heights = -0.5 * (points**2).sum(1)
    one = np.argmin(np.abs(heights + 40))
    heights[one] += 10.0  # still far below the mode
    assert np.argmax(anomalies([wide], points, heights)) == one

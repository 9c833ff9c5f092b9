"""The linear map in front of a rule of quadrature."""

from typing import NamedTuple

import numpy as np


class Frame(NamedTuple):
    """The linear map in front of a rule: u = centre + factor · sinh(t), t on a grid; arrays (D,)
    and (D, D).
    """

    centre: np.ndarray
    factor: np.ndarray

"""A support: numbers below a bound."""

import math
from dataclasses import dataclass

import numpy as np

import unnorm as un
from unnorm.supports.base import Axis, Support


@dataclass(frozen=True, repr=False)
class Below(Support):
    """Numbers below `upper`: x = upper − exp(u), so that log |det J| = u.

    Args:
        upper: the bound; itself a valid value.
    """

    score_matching = "generalized"
    axes: tuple[Axis, ...] = ()
    upper: float = 0.0

    def _options(self):
        return f"({self.upper:g})"

    @property
    def expected(self):
        return f"numbers of at most {self.upper:g}"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.less_than(self.upper)

    def valid(self, value):
        return value <= self.upper

    def inward(self, value):
        return np.where(value >= self.upper, self.upper - 1e-6, value)

    def boundary_distance(self, value):
        return self.upper - value

    def entry_bounds(self, index):
        return (-math.inf, self.upper)


if __name__ == "__main__":
    p = un.Density(lambda x, *, rate: rate * x, {"x": Below()}, {"rate": (un.Positive, 1.0)})
    data = -np.random.default_rng(0).exponential(0.5, 1000)
    print(un.fit(p, data, "maximum_likelihood", seed=0, progress=False).summary())

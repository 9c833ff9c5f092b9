"""The mass beyond the last resolved node: a power law of the distance to the bound.

An x in [0, 1] cannot be nearer to 1 than 1e-16, but 1% of Beta(.1, .1) and 8% of Beta(.05, .05)
are. In the unconstrained coordinate u a power law at a bound is an exponential, exp(-r u). The rate
is fitted where floating point resolves x(u), and the remainder is integrated in closed form. The
sum over nodes is faded out where the closed form takes over, because a rule that ends between two
nodes converges slowly.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, logsumexp

from unnorm.integration.options import QUADRATURE, TailOptions


class Tail(NamedTuple):
    """The mass beyond one side of the range, as a share of the total."""

    axis: int
    upwards: bool
    share: float
    error: float  # of the share
    rate: float  # e-folds of mass per e-fold of the distance to the bound
    rate_difference: float  # between two stretches
    options: TailOptions

    @property
    def diverges(self) -> bool:
        """Whether the mass does not fall towards the bound, by two stretches that agree."""
        return self.rate <= self.rate_difference < self.options.equal_rates

    @property
    def follows_power_law(self) -> bool:
        """Whether the rates of the two stretches agree."""
        return self.rate_difference < self.options.power_law * self.rate


class TailMass(NamedTuple):
    """The correction of log Z for mass beyond the nodes, its error, and the fitted tails."""

    added: float = 0.0
    error: float = 0.0
    tails: tuple[Tail, ...] = ()


def tail_mass(
    axes: list[np.ndarray],
    log_mass: np.ndarray,
    resolved: np.ndarray,
    scales: np.ndarray,
    options: TailOptions = QUADRATURE.tails,
) -> TailMass:
    """The mass beyond the resolved nodes of a tensor grid.

    The factors of the axes are multiplied, as if the tail along one did not depend on the others.
    The dependence, estimated between the halves of each other axis, counts as error.

    Args:
        axes: equally spaced t.
        log_mass: of every node.
        resolved: whether floating point resolves the node.
        scales: of the map u = c + scale · sinh(t) on each axis.
        options: of the fit.
    """
    if resolved.all() or not np.isfinite(logsumexp(log_mass)):
        return TailMass()
    nodes = _Nodes(axes, resolved, scales, options)
    sides = [nodes.sides(i, log_mass) for i in range(len(axes))]
    tails = [tail for _, found in sides for tail in found]
    open_axes = [i for i, (_, found) in enumerate(sides) if found]
    error = sum(tail.error for tail in tails)
    for i in open_axes:
        for j in set(open_axes) - {i}:
            halves = _halves(log_mass, j)
            differences = [abs(nodes.sides(i, half)[0] - sides[i][0]) for half in halves]
            error += max(differences) * abs(sides[j][0])
    return TailMass(sum(added for added, _ in sides), error, tuple(tails))


def _halves(log_mass: np.ndarray, axis: int) -> list[np.ndarray]:
    """The nodes below and above the median of an axis, the others without mass."""
    margin = _margin(log_mass, axis)
    below = np.cumsum(np.exp(margin - logsumexp(margin))) < 0.5
    shape = [-1 if i == axis else 1 for i in range(log_mass.ndim)]
    return [np.where(half.reshape(shape), log_mass, -np.inf) for half in (below, ~below)]


def _margin(log_mass: np.ndarray, axis: int) -> np.ndarray:
    return logsumexp(log_mass, axis=tuple(i for i in range(log_mass.ndim) if i != axis))


class _Fit(NamedTuple):
    rate: float
    rate_difference: float
    log_beyond: float
    log_fade: np.ndarray


class _Nodes(NamedTuple):
    """A tensor grid on which tails are fitted."""

    axes: list[np.ndarray]
    resolved: np.ndarray
    scales: np.ndarray
    options: TailOptions

    def sides(self, axis: int, log_mass: np.ndarray) -> tuple[float, list[Tail]]:
        """What an axis adds to log Z, and its tails."""
        margin, unresolved = _margin(log_mass, axis), self.unresolved(axis, log_mass)
        found = [(up, self.fit(up, axis, margin, unresolved)) for up in (False, True)]
        fits = [(up, fit) for up, fit in found if fit is not None]
        if not fits:
            return 0.0, []
        falling = [fit for _, fit in fits if fit.rate > fit.rate_difference]
        inside = logsumexp(margin + sum(fit.log_fade for fit in falling))
        total = np.logaddexp.reduce([inside, *(fit.log_beyond for fit in falling)])
        tails = []
        for up, fit in fits:
            share = math.exp(min(fit.log_beyond - total, 0.0))
            falls = fit.rate > fit.rate_difference
            error = share * fit.rate_difference / fit.rate if falls else 0.0
            tails.append(Tail(axis, up, share, error, fit.rate, fit.rate_difference, self.options))
        if max(tail.share for tail in tails) < self.options.negligible:
            return 0.0, []
        return float(total - logsumexp(margin)), tails

    def unresolved(self, axis: int, log_mass: np.ndarray) -> np.ndarray:
        """The slabs across an axis that are unresolved where the other coordinates have mass."""
        share = np.moveaxis(~self.resolved, axis, 0).astype(float)
        for other in reversed([i for i in range(log_mass.ndim) if i != axis]):
            margin = _margin(log_mass, other)
            share = share @ np.exp(margin - logsumexp(margin))
        return share > self.options.unresolved_share

    def fit(
        self, upwards: bool, axis: int, margin: np.ndarray, unresolved: np.ndarray
    ) -> _Fit | None:
        """The exponential tail on a side with unresolved nodes; None without any, or if few nodes
        are left to fit.
        """
        t, scale, options = self.axes[axis], self.scales[axis], self.options
        order = slice(None, None, -1) if upwards else slice(None)
        missing = np.flatnonzero(unresolved[order][: int(np.argmax(margin[order]))])
        out = int(missing.max(initial=-1)) + 1  # beyond, some nodes are resolved by luck
        if out == 0 or not np.isfinite(margin[order][out]):
            return None
        u = scale * np.sinh(t) * (1 if upwards else -1)
        past = u - (u[order][out] - options.fit_to)  # e-folds beyond the middle of the fade
        log_density = margin - np.log(np.cosh(t)) - math.log((t[1] - t[0]) * scale)
        length = options.fit_from - options.fit_to
        middle = -length / 2
        usable = np.isfinite(margin) & ~unresolved
        near = usable & (past > -length) & (past < middle)
        far = usable & (past >= middle) & (past < 0)
        if min(near.sum(), far.sum()) < options.min_nodes:
            return None
        slope, level = np.polyfit(past[near | far], log_density[near | far], 1)
        slopes = [np.polyfit(past[part], log_density[part], 1)[0] for part in (near, far)]
        rate, width = -slope, options.fade_width
        log_beyond = level + (rate * width / 2) ** 2 - math.log(rate) if rate > 0 else math.inf
        log_fade = log_ndtr(-past * math.sqrt(2) / width)
        return _Fit(rate, abs(slopes[0] - slopes[1]), log_beyond, log_fade)


__all__ = ["Tail", "TailMass", "tail_mass"]

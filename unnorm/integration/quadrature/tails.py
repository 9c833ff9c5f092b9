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
from scipy.stats import linregress

from unnorm.integration.options import QUADRATURE, TailOptions


class Tail(NamedTuple):
    """The mass beyond one side of the range, as a share of the total."""

    axis: int
    upwards: bool
    share: float
    error: float  # of the share
    rate: float  # e-folds of mass per e-fold of the distance to the bound
    rate_difference: float  # between two stretches
    bend: float  # the part of it that is not rounding
    options: TailOptions

    @property
    def diverges(self) -> bool:
        """Whether the mass does not fall towards the bound, by two stretches that agree."""
        none = max(self.rate_difference, self.options.flat)
        return self.rate <= none < self.options.equal_rates

    @property
    def follows_power_law(self) -> bool:
        """Whether the rates of the two stretches agree, and would still at the mass beyond."""
        return _relative_error(self) < self.options.power_law


def _relative_error(tail: "Tail | _Fit") -> float:
    """Of the mass beyond: by how much the rate changes there, within 1 / rate e-folds. A slow tail
    lies far beyond the stretches that were fitted, where 1 / log(x)² is no power law any more.
    """
    if tail.rate <= 0:
        return math.inf
    apart = (tail.options.fit_from - tail.options.fit_to) / 2
    return max(tail.rate_difference, tail.bend / (apart * tail.rate)) / tail.rate


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
    bend: float
    options: TailOptions
    log_beyond: float
    log_fade: np.ndarray

    @property
    def rates(self) -> tuple[float, float, float]:
        return self.rate, self.rate_difference, self.bend


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
            error = share * _relative_error(fit) if falls else 0.0
            tails.append(Tail(axis, up, share, error, *fit.rates, self.options))
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
        usable, length = np.isfinite(margin) & ~unresolved, options.fit_from - options.fit_to
        parts = [
            usable & (past > -length * start) & (past < -length * end)
            for start, end in ((1.0, 0.5), (0.5, 0.0), (0.5, 0.25), (0.25, 0.0))
        ]
        if min(part.sum() for part in parts[:2]) < options.min_nodes:
            return None
        return _fit_stretches(past, log_density, parts, options)


def _fit_stretches(
    past: np.ndarray, log_density: np.ndarray, parts: list[np.ndarray], options: TailOptions
) -> _Fit:
    """The exponential through both halves of a stretch, and how its rate changes: what bends near
    the mode alone does not bend beyond, so that the two quarters at the end say how it goes on.
    """
    near, far, inner, outer = parts
    line = linregress(past[near | far], log_density[near | far])
    difference, _ = _change(past, log_density, near, far)
    rate, width = -line.slope, options.fade_width
    beyond = line.intercept + (rate * width / 2) ** 2 - math.log(rate) if rate > 0 else math.inf
    log_fade = log_ndtr(-past * math.sqrt(2) / width)
    bend = difference
    if min(inner.sum(), outer.sum()) >= options.min_nodes:
        change, rounding = _change(past, log_density, inner, outer)
        goes_on = 2 * change > options.lasting_bend * difference
        bend = difference if goes_on and change > options.noise * rounding else 0.0
    return _Fit(rate, difference, bend, options, beyond, log_fade)


def _change(x: np.ndarray, y: np.ndarray, *stretches: np.ndarray) -> tuple[float, float]:
    """By how much the slopes of two stretches differ, and its standard error by the residuals."""
    lines = [linregress(x[part], y[part]) for part in stretches]
    return abs(lines[0].slope - lines[1].slope), math.hypot(*(line.stderr for line in lines))


__all__ = ["Tail", "TailMass", "tail_mass"]

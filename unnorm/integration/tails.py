"""The mass beyond the last resolved node: where a value rounds onto its bound, a power law of the
distance goes on.

1 - x of an x in [0, 1] is not held below 1e-16, and 1% of Beta(.1, .1), 8% of Beta(.05, .05) lie
nearer to 1 than that. In the unconstrained coordinate u a power law at a bound is an exponential,
exp(-r u): its rate is fitted where x still tells u, and the rest is its integral in closed form.
The sum over nodes is faded out where the closed form takes over, for a rule that ended between two
nodes would converge slowly.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, logsumexp

FROM, TO = (
    20.0,
    6.0,
)  # e-folds of the distance to the bound, before the last resolved node: where the rate is fitted
WIDTH = 1.5  # e-folds: of the fade, whose middle is at TO
FEWEST = 4  # nodes on either half of the stretch
NEGLIGIBLE = 1e-10  # share of the whole up to which nothing is added
LEVEL = 1e-3  # rates that differ by less are one
BLANK = 1e-3  # share of a slab, by the other axes' margins, that may be unresolved
POWER_LAW = 0.1  # relative difference of the rates of two stretches: above, it is no power law


class Tail(NamedTuple):
    """What lies beyond a side of the range, as a share of all."""

    axis: int
    upwards: bool
    share: float
    error: float  # of the share
    rate: float  # e-folds of mass per e-fold of the distance to the bound
    apart: float  # by how much the rates of two stretches differ

    @property
    def endless(self) -> bool:
        """Whether the mass does not fall towards the bound, on two stretches that agree."""
        return self.rate <= self.apart < LEVEL

    @property
    def follows_power_law(self) -> bool:
        return self.apart < POWER_LAW * self.rate


class Completion(NamedTuple):
    """What is added to log Z of the nodes, its error, and the tails that it is of."""

    added: float
    error: float
    tails: list[Tail]


NOTHING = Completion(0.0, 0.0, [])


def completed(
    axes: list[np.ndarray], log_mass: np.ndarray, resolved: np.ndarray, scales: np.ndarray
) -> Completion:
    """The mass beyond the resolved nodes of a tensor grid.

    The axes' factors are multiplied, as if what lies beyond on one did not depend on another
    coordinate; how much it does, between the halves of the other axis, counts as error.

    Args:
        axes: equally spaced t.
        log_mass, resolved: of every node.
        scales: of the map u = c + scale · sinh(t) on each axis.
    """
    if resolved.all() or not np.isfinite(logsumexp(log_mass)):
        return NOTHING
    sides = [_sides(i, axes, log_mass, resolved, scales) for i in range(len(axes))]
    tails = [tail for _, found in sides for tail in found]
    lossy = [i for i, (_, found) in enumerate(sides) if found]
    error = sum(tail.error for tail in tails)
    for i in lossy:
        for j in set(lossy) - {i}:
            halves = _halves(log_mass, j)
            apart = [
                abs(_sides(i, axes, half, resolved, scales)[0] - sides[i][0]) for half in halves
            ]
            error += max(apart) * abs(sides[j][0])
    return Completion(sum(added for added, _ in sides), error, tails)


def _halves(log_mass: np.ndarray, axis: int) -> list[np.ndarray]:
    """The nodes below and above the median of an axis, the others without mass."""
    others = tuple(i for i in range(log_mass.ndim) if i != axis)
    margin = logsumexp(log_mass, axis=others)
    below = np.cumsum(np.exp(margin - logsumexp(margin))) < 0.5
    shape = [-1 if i == axis else 1 for i in range(log_mass.ndim)]
    return [np.where(half.reshape(shape), log_mass, -np.inf) for half in (below, ~below)]


def _sides(axis: int, axes, log_mass, resolved, scales) -> tuple[float, list[Tail]]:
    """What an axis adds to log Z, and its tails."""
    others = tuple(i for i in range(len(axes)) if i != axis)
    margin, blank = logsumexp(log_mass, axis=others), _blank(axis, log_mass, resolved)
    fits = [(up, _fitted(up, axes[axis], margin, blank, scales[axis])) for up in (False, True)]
    fits = [(up, fit) for up, fit in fits if fit is not None]
    if not fits:
        return 0.0, []
    falling = [fit for _, fit in fits if fit.rate > fit.apart]
    inside = logsumexp(margin + sum(fit.log_fade for fit in falling))
    everything = np.logaddexp.reduce([inside, *(fit.log_beyond for fit in falling)])
    tails = []
    for up, fit in fits:
        share = math.exp(min(fit.log_beyond - everything, 0.0))
        error = share * fit.apart / fit.rate if fit.rate > fit.apart else 0.0
        tails.append(Tail(axis, up, share, error, fit.rate, fit.apart))
    if max(tail.share for tail in tails) < NEGLIGIBLE:
        return 0.0, []
    return float(everything - logsumexp(margin)), tails


def _blank(axis: int, log_mass: np.ndarray, resolved: np.ndarray) -> np.ndarray:
    """The slabs across an axis that are not resolved where the other coordinates usually are."""
    unresolved = np.moveaxis(~resolved, axis, 0).astype(float)
    for other in reversed([i for i in range(log_mass.ndim) if i != axis]):
        margin = logsumexp(log_mass, axis=tuple(i for i in range(log_mass.ndim) if i != other))
        unresolved = unresolved @ np.exp(margin - logsumexp(margin))
    return unresolved > BLANK


class _Fit(NamedTuple):
    rate: float
    apart: float  # by how much the rates of two stretches differ
    log_beyond: float
    log_fade: np.ndarray


def _fitted(
    upwards: bool, t: np.ndarray, margin: np.ndarray, blank: np.ndarray, scale: float
) -> _Fit | None:
    """The exponential tail on a side where nodes are unresolved; None without such or with too few
    nodes to fit.
    """
    order = slice(None, None, -1) if upwards else slice(None)
    unresolved = np.flatnonzero(blank[order][: int(np.argmax(margin[order]))])
    out = int(unresolved.max(initial=-1)) + 1  # beyond, some nodes are resolved by luck
    if out == 0 or not np.isfinite(margin[order][out]):
        return None
    u = scale * np.sinh(t) * (1 if upwards else -1)
    past = u - (u[order][out] - TO)  # e-folds beyond the middle of the fade
    log_density = margin - np.log(np.cosh(t)) - math.log((t[1] - t[0]) * scale)
    middle = -(FROM - TO) / 2
    usable = np.isfinite(margin) & ~blank
    near, far = (
        usable & (past > -(FROM - TO)) & (past < middle),
        usable & (past >= middle) & (past < 0),
    )
    if min(near.sum(), far.sum()) < FEWEST:
        return None
    slope, level = np.polyfit(past[near | far], log_density[near | far], 1)
    slopes = [np.polyfit(past[part], log_density[part], 1)[0] for part in (near, far)]
    rate, apart = -slope, abs(slopes[0] - slopes[1])
    log_beyond = level + (rate * WIDTH / 2) ** 2 - math.log(rate) if rate > 0 else math.inf
    return _Fit(rate, apart, log_beyond, log_ndtr(-past * math.sqrt(2) / WIDTH))


__all__ = ["POWER_LAW", "Completion", "Tail", "completed"]

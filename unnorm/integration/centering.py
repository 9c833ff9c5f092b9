"""Where the mass of a density lies: the centre and scale of a quadrature rule, found without
chance.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from unnorm.declaration.density import Density
from unnorm.integration.adaptive_grid import Cells, Integrand, leaks, log_mass_at, reach
from unnorm.integration.nodes import Frame, free_size
from unnorm.integration.unseen_mass import Look, look_about, tops

LADDERS = {  # starting values on each coordinate, near and far
    1: (0.0, *(2.0**k for k in range(-3, 15))),
    2: (0.0, 1.0, 5.0, 30.0, 200.0, 1500.0),
    3: (0.0, 2.0, 20.0, 500.0),
}
CLIMBERS, STEPS = 24, 40
# a climb that ends beyond this, on no mode and higher than all modes, shows an infinite mass
FAR = 1e6
WIDEST = 0.25  # step of t while a range is looked for
LOOKS = 3  # modes about which points are spread
FURTHER = 48  # climbs from each look at most
COUNTS = 25.0  # a mode this many nats below the heaviest is left to the refinement
# nats below a mode, where a rise is none of the mass: a line askew through a funnel, before it
# falls
DEEP = 1e4
DECADES = 10.0 ** np.arange(
    0.0, 13.5, 0.5
)  # widths; farther out the rounding of an oblique direction matters
LEAST_RISE = 5  # of these with finite values, before numbers overflow
FLAT = 100.0  # the scale along a direction without curvature, in units of the others'


class Mode(NamedTuple):
    """A local maximum: its place, its precision, its Laplace covariance and log mass, its
    height.
    """

    place: np.ndarray
    precision: np.ndarray
    covariance: np.ndarray
    log_mass: float
    height: float


class Found(NamedTuple):
    """Where the rule goes: its frame, the steps in t that miss no mode, the modes, and whether a
    climb ran away.
    """

    frame: Frame
    steps: np.ndarray
    modes: list[Mode]
    ran_away: bool
    looks: list[Look]


def find_frame(integrand: Integrand, far: bool = False) -> Found:
    """Centre and scale a rule, and the steps in t that do not miss a mode: Newton climbs, then
    quantiles by quadrature.

    Quantiles and not moments, for those of a Cauchy density do not exist. The scale is only ever
    narrowed: with sinh in front of it, a scale that is too small costs a logarithm of nodes, and
    one that is too large hides the peak.

    Args:
        integrand: log p̃ in unconstrained coordinates.
        far: whether to look for modes at all scales from those that the first climbs find.
    """
    starts = starting_points(free_size(integrand.density))
    ends = _climbed(integrand, _chosen(integrand, starts))
    looks: list[Look] = []
    modes, ran_away = _modes(integrand, ends)
    while (
        far
        and not ran_away
        and len(looks) < LOOKS
        and (frame := _not_looked_about(modes, looks, starts.shape[1]))
    ):
        looks.append(look_about(integrand, frame))
        ends = _joined(ends, _climbed(integrand, tops(looks[-1])[:FURTHER]))
        modes, ran_away = _modes(integrand, ends)
    frame = _mixture(modes) if modes else Frame(np.zeros(starts.shape[1]), np.eye(starts.shape[1]))
    for _ in range(10):
        found = reach(integrand, frame, steps_for(frame, modes), span(frame, modes))
        if not np.isfinite(found.total) or leaks(found, 1e-6):
            break
        frame, settled = _recentred(frame, found)
        if settled:
            break
    return Found(frame, steps_for(frame, modes), modes, ran_away, looks)


def weighty(modes: list[Mode]) -> list[Mode]:
    """The modes that may hold a part of the mass that counts, the heaviest first."""
    modes = sorted(modes, key=lambda mode: -mode.log_mass)
    return [mode for mode in modes if mode.log_mass > modes[0].log_mass - COUNTS]


def _not_looked_about(modes: list[Mode], looks: list[Look], size: int) -> Frame | None:
    """The heaviest mode about which no points were spread; without a mode the origin, once."""
    if not modes and not looks:
        return Frame(np.zeros(size), np.eye(size))
    for mode in weighty(modes):
        if not any(np.allclose(mode.place, look.frame.centre) for look in looks):
            return Frame(mode.place, np.linalg.cholesky(mode.covariance))
    return None


def span(frame: Frame, modes: list[Mode]) -> np.ndarray:
    """The sides (D, 2) of t within which the modes lie."""
    sides = np.array([[-4.0, 4.0]] * len(frame.centre))
    for mode in weighty(modes):
        t = np.arcsinh(np.linalg.solve(frame.factor, mode.place - frame.centre))
        sides = np.stack([np.minimum(sides[:, 0], t - 1), np.maximum(sides[:, 1], t + 1)], 1)
    return sides


def starting_points(size: int) -> np.ndarray:
    """Where the climbs may start (K, D)."""
    signed = sorted({sign * step for step in LADDERS[size] for sign in (-1, 1)}, key=abs)
    return np.array(list(itertools.product(signed, repeat=size)))


def steps_for(frame: Frame, modes: list[Mode]) -> np.ndarray:
    """The step of t on each axis that puts a node into every mode of weight: a fraction of its
    width there.
    """
    steps = np.full(len(frame.centre), WIDEST)
    for mode in weighty(modes):
        z = np.linalg.solve(frame.factor, mode.place - frame.centre)
        curves = np.diag(frame.factor.T @ mode.precision @ frame.factor)
        widths = 1 / np.sqrt(np.maximum(np.nan_to_num(curves), 1e-30))
        steps = np.minimum(steps, 0.7 * widths / np.sqrt(1 + z**2))
    return np.maximum(steps, 1e-10)


# -- climbing --------------------------------------------------------------------------
@jax.jit
def _climb(density: Density, states: dict, starts: jax.Array):
    """Damped Newton ascents: the ends (K, D), the values there, and minus the Hessians."""

    def value(u):
        height = log_mass_at(density, states, u)[0]
        return jnp.where(jnp.isnan(height), -jnp.inf, height)

    def climb(_, u):
        slope = jnp.nan_to_num(jax.grad(value)(u), posinf=0.0, neginf=0.0)
        curves, axes = jnp.linalg.eigh(
            -jnp.nan_to_num(jax.hessian(value)(u), posinf=0.0, neginf=0.0)
        )
        step = axes @ ((axes.T @ slope) / jnp.maximum(jnp.abs(curves), 1e-10))
        length, most = jnp.linalg.norm(step), 2.0 * (1.0 + jnp.linalg.norm(u))
        step = step * jnp.minimum(1.0, most / jnp.maximum(length, 1e-30))
        tries = u + jnp.asarray([0.0, 1.0, 2.0, 0.3, 0.05, 0.003])[:, None] * step
        return tries[jnp.argmax(jax.vmap(value)(tries))]

    def run(u):
        u = jax.lax.fori_loop(0, STEPS, climb, u)
        return u, value(u), -jax.hessian(value)(u)

    return jax.vmap(run)(starts)


def _chosen(integrand: Integrand, starts: np.ndarray) -> np.ndarray:
    """The highest of the starts and some others."""
    heights = integrand.resolved_values(starts)
    order = np.argsort(-heights, kind="stable")
    order = order[np.isfinite(heights[order])]
    if not len(order):
        return starts[:0]
    top = order[: CLIMBERS // 2]
    rest = order[np.linspace(0, len(order) - 1, CLIMBERS - len(top)).astype(int)]
    return starts[np.concatenate([top, rest])]


def _climbed(integrand: Integrand, starts: np.ndarray) -> list[np.ndarray]:
    """The ends of the climbs from any number of starts, the values there, and minus the
    Hessians.
    """
    size, cost = starts.shape[1], CLIMBERS * integrand.count * (1 + STEPS)
    found = [np.zeros((0, size)), np.zeros(0), np.zeros((0, size, size))]
    for first in range(0, len(starts), CLIMBERS):
        some = starts[first : first + CLIMBERS]
        chosen = jnp.asarray(np.resize(some, (CLIMBERS, size)), jnp.result_type(float))
        ends = _climb(integrand.density, integrand.states, chosen)
        found = _joined(found, [np.asarray(part, float)[: len(some)] for part in ends])
        integrand.evaluations += CLIMBERS * integrand.count * (1 + 6 * STEPS)
        integrand.gradients += cost * (1 + size)
    return found


def _joined(*found: list[np.ndarray]) -> list[np.ndarray]:
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _modes(integrand: Integrand, climbed: list[np.ndarray]) -> tuple[list[Mode], bool]:
    """The modes among the ends of climbs, and whether a climb ran away."""
    ends, heights, precisions = climbed
    if not len(ends):
        return [], False
    resolved = np.isfinite(integrand.resolved_values(ends))
    modes = distinct_modes(ends, np.where(resolved, heights, -np.inf), precisions)
    best = max((mode.height for mode in modes), default=-np.inf)
    far = np.linalg.norm(ends, axis=1) > FAR
    return modes, bool(np.any(far & (np.nan_to_num(heights, nan=-np.inf) > best + 1)))


def _covariance(precision: np.ndarray) -> np.ndarray:
    """The inverse, with directions of no or of upward curvature made wide but finite."""
    curves, axes = np.linalg.eigh(np.nan_to_num(precision))
    good = curves > 1e-8 * max(curves.max(), 0.0)
    largest = 1 / math.sqrt(curves[good].min()) if good.any() else 1.0
    deviations = np.where(good, 1 / np.sqrt(np.where(good, curves, 1.0)), FLAT * largest)
    return (axes * deviations**2) @ axes.T


def _rounded_top(precision: np.ndarray) -> bool:
    """Whether no direction curves upwards, as it does on the algebraic tails where a climb may have
    got stuck.
    """
    if not np.all(np.isfinite(precision)):
        return False
    curves = np.linalg.eigvalsh(precision)
    return bool(curves[0] >= -1e-6 * np.abs(curves).max())


def distinct_modes(ends, heights, precisions) -> list[Mode]:
    """The modes among the ends of the climbs, each once."""
    modes: list[Mode] = []
    for i in np.argsort(-np.nan_to_num(heights, nan=-np.inf), kind="stable"):
        if not np.isfinite(heights[i]) or not _rounded_top(precisions[i]):
            continue
        covariance = _covariance(precisions[i])
        gaps = [
            (ends[i] - m.place) @ np.linalg.solve(m.covariance, ends[i] - m.place) for m in modes
        ]
        if min(gaps, default=np.inf) > 0.01:
            log_mass = heights[i] + 0.5 * np.linalg.slogdet(covariance)[1]
            modes.append(Mode(ends[i], precisions[i], covariance, log_mass, heights[i]))
    return modes


def _mixture(modes: list[Mode]) -> Frame:
    """The mean and the covariance of the modes, each with its Laplace mass."""
    places, covariances = (
        np.array([m.place for m in modes]),
        np.array([m.covariance for m in modes]),
    )
    weights = softmax([m.log_mass for m in modes])
    centre = weights @ places
    apart = places - centre
    whole = np.einsum("k,kij->ij", weights, covariances) + (apart.T * weights) @ apart
    return Frame(centre, np.linalg.cholesky(whole))


def endless_line(value, places: np.ndarray, precisions: np.ndarray, ways: np.ndarray | None = None):
    """A direction from one of the places along which p̃ provably does not fall, so that its mass is
    infinite; or None.

    Looked at: the coordinate axes, the principal axes of the curvature, both ways, and `ways`. A
    direction that does not fall at three distances is followed over thirteen decades, see
    `_never_falls`.

    Args:
        value: log p̃ in unconstrained coordinates at points (S, D).
        places: (K, D), the highest first.
        precisions: minus the Hessians there (K, D, D).
        ways: (M, D), further directions, those in which climbs left all bounds.
    """
    size, distances = np.shape(places)[1], np.array([0.0, 6.0, 8.0])
    for place, precision in list(zip(places, precisions, strict=True))[:4]:
        curves, axes = np.linalg.eigh(np.nan_to_num(precision))
        directions = np.concatenate([axes.T, np.eye(size)])
        directions = np.concatenate(
            [directions, -directions, np.zeros((0, size)) if ways is None else ways]
        )
        unit = 1 / math.sqrt(curves[-1]) if curves[-1] > 0 else 1.0
        here = value(place[None])[0]
        found = _along(value, place, directions, unit * 10**distances)
        with np.errstate(invalid="ignore"):
            suspect = (found[:, 1:] >= found[:, :1] - 1).all(1) & (found[:, 2] >= found[:, 1] - 1)
        for direction in directions[suspect | np.isposinf(found[:, 1:]).all(1)]:
            if _never_falls(_along(value, place, direction[None], unit * DECADES)[0], here):
                return direction
    return None


def _along(value, place: np.ndarray, directions: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """log (distance × p̃) at the distances along each direction (M, K): constant where p̃ falls as
    1 / distance.
    """
    points = place + distances[:, None] * directions[:, None, :]
    return value(points.reshape(-1, len(place))).reshape(len(directions), -1) + np.log(distances)


def _never_falls(found: np.ndarray, here: float) -> bool:
    """Whether log (distance × p̃) over growing distances proves an infinite mass.

    Numbers beyond floating point prove nothing by themselves: a NaN, or an infinity that no finite
    rise leads to (a value that was rounded onto a bound), is no proof; a fall at any distance is a
    disproof.
    """
    finite = np.isfinite(found)
    rise = found[: int(np.argmin(finite))] if not finite.all() else found
    if len(rise) < LEAST_RISE or np.isnan(found).any() or not np.isposinf(found[len(rise) :]).all():
        return False
    return bool((rise >= np.maximum.accumulate(rise) - 1).all() and rise.min() > here - DEEP)


# -- correcting ------------------------------------------------------------------------
def _recentred(frame: Frame, found: Cells) -> tuple[Frame, bool]:
    """Move a far centre to the median, and narrow the scale to half the distance of the 16% and 84%
    quantiles.
    """
    low, middle, high = np.array([_quantiles(found, i) for i in range(len(found.axes))]).T
    middle = np.where(np.abs(middle) > 1, middle, 0.0)
    scale = np.clip((high - low) / 2, 1e-12, 1.0)
    shape = _correlation(found, middle, scale)
    if not middle.any() and np.all(scale > 0.6) and np.all(shape == np.eye(len(scale))):
        return frame, True
    factor = frame.factor @ np.diag(scale) @ np.linalg.cholesky(shape)
    return Frame(frame.centre + frame.factor @ middle, factor), False


def _quantiles(found: Cells, axis: int) -> np.ndarray:
    """The 16%, 50% and 84% quantiles of sinh(t) on an axis."""
    t = found.axes[axis]
    step = t[1] - t[0]
    below = np.concatenate([[0.0], np.cumsum(softmax(found.margin(axis)))])
    edges = np.concatenate([t - step / 2, [t[-1] + step / 2]])
    return np.sinh(np.interp([0.16, 0.5, 0.84], below, edges))


def _correlation(found: Cells, middle: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The correlation of the standardized coordinates, cut at four scales for heavy tails; none
    where it is weak.

    A weak one is left alone: turning the axes of a product of heavy tails would only do harm.
    """
    size = len(found.axes)
    if size == 1:
        return np.eye(1)
    weights = softmax(found.log_mass)
    z = [
        np.clip((np.sinh(t) - m) / s, -4, 4)
        for t, m, s in zip(found.axes, middle, scale, strict=True)
    ]
    grids = np.stack([part.ravel() for part in np.meshgrid(*z, indexing="ij")])
    apart = grids - (grids @ weights.ravel())[:, None]
    covariance = (apart * weights.ravel()) @ apart.T
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    correlation = covariance / np.outer(spread, spread)
    np.fill_diagonal(correlation, 1.0)
    if np.abs(correlation - np.eye(size)).max() < 0.3:
        return np.eye(size)
    return 0.999 * correlation + 0.001 * np.eye(size)

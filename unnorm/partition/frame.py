"""Where the mass of a density lies: the centre and scale of a quadrature rule, found without chance."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from unnorm.density import Density
from unnorm.partition.grid import Cells, Integrand, log_mass_at, reach
from unnorm.partition.nodes import Frame

LADDERS = {  # starting values on each coordinate, near and far
    1: (0.0, *(2.0**k for k in range(-3, 15))),
    2: (0.0, 1.0, 5.0, 30.0, 200.0, 1500.0),
    3: (0.0, 2.0, 20.0, 500.0),
}
CLIMBERS, STEPS = 24, 40
RUNAWAY = 1e7  # a climb that ends beyond this has found no mode
FLAT = 100.0  # the scale along a direction without curvature, in units of the others'


def find_frame(integrand: Integrand) -> Frame:
    """Centre and scale a rule: Newton climbs from many starts, Laplace's masses, then quantiles by quadrature.

    Quantiles and not moments, for those of a Cauchy density do not exist.
    """
    size = len(integrand_starts(integrand)[0])
    frame = _laplace(integrand) or Frame(np.zeros(size), np.eye(size))
    for _ in range(10):
        found = reach(integrand, frame)
        if not np.isfinite(found.total) or _reaches_the_end(found):
            break
        frame, settled = _recentred(frame, found)
        if settled:
            break
    return frame


def integrand_starts(integrand: Integrand) -> np.ndarray:
    from unnorm.partition.nodes import free_size

    size = free_size(integrand.density)
    signed = sorted({sign * step for step in LADDERS[size] for sign in (-1, 1)}, key=abs)
    return np.array(list(itertools.product(signed, repeat=size)))


# -- climbing -------------------------------------------------------------------------------------------------------------
@jax.jit
def _climb(density: Density, states: dict, starts: jax.Array):
    """Damped Newton ascents: the ends (K, D), the values there, and minus the Hessians."""

    def value(u):
        height = log_mass_at(density, states, u)[0]
        return jnp.where(jnp.isnan(height), -jnp.inf, height)

    def climb(_, u):
        slope = jnp.nan_to_num(jax.grad(value)(u), posinf=0.0, neginf=0.0)
        curves, axes = jnp.linalg.eigh(-jnp.nan_to_num(jax.hessian(value)(u), posinf=0.0, neginf=0.0))
        step = axes @ ((axes.T @ slope) / jnp.maximum(jnp.abs(curves), 1e-10))
        length, most = jnp.linalg.norm(step), 2.0 * (1.0 + jnp.linalg.norm(u))
        step = step * jnp.minimum(1.0, most / jnp.maximum(length, 1e-30))
        tries = u + jnp.asarray([0.0, 1.0, 2.0, 0.3, 0.05, 0.003])[:, None] * step
        return tries[jnp.argmax(jax.vmap(value)(tries))]

    def run(u):
        u = jax.lax.fori_loop(0, STEPS, climb, u)
        return u, value(u), -jax.hessian(value)(u)

    return jax.vmap(run)(starts)


def _laplace(integrand: Integrand) -> Frame | None:
    """Centre and covariance of the mixture of the modes, each with its Laplace mass."""
    starts = integrand_starts(integrand)
    heights, resolved = integrand(starts)
    heights = np.where(resolved & np.isfinite(heights), heights, -np.inf)
    order = np.argsort(-heights, kind="stable")
    order = order[np.isfinite(heights[order])]
    if not len(order):
        return None
    top = order[: CLIMBERS // 2]
    rest = order[np.linspace(0, len(order) - 1, CLIMBERS - len(top)).astype(int)]
    chosen = np.resize(np.concatenate([top, rest]), CLIMBERS)
    ends = _climb(integrand.density, integrand.states, jnp.asarray(starts[chosen], jnp.result_type(float)))
    integrand.evaluations += CLIMBERS * integrand.count * (1 + 6 * STEPS)
    modes = _distinct(*(np.asarray(part, float) for part in ends))
    return _mixture(modes) if modes else None


def _covariance(precision: np.ndarray) -> np.ndarray:
    """The inverse, with directions of no or of upward curvature made wide but finite."""
    curves, axes = np.linalg.eigh(np.nan_to_num(precision))
    good = curves > 1e-8 * max(curves.max(), 0.0)
    largest = 1 / math.sqrt(curves[good].min()) if good.any() else 1.0
    deviations = np.where(good, 1 / np.sqrt(np.where(good, curves, 1.0)), FLAT * largest)
    return (axes * deviations**2) @ axes.T


def _distinct(ends, heights, precisions) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """The modes (place, covariance, log mass) among the ends of the climbs, each once."""
    modes = []
    for i in np.argsort(-np.nan_to_num(heights, nan=-np.inf), kind="stable"):
        if not np.isfinite(heights[i]) or not np.all(np.abs(ends[i]) < RUNAWAY):
            continue
        covariance = _covariance(precisions[i])
        gaps = [(ends[i] - place) @ np.linalg.solve(other, ends[i] - place) for place, other, _ in modes]
        if min(gaps, default=np.inf) > 0.01:
            modes.append((ends[i], covariance, heights[i] + 0.5 * np.linalg.slogdet(covariance)[1]))
    return modes


def _mixture(modes) -> Frame:
    places, covariances, masses = (np.array(part) for part in zip(*modes, strict=True))
    weights = softmax(masses)
    centre = weights @ places
    apart = places - centre
    whole = np.einsum("k,kij->ij", weights, covariances) + (apart.T * weights) @ apart
    return Frame(centre, np.linalg.cholesky(whole))


# -- correcting ----------------------------------------------------------------------------------------------------------
def _reaches_the_end(found: Cells) -> bool:
    from unnorm.partition.grid import leaks

    return bool(leaks(found, 1e-6))


def _recentred(frame: Frame, found: Cells) -> tuple[Frame, bool]:
    """Move the rule's centre to the median and its scale to half the distance of the 16% and 84% quantiles."""
    low, middle, high = np.array([_quantiles(found, i) for i in range(len(found.axes))]).T
    scale = np.maximum((high - low) / 2, 1e-12)
    shape = _correlation(found, middle, scale)
    settled = np.all(np.abs(middle) < 0.3) and np.all((scale > 0.6) & (scale < 1.7)) and np.all(np.abs(shape) - np.eye(len(scale)) < 0.3)
    if settled:
        return frame, True
    return Frame(frame.centre + frame.factor @ middle, frame.factor @ np.diag(scale) @ np.linalg.cholesky(shape)), False


def _quantiles(found: Cells, axis: int) -> np.ndarray:
    """The 16%, 50% and 84% quantiles of sinh(t) on an axis."""
    t = found.axes[axis]
    step = t[1] - t[0]
    below = np.concatenate([[0.0], np.cumsum(softmax(found.margin(axis)))])
    edges = np.concatenate([t - step / 2, [t[-1] + step / 2]])
    return np.sinh(np.interp([0.16, 0.5, 0.84], below, edges))


def _correlation(found: Cells, middle: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The correlation of the standardized coordinates, cut at four scales for heavy tails; none where it is weak.

    A weak one is left alone: turning the axes of a product of heavy tails would only do harm.
    """
    size = len(found.axes)
    if size == 1:
        return np.eye(1)
    weights = softmax(found.log_mass)
    z = [np.clip((np.sinh(t) - m) / s, -4, 4) for t, m, s in zip(found.axes, middle, scale, strict=True)]
    grids = np.stack([part.ravel() for part in np.meshgrid(*z, indexing="ij")])
    apart = grids - (grids @ weights.ravel())[:, None]
    covariance = (apart * weights.ravel()) @ apart.T
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    correlation = covariance / np.outer(spread, spread)
    np.fill_diagonal(correlation, 1.0)
    if np.abs(correlation - np.eye(size)).max() < 0.3:
        return np.eye(size)
    return 0.999 * correlation + 0.001 * np.eye(size)

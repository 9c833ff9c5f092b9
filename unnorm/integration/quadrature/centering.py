"""Where the mass of a density lies: the centre and scale of a quadrature rule, found without
randomness.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.frame import Frame
from unnorm.integration.quadrature.grid import Grid, heavy_tails, widen_range
from unnorm.integration.quadrature.integrand import Integrand, log_mass_at
from unnorm.integration.quadrature.laplace import Mode, distinct_modes
from unnorm.integration.quadrature.modes import (
    heavy_modes,
    mixture_frame,
    search_range,
    search_steps,
)
from unnorm.integration.quadrature.unseen_mass import Scan, local_maxima, scan_about


class Location(NamedTuple):
    """Where a rule goes: its frame, the steps in t that miss no mode, the modes, whether an ascent
    escaped to infinity, and the scans.
    """

    frame: Frame
    steps: np.ndarray
    modes: list[Mode]
    escaped: bool
    scans: list[Scan]


class Ascents(NamedTuple):
    """The ends of ascents (K, D), the values there, and minus the Hessians."""

    ends: np.ndarray
    heights: np.ndarray
    precisions: np.ndarray

    def join(self, other: "Ascents") -> "Ascents":
        """Both together."""
        return Ascents(*(np.concatenate(parts) for parts in zip(self, other, strict=True)))


def locate_mass(integrand: Integrand, far: bool = False) -> Location:
    """Centre and scale a rule by Newton ascents, then by quantiles of the mass on a grid.

    Quantiles and not moments, because those of a Cauchy density do not exist. The scale is only
    ever narrowed: with sinh in front of it, a scale that is too small costs a logarithm of nodes,
    and one that is too large hides the peak.

    Args:
        integrand: log p̃ in unconstrained coordinates.
        far: whether to scan all scales about the modes that the first ascents find.
    """
    options = integrand.options
    size = integrand.view.dimension
    starts = starting_points(options.centering.ladders[size - 1], size)
    ascents = _ascend(integrand, _choose(integrand, starts))
    scans: list[Scan] = []
    modes, escaped = _modes(integrand, ascents)
    while (
        far
        and not escaped
        and len(scans) < options.centering.max_scans
        and (frame := _next_scan_frame(modes, scans, size))
    ):
        scans.append(scan_about(integrand, frame))
        further = local_maxima(scans[-1])[: options.centering.max_further_ascents]
        ascents = ascents.join(_ascend(integrand, further))
        modes, escaped = _modes(integrand, ascents)
    frame = mixture_frame(modes) if modes else Frame(np.zeros(size), np.eye(size))
    widest = options.grid.widest_step
    for _ in range(options.centering.corrections):
        steps, sides = search_steps(frame, modes, widest), search_range(frame, modes)
        grid = widen_range(integrand, frame, steps, sides)
        coarse = _coarse_at_bounds(grid, frame, options.centering.min_resolved)
        if coarse.any():
            frame = Frame(frame.centre, frame.factor * np.where(coarse, 0.1, 1.0))
            continue
        if not np.isfinite(grid.total) or heavy_tails(integrand, grid, 1e-6):
            break
        frame, unchanged = _recentre(frame, grid)
        if unchanged:
            break
    return Location(frame, search_steps(frame, modes, widest), modes, escaped, scans)


def _next_scan_frame(modes: list[Mode], scans: list[Scan], size: int) -> Frame | None:
    """The frame of the heaviest mode without a scan; the origin, once, if there are no modes."""
    if not modes and not scans:
        return Frame(np.zeros(size), np.eye(size))
    for mode in heavy_modes(modes):
        if not any(np.allclose(mode.place, scan.frame.centre) for scan in scans):
            return mode.frame
    return None


# -- ascents -----------------------------------------------------------------------------
def starting_points(ladder: tuple[float, ...], size: int) -> np.ndarray:
    """Where ascents may start (K, D): all combinations of both signs of a ladder of values."""
    signed = sorted({sign * step for step in ladder for sign in (-1, 1)}, key=abs)
    return np.array(list(itertools.product(signed, repeat=size)))


@compiled(static_argnames="steps")
def _newton_ascents(view: Unconstrained, states: dict, starts: jax.Array, *, steps: int):
    """Damped Newton ascents: the ends (K, D), the values there, and minus the Hessians."""

    def value(u):
        height = log_mass_at(view, states, u)[0]
        return jnp.where(jnp.isnan(height), -jnp.inf, height)

    def ascend(_, u):
        gradient = jnp.nan_to_num(jax.grad(value)(u), posinf=0.0, neginf=0.0)
        hessian = jnp.nan_to_num(jax.hessian(value)(u), posinf=0.0, neginf=0.0)
        curves, axes = jnp.linalg.eigh(-hessian)
        step = axes @ ((axes.T @ gradient) / jnp.maximum(jnp.abs(curves), 1e-10))
        length, most = jnp.linalg.norm(step), 2.0 * (1.0 + jnp.linalg.norm(u))
        step = step * jnp.minimum(1.0, most / jnp.maximum(length, 1e-30))
        trials = u + jnp.asarray([0.0, 1.0, 2.0, 0.3, 0.05, 0.003])[:, None] * step
        return trials[jnp.argmax(jax.vmap(value)(trials))]

    def run(u):
        u = jax.lax.fori_loop(0, steps, ascend, u)
        return u, value(u), -jax.hessian(value)(u)

    return jax.vmap(run)(starts)


def _choose(integrand: Integrand, starts: np.ndarray) -> np.ndarray:
    """The highest of the starts and some others."""
    ascents = integrand.options.centering.ascents
    heights = integrand.values_at(starts)
    order = np.argsort(-heights, kind="stable")
    order = order[np.isfinite(heights[order])]
    if not len(order):
        return starts[:0]
    top = order[: ascents // 2]
    rest = order[np.linspace(0, len(order) - 1, ascents - len(top)).astype(int)]
    return starts[np.concatenate([top, rest])]


def _ascend(integrand: Integrand, starts: np.ndarray) -> Ascents:
    """Ascents from any number of starts."""
    size, options = starts.shape[1], integrand.options.centering
    together, steps = options.ascents, options.steps
    found = Ascents(np.zeros((0, size)), np.zeros(0), np.zeros((0, size, size)))
    for first in range(0, len(starts), together):
        some = starts[first : first + together]
        chosen = jnp.asarray(np.resize(some, (together, size)), jnp.result_type(float))
        ends = _newton_ascents(integrand.view, integrand.states, chosen, steps=steps)
        found = found.join(Ascents(*(np.asarray(part, float)[: len(some)] for part in ends)))
        integrand.evaluations += together * integrand.count * (1 + 6 * steps)
        integrand.gradients += together * integrand.count * (1 + steps) * (1 + size)
    return found


def _modes(integrand: Integrand, ascents: Ascents) -> tuple[list[Mode], bool]:
    """The modes among the ends of ascents, and whether an ascent escaped to infinity."""
    ends, heights, precisions = ascents
    if not len(ends):
        return [], False
    resolved = np.isfinite(integrand.values_at(ends))
    modes = distinct_modes(ends, np.where(resolved, heights, -np.inf), precisions)
    best = max((mode.height for mode in modes), default=-np.inf)
    far = np.linalg.norm(ends, axis=1) > integrand.options.centering.far
    return modes, bool(np.any(far & (np.nan_to_num(heights, nan=-np.inf) > best + 1)))


# -- correction --------------------------------------------------------------------------
def _coarse_at_bounds(grid: Grid, frame: Frame, least: int) -> np.ndarray:
    """The axes of which few slabs lie between the centre and the place where values round onto a
    bound: the scale, from the curvature of a plateau, is far wider than an e-fold.
    """
    found = np.linalg.norm(frame.factor, axis=0) > 1
    for i in np.flatnonzero(found).tolist():
        unresolved, upper = grid.unresolved(i), grid.axes[i] > 0
        sides = [unresolved[upper], unresolved[~upper]]
        found[i] = any(side.any() and (~side).sum() < least for side in sides)
    return found


def _recentre(frame: Frame, grid: Grid) -> tuple[Frame, bool]:
    """Move a far centre to the median, and narrow the scale to half the distance of the 16% and 84%
    quantiles; also whether nothing had to change.
    """
    low, middle, high = np.array([_quantiles(grid, i) for i in range(len(grid.axes))]).T
    middle = np.where(np.abs(middle) > 1, middle, 0.0)
    scale = np.clip((high - low) / 2, 1e-12, 1.0)
    correlation = _correlation(grid, middle, scale)
    if not middle.any() and np.all(scale > 0.6) and np.all(correlation == np.eye(len(scale))):
        return frame, True
    factor = frame.factor @ np.diag(scale) @ np.linalg.cholesky(correlation)
    return Frame(frame.centre + frame.factor @ middle, factor), False


def _quantiles(grid: Grid, axis: int) -> np.ndarray:
    """The 16%, 50% and 84% quantiles of sinh(t) on an axis."""
    t = grid.axes[axis]
    step = t[1] - t[0]
    below = np.concatenate([[0.0], np.cumsum(softmax(grid.margin(axis)))])
    edges = np.concatenate([t - step / 2, [t[-1] + step / 2]])
    return np.sinh(np.interp([0.16, 0.5, 0.84], below, edges))


def _correlation(grid: Grid, middle: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The correlation of the standardized coordinates, cut at four scales for heavy tails.

    A weak one counts as none: turning the axes of a product of heavy tails would only do harm.
    """
    size = len(grid.axes)
    if size == 1:
        return np.eye(1)
    weights = softmax(grid.log_mass)
    z = [
        np.clip((np.sinh(t) - m) / s, -4, 4)
        for t, m, s in zip(grid.axes, middle, scale, strict=True)
    ]
    points = np.stack([part.ravel() for part in np.meshgrid(*z, indexing="ij")])
    offsets = points - (points @ weights.ravel())[:, None]
    covariance = (offsets * weights.ravel()) @ offsets.T
    deviations = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    correlation = covariance / np.outer(deviations, deviations)
    np.fill_diagonal(correlation, 1.0)
    if np.abs(correlation - np.eye(size)).max() < 0.3:
        return np.eye(size)
    return 0.999 * correlation + 0.001 * np.eye(size)


__all__ = ["Location", "locate_mass", "starting_points"]

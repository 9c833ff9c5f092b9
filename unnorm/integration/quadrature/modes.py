"""Modes, and one quadrature rule for all of them or one for each.

Where a narrow mode lies far off, no single grid resolves all modes. Then log p̃ is split,
p̃ = Σ_k p̃ ρ_k with Σ_k ρ_k = 1. ρ_k ∝ (s_k (1 + d_k²))^-power, d_k the distance from mode k in its
own scale s_k: it passes from a narrow mode to a wide one at about the geometric mean of their
scales, where neither changes fast, and over a distance that is a fixed share of that.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, softmax

from unnorm.integration.frame import Frame
from unnorm.integration.quadrature.integrand import Integrand
from unnorm.integration.quadrature.laplace import Mode


def heavy_modes(modes: list[Mode], within: float = 25.0) -> list[Mode]:
    """The modes whose log mass is within so many nats of the heaviest, the heaviest first."""
    modes = sorted(modes, key=lambda mode: -mode.log_mass)
    return [mode for mode in modes if mode.log_mass > modes[0].log_mass - within]


def mixture_frame(modes: list[Mode]) -> Frame:
    """The mean and the covariance of the modes, weighted by their Laplace masses."""
    places = np.array([m.place for m in modes])
    covariances = np.array([m.covariance for m in modes])
    weights = softmax([m.log_mass for m in modes])
    centre = weights @ places
    offsets = places - centre
    whole = np.einsum("k,kij->ij", weights, covariances) + (offsets.T * weights) @ offsets
    return Frame(centre, np.linalg.cholesky(whole))


def _t_of(frame: Frame, mode: Mode) -> np.ndarray:
    return np.arcsinh(np.linalg.solve(frame.factor, mode.place - frame.centre))


def search_range(frame: Frame, modes: list[Mode]) -> np.ndarray:
    """The initial sides (D, 2) of t for the search of the range; they enclose the heavy modes."""
    sides = np.array([[-4.0, 4.0]] * len(frame.centre))
    for mode in heavy_modes(modes):
        t = _t_of(frame, mode)
        sides = np.stack([np.minimum(sides[:, 0], t - 1), np.maximum(sides[:, 1], t + 1)], 1)
    return sides


def search_steps(frame: Frame, modes: list[Mode], widest: float) -> np.ndarray:
    """The step of t on each axis that resolves every heavy mode: a fraction of its width there."""
    steps = np.full(len(frame.centre), widest)
    for mode in heavy_modes(modes):
        z = np.linalg.solve(frame.factor, mode.place - frame.centre)
        curves = np.diag(frame.factor.T @ mode.precision @ frame.factor)
        widths = 1 / np.sqrt(np.maximum(np.nan_to_num(curves), 1e-30))
        steps = np.minimum(steps, 0.7 * widths / np.sqrt(1 + z**2))
    return np.maximum(steps, 1e-10)


# -- splitting -----------------------------------------------------------------------------
class ModeShare:
    """The part p̃ ρ_k of an integrand that belongs to one mode."""

    def __init__(self, integrand: Integrand, modes: list[Mode], number: int) -> None:
        self.integrand, self.modes, self.number = integrand, modes, number
        self.count, self.options = integrand.count, integrand.options

    def __call__(self, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and whether they are resolved, as of an `Integrand`."""
        values, resolved = self.integrand(free)
        return values + self._log_share(free), resolved

    def _log_share(self, free: np.ndarray) -> np.ndarray:
        power = self.options.split.power
        with np.errstate(over="ignore"):
            logs = [
                -power * (np.log1p(mode.squared_distance(free)) + math.log(mode.scale))
                for mode in self.modes
            ]
        return logs[self.number] - logsumexp(logs, axis=0)


class Part(NamedTuple):
    """The problem of one rule: integrand, frame, steps in t, initial sides, span of the modes."""

    integrand: Integrand | ModeShare
    frame: Frame
    steps: np.ndarray
    sides: np.ndarray
    modes: np.ndarray
    hidden: float = 0.0  # share of the part at narrower modes, which larger steps may miss


def split_by_mode(
    integrand: Integrand, frame: Frame, steps: np.ndarray, modes: list[Mode], max_nodes: int
) -> list[Part]:
    """One part for all modes if it needs few enough nodes, else one part for each mode."""
    options, heavy = integrand.options.split, heavy_modes(modes)
    sides = search_range(frame, modes)
    nodes = _node_count(sides, steps) * integrand.count
    cheap = nodes <= min(options.cheap_nodes[len(sides) - 1], max_nodes)
    if cheap or not 1 < len(heavy) <= options.max_parts:
        return [Part(integrand, frame, steps, sides, _span(frame, heavy))]
    parts = []
    for k, mode in enumerate(heavy):
        own = mode.frame
        finer, hidden = _steps_past(own, mode, heavy, integrand)
        sides, room = search_range(own, [mode]), max_nodes / len(heavy) / integrand.count
        if _node_count(sides, finer) <= room:
            hidden = 0.0
        share = ModeShare(integrand, heavy, k)
        parts.append(Part(share, own, finer, sides, _span(own, [mode]), hidden))
    return parts


def _node_count(sides: np.ndarray, steps: np.ndarray) -> float:
    return math.prod(2 * np.ceil((sides[:, 1] - sides[:, 0]) / steps))


def _steps_past(
    frame: Frame, mode: Mode, modes: list[Mode], integrand: Integrand
) -> tuple[np.ndarray, float]:
    """Steps of t that resolve where narrower modes are cut out of a part, and their share."""
    size, hidden, options = len(mode.place), 0.0, integrand.options
    steps = np.full(size, options.grid.widest_step)
    for other in modes:
        squared = float(mode.squared_distance(other.place[None])[0])
        if other is mode or squared > options.split.overlap**2 or other.scale >= mode.scale:
            continue
        radius = math.sqrt(other.scale / mode.scale * (1 + squared))
        z = np.linalg.solve(frame.factor, other.place - frame.centre)
        steps = np.minimum(steps, 0.5 * radius / np.sqrt(1 + z**2))
        hidden += min(1.0, math.exp(-0.5 * squared) * radius**size)
    return steps, hidden


def _span(frame: Frame, modes: list[Mode]) -> np.ndarray:
    """The sides (D, 2) of t between which the modes lie."""
    if not modes:
        return np.zeros((len(frame.centre), 2))
    t = [_t_of(frame, mode) for mode in modes]
    return np.stack([np.min(t, 0), np.max(t, 0)], 1)


__all__ = [
    "ModeShare",
    "Part",
    "heavy_modes",
    "mixture_frame",
    "search_range",
    "search_steps",
    "split_by_mode",
]

"""One rule for all modes, or a rule for each: where a narrow mode lies far off, no single grid
resolves both.

log p̃ is then split into parts, p̃ = Σ_k p̃ ρ_k with Σ_k ρ_k = 1. ρ_k ~ (s_k (1 + d_k²))^-POWER,
d_k the distance from mode k in its own scale s_k: it passes from a narrow mode to a wide one about
the geometric mean of their scales away, where neither changes fast, and over a distance that is a
fixed share of that.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from unnorm.integration.adaptive_grid import Integrand
from unnorm.integration.centering import WIDEST, Found, Mode, span, weighty
from unnorm.integration.nodes import Frame

POWER = 6.0
OVERLAP = 9.0  # scales of a mode within which its part must resolve the places of narrower ones
MOST_PARTS = 12
CHEAP = {
    1: 2**16,
    2: 2**19,
    3: 2**19,
}  # nodes, by dimension: a rule for all modes that takes more is split


class Part(NamedTuple):
    """What a rule is laid over: an integrand, its frame, the steps in t, where to begin, and the
    span of its modes.
    """

    integrand: "Integrand | Share"
    frame: Frame
    steps: np.ndarray
    sides: np.ndarray
    modes: np.ndarray
    hidden: float = (
        0.0  # the share of the part at narrower modes, which steps above the wanted ones may miss
    )


class Share:
    """The part of an integrand that belongs to one mode."""

    def __init__(self, integrand: Integrand, modes: list[Mode], number: int):
        self.integrand, self.modes, self.number = integrand, modes, number
        self.density, self.count = integrand.density, integrand.count

    def __call__(self, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, resolved = self.integrand(free)
        return values + self._log_share(free), resolved

    def _log_share(self, free: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            logs = [
                -POWER * (np.log1p(_squared(free, mode)) + math.log(_scale(mode)))
                for mode in self.modes
            ]
        return logs[self.number] - logsumexp(logs, axis=0)


def _squared(free: np.ndarray, mode: Mode) -> np.ndarray:
    """The squared distance of points from a mode, in its own scale."""
    z = np.linalg.solve(np.linalg.cholesky(mode.covariance), (free - mode.place).T)
    return np.minimum(np.sum(z**2, 0), 1e300)


def _scale(mode: Mode) -> float:
    return float(np.exp(np.linalg.slogdet(mode.covariance)[1] / (2 * len(mode.place))))


def parts_of(integrand: Integrand, found: Found, most: int) -> list[Part]:
    """All modes as one part where its nodes are few enough, else one part for each of them."""
    modes, sides = weighty(found.modes), span(found.frame, found.modes)
    whole = Part(integrand, found.frame, found.steps, sides, _of_modes(found.frame, modes))
    nodes = math.prod(2 * np.ceil((sides[:, 1] - sides[:, 0]) / found.steps)) * integrand.count
    if nodes <= min(CHEAP[len(sides)], most) or not 1 < len(modes) <= MOST_PARTS:
        return [whole]
    parts = []
    for k, mode in enumerate(modes):
        frame = Frame(mode.place, np.linalg.cholesky(mode.covariance))
        steps, hidden = _steps_past(frame, mode, modes)
        sides, room = span(frame, [mode]), most / len(modes) / integrand.count
        if math.prod(2 * np.ceil((sides[:, 1] - sides[:, 0]) / steps)) <= room:
            hidden = 0.0
        own = _of_modes(frame, [mode])
        parts.append(Part(Share(integrand, modes, k), frame, steps, sides, own, hidden))
    return parts


def _steps_past(frame: Frame, mode: Mode, modes: list[Mode]) -> tuple[np.ndarray, float]:
    """Steps of t that resolve where narrower modes are cut out of a mode's part, and the share that
    lies there.
    """
    size, hidden = len(mode.place), 0.0
    steps = np.full(size, WIDEST)
    for other in modes:
        squared = float(_squared(other.place[None], mode)[0])
        if other is mode or squared > OVERLAP**2 or _scale(other) >= _scale(mode):
            continue
        radius = math.sqrt(_scale(other) / _scale(mode) * (1 + squared))
        z = np.linalg.solve(frame.factor, other.place - frame.centre)
        steps = np.minimum(steps, 0.5 * radius / np.sqrt(1 + z**2))
        hidden += min(1.0, math.exp(-0.5 * squared) * radius**size)
    return steps, hidden


def _of_modes(frame: Frame, modes: list[Mode]) -> np.ndarray:
    """The sides (D, 2) of t between which the modes lie."""
    if not modes:
        return np.zeros((len(frame.centre), 2))
    t = [np.arcsinh(np.linalg.solve(frame.factor, mode.place - frame.centre)) for mode in modes]
    return np.stack([np.min(t, 0), np.max(t, 0)], 1)


__all__ = ["Part", "parts_of"]

"""One rule for all modes, or a rule for each: where a narrow mode lies far off, no single grid resolves both.

log p̃ is then split into parts, p̃ = Σ_k p̃ ρ_k with Σ_k ρ_k = 1: ρ_k is near 1 about mode k, and passes to the other
modes over distances in proportion to those from the modes, which a rule in sinh(t) follows.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from unnorm.partition.frame import WIDEST, Found, Mode, span, weighty
from unnorm.partition.grid import Integrand
from unnorm.partition.nodes import Frame

POWER = 10.0  # of the share ρ_k ~ (1 + d_k²)^-POWER, d_k the distance in the mode's own scale: how sharply it passes
MOST_PARTS = 12
CHEAP = 1 / 8  # of the nodes that may be: a rule for all modes that takes more is split


class Part(NamedTuple):
    """What a rule is laid over: an integrand, its frame, the steps in t, where to begin, and the span of its modes."""

    integrand: "Integrand | Share"
    frame: Frame
    steps: np.ndarray
    sides: np.ndarray
    modes: np.ndarray


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
            logs = np.array([-POWER * np.log1p(self._distance(free, mode)) for mode in self.modes])
        return logs[self.number] - logsumexp(logs, axis=0)

    @staticmethod
    def _distance(free: np.ndarray, mode: Mode) -> np.ndarray:
        z = np.linalg.solve(np.linalg.cholesky(mode.covariance), (free - mode.place).T)
        return np.minimum(np.sum(z**2, 0), 1e300)


def parts_of(integrand: Integrand, found: Found, most: int) -> list[Part]:
    """All modes as one part where its nodes are few enough, else one part for each of them."""
    modes, sides = weighty(found.modes), span(found.frame, found.modes)
    whole = Part(integrand, found.frame, found.steps, sides, _of_modes(found.frame, modes))
    nodes = math.prod(2 * np.ceil((sides[:, 1] - sides[:, 0]) / found.steps)) * integrand.count
    if nodes <= CHEAP * most or not 1 < len(modes) <= MOST_PARTS:
        return [whole]
    parts = []
    for k, mode in enumerate(modes):
        frame = Frame(mode.place, np.linalg.cholesky(mode.covariance))
        steps = np.full(len(mode.place), WIDEST)
        parts.append(Part(Share(integrand, modes, k), frame, steps, span(frame, [mode]), _of_modes(frame, [mode])))
    return parts


def _of_modes(frame: Frame, modes: list[Mode]) -> np.ndarray:
    """The sides (D, 2) of t between which the modes lie."""
    if not modes:
        return np.zeros((len(frame.centre), 2))
    t = [np.arcsinh(np.linalg.solve(frame.factor, mode.place - frame.centre)) for mode in modes]
    return np.stack([np.min(t, 0), np.max(t, 0)], 1)


__all__ = ["Part", "parts_of"]

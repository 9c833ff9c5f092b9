"""Two-dimensional toys, with their Z in closed form and exact samples by NumPy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from unnorm.declaration.density import density
from unnorm.supports import Interval, Positive, Real

__all__ = ["SAMPLERS", "checkerboard", "eight_gaussians", "two_moons", "two_spirals"]


# -- where the mass is -----------------------------------------------------------------------------
def _circle_of_eight() -> np.ndarray:
    angle = np.arange(8) * np.pi / 4
    return 2.0 * np.stack([np.cos(angle), np.sin(angle)], 1)


def _moon(angle: np.ndarray, lower: np.ndarray) -> np.ndarray:
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.where(lower[:, None], [1.0, 0.5] - upper, upper)


def _spiral(turn: np.ndarray, arm: np.ndarray) -> np.ndarray:
    return (arm * turn / 4)[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)


def _midpoints(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced numbers in (0, 1), twice, and which of the two it is."""
    return np.tile((np.arange(count) + 0.5) / count, 2), np.repeat([True, False], count)


def _two_moons(count: int = 100) -> np.ndarray:
    part, second = _midpoints(count)
    return _moon(np.pi * part, second)


def _two_spirals(count: int = 200) -> np.ndarray:
    part, second = _midpoints(count)
    return _spiral(3 * np.pi * np.sqrt(part), np.where(second, 1.0, -1.0))


def _about(x, places, scale):
    """log Σ_p exp(−|x − p|² / 2 scale²), whose integral is 2π scale² times the number of places."""
    return logsumexp(-jnp.sum((x - places) ** 2, -1) / (2 * scale**2))


# -- the densities ---------------------------------------------------------------------------------
@density
def eight_gaussians(x: Real[2], *, scale: Positive = 0.2, places=_circle_of_eight()) -> jax.Array:  # noqa: B008
    """A toy with eight separated modes: normals on a circle of radius 2.

    log p̃(x) = log Σ_p exp(−|x − p|² / 2 scale²); log Z = log(8 · 2π scale²).

    Example:
        >>> import unnorm as un
        >>> round(float(un.models.eight_gaussians([2.0, 0.0])), 4)
        0.0

    References:
        Grathwohl et al. (2019), FFJORD, arXiv:1810.01367 (the toys).
    """
    return _about(x, places, scale)


@density
def two_moons(x: Real[2], *, scale: Positive = 0.1, places=_two_moons()) -> jax.Array:  # noqa: B008
    """A toy with two curved modes: half circles that reach into each other, blurred by normal
    noise.

    log p̃(x) = log Σ_p exp(−|x − p|² / 2 scale²) over 100 places on each half circle, too close to
    be told from the whole curve; log Z = log(200 · 2π scale²).

    Example:
        >>> import unnorm as un
        >>> p = un.models.two_moons
        >>> # Each moon is the other, rotated about (1/2, 1/4).
        >>> abs(float(p([0.0, 1.0]) - p([1.0, -0.5]))) < 1e-4
        True

    References:
        Grathwohl et al. (2019), FFJORD, arXiv:1810.01367 (the toys).
    """
    return _about(x, places, scale)


@density
def two_spirals(x: Real[2], *, scale: Positive = 0.1, places=_two_spirals()) -> jax.Array:  # noqa: B008
    """A toy with two long thin modes: spirals about the origin, blurred by normal noise.

    log p̃(x) = log Σ_p exp(−|x − p|² / 2 scale²) over 200 places on each arm; log Z = log(400 · 2π
    scale²).

    Example:
        >>> import unnorm as un
        >>> float(un.models.two_spirals([0.3, 0.1])) == float(un.models.two_spirals([-0.3, -0.1]))
        True

    References:
        Grathwohl et al. (2019), FFJORD, arXiv:1810.01367 (the toys).
    """
    return _about(x, places, scale)


@density
def checkerboard(x: Interval(-2, 2)[2]) -> jax.Array:
    """A toy with walls: uniform on eight of the sixteen unit squares of [-2, 2]².

    log p̃(x) = 0 where ⌊x_0⌋ + ⌊x_1⌋ is even, else −∞; log Z = log 8. No gradient leads from one
    square to another: a random walk or a kernel with a proposal of its own crosses, and score
    matching has nothing to hold on to.

    Example:
        >>> import unnorm as un
        >>> float(un.models.checkerboard([0.5, 0.5])), float(un.models.checkerboard([0.5, 1.5]))
        (0.0, -inf)

    References:
        Grathwohl et al. (2019), FFJORD, arXiv:1810.01367 (the toys).
    """
    return jnp.where(jnp.sum(jnp.floor(x)) % 2 == 0, 0.0, -jnp.inf)


# -- exact samples, at the declared scales ---------------------------------------------------------
def _sample_eight_gaussians(rng: np.random.Generator, rows: int) -> np.ndarray:
    return _circle_of_eight()[rng.integers(8, size=rows)] + rng.normal(0, 0.2, (rows, 2))


def _sample_two_spirals(rng: np.random.Generator, rows: int) -> np.ndarray:
    turn = 3 * np.pi * np.sqrt(rng.uniform(size=rows))
    return _spiral(turn, rng.choice([-1.0, 1.0], rows)) + rng.normal(0, 0.1, (rows, 2))


def _sample_checkerboard(rng: np.random.Generator, rows: int) -> np.ndarray:
    column, row = rng.integers(-2, 2, rows), rng.integers(-1, 1, rows)
    corner = np.stack([column, 2 * row + column % 2], 1)
    return corner + rng.uniform(size=(rows, 2))


def _sample_two_moons(rng: np.random.Generator, rows: int) -> np.ndarray:
    angle, lower = np.pi * rng.uniform(size=rows), rng.uniform(size=rows) < 0.5
    return _moon(angle, lower) + rng.normal(0, 0.1, (rows, 2))


# Rows that follow a toy exactly: SAMPLERS["two_moons"](numpy.random.default_rng(0), 1000) is (1000,
# 2).
SAMPLERS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "eight_gaussians": _sample_eight_gaussians,
    "two_spirals": _sample_two_spirals,
    "checkerboard": _sample_checkerboard,
    "two_moons": _sample_two_moons,
}

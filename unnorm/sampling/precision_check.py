"""Whether a precision resolves the differences of a log-density: a large constant leaves no digits
for them.
"""

from typing import Any

import jax
import numpy as np

from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.engine import scan
from unnorm.sampling.initialization import given_starts

POINTS = 8  # at which the log-density is evaluated in both precisions
COARSE = 0.05  # rounding of log p̃ between random points that matters, and at draws
RELATIVE = 1e-3  # of their spread: far from the mass log p̃ is huge, and its rounding harmless


def unresolved_at_starts(p: Density, start: Any, seed: int, count: int) -> str | None:
    """Return what float32 loses at the starts and other random positions, as a clause; None where
    it is enough.
    """
    try:
        noise, spread, size = _rounding(p, _around_starts(p, start, seed, count))
    except Exception:  # what cannot be evaluated is refused by the run itself, in a sentence
        return None
    return _clause(noise, size) if noise > max(COARSE, RELATIVE * spread) else None


def _around_starts(p: Density, start: Any, seed: int, count: int) -> dict:
    with jax.enable_x64(False):
        target = Unconstrained(cast(p.bare(), np.float32))
        keys = scan.chain_keys(jax.random.key(seed, impl="threefry2x32"), POINTS)
        positions = scan.random_starts(target, keys, 0, np.dtype(np.float32))
        if start is not None and not isinstance(start, str):
            given = given_starts(target, start, count, np.dtype(np.float32))
            positions = {
                name: value.at[: min(count, POINTS // 2)].set(given[name][: POINTS // 2])
                for name, value in positions.items()
            }
        return jax.tree.map(np.asarray, positions)


def unresolved_at(p: Density, positions: dict, dtype: np.dtype) -> str | None:
    """The same for the positions of chains that have warmed up; in float64, what its own digits
    leave.
    """
    repeated = {
        name: np.resize(np.asarray(value), (POINTS, *value.shape[1:]))
        for name, value in positions.items()
    }
    if dtype == np.float64:
        size = float(np.median(np.abs(_values(p, repeated, dtype))))
        noise = size * float(np.finfo(dtype).eps) / 2
    else:
        noise, _, size = _rounding(p, repeated)
    return _clause(noise, size) if noise > COARSE else None


def _rounding(p: Density, positions: dict) -> tuple[float, float, float]:
    """By how much float32 misses differences of log p̃ between positions, how large these are, and
    |log p̃|.
    """
    values, exact = (_values(p, positions, np.dtype(dtype)) for dtype in (np.float32, np.float64))
    good = np.isfinite(values) & np.isfinite(exact)
    if good.sum() < 2:
        return 0.0, 0.0, 0.0
    values, exact = values[good], exact[good]
    size = float(np.median(np.abs(exact)))
    noise = max(float(np.ptp(values - exact)) / 2, size * float(np.finfo(np.float32).eps) / 2)
    return noise, float(np.ptp(exact)), size


def _values(p: Density, positions: dict, dtype: np.dtype) -> np.ndarray:
    with jax.enable_x64(dtype == np.float64):
        target = Unconstrained(cast(p.bare(), dtype))
        return np.asarray(scan.values_at(target, cast(positions, dtype)), float)


def _clause(noise: float, size: float) -> str:
    return f"rounding moves log p̃ by about {noise:.2g}, for its values are near {size:.2g} in size"

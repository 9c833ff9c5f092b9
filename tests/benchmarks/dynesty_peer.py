"""dynesty (extra `bench`) on the scoreboard's continuous targets, at the defaults of its static
sampler.

The dynamic one weighs the posterior by .8, the evidence by .2, and is left out. Either wants a
normalized prior: a box here, its log volume added to what is found. A target that is unbounded gets
a box that leaves out less than 1e-4 of its mass.
"""

import math
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from log_z_targets import CORRELATED
from scipy import stats

try:
    import dynesty
except ImportError:
    dynesty = None

MOST_CALLS = 5_000_000  # a run is given up there, and said to be unfinished
# Half of the box's side, for each variable.
BOXES = {
    "gaussian": {"x": 8.0},
    "funnel": {"v": 15.0, "x": 1000.0},
    "shells": {"x": 6.0},
    "many well": {"x": 3.5, "y": 7.0},
    "spike": {"x": 8.0},
    "unequal shells": {"x": 6.0},
    "unequal pair": {"x": 10.0},
    "student": {"x": 1000.0},
}


def _gaussian(event):
    return -0.5 * event @ CORRELATED @ event


def _funnel(event):
    v, x = event[0], event[1:]
    return -(v**2) / 18 - 0.5 * (x @ x * np.exp(-v) + v * len(x))


def _many_well(event):
    x, y = event[:16], event[16:]
    squares = x * x
    return 0.5 * x.sum() + squares @ (6 - squares) - 0.5 * y @ y


# The dear ones as a user of dynesty writes them: it asks for one value at a time, and calling JAX
# is half of the time.
BY_HAND = {"gaussian": _gaussian, "funnel": _funnel, "many well": _many_well}


def _likelihood(name, density, widths):
    """log p̃ at a vector, and half of the box's side at each entry."""
    shapes = density.shapes()
    sizes = [math.prod(shapes[variable]) for variable in shapes]
    half = np.repeat([widths[variable] for variable in shapes], sizes)

    @jax.jit
    def compiled(flat):
        parts = zip(shapes, jnp.split(flat, np.cumsum(sizes)[:-1]), strict=True)
        return density.log_density(
            {variable: part.reshape(shapes[variable]) for variable, part in parts}
        )

    if name not in BY_HAND:
        return lambda flat: float(
            np.asarray(compiled(flat))
        ), half  # float() of an array of JAX takes twice as long
    inside = half * np.linspace(-0.3, 0.2, len(half))
    np.testing.assert_allclose(BY_HAND[name](inside), compiled(inside), rtol=1e-12)
    return BY_HAND[name], half


def _run(name: str, target, seed: int) -> dict:
    if name not in BOXES:
        raise ValueError(
            f"target {name} has no box in BOXES; dynesty is run on continuous targets of R^n alone."
        )
    began = time.perf_counter()
    with jax.enable_x64(True):
        value, half = _likelihood(name, target.density, BOXES[name])
        chance = np.random.default_rng(seed)
        sampler = dynesty.NestedSampler(
            value, lambda unit: half * (2 * unit - 1), len(half), rstate=chance
        )
        with warnings.catch_warnings(action="ignore"):  # its bounds' advice, at every one of them
            sampler.run_nested(print_progress=False, maxcall=MOST_CALLS)
    found = sampler.results
    log_z, error = float(found.logz[-1] + np.log(2 * half).sum()), float(found.logzerr[-1])
    calls, reach = int(np.sum(found.ncall)), stats.norm.ppf(0.975) * error
    return {
        "value": log_z,
        "standard_error": error,
        "lower": log_z - reach,
        "upper": log_z + reach,
        "verdict": "ok" if calls < MOST_CALLS else "unfinished",
        "values": calls,
        "gradients": 0,
        "seconds": time.perf_counter() - began,
        "said": [],
    }


PEERS = {"dynesty": _run} if dynesty else {}

__all__ = ["PEERS"]

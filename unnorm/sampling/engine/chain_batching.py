"""How many chains step together: a quick trial, for what is fastest depends on the density.

Its answer may change the rounding of a density, and so part chains in time: it stays for the
process and the store.
"""

import time
from typing import Any

import jax
import numpy as np

from unnorm.sampling.engine import scan

CANDIDATES = (64, 128, 256)
TURNS, BLOCKS = (
    6,
    2,
)  # of the trial; the quickest turn counts, for what disturbs one only makes it slower
FEWEST_CHAINS = 256  # below, all step together
FEWEST_STEPS = 2_000_000  # chain-steps: a shorter run is over before a trial pays
_chosen: dict[Any, int] = {}


def chain_block(run: Any, carry: Any, layout: scan.Layout, own: int) -> int:
    """The fastest of a few block sizes on this density, timed once and remembered."""
    each = own // layout.devices
    if each < FEWEST_CHAINS or own * run.plan.draws * run.plan.thin < FEWEST_STEPS:
        return 0
    question = (jax.tree.structure((run.kernel, run.target)), layout, each)
    if question not in _chosen:
        sizes = [0] + [size for size in CANDIDATES if size < each and each % size == 0]
        times = [
            [_seconds(run, carry, layout._replace(chain_block=size)) for size in sizes]
            for _ in range(TURNS + 1)
        ]
        _chosen[question] = sizes[int(np.argmin(np.min(times[1:], 0)))]  # the first turn compiles
    return _chosen[question]


def _seconds(run: Any, carry: Any, layout: scan.Layout) -> float:
    """How long a few blocks of steps take."""
    began = time.perf_counter()
    out = scan.sample_chunk(
        run.kernel, run.target, carry.tuning, carry.states, carry.moments, run.keys[run.plan.own_chains],
        np.arange(BLOCKS, dtype=np.int32), layout=layout,
    )  # fmt: skip
    jax.block_until_ready(out)
    return time.perf_counter() - began

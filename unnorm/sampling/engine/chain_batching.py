"""How many chains step together: a quick trial, for what is fastest depends on the density.

Its answer may change the rounding of a density, and so part chains in time: it stays for the
process and the store.
"""

import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from unnorm.sampling.engine import scan


@dataclass(frozen=True)
class BatchingOptions:
    """The trial of how many chains step together.

    Args:
        candidates: chains in a batch; all of them is always tried too.
        turns: of the trial; the fastest turn counts, because disturbances only slow one down.
        blocks: of steps in one turn.
        min_chains: per device, below which all chains step together.
        min_steps: of all chains together; a shorter run ends before a trial pays.
    """

    candidates: tuple[int, ...] = (64, 128, 256)
    turns: int = 6
    blocks: int = 2
    min_chains: int = 256
    min_steps: int = 2_000_000


_chosen: dict[Any, int] = {}


def chain_block(
    run: Any,
    carry: Any,
    layout: scan.Layout,
    own: int,
    options: BatchingOptions = BatchingOptions(),
) -> int:
    """The fastest of a few block sizes on this density, timed once and remembered."""
    each = own // layout.devices
    if each < options.min_chains or own * run.plan.draws * run.plan.thin < options.min_steps:
        return 0
    question = (jax.tree.structure((run.kernel, run.target)), layout, each)
    if question not in _chosen:
        sizes = [0] + [size for size in options.candidates if size < each and each % size == 0]
        layouts = [layout._replace(chain_block=size) for size in sizes]
        times = [
            [_seconds(run, carry, one, options.blocks) for one in layouts]
            for _ in range(options.turns + 1)
        ]
        _chosen[question] = sizes[int(np.argmin(np.min(times[1:], 0)))]  # the first turn compiles
    return _chosen[question]


def _seconds(run: Any, carry: Any, layout: scan.Layout, blocks: int) -> float:
    """How long a few blocks of steps take."""
    began = time.perf_counter()
    out = scan.sample_chunk(
        run.kernel, run.target, carry.tuning, carry.states, carry.moments,
        run.keys[run.plan.own_chains], np.arange(blocks, dtype=np.int32), layout=layout,
    )  # fmt: skip
    jax.block_until_ready(out)
    return time.perf_counter() - began

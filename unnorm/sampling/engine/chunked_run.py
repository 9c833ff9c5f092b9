"""A run of many chains: its parts one after another, each from the carry that the one before
left.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.program_cache import StaticFunction
from unnorm.core.progress import Bar
from unnorm.declaration.density import cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling import adaptation
from unnorm.sampling.engine import scan as chains
from unnorm.sampling.engine.block_noise import Phase, block_steps, chain_keys
from unnorm.sampling.engine.chain_batching import chain_block
from unnorm.sampling.engine.devices import devices_for
from unnorm.sampling.engine.running_moments import no_moments
from unnorm.sampling.initialization import find_starts
from unnorm.statistics.mcmc import potential_scale_reduction


@dataclass(frozen=True)
class Plan:
    """What was asked of a run."""

    draws: int
    warmup: int
    chains: int
    thin: int
    keep: str
    seed: int
    dtype: str
    processes: int = 1
    process: int = 0

    @property
    def own_chains(self) -> slice:
        """The chains whose draws this process makes; warm-up moves all of them everywhere,
        alike.
        """
        share = self.chains // self.processes
        return slice(self.process * share, (self.process + 1) * share)


class Carry(NamedTuple):
    """All that the next part of a run needs."""

    states: Any
    adapting: Any  # in warm-up its state, then how often warm-up restarted each chain
    tuning: Any
    moments: Any


class Part(NamedTuple):
    """A chunk of whole blocks of one phase."""

    phase: int
    blocks: np.ndarray


class Run:
    """The chains of one kernel on one target, prepared and probed."""

    def __init__(
        self,
        target: Unconstrained,
        kernel: Any,
        plan: Plan,
        start: Any,
        track: dict,
        device: Any,
        recall_or_try: Callable,
    ) -> None:
        """`recall_or_try` gives a trial's earlier result, in a run that is resumed."""
        self.target, self.kernel, self.plan, self.start, self.device = (
            target,
            kernel,
            plan,
            start,
            device,
        )
        self.recall_or_try = recall_or_try
        self.keys = chain_keys(jax.random.key(plan.seed, impl="threefry2x32"), plan.chains)
        self.track = tuple((name, StaticFunction(function)) for name, function in track.items())
        self.size = adaptation.size_of(
            target.random_position(jax.random.key(0), jnp.dtype(plan.dtype))
        )

        self._parts = self.parts()

    # -- its parts ---------------------------------------------------------------------------------
    def parts(self) -> list[Part]:
        warm, plan = [], self.plan
        if plan.warmup and self.whole_warmup:
            warm = [Part(Phase.WARMUP, np.zeros(0, np.int32))]
        elif plan.warmup:
            work = plan.warmup * plan.chains * self.size
            cut = _chunks(plan.warmup, block_steps(self.size), work)
            warm = [Part(Phase.WARMUP, blocks) for blocks in cut]
        work = plan.draws * plan.thin * plan.chains * self.size
        draws = _chunks(plan.draws, block_steps(self.size, plan.thin), work)
        return warm + [Part(Phase.SAMPLING, blocks) for blocks in draws]

    @property
    def whole_warmup(self) -> bool:
        """Whether the kernel brings a warm-up of its own, which is run in one piece."""
        return self.kernel.adapts == "microcanonical"

    def steps(self, part: Part) -> int:
        if part.phase == Phase.WARMUP:
            return (
                self.plan.warmup if self.whole_warmup else len(part.blocks) * block_steps(self.size)
            )
        return len(part.blocks) * block_steps(self.size, self.plan.thin) * self.plan.thin

    def begin(self) -> Carry:
        """Starts drawn or given, and checked."""
        plan, kernel = self.plan, self.kernel
        positions = find_starts(self.target, kernel, self.start, self.keys, np.dtype(plan.dtype))
        nested = getattr(kernel, "initial_tunings", None)
        tuning = (
            kernel.initial_tuning(self.size)
            if nested is None
            else nested(adaptation.first(positions))
        )
        tuning = cast(tuning, np.dtype(plan.dtype))
        states = chains.initialise(kernel, self.target, tuning, positions, self.keys)
        adapting = () if not plan.warmup else chains.begin_adaptation(kernel, tuning, positions)
        carry = Carry(states, adapting, tuning, ())
        return carry if plan.warmup else self._ready(carry)

    def _ready(self, carry: Carry) -> Carry:
        """From warm-up to draws: this process's chains, the tuning as it is, the moments of no
        draws.
        """
        states = jax.tree.map(lambda leaf: leaf[self.plan.own_chains], carry.states)
        moments = no_moments(self.target, states.position) if self.plan.keep == "moments" else ()
        restarts = chains.restarts(self.kernel, carry.adapting, chains=self.plan.chains)
        return Carry(states, restarts, carry.tuning, moments)

    # -- running them ------------------------------------------------------------------------------
    def _ends_warmup(self, i: int) -> bool:
        return self._parts[i].phase == Phase.WARMUP and self._parts[i + 1].phase == Phase.SAMPLING

    def template(self, i: int, start: Carry) -> Carry:
        """A carry of the structure of that after part i."""
        if self._parts[i].phase == Phase.WARMUP and not self._ends_warmup(i):
            return start
        return self._ready(start)

    def advance(self, i: int, carry: Carry, shown: Bar) -> tuple[Carry, Any]:
        """Part i; returns the carry and what is kept of it, as (draw, chain, ...) NumPy arrays."""
        began, part = time.perf_counter(), self._parts[i]
        if part.phase == Phase.WARMUP:
            carry, acceptance = self._warm(part, carry)
            shown.step(self.steps(part), f"warm-up{acceptance}")
            if not self._ends_warmup(i):
                return carry, ()
            if not self.whole_warmup:
                tuning = chains.finish_adaptation(self.kernel, carry.adapting, carry.tuning)
                carry = carry._replace(tuning=tuning)
            return self._ready(carry), ()
        states, moments, out = chains.sample_chunk(
            self.kernel,
            self.target,
            carry.tuning,
            carry.states,
            carry.moments,
            self.keys[self.plan.own_chains],
            part.blocks,
            layout=self.layout(carry),
        )
        out = jax.tree.map(np.asarray, out)
        _refuse_infinite(self.target, self.kernel, out[2])
        seconds = time.perf_counter() - began
        shown.step(self.steps(part), lambda: self._words(out, seconds))
        return Carry(states, carry.adapting, carry.tuning, moments), out

    def _warm(self, part: Part, carry: Carry) -> tuple[Carry, str]:
        if self.whole_warmup:
            beyond_chains = 2**31 - 1  # the keys of chains are numbered from 0
            key = jax.random.fold_in(jax.random.key(self.plan.seed), beyond_chains)
            states, tuning = chains.warm_whole(
                self.kernel, self.target, carry.tuning, carry.states, key, steps=self.plan.warmup
            )
            return carry._replace(states=states, tuning=tuning), ""
        length = block_steps(self.size)
        total = sum(len(p.blocks) for p in self._parts if p.phase == Phase.WARMUP) * length
        schedule = adaptation.schedule(self.kernel, total)
        stages = tuple(one.reshape(-1, length)[part.blocks] for one in schedule)
        (states, adapting), (acceptance, infinite) = chains.warm_chunk(
            self.kernel, self.target, carry.tuning, carry.states, carry.adapting, self.keys,
            part.blocks, stages,
            block_size=length,
        )  # fmt: skip
        _refuse_infinite(self.target, self.kernel, {"inf_proposal": np.asarray(infinite)})
        carry = carry._replace(states=states, adapting=adapting)
        return carry, f", acceptance {float(np.mean(np.asarray(acceptance))):.2f}"

    def layout(self, carry: Carry) -> chains.Layout:
        plan = self.plan
        own = len(range(plan.chains)[plan.own_chains])
        layout = chains.Layout(
            block_steps(self.size, plan.thin),
            plan.thin,
            plan.keep,
            self.track,
            devices=devices_for(own, self.device),
            draws=plan.draws if plan.keep == "moments" else 0,
        )
        return layout._replace(
            chain_block=self.recall_or_try(lambda: chain_block(self, carry, layout, own))
        )

    def _words(self, out: Any, seconds: float) -> str:
        """Draws per second, acceptance, and the worst R-hat of what this part kept."""
        events, _, stats = out
        count = len(next(iter(stats.values()))) if stats else 0
        words = [f"{count * self.plan.chains / max(seconds, 1e-9):,.0f} draws/s"]
        if "acceptance_rate" in stats:
            words.append(f"acceptance {float(np.nanmean(stats['acceptance_rate'])):.2f}")
        worst = max((worst_rhat(values) for values in events.values()), default=np.nan)
        if np.isfinite(worst):
            words.append(f"worst R-hat {worst:.2f}")
        return ", ".join(words)


def worst_rhat(values: np.ndarray) -> float:
    """The largest R-hat of (draw, chain, ...) values, without ranks: quick enough for a progress
    bar.
    """
    if values.shape[0] < 4 or values.shape[1] < 2:
        return float("nan")
    flat = values.reshape(*values.shape[:2], -1).astype(float)
    return float(potential_scale_reduction(flat.mean(0), flat.var(0, ddof=1), len(flat)).max())


def _chunks(
    draws: int, block_size: int, work: int, *, least=10, most=200, work_each=2**22
) -> list[np.ndarray]:
    """Cut a run into equal chunks of whole blocks: the absolute numbers of each chunk's blocks.

    There are between `least` and `most`, each of about `work_each` numbers moved: often enough for
    a progress bar and an interrupt, seldom enough to cost nothing.
    """
    blocks = -(-draws // block_size)
    length = -(-blocks // int(np.clip(work // work_each, least, most)))
    return [np.arange(first, first + length, dtype=np.int32) for first in range(0, blocks, length)]


def _refuse_infinite(target: Unconstrained, kernel: Any, stats: dict) -> None:
    """+inf absorbs a chain, so that it is an error and never a draw."""
    infinite = stats.get("inf_proposal", np.isposinf(stats.get("lp", np.zeros(1))))
    if infinite.any():
        raise ValueError(
            f"Density {target.density.name} was +inf at {int(infinite.sum())} proposals of "
            f"{type(kernel).__name__}; expected a finite number or -inf everywhere; check for a "
            "division by zero, a log with the wrong sign or an overflow."
        )

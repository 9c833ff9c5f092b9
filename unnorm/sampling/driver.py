"""`un.sample` and `un.resume`: many chains of one kernel, warmed up together, run in parts,
returned as a DataTree.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import unnorm
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, listed
from unnorm.core.method import registry_name
from unnorm.core.progress import bar
from unnorm.core.validation import verb
from unnorm.declaration.density import Density, cast
from unnorm.declaration.purity import refuse_impure
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.defaults import (
    check_memory,
    chosen_kernel,
    note_starts,
    seed_of,
    tracked_functions,
)
from unnorm.sampling.engine import scan as compiled
from unnorm.sampling.engine.chunked_run import Plan, Run
from unnorm.sampling.engine.devices import devices_for
from unnorm.sampling.engine.multihost import Hosts, over_hosts
from unnorm.sampling.engine.part_writers import Behind, Memory
from unnorm.sampling.output.atomic_files import StoreError
from unnorm.sampling.output.checkpoint import Store
from unnorm.sampling.output.datatree import as_json, provenance, to_datatree
from unnorm.sampling.output.run_identity import read_meta
from unnorm.sampling.output.run_spec import asked_again, run_meta
from unnorm.sampling.precision_check import unresolved_at, unresolved_at_starts

KEEP = ("all", "moments", "last")


@verb
def sample(
    p: Density,
    kernel: Any = None,
    *,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    thin: int = 1,
    start: Any = None,
    keep: str = "all",
    track: Mapping[str, Callable] | None = None,
    store: str | Path | None = None,
    seed: int | None = None,
    progress: bool = True,
    dtype: Any = None,
    device: Any = None,
    strict: bool = False,
):
    """Draw from a density by Markov chains: log p̃ is all that they need.

    Args:
        p: the density; its parameters stand at their bound values (at their declared starts: a
            finding).
        kernel: an object of `un.kernels`, its registry name, or None: NUTS for continuous, Gibbs
            for discrete variables.
        draws: kept draws per chain; each is `thin` steps.
        warmup: steps per chain in which the kernel adapts, rounded up to whole blocks; they are not
            kept.
        chains: how many chains; four or more for R-hat to see anything.
        start: ``{variable: value}``, one event for all chains or one for each; None: uniform on
            (-2, 2) in unconstrained coordinates, as in Stan, drawn again where the log-density is
            not finite; "pathfinder": draws of a normal approximation along an optimisation path.
        keep: "all" draws; "moments": each chain's running mean and variance and R-hat, in the group
            moments, in memory that does not grow with the draws; "last": the last state of each
            chain alone.
        track: ``{name: f}``: f(event) of each draw is kept in the posterior, whatever `keep` says
            (the last states are then in the group last); f is called as the density is.
        store: a folder to which draws are written part by part, in bounded memory. A run that was
            stopped goes on from there, by the same call or by `un.resume`, to the same bits.
        seed: an integer; None draws one and records it.
        dtype: float32 or float64; None: float32 (unless JAX's x64 mode is on), but float64 where
            float32 does not resolve the density's differences (a large constant), which is then a
            finding.
        device: a JAX device; None: the chains are spread evenly over all devices of the host (see
            `un.use_devices`).
        strict: raise where `un.diagnose` of the draws does not pass.

    Returns:
        An `xarray.DataTree` with the groups posterior and sample_stats, which every ArviZ function
        takes; attributes hold the kernel, its tuning, the seed, versions, and under `biased` a
        sentence where the kernel is not exact. An interrupt (Ctrl-C) returns the draws that are
        there, under `incomplete`.

    Raises:
        ValueError: bad options, a support that the kernel does not serve, a start at which the
            log-density or its gradient is not finite, a log-density of +inf met on the way, or a
            run larger than this machine's memory.
        StoreError: a store of another run, damaged, in use or not writable.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, un.kernels.MALA(), draws=200, warmup=200, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (4, 200)

    References:
        Robert and Casella (2004), Monte Carlo Statistical Methods, doi:10.1007/978-1-4757-4145-2.
    """
    if keep not in KEEP:
        raise ValueError(
            f"keep is {keep!r}; expected one of {', '.join(map(repr, KEEP))}; pass one of them."
        )
    track = tracked_functions(p, track)
    findings: list[Finding] = []
    hosts = Hosts()
    kernel = chosen_kernel(p, kernel, findings)
    note_starts(p, findings)
    refuse_impure(p)
    check_memory(p, draws, warmup, chains, thin, keep, store is not None)
    named, dtype = dtype is not None, np.dtype(dtype or jnp.result_type(float))
    seed = seed_of(seed, store, hosts)
    if chains % hosts.count:
        raise ValueError(
            f"chains is {chains}; expected a multiple of the {hosts.count} processes; pass such "
            "a number."
        )
    versions, where = provenance(), None if store is None else hosts.own_folder(Path(store))
    if dtype == np.float32 and not named and (lost := unresolved_at_starts(p, start, seed, chains)):
        dtype = _in_float64(findings, lost)

    def ran(dtype):
        plan = Plan(draws, warmup, chains, thin, keep, seed, dtype.name, hosts.count, hosts.own)
        with jax.enable_x64(dtype == np.float64), _on(device):
            target = Unconstrained(cast(p.bare(), dtype))
            ready = cast(kernel.prepared(target), dtype)
            with _sink(where, target, kernel, plan, track, start, versions, device) as sink:
                run = Run(target, ready, plan, start, track, device, sink.tried)
                carry, last, finished = _go(run, sink, hosts, progress)
                events, tracked, stats = sink.collected(last)
            if keep != "all":
                events = {
                    name: np.asarray(value)[:, None] for name, value in _last(target, carry).items()
                }
            return plan, carry, finished, events, tracked, stats

    plan, carry, finished, events, tracked, stats = ran(dtype)
    lost = unresolved_at(p, carry.states.position, dtype)
    whole = finished == draws and where is None and hosts.count == 1
    if lost and dtype == np.float32 and not named and whole:
        dtype = _in_float64(findings, lost)
        plan, carry, finished, events, tracked, stats = ran(dtype)
        lost = unresolved_at(p, carry.states.position, dtype)
    if lost:
        findings.append(_unresolved(dtype, lost))
    findings += _restarted(carry)
    if finished < draws:
        findings.append(
            Finding(
                f"the run was interrupted after {finished:,} of {draws:,} draws",
                "resume it, or run it again",
                WARNING,
                code=FindingCode.INTERRUPTED,
            )
        )
    if not warmup and kernel.adapts and getattr(kernel, "step_size", None) is None:
        findings.append(
            Finding(
                "there was no warm-up, so that the step size is a guess",
                "pass warmup=1000",
                WARNING,
                code=FindingCode.NO_WARMUP,
            )
        )
    if where is not None and hosts.count > 1:
        findings.append(over_hosts(hosts, events if keep == "all" else {}))
    attributes = {
        "density": p.name,
        "kernel": registry_name(type(kernel)),
        "options": json.dumps({k: v for k, v in dataclasses.asdict(plan).items() if k != "seed"}),
        "warmup": warmup,
        "tuning": as_json(carry.tuning),
        "biased": "" if kernel.exact else kernel.bias,
        "seed": seed,
        "incomplete": int(finished < draws),
        "findings": json.dumps([dataclasses.astuple(finding) for finding in findings]),
        "versions": json.dumps(versions),
    }
    if where is None:
        events, tracked, stats = (
            hosts.gathered(f"{i}", group) for i, group in enumerate((events, tracked, stats))
        )
    tree = to_datatree(
        p, events, stats, attributes, tracked, jax.tree.map(np.asarray, carry.moments)
    )
    if strict:
        unnorm.diagnose(tree, p).raise_unless_passed()
    return tree


@verb
def resume(
    store: str | Path,
    p: Density,
    *,
    kernel: Any = None,
    start: Any = None,
    track: Mapping[str, Callable] | None = None,
    progress: bool = True,
    device: Any = None,
    strict: bool = False,
):
    """Go on with a run from its store, to the draws that it would have had unbroken, bit by bit.

    Args:
        store: the folder that `un.sample` was given.
        p: the density that was sampled.
        kernel: needed only where the store cannot rebuild it: `FromBlackJAX`, or a distribution
        among its options. start, track: as they were given to `un.sample`. progress, device,
        strict: as in `un.sample`.

    Returns:
        What `un.sample` returns.

    Raises:
        StoreError: no store there, a damaged one, or one whose model, options or versions differ,
            with the difference named.

    Example:
        >>> import tempfile
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> folder = tempfile.mkdtemp()
        >>> done = un.sample(normal, "mala", draws=40, warmup=20, store=folder, seed=0, progress=False)
        >>> un.resume(folder, normal, progress=False).posterior["x"].equals(done.posterior["x"])
        True

    References:
        Cabezas et al. (2024), BlackJAX, arXiv:2402.10797 (the kernels' states, which make it
        possible).
    """
    store = Path(store)
    meta = read_meta(Hosts().own_folder(store))
    if meta is None:
        raise StoreError(
            f"store {store} holds no run; expected a folder that un.sample wrote; name that one."
        )
    kernel, options = asked_again(store, meta, kernel)
    return sample(
        p,
        kernel,
        **options,
        start=start,
        track=track,
        store=store,
        progress=progress,
        device=device,
        strict=strict,
    )


def _sink(
    where: Path | None,
    target: Unconstrained,
    kernel: Any,
    plan: Plan,
    track: dict,
    start: Any,
    versions: dict,
    device,
):
    """Where the parts go: memory, or the store of exactly this run."""
    if where is None:
        return Memory(plan.draws)
    devices = devices_for(plan.chains // plan.processes, device)
    return Store(where, run_meta(target, kernel, plan, track, start, versions, devices))


# -- the run ---------------------------------------------------------------------------------------
def _go(run: Run, sink: Any, hosts: Hosts, progress: bool) -> tuple[Any, int, int]:
    """Every part that the sink does not hold; returns a carry, the part that it is of, and the
    draws up to there.

    That part is the last one, or after an interrupt the last before the first gap.
    """
    parts, plan = run.parts(), run.plan
    start = run.begin()
    at, passed = (
        (-1, start),
        -1,
    )  # the carry at hand and its part; the last part behind which there is no gap
    label = f"{type(run.kernel).__name__}, {plan.chains} chains"
    with (
        Behind(sink) as behind,
        bar(label, sum(map(run.steps, parts)), progress) as shown,
        contextlib.suppress(KeyboardInterrupt),
    ):
        for i, part in enumerate(parts):
            if sink.has(i):
                shown.step(run.steps(part), "from the store")
            else:
                sink.claim()
                before = at[1] if at[0] == i - 1 else sink.carry(i - 1, run.template(i - 1, start))
                reached, out = run.advance(i, before, shown)
                behind.save(i, reached, out)
                at = (i, reached)
            hosts.agree(
                i
            )  # also after a part of the store: another process may have to make it again
            passed = i
    last = max(passed, at[0])
    done = sum(
        run.steps(part) // plan.thin
        for part in parts[: last + 1]
        if part.phase == compiled.SAMPLING
    )
    if not done:
        raise KeyboardInterrupt
    carry = at[1] if at[0] == last else sink.carry(last, run.template(last, start))
    return carry, last, min(done, plan.draws)


def _in_float64(findings: list[Finding], lost: str) -> np.dtype:
    advice = "leave the constant out of the density, or pass dtype='float64'"
    findings.append(
        Finding(f"float64 was used, because in float32 {lost}", advice, NOTE, FindingCode.PRECISION)
    )
    return np.dtype(np.float64)


def _unresolved(dtype: np.dtype, lost: str) -> Finding:
    advice = "leave the constant out of the density" + (
        ", or pass dtype='float64'" * (dtype == np.float32)
    )
    what = f"{dtype.name} does not resolve the density's differences: {lost}"
    return Finding(what, advice, ERROR, FindingCode.PRECISION)


def _restarted(carry: Any) -> list[Finding]:
    """Which chains warm-up had to start again."""
    lost = [f"chain {i}" for i in np.flatnonzero(np.asarray(carry.adapting))]
    if not lost:
        return []
    what = f"{listed(lost)} stood still in warm-up and went on from where another chain was"
    advice = "look for a second mode at their starts: sample from other starts, or with start='pathfinder'"
    return [Finding(what, advice, WARNING, FindingCode.NOT_MIXED)]


@jax.jit
def _last(target: Unconstrained, carry: Any) -> dict:
    return jax.vmap(target.constrain)(carry.states.position)


def _on(device: Any):
    return contextlib.nullcontext() if device is None else jax.default_device(device)

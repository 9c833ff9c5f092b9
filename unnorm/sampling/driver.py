"""`un.sample` and `un.resume`: many chains of one kernel, warmed up together, run in parts,
returned as a DataTree.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import unnorm
from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode, join_names
from unnorm.core.method import registry_name
from unnorm.core.validation import verb
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.declaration.values import refuse_other_labels_by_name
from unnorm.sampling.defaults import check_request, seed_of
from unnorm.sampling.engine.chunked_run import Plan, Run
from unnorm.sampling.engine.devices import devices_for
from unnorm.sampling.engine.multihost import Hosts, over_hosts
from unnorm.sampling.engine.part_writers import Memory, run_parts
from unnorm.sampling.initialization import probe_positions
from unnorm.sampling.kernels.ensemble.many_chains import findings_of_chains
from unnorm.sampling.output.atomic_files import StoreError
from unnorm.sampling.output.checkpoint import Store
from unnorm.sampling.output.datatree import as_json, provenance, to_datatree
from unnorm.sampling.output.run_identity import read_meta
from unnorm.sampling.output.run_spec import options_of_run, run_meta
from unnorm.sampling.precision_check import (
    Lost,
    error_of_rounding,
    mass_at_ends,
    note_float64,
    rounding_at_draws,
    rounding_at_starts,
)


@verb
def sample(  # noqa: PLR0913 - the options of a verb
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
) -> Any:
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
        thin: steps per kept draw.
        store: a folder to which draws are written part by part, in bounded memory. A run that was
            stopped goes on from there, by the same call or by `un.resume`, to the same bits.
        seed: an integer; None draws one and records it.
        progress: show a bar.
        dtype: float32 or float64; None: float32 (unless JAX's x64 mode is on), but float64 where
            float32 does not resolve the density's differences (a large constant) or its mass at an
            end of an interval, which is then a finding.
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
        >>> draws = un.sample(normal, un.kernels.MALA(),
        ...     draws=200, warmup=200, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (4, 200)

    References:
        Robert and Casella (2004), Monte Carlo Statistical Methods, doi:10.1007/978-1-4757-4145-2.
    """
    kernel, track, findings = check_request(
        p, kernel, track, draws=draws, warmup=warmup, chains=chains, thin=thin, keep=keep,
        stored=store is not None,
    )  # fmt: skip
    hosts, dtype_given = Hosts(), dtype is not None
    seed = seed_of(seed, store, hosts)
    if chains % hosts.count:
        raise ValueError(
            f"chains is {chains}; it must be a multiple of the {hosts.count} processes; change it."
        )
    where = None if store is None else hosts.own_folder(Path(store))
    dtype = np.dtype(dtype or jnp.result_type(float))
    plan = Plan(draws, warmup, chains, thin, keep, seed, dtype.name, hosts.count, hosts.own)
    request = _Request(kernel, plan, start, track, device, where, provenance(), hosts, progress)
    refuse_other_labels_by_name("start", p.variables, start, p.labels)
    view = Unconstrained(p.for_jit())
    lost = None
    if dtype == np.float32 and not dtype_given:
        with contextlib.suppress(Exception):  # the run itself says what cannot be evaluated
            positions = probe_positions(view, start, seed, chains)
            lost = rounding_at_starts(view.log_densities_in, positions)
            if store is not None or hosts.count > 1:  # such a run is not repeated
                lost = lost or mass_at_ends(view.log_densities_in, view.supports, positions, dtype)
    result, more = _run_precisely(request, view, dtype_given, lost)
    findings += more + _run_findings(request, result)
    if where is not None and hosts.count > 1:
        findings.append(over_hosts(hosts, result.events if keep == "all" else {}))
    events, tracked, stats = result.groups
    if where is None:
        events, tracked, stats = (
            hosts.gather(f"{i}", group) for i, group in enumerate(result.groups)
        )
    attributes = _attributes(p.name, request, result, findings)
    moments = jax.tree.map(np.asarray, result.carry.moments)
    tree = to_datatree(p, events, stats, attributes, tracked, moments)
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
) -> Any:
    """Go on with a run from its store, to the draws that it would have had unbroken, bit by bit.

    Args:
        store: the folder that `un.sample` was given.
        p: the density that was sampled.
        kernel: needed only where the store cannot rebuild it: `FromBlackJAX`, or a distribution
            among its options.
        start: as it was given to `un.sample`.
        track: as it was given to `un.sample`.
        progress: as in `un.sample`.
        device: as in `un.sample`.
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
        >>> done = un.sample(normal, "mala",
        ...     draws=40, warmup=20, store=folder, seed=0, progress=False)
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
            f"store {store} holds no run; expected a folder that un.sample wrote; check the path."
        )
    kernel, options = options_of_run(store, meta, kernel)
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


# -- the run ---------------------------------------------------------------------------------------
class _Request(NamedTuple):
    """A run as it was asked for, checked and completed."""

    kernel: Any
    plan: Plan
    start: Any
    track: dict[str, Callable]
    device: Any
    store: Path | None
    versions: dict[str, str]
    hosts: Hosts
    progress: bool


class _Result(NamedTuple):
    """What a run left: its plan with the precision that was used, its last carry, and the draws."""

    plan: Plan
    carry: Any
    finished: int
    groups: tuple[dict, dict, dict]  # events, tracked functions and statistics

    @property
    def events(self) -> dict[str, np.ndarray]:
        return self.groups[0]


def _run_precisely(
    request: _Request, view: Unconstrained, dtype_given: bool, lost: Lost | None
) -> tuple[_Result, list[Finding]]:
    """The run, in double precision where single precision does not resolve log p̃ and none was asked
    for.
    """
    findings, dtype = [], np.dtype(request.plan.dtype)
    if lost:
        dtype = np.dtype(np.float64)
        findings.append(note_float64(lost))
    result = _run_in(dtype, request, view)
    lost = _lost_at(view, result, dtype)
    unbroken = result.finished == request.plan.draws and request.store is None
    again = dtype == np.float32 and not dtype_given and unbroken and request.hosts.count == 1
    if lost and again:
        dtype = np.dtype(np.float64)
        findings.append(note_float64(lost))
        result = _run_in(dtype, request, view)
        lost = _lost_at(view, result, dtype)
    if lost:
        findings.append(error_of_rounding(dtype, lost))
    return result, findings


def _lost_at(view: Unconstrained, result: _Result, dtype: np.dtype) -> Lost | None:
    """What the precision loses where the chains stand."""
    positions = result.carry.states.position
    lost = rounding_at_draws(view.log_densities_in, positions, dtype)
    return lost or mass_at_ends(view.log_densities_in, view.supports, positions, dtype)


def _run_in(dtype: np.dtype, request: _Request, view: Unconstrained) -> _Result:
    """All parts of the run in this precision."""
    plan = dataclasses.replace(request.plan, dtype=dtype.name)
    start, track, device = request.start, request.track, request.device
    on_device = contextlib.nullcontext() if device is None else jax.default_device(device)
    with jax.enable_x64(dtype == np.float64), on_device:
        target = view.in_precision(dtype)
        kernel = cast(request.kernel.prepare(target), dtype)
        sink: Memory | Store = Memory(plan.draws)
        if request.store is not None:
            devices = devices_for(plan.chains // plan.processes, device)
            # the kernel as it was asked for: what it detects is no option of the run
            meta = run_meta(target, request.kernel, plan, track, start, request.versions, devices)
            sink = Store(request.store, meta)
        with sink:
            run = Run(target, kernel, plan, start, track, device, sink.recall_or_try)
            carry, last, finished = run_parts(run, sink, request.hosts, request.progress)
            events, tracked, stats = sink.collect(last)
        if plan.keep != "all":
            last_events = _last_events(target, carry.states.position)
            events = {name: np.asarray(value)[:, None] for name, value in last_events.items()}
    return _Result(plan, carry, finished, (events, tracked, stats))


@compiled
def _last_events(target: Unconstrained, positions: dict) -> dict:
    return target.events_at(positions)


# -- what is said of it ----------------------------------------------------------------------------
def _run_findings(request: _Request, result: _Result) -> list[Finding]:
    """Warnings about the run: chains that warm-up moved, an interrupt, no warm-up."""
    findings, plan, kernel = [], request.plan, request.kernel
    said = getattr(kernel, "said_of", lambda _: None)(result.carry.tuning)
    if said and plan.warmup:
        what = f"{type(kernel).__name__} uses {said}"
        advice = "name a metric to change it"
        findings.append(Finding(what, advice, NOTE, FindingCode.CHOSEN_METHOD))
    if getattr(kernel, "ensemble", False):
        findings += findings_of_chains(kernel, plan.chains)
    restarted = [f"chain {i}" for i in np.flatnonzero(np.asarray(result.carry.adapting))]
    if restarted:
        what = (
            f"{join_names(restarted)} did not move in warm-up and continued from the position of "
            "another chain"
        )
        advice = (
            "look for a second mode at their starts: sample from other starts, or with "
            "start='pathfinder'"
        )
        findings.append(Finding(what, advice, WARNING, FindingCode.NOT_MIXED))
    if result.finished < plan.draws:
        what = f"the run was interrupted after {result.finished:,} of {plan.draws:,} draws"
        findings.append(
            Finding(what, "resume it, or run it again", WARNING, FindingCode.INTERRUPTED)
        )
    lacks = getattr(kernel, "without_warmup", "")
    if not lacks and kernel.adapts and getattr(kernel, "step_size", None) is None:
        lacks = "there was no warm-up, so that the step size is a guess"
    if not plan.warmup and lacks:
        findings.append(Finding(lacks, "pass warmup=1000", WARNING, FindingCode.NO_WARMUP))
    return findings


def _attributes(
    name: str, request: _Request, result: _Result, findings: list[Finding]
) -> dict[str, Any]:
    """Where the draws come from, as attributes of the tree."""
    plan, kernel = result.plan, request.kernel
    options = {k: v for k, v in dataclasses.asdict(plan).items() if k != "seed"}
    return {
        "density": name,
        "kernel": registry_name(type(kernel)),
        "options": json.dumps(options),
        "warmup": plan.warmup,
        "tuning": as_json(result.carry.tuning),
        "biased": "" if kernel.exact else kernel.bias,
        "seed": plan.seed,
        "incomplete": int(result.finished < plan.draws),
        "findings": json.dumps([dataclasses.astuple(finding) for finding in findings]),
        "versions": json.dumps(request.versions),
    }

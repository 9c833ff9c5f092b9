"""What `un.sample` was asked for, checked and completed: the kernel, the counts, what is tracked,
and the seed.
"""

import contextlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.core.method import look_up
from unnorm.core.validation import check_argument
from unnorm.declaration.density import Density
from unnorm.declaration.purity import refuse_impure
from unnorm.sampling.engine.multihost import Hosts
from unnorm.sampling.kernels.registry import (
    KERNELS,
    MCLMC,
    NUTS,
    Blockwise,
    ChEES,
    Gibbs,
    RandomWalkMH,
    kernels_for,
)
from unnorm.sampling.output.run_identity import read_meta

_KEPT_NAMES = ("chain", "draw", ".", "..")  # of the draws' own axes and nodes


@dataclass(frozen=True)
class DefaultOptions:
    """What decides the kernel where none is named.

    Args:
        many_dimensions: from which trajectories without a tree are taken: at acceptance .9 their
            number of gradients grows as a fourth root of the dimension, and a metric of all
            correlations would be a matrix of a million numbers.
        many_chains: from which an ensemble method is taken: under NUTS all chains wait for the
            longest trajectory of any.
    """

    many_dimensions: int = 1000
    many_chains: int = 64


def seed_of(seed: int | None, store: Any, hosts: Hosts) -> int:
    """The seed given, that of a store that goes on, or a new one that all processes share."""
    if seed is not None:
        check_argument("seed", seed, (int,))
        return int(seed)
    meta = None if store is None else read_meta(hosts.own_folder(Path(store)))
    if meta is not None:
        return meta["options"]["seed"]
    entropy: Any = np.random.SeedSequence().entropy
    return hosts.common_seed(int(entropy % 2**31))


def check_request(
    p: Density, kernel: Any, track: Mapping[str, Callable] | None, *,
    draws: int, warmup: int, chains: int, thin: int, keep: str, stored: bool,
) -> tuple[Any, dict[str, Callable], list[Finding]]:  # fmt: skip
    """Check what a run was asked for, before anything is compiled.

    Returns:
        The kernel as an object, the functions to track by name, and findings.
    """
    kinds = ("all", "moments", "last")
    if keep not in kinds:
        raise ValueError(
            f"keep is {keep!r}; expected one of {', '.join(map(repr, kinds))}; choose one."
        )
    findings: list[Finding] = []
    track = check_track(p, track)
    if keep == "all":  # with less, deterministic quantities are kept for those who ask for it
        track = {**p.deterministics(), **track}
    kernel = select_kernel(p, kernel, findings, chains)
    note_starts(p, findings)
    refuse_impure(p)
    check_memory(p, draws, warmup, chains, thin, keep, stored)
    return kernel, track, findings


def check_track(p: Density, track: Mapping[str, Callable] | None) -> dict[str, Callable]:
    """The functions to track by name, or a sentence where a name or a function is unusable."""
    track = dict(track or {})
    for name, function in track.items():
        if not isinstance(name, str) or not name or "/" in name or name in _KEPT_NAMES:
            raise ValueError(
                f"track was given the name {name!r}; expected a string without '/' that is none "
                f"of {', '.join(map(repr, _KEPT_NAMES))}; rename it."
            )
        if name in p.variables or not callable(function):
            found = "a variable's name" if name in p.variables else f"{function!r}"
            raise ValueError(
                f"track was given {found} for {name}; expected new names with functions of an "
                "event; rename it or pass a function."
            )
    return track


def check_memory(
    p: Density, draws: int, warmup: int, chains: int, thin: int, keep: str, stored: bool
) -> None:
    """Refuse a run that cannot fit into this machine's memory, before anything of its size is made.

    The estimate is a lower bound: one state per chain, one chain's noise for one draw, the schedule
    of warm-up, and the draws where they are kept in memory.
    """
    numbers = sum(math.prod(shape) for shape in p.shapes().values())
    size = 4  # bytes of a number in single precision: a lower bound
    copies = 8  # of an event in a chain's state: with gradient, momentum and the noise of a block
    needed = {
        "chains": chains * numbers * copies * size,
        "thin": thin * numbers * size,
        "warmup": warmup * size,
        "draws": draws * chains * numbers * size if keep == "all" and not stored else 0,
    }
    name = max(needed, key=lambda one: needed[one])
    memory = machine_memory()
    if needed[name] > memory:
        raise ValueError(
            f"{name} asks for {needed[name] / 2**30:,.0f} GiB ({draws:,} draws of {chains:,} "
            f"chains, {numbers:,} numbers each, thin={thin:,}), and this machine has "
            f"{memory / 2**30:,.0f} GiB; expected less; reduce draws or chains, or pass "
            "keep='moments' or store='run.d'."
        )


def machine_memory() -> float:
    """Bytes of memory of this machine, or of this container; infinity where it cannot be known."""
    found = [math.inf]
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            found.append(int(Path(path).read_text()))
    return min(found)


def select_kernel(p: Density, kernel: Any, findings: list[Finding], chains: int = 4) -> Any:
    """The kernel as an object, checked against the variables' supports."""
    if p.covariates:
        raise ValueError(
            f"Density {p.name} has the covariate {next(iter(p.covariates))}, so that each row has "
            "its own density; expected no covariates; fix it by "
            f"p.given({next(iter(p.covariates))}=...)."
        )
    if kernel is None:
        kernel, why = _default_kernel(p, chains)
        findings.append(
            Finding(
                f"{type(kernel).__name__} was chosen, because {why}",
                "name a kernel to change it",
                NOTE,
                code=FindingCode.CHOSEN_METHOD,
            )
        )
    kernel = look_up(kernel, KERNELS, "kernel", "build")
    for name, support in p.variables.items():
        if not kernel.serves(support):
            raise ValueError(
                f"{type(kernel).__name__} cannot move {name}, which is {support!r}; use "
                f"{kernels_for(support)}, or fix it with p.given({name}=...)."
            )
    return kernel


def _default_kernel(p: Density, chains: int) -> tuple[Any, str]:
    """NUTS for continuous variables, Gibbs where states can be listed, a random walk for counts."""
    groups: dict[Any, list[str]] = {}
    for name, support in p.variables.items():
        kind = NUTS if not support.discrete else RandomWalkMH if support.states is None else Gibbs
        groups.setdefault(kind, []).append(name)
    if len(groups) > 1:
        blocks = {tuple(names): kind() for kind, names in groups.items()}
        return Blockwise(blocks), "its variables are of different kinds"
    kind = next(iter(groups))
    if kind is NUTS:
        return _continuous_kernel(p, chains)
    why = {
        Gibbs: "every variable has a list of states",
        RandomWalkMH: "counts have no list of states",
    }
    return kind(), why[kind]


def _continuous_kernel(
    p: Density, chains: int, options: DefaultOptions = DefaultOptions()
) -> tuple[Any, str]:
    """NUTS, or adjusted microcanonical trajectories in many dimensions."""
    size = sum(math.prod(shape) for shape in p.shapes().values())
    if size >= options.many_dimensions:
        why = f"{size:,} dimensions are many: its step shrinks least with them"
        return MCLMC(adjusted=True), why
    if chains >= options.many_chains:
        why = f"{chains} chains are many: they take steps of one number, and tune it together"
        return ChEES(), why
    return NUTS(metric="auto"), "it needs no tuning by hand on continuous variables"


def note_starts(p: Density, findings: list[Finding]) -> None:
    """Add a warning about parameters that no fit and no bind has set."""
    loose = sorted(set(p.supports) - p.bound)
    if loose:
        what = f"{', '.join(loose)} stood at the declared starts, which no fit and no bind has set"
        findings.append(
            Finding(what, "bind values or fit first", WARNING, code=FindingCode.DECLARED_STARTS)
        )

"""`un.sample`: many chains of one kernel, warmed up together, run in blocks, returned as a DataTree."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import unnorm
from unnorm.density import Density, cast
from unnorm.diagnostics.verdict import NOTE, WARNING, Finding
from unnorm.methods import look_up, registry_name
from unnorm.progress import bar
from unnorm.sampling import adaptation, chains
from unnorm.sampling.base import Target
from unnorm.sampling.kernels import KERNELS, NUTS, Gibbs
from unnorm.sampling.starts import find_starts
from unnorm.sampling.storage import as_json, provenance, to_datatree

_CHUNKS = 20  # how often a run comes up for air


def sample(
    p: Density,
    kernel: Any = None,
    *,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    thin: int = 1,
    start: Any = None,
    seed: int | None = None,
    progress: bool = True,
    dtype: Any = None,
    strict: bool = False,
):
    """Draw from a density by Markov chains: log p̃ is all that they need.

    Args:
        p: the density; its parameters stand at their bound values (at their declared starts: a finding).
        kernel: an object of `un.kernels`, its registry name, or None: NUTS for continuous, Gibbs for two-valued
            variables.
        draws: kept draws per chain; each is `thin` steps.
        warmup: steps per chain in which the kernel adapts, rounded up to whole blocks; they are not kept.
        chains: how many chains; four or more for R-hat to see anything.
        start: ``{variable: value}``, one event for all chains or one for each; None: uniform on (-2, 2) in
            unconstrained coordinates, as in Stan, drawn again where the log-density is not finite.
        seed: a whole number; None draws one and records it.
        dtype: float32 (the default, unless JAX's x64 mode is on) or float64.
        strict: raise where `un.diagnose` of the draws does not pass.

    Returns:
        An `xarray.DataTree` with the groups posterior and sample_stats, which every ArviZ function takes; attributes
        hold the kernel, its tuning, the seed, versions, and under `biased` a sentence where the kernel is not exact.

    Raises:
        ValueError: bad options, a support that the kernel does not serve, a start at which the log-density or its
            gradient is not finite, or a log-density of +inf met on the way.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, un.kernels.MALA(), draws=200, warmup=200, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (4, 200)

    References:
        Robert and Casella (2004), Monte Carlo Statistical Methods, doi:10.1007/978-1-4757-4145-2.
    """
    _check_counts(draws=(draws, 1), warmup=(warmup, 0), chains=(chains, 1), thin=(thin, 1))
    findings: list[Finding] = []
    kernel = _chosen(p, kernel, findings)
    _note_starts(p, findings)
    seed = int(np.random.SeedSequence().entropy % 2**31) if seed is None else seed
    dtype = np.dtype(dtype or jnp.result_type(float))
    with jax.enable_x64(dtype == np.float64):
        target, cast_kernel = Target(cast(p.bare(), dtype)), cast(kernel, dtype)
        events, stats, tuning = _run(target, cast_kernel, seed, dtype, draws, warmup, chains, thin, start, progress)
    if not warmup and kernel.adapts and getattr(kernel, "step_size", None) is None:
        findings.append(Finding("there was no warm-up, so that the step size is a guess", "pass warmup=1000", WARNING))
    attributes = {
        "density": p.name,
        "kernel": registry_name(type(kernel)),
        "options": json.dumps({"draws": draws, "warmup": warmup, "chains": chains, "thin": thin, "dtype": dtype.name}),
        "warmup": warmup,
        "tuning": as_json(tuning),
        "biased": "" if kernel.exact else kernel.bias,
        "seed": seed,
        "findings": json.dumps([dataclasses.astuple(finding) for finding in findings]),
        "versions": json.dumps(provenance()),
    }
    tree = to_datatree(p, events, stats, attributes)
    if strict:
        unnorm.diagnose(tree, p).raise_unless_passed()
    return tree


def _check_counts(**counts: tuple[Any, int]) -> None:
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}; pass such a one.")


def _chosen(p: Density, kernel: Any, findings: list[Finding]) -> Any:
    """The kernel as an object, checked against the variables' supports."""
    if p.covariates:
        raise ValueError(
            f"Density {p.name} has the covariate {next(iter(p.covariates))}, so that each row has a density of its "
            "own; declare it as a constant to sample at one value."
        )
    if kernel is None:
        discrete = all(support.discrete for support in p.variables.values())
        kernel = Gibbs() if discrete else NUTS()
        why = "every variable is discrete" if discrete else "it needs no tuning by hand on continuous variables"
        findings.append(
            Finding(f"{type(kernel).__name__} was chosen, because {why}", "name a kernel to change it", NOTE)
        )
    kernel = look_up(kernel, KERNELS, "kernel", "build")
    for name, support in p.variables.items():
        if not kernel.serves(support):
            others = [cls.__name__ for cls in KERNELS.values() if cls.serves(cls, support)]
            raise ValueError(
                f"{type(kernel).__name__} cannot move {name}, which is {support!r}; use "
                f"{' or '.join(others) or 'another kernel'}, or fix it with p.given({name}=...)."
            )
    return kernel


def _note_starts(p: Density, findings: list[Finding]) -> None:
    loose = sorted(set(p.supports) - p.bound)
    if loose:
        what = f"{', '.join(loose)} stood at the declared starts, which no fit and no bind has set"
        findings.append(Finding(what, "bind values or fit first", WARNING))


def _run(target, kernel, seed, dtype, draws, warmup, count, thin, start, progress):
    """Starts, warm-up and draws; returns events and statistics as (chain, draw, ...) NumPy arrays, and the tuning."""
    keys = chains.chain_keys(jax.random.key(seed), count)
    positions = find_starts(target, kernel, start, keys, dtype)
    size = sum(leaf[0].size for leaf in positions.values())
    tuning = cast(kernel.initial_tuning(size), dtype)
    states = chains.initialise(kernel, target, tuning, positions, keys)
    with bar(f"{type(kernel).__name__}, {count} chains", warmup + draws * thin, progress) as shown:
        if warmup:
            states, tuning = _warm_up(target, kernel, tuning, states, keys, warmup, size, shown)
        parts = _draw(target, kernel, tuning, states, keys, draws, thin, size, shown)
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:draws].swapaxes(0, 1), *parts)
    events, stats = joined
    _refuse_infinite(target, kernel, stats.get("inf_proposal", np.isposinf(stats.get("lp", np.zeros(1)))))
    return events, stats, tuning


def _chunks(steps: int, block_size: int):
    """Cut a run into equal chunks of whole blocks: the absolute numbers of each chunk's blocks."""
    blocks = -(-steps // block_size)
    length = -(-blocks // _CHUNKS)
    return [np.arange(first, first + length, dtype=np.int32) for first in range(0, blocks, length)]


def _warm_up(target, kernel, tuning, states, keys, steps, size, shown):
    block_size = chains.block_steps(size)
    plan = _chunks(steps, block_size)
    stages = adaptation.schedule(kernel, sum(len(blocks) for blocks in plan) * block_size)
    adapting = chains.begin_adaptation(kernel, tuning, states.position)
    for blocks in plan:
        part = tuple(stage.reshape(-1, block_size)[blocks] for stage in stages)
        (states, adapting), (acceptance, infinite) = chains.warm_chunk(
            kernel, target, tuning, states, adapting, keys, blocks, part, block_size=block_size
        )
        _refuse_infinite(target, kernel, np.asarray(infinite))
        shown.step(len(blocks) * block_size, f"warm-up, acceptance {float(acceptance.mean()):.2f}")
    return states, chains.finish_adaptation(kernel, adapting, tuning)


def _draw(target, kernel, tuning, states, keys, draws, thin, size, shown):
    parts = []
    block_size = chains.block_steps(size, thin)
    for blocks in _chunks(draws, block_size):
        states, out = chains.sample_chunk(
            kernel, target, tuning, states, keys, blocks, block_size=block_size, thin=thin
        )
        parts.append(jax.tree.map(np.asarray, out))
        rate = out[1].get("acceptance_rate")
        words = "" if rate is None else f"acceptance {float(rate.mean()):.2f}"
        shown.step(len(blocks) * block_size * thin, words)
    return parts


def _refuse_infinite(target: Target, kernel: Any, infinite: np.ndarray) -> None:
    """+inf absorbs a chain, so that it is an error and never a draw."""
    if infinite.any():
        raise ValueError(
            f"Density {target.density.name} was +inf at {int(infinite.sum())} proposals of {type(kernel).__name__}; "
            "expected a finite number or -inf everywhere; look for a division by zero, a log with the wrong sign or an "
            "overflow."
        )

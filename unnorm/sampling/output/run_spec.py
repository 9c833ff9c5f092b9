"""A run as words and numbers: what a store compares, and rebuilds the kernel from where it can."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unnorm.core.method import registry_name
from unnorm.core.random_keys import make_key
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.kernels.registry import KERNELS, Blockwise
from unnorm.sampling.output.atomic_files import StoreError
from unnorm.sampling.output.fingerprints import describe_value, fingerprint, program_of
from unnorm.sampling.output.run_identity import FORMAT

_OPTIONS = ("draws", "warmup", "chains", "thin", "keep", "seed", "dtype")


def describe(method: Any) -> dict[str, Any]:
    """A kernel or an objective: every option by name."""
    if isinstance(method, Blockwise):
        inner = {label: describe(one) for label, one in method.kernels.items()}
        return {"kernel": "blockwise", "blocks": describe_value(method.blocks)} | inner
    if not dataclasses.is_dataclass(method):
        return {"kernel": registry_name(type(method)), "content": describe_value(method)}
    description: dict[str, Any] = {"kernel": registry_name(type(method))}
    if type(method) not in KERNELS.values():
        description["class"] = describe_value(type(method))
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        description[field.name] = (
            describe(value) if hasattr(value, "build") else describe_value(value)
        )
    return description


def spec(kernel: Any) -> Any:
    """JSON from which `rebuild_kernel` makes the kernel again; None where an option is more than
    numbers.
    """
    if isinstance(kernel, Blockwise):
        inner = [spec(one) for one in kernel.kernels.values()]
        return (
            None
            if None in inner
            else {"blocks": [list(block) for block in kernel.blocks], "inner": inner}
        )
    if type(kernel) not in KERNELS.values():
        return None
    options = {}
    for field in dataclasses.fields(kernel):
        value = getattr(kernel, field.name)
        if hasattr(value, "build"):
            value = {"nested": spec(value)}
            if value["nested"] is None:
                return None
        elif isinstance(value, np.ndarray | jax.Array | list | tuple):
            value = {"array": np.asarray(value).tolist(), "dtype": str(np.asarray(value).dtype)}
        elif isinstance(value, np.generic):
            value = value.item()
        elif not (value is None or isinstance(value, str | bool | int | float)):
            return None
        options[field.name] = value
    return {"name": registry_name(type(kernel)), "options": options}


def rebuild_kernel(description: Any) -> Any:
    """The kernel of a `spec`."""
    if "blocks" in description:
        return Blockwise(
            {
                tuple(b): rebuild_kernel(one)
                for b, one in zip(description["blocks"], description["inner"], strict=True)
            }
        )
    options = {}
    for name, value in description["options"].items():
        if isinstance(value, dict):
            value = (
                rebuild_kernel(value["nested"])
                if "nested" in value
                else np.asarray(value["array"], value["dtype"])
            )
        options[name] = value
    return KERNELS[description["name"]](**options)


def options_of_run(store: Path, meta: dict[str, Any], kernel: Any) -> tuple[Any, dict[str, Any]]:
    """The kernel and the options of `un.sample` from what a store says of its run."""
    try:
        options = {name: meta["options"][name] for name in _OPTIONS}
        if kernel is None and meta["rebuild"] is not None:
            kernel = rebuild_kernel(meta["rebuild"])
    except Exception as error:  # a description that was made by hand may hold anything
        raise StoreError(
            f"store {store} describes a run that cannot be made again ({type(error).__name__}); "
            "expected what un.sample wrote; choose another store."
        ) from None
    if kernel is None:
        raise StoreError(
            f"store {store} cannot rebuild its kernel {meta['kernel']['kernel']}; expected "
            "numbers as its options; pass the kernel= of the first call."
        )
    return kernel, options


def run_meta(
    target: Unconstrained,
    kernel: Any,
    plan: Any,
    track: dict,
    start: Any,
    versions: dict,
    devices: int,
) -> dict[str, Any]:
    """All that a run's draws depend on, by name; the number of devices changes their rounding."""
    position = target.random_position(make_key(0), np.dtype(plan.dtype))
    density = target.density
    return {
        "format": FORMAT.version,
        **describe_density(density),
        "program": program_of(
            lambda t, at: t.log_density(at), target, position, source=functions_of(density)
        ),
        "kernel": describe(kernel),
        "options": dataclasses.asdict(plan),
        "tracked function": {
            name: _track_program(target, f, position) for name, f in track.items()
        },
        "start": describe_value(start),
        "version of": versions,
        "setting": settings() | {"devices": devices},
        "rebuild": spec(kernel),
    }


def describe_density(density: Density) -> dict[str, Any]:
    """Names, supports and values."""
    return {
        "density": density.name,
        "variable": {name: describe_value(support) for name, support in density.variables.items()},
        "dimension": {name: str(size) for name, size in density.dimensions.items()},
        "parameter or constant": {
            n: fingerprint_of(v) for n, v in (density.parameters | density.constants).items()
        },
    }


def functions_of(density: Density) -> list[Callable | None]:
    """The user's functions behind a density."""
    return [factor.function for factor in getattr(density, "factors", (density,))]


def _track_program(target: Unconstrained, function: Callable, position: dict) -> str:
    """What a tracked function compiles to at one event."""

    def at(target: Unconstrained, position: dict):
        event = target.constrain(position)
        return function(*(event[name] for name in target.density.variables))

    return program_of(at, target, position, source=function)


def settings() -> dict[str, str]:
    """Of JAX: those that change bits."""
    config: Any = jax.config  # its flags are set at run time
    return {
        "platform": jax.default_backend(),
        "matmul_precision": str(config.jax_default_matmul_precision),
        "threefry_partitionable": str(config.jax_threefry_partitionable),
    }


def fingerprint_of(tree: Any) -> str:
    """The fingerprints of all numbers of a pytree."""
    return (
        " ".join(fingerprint(leaf) for leaf in jax.tree.leaves(tree) if not isinstance(leaf, str))
        or "none"
    )

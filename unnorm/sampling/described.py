"""A kernel as words and numbers: what a store compares, and rebuilds the kernel from where it can."""

import dataclasses
import hashlib
from typing import Any

import jax
import numpy as np

from unnorm.methods import registry_name
from unnorm.sampling.base import Target
from unnorm.sampling.kernels import KERNELS, Blockwise
from unnorm.sampling.store import FORMAT, fingerprint


def describe(kernel: Any) -> dict[str, Any]:
    """Every option by name."""
    if isinstance(kernel, Blockwise):
        return {"kernel": "blockwise"} | {label: describe(inner) for label, inner in kernel.kernels.items()}
    told: dict[str, Any] = {"kernel": registry_name(type(kernel))}
    for field in dataclasses.fields(kernel) if dataclasses.is_dataclass(kernel) else ():
        value = getattr(kernel, field.name)
        told[field.name] = describe(value) if hasattr(value, "build") else _words(value)
    return told


def _words(value: Any) -> str:
    if value is None or isinstance(value, str | bool | int):
        return str(value)
    if callable(value) and not jax.tree.leaves(value, is_leaf=callable)[0] is not value:
        return getattr(value, "__qualname__", "function")
    leaves, structure = jax.tree.flatten(value)
    return (f"{structure} " if len(leaves) != 1 else "") + " ".join(map(fingerprint, leaves))


def spec(kernel: Any) -> Any:
    """JSON from which `rebuilt` makes the kernel again; None where an option is more than numbers."""
    if isinstance(kernel, Blockwise):
        inner = [spec(one) for one in kernel.kernels.values()]
        return None if None in inner else {"blocks": [list(block) for block in kernel.blocks], "inner": inner}
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


def rebuilt(told: Any) -> Any:
    """The kernel of a `spec`."""
    if "blocks" in told:
        return Blockwise({tuple(b): rebuilt(one) for b, one in zip(told["blocks"], told["inner"], strict=True)})
    options = {}
    for name, value in told["options"].items():
        if isinstance(value, dict):
            value = rebuilt(value["nested"]) if "nested" in value else np.asarray(value["array"], value["dtype"])
        options[name] = value
    return KERNELS[told["name"]](**options)


def run_meta(target: Target, kernel: Any, plan: Any, track: dict, start: Any, versions: dict) -> dict[str, Any]:
    """All that a run's draws depend on, by name."""
    position = target.random_position(jax.random.key(0), np.dtype(plan.dtype))
    lowered = jax.jit(lambda t, at: t.log_density(at)).lower(target, position).as_text()
    density = target.density
    return {
        "format": FORMAT,
        "density": density.name,
        "parameter or constant": {n: fingerprint_of(v) for n, v in (density.parameters | density.constants).items()},
        "program": hashlib.sha256(lowered.encode()).hexdigest()[:16],
        "kernel": describe(kernel),
        "options": dataclasses.asdict(plan),
        "tracked": ", ".join(track),
        "start": fingerprint_of(start),
        "version of": versions,
        "rebuild": spec(kernel),
    }


def fingerprint_of(tree: Any) -> str:
    return " ".join(fingerprint(leaf) for leaf in jax.tree.leaves(tree) if not isinstance(leaf, str)) or "none"

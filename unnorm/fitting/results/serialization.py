"""A fit in one file: numbers by name and what was said of them as JSON, under a checksum; no
pickle.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unnorm.core.random_keys import key_array, make_key
from unnorm.declaration.density import Density, cast
from unnorm.sampling.output import archive
from unnorm.sampling.output.atomic_files import disk_errors, write
from unnorm.sampling.output.datatree import provenance
from unnorm.sampling.output.fingerprints import describe_value, program_of
from unnorm.sampling.output.run_spec import fingerprint_of, functions_of


@dataclass(frozen=True)
class FileOptions:
    """How a fit is written, and when the function of a density is the one that was fitted.

    Attributes:
        format: version of the file; raised when older code would misread a new file.
        probes: events at which two functions are compared under other versions of JAX.
        same_function: relative difference of equal functions in single precision.
    """

    format: int = 3
    probes: int = 8
    same_function: float = 1e-4


FILE = FileOptions()
PLAIN_FIELDS = ("objective", "target", "converged", "seed", "rows", "likelihood")
ARRAY_FIELDS = ("history", "_estimates", "_free_covariance")


def save(fit: Any, path: Path) -> None:
    """Write a fit by temporary file and rename."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise ValueError(
            f"path {path} cannot be written; it must be a file in an existing folder; create the "
            "folder, or choose another path."
        )
    arrays = {name: getattr(fit, name) for name in ARRAY_FIELDS if getattr(fit, name) is not None}
    for name, held in fit.density._held.items():
        if name in fit.density.supports:
            arrays |= {f"parameter {name} {i}": leaf for i, leaf in enumerate(held.leaves)}
    if fit._covariance is not None:
        arrays |= {f"covariance {name}": part for name, part in fit._covariance._asdict().items()}
    if fit._path is not None:
        arrays |= {f"path {name}": part for name, part in fit._path._asdict().items()}
    for side, part in zip(("centre", "scale"), fit._location or (), strict=bool(fit._location)):
        arrays |= {f"location {side} {name}": value for name, value in (part or {}).items()}
    header = {name: getattr(fit, name) for name in PLAIN_FIELDS} | {
        "format": FILE.format,
        "density": fit.density.name,
        **declarations(fit.density),
        "program": program_text(fit.density),
        "probe": probe_values(fit.density),
        "dimensions": {
            name: fit.density.labels.get(name, size)
            for name, size in fit.density.dimensions.items()
        },
        "degrees": fit._degrees,
        "log_likelihood": fit._log_likelihood,
        "penalized": fit._penalized,
        "log_z": None if fit.log_z is None else list(fit.log_z),
        "findings": [astuple(finding) for finding in fit.findings],
        "located": fit._location is not None,
        "versions": provenance(),
    }
    content = archive.pack({"told": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays})
    with disk_errors(f"path {path}"):
        write(path, content)


def declarations(p: Density) -> dict[str, dict[str, str]]:
    """What a density declares, in words."""
    return {
        "parameters": {name: describe_value(support) for name, support in p.supports.items()},
        "variables": {
            name: describe_value(support) for name, support in (p.variables | p.covariates).items()
        },
        "constants": {
            name: fingerprint_of(cast(value, np.float64)) for name, value in p.constants.items()
        },
    }


def _example(p: Density, key: jax.Array, dtype: np.dtype) -> dict[str, Any]:
    """An event that is drawn the same way wherever it is drawn."""
    names = p.variables | p.covariates
    keys = key_array(key, len(names))
    event = {}
    for one, (name, declared) in zip(keys, names.items(), strict=True):
        shape: Any = tuple(
            p.dimensions[axis] if isinstance(axis, str) else axis for axis in declared.shape_axes
        )
        if name in p.covariates:
            event[name] = jax.random.normal(one, shape, dtype)
        else:
            support = p.variables[name]
            event[name] = support.constrain(support.random_free(one, shape, dtype))
    return event


@contextlib.contextmanager
def _compiled(p: Density) -> Iterator[tuple[Density, np.dtype]]:
    """The density as compiled code takes it, in the precision of its parameters."""
    dtype = np.result_type(
        np.float32, *(leaf for name in p.supports for leaf in p._held[name].leaves)
    )
    with jax.enable_x64(dtype == np.float64):
        yield cast(p.for_jit(), dtype), dtype


def program_text(p: Density) -> str:
    """Return the traced program of the log-density as text, to compare functions by."""
    with _compiled(p) as (bare, dtype):
        event = _example(bare, make_key(0), dtype)
        return program_of(lambda q, at: q.log_density(at), bare, event, source=functions_of(p))


def probe_values(p: Density) -> list[float]:
    """log p̃ at a few events: the function by its values, which other versions of JAX do not
    change.
    """
    with _compiled(p) as (bare, dtype):
        events = jax.vmap(lambda key: _example(bare, key, dtype))(
            key_array(make_key(0), FILE.probes)
        )
        return np.asarray(jax.vmap(bare.log_density)(events), float).tolist()

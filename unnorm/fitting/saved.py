"""A fit in one file: numbers by name and what was said of them as JSON, under a checksum; no pickle."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unnorm.density import Density, cast
from unnorm.diagnostics.verdict import Finding, FindingCode
from unnorm.fitting.inference import Covariance
from unnorm.sampling import archive
from unnorm.sampling.described import fingerprint_of, functions_of
from unnorm.sampling.files import Damaged, StoreError, disk_errors, parsed, read, write
from unnorm.sampling.fingerprints import described, program_of
from unnorm.sampling.storage import provenance
from unnorm.validation import verb

FORMAT = 3
_PLAIN = ("objective", "target", "converged", "seed", "rows", "likelihood")
_ARRAYS = ("history", "_estimates", "_free_covariance")
_PROBES, _SAME = 8, 1e-4  # events at which two functions are compared; how far equal ones may differ, relatively


def save(fit: Any, path: Path) -> None:
    """Write a fit by temporary file and rename."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise ValueError(f"path {path} cannot be written; expected a file in an existing folder; give such a path.")
    arrays = {name: getattr(fit, name) for name in _ARRAYS if getattr(fit, name) is not None}
    for name, held in fit.density._held.items():
        if name in fit.density.supports:
            arrays |= {f"parameter {name} {i}": leaf for i, leaf in enumerate(held.leaves)}
    if fit._covariance is not None:
        arrays |= {f"covariance {name}": part for name, part in fit._covariance._asdict().items()}
    for side, part in zip(("centre", "scale"), fit._location or (), strict=bool(fit._location)):
        arrays |= {f"location {side} {name}": value for name, value in (part or {}).items()}
    told = {name: getattr(fit, name) for name in _PLAIN} | {
        "format": FORMAT,
        "density": fit.density.name,
        **_declared(fit.density),
        "program": _program(fit.density),
        "probe": _probe(fit.density),
        "dimensions": {name: fit.density.labels.get(name, size) for name, size in fit.density.dimensions.items()},
        "degrees": fit._degrees,
        "log_z": None if fit.log_z is None else list(fit.log_z),
        "findings": [astuple(finding) for finding in fit.findings],
        "located": fit._location is not None,
        "versions": provenance(),
    }
    content = archive.packed({"told": np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays})
    with disk_errors(f"path {path}"):
        write(path, content)


def _declared(p: Density) -> dict[str, dict[str, str]]:
    """What a density declares, in words."""
    return {
        "parameters": {name: described(support) for name, support in p.supports.items()},
        "variables": {name: described(support) for name, support in (p.variables | p.covariates).items()},
        "constants": {name: fingerprint_of(cast(value, np.float64)) for name, value in p.constants.items()},
    }


def _example(p: Density, key: jax.Array, dtype: np.dtype) -> dict[str, Any]:
    """An event that is drawn the same way wherever it is drawn."""
    names = p.variables | p.covariates
    keys = jax.random.split(key, len(names))
    event = {}
    for one, (name, declared) in zip(keys, names.items(), strict=True):
        shape = tuple(p.dimensions[axis] if isinstance(axis, str) else axis for axis in declared.shape_axes)
        if name in p.covariates:
            event[name] = jax.random.normal(one, shape, dtype)
        else:
            event[name] = declared.constrain(declared.random_free(one, shape, dtype))
    return event


@contextlib.contextmanager
def _compiled(p: Density) -> Iterator[tuple[Density, np.dtype]]:
    """The density as compiled code takes it, in the precision of its parameters."""
    dtype = np.result_type(np.float32, *(leaf for name in p.supports for leaf in p._held[name].leaves))
    with jax.enable_x64(dtype == np.float64):
        yield cast(p.bare(), dtype), dtype


def _program(p: Density) -> str:
    with _compiled(p) as (bare, dtype):
        event = _example(bare, jax.random.key(0), dtype)
        return program_of(lambda q, at: q.log_density(at), bare, event, source=functions_of(p))


def _probe(p: Density) -> list[float]:
    """log p̃ at a few events: the function by its values, which other versions of JAX do not change."""
    with _compiled(p) as (bare, dtype):
        events = jax.vmap(lambda key: _example(bare, key, dtype))(jax.random.split(jax.random.key(0), _PROBES))
        return np.asarray(jax.vmap(bare.log_density)(events), float).tolist()


@verb
def load(path: str | Path, p: Density):
    """Read a fit that `Fit.save` wrote.

    Args:
        path: the file.
        p: the density that was fitted, as it was declared.

    Returns:
        The `Fit`, whose density is p at the estimate.

    Raises:
        StoreError: no such file, a damaged one, one of another format, or one of another density (its name, supports,
            constants or function), with the difference named.

    Example:
        >>> import tempfile, unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
        >>> path = tempfile.mkdtemp() + "/fit.npz"
        >>> fit.save(path)
        >>> un.load(path, p).summary().equals(fit.summary())
        True

    References:
        NumPy documentation, the NPY format (what the file holds).
    """
    path = Path(path)
    told, arrays = _read(path)
    try:
        fit = _rebuilt(path, told, arrays, p)
    except StoreError:
        raise
    except Exception as error:  # a file that was made by hand may hold anything
        raise _no_fit(path, type(error).__name__) from None
    return fit


def _rebuilt(path: Path, told: dict[str, Any], arrays: dict[str, np.ndarray], p: Density):
    from unnorm.fitting.result import Fit, FitLogZ

    groups: dict[str, dict[str, np.ndarray]] = {"parameter": {}, "covariance": {}, "location": {}}
    for name, value in arrays.items():
        kind, _, rest = name.partition(" ")
        if kind in groups:
            groups[kind][rest] = value
    _refuse_other(path, told, p)
    _refuse_sizes(path, told["dimensions"], groups["parameter"], p)
    density = _at(p.with_dimensions(**told["dimensions"]), groups["parameter"])
    _refuse_other_function(path, told, density)
    location = None
    if told["located"]:
        sides = [{n.split(" ", 1)[1]: v for n, v in groups["location"].items() if n.startswith(side)}
                 for side in ("centre", "scale")]  # fmt: skip
        location = tuple(side or None for side in sides)
    return Fit(
        density=density,
        log_z=None if told["log_z"] is None else FitLogZ(*told["log_z"]),
        findings=[Finding(*parts, FindingCode(code)) for *parts, code in told["findings"]],
        _covariance=Covariance(**groups["covariance"]) if groups["covariance"] else None,
        _degrees=told.get("degrees", np.inf),  # files of earlier versions have none
        _location=location,
        **{name: told[name] for name in _PLAIN},
        **{name: arrays.get(name) for name in _ARRAYS},
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        content = read(path, follow=True)
        if not archive.is_whole(content) and content[:2] == b"PK":
            raise Damaged("a damaged one, or one of an older format")
        arrays = archive.unpacked(content)
        told = parsed(arrays.pop("told").tobytes())
    except (OSError, Damaged, KeyError) as error:
        raise _no_fit(path, error if isinstance(error, Damaged) else type(error).__name__) from None
    if told.get("format") != FORMAT:
        raise StoreError(
            f"path {path} is of format {told.get('format')}, and this version of unnorm reads format {FORMAT}; "
            "expected the same; fit again, or load it with the version that wrote it."
        )
    return told, arrays


def _no_fit(path: Path, why: Any) -> StoreError:
    return StoreError(f"path {path} holds no fit ({why}); expected a file that Fit.save wrote; name that one.")


def _refuse_other(path: Path, told: dict[str, Any], p: Density) -> None:
    """Refuse a density that declares something else."""
    found = f"{told['density']}({', '.join(sorted(told['parameters']))})"
    given = f"{p.name}({', '.join(sorted(p.supports))})"
    if found != given:
        raise StoreError(
            f"path {path} holds a fit of {found}, and {given} was given; expected the same; pass the density that was "
            "fitted."
        )
    for kind, own in _declared(p).items():
        for name in sorted(set(own) | set(told[kind])):
            if own.get(name) != told[kind].get(name):
                raise StoreError(
                    f"path {path} holds a fit whose {kind[:-1]} {name} is {told[kind].get(name)}, and {own.get(name)} "
                    "was given; expected the same; pass the density that was fitted."
                )


def _refuse_sizes(path: Path, dimensions: dict[str, Any], leaves: dict[str, np.ndarray], p: Density) -> None:
    """Refuse dimensions other than those of the arrays that are there, before anything of that size is made."""
    sizes = {name: value if isinstance(value, int) else len(value) for name, value in dimensions.items()}
    for name, support in p.supports.items():
        axes = getattr(support, "shape_axes", ())
        expected = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in axes)
        if axes and leaves[f"{name} 0"].shape != expected:
            raise _no_fit(path, f"{name} has the shape {leaves[f'{name} 0'].shape} and its dimensions say {expected}")


def _refuse_other_function(path: Path, told: dict[str, Any], density: Density) -> None:
    """Refuse a density whose function is another: by its program, or under other versions by its values."""
    if told["versions"] == provenance():
        same = told["program"] == _program(density)
    else:
        same = np.allclose(told["probe"], _probe(density), rtol=_SAME, atol=_SAME, equal_nan=True)
    if not same:
        raise StoreError(
            f"path {path} holds a fit of another function than that of {density.name}; expected the same log-density; "
            "pass the density that was fitted."
        )


def _at(p: Density, leaves: dict[str, np.ndarray]) -> Density:
    """The density with these floating leaves in the place of its parameters' own."""
    values = {}
    for name in p.supports:
        own = [leaves[key] for key in sorted((k for k in leaves if k.rpartition(" ")[0] == name),
                                             key=lambda k: int(k.rpartition(" ")[2]))]  # fmt: skip
        values[name] = p.with_leaves(name, own)
    return p.bind(**values)

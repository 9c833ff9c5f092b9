"""A fit in one file: numbers by name and what was said of them as JSON; no pickle."""

import io
import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import Finding, FindingCode
from unnorm.fitting.inference import Covariance
from unnorm.sampling.storage import provenance
from unnorm.sampling.store import write
from unnorm.validation import verb

FORMAT = 2
_PLAIN = ("objective", "target", "converged", "seed", "rows", "likelihood")
_ARRAYS = ("history", "_estimates", "_free_covariance")


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
        "dimensions": {name: fit.density.labels.get(name, size) for name, size in fit.density.dimensions.items()},
        "log_z": None if fit.log_z is None else list(fit.log_z),
        "findings": [astuple(finding) for finding in fit.findings],
        "located": fit._location is not None,
        "versions": provenance(),
    }
    buffer = io.BytesIO()
    np.savez(buffer, told=np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays)
    write(path, buffer.getvalue())


@verb
def load(path: str | Path, p: Density):
    """Read a fit that `Fit.save` wrote.

    Args:
        path: the file.
        p: the density that was fitted, as it was declared.

    Returns:
        The `Fit`, whose density is p at the estimate.

    Raises:
        ValueError: no such file, a damaged one, or one of another density, with the difference named.

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
    from unnorm.fitting.result import Fit, FitLogZ

    told, arrays = _read(Path(path))
    groups: dict[str, dict[str, np.ndarray]] = {"parameter": {}, "covariance": {}, "location": {}}
    for name, value in arrays.items():
        kind, _, rest = name.partition(" ")
        if kind in groups:
            groups[kind][rest] = value
    found = {name.rpartition(" ")[0] for name in groups["parameter"]}
    if told["density"] != p.name or found != set(p.supports):
        raise ValueError(
            f"path {path} holds a fit of {told['density']}({', '.join(sorted(found))}), and {p.name}"
            f"({', '.join(sorted(p.supports))}) was given; expected the same; pass the density that was fitted."
        )
    density = _at(p.with_dimensions(**told["dimensions"]), groups["parameter"])
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
        _location=location,
        **{name: told[name] for name in _PLAIN},
        **{name: arrays.get(name) for name in _ARRAYS},
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(path) as held:
            arrays = {name: held[name] for name in held.files}
        return json.loads(arrays.pop("told").tobytes()), arrays
    except (OSError, ValueError, KeyError, EOFError, np.exceptions.AxisError) as error:
        raise ValueError(
            f"path {path} holds no fit ({type(error).__name__}); expected a file that Fit.save wrote; name that one."
        ) from None


def _at(p: Density, leaves: dict[str, np.ndarray]) -> Density:
    """The density with these floating leaves in the place of its parameters' own."""
    values = {}
    for name in p.supports:
        own = [leaves[key] for key in sorted((k for k in leaves if k.rpartition(" ")[0] == name),
                                             key=lambda k: int(k.rpartition(" ")[2]))]  # fmt: skip
        values[name] = p.with_leaves(name, own)
    return p.bind(**values)

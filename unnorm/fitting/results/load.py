"""`un.load`: a fit read back from its file, and held against the density that it is said to be
of.
"""

from pathlib import Path
from typing import Any

import numpy as np

from unnorm.core.findings import Finding, FindingCode
from unnorm.core.validation import verb
from unnorm.declaration.density import Density
from unnorm.fitting.inference.sandwich import Covariance
from unnorm.fitting.results.fit import Fit, FitLogZ
from unnorm.fitting.results.flow_likelihood import NoisePath
from unnorm.fitting.results.serialization import (
    ARRAY_FIELDS,
    FILE,
    PLAIN_FIELDS,
    declarations,
    probe_values,
    program_text,
)
from unnorm.sampling.output import archive
from unnorm.sampling.output.atomic_files import DamageError, StoreError, parse_json, read
from unnorm.sampling.output.datatree import provenance


@verb
def load(path: str | Path, p: Density) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Args:
        path: the file.
        p: the density that was fitted, as it was declared.

    Returns:
        The `Fit`, whose density is p at the estimate.

    Raises:
        StoreError: no such file, a damaged one, one of another format, or one of another density
            (its name, supports, constants or function), with the difference named.

    Example:
        >>> import tempfile, unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive},
        ...     {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
        >>> path = tempfile.mkdtemp() + "/fit.npz"
        >>> fit.save(path)
        >>> un.load(path, p).summary().equals(fit.summary())
        True

    References:
        NumPy documentation, the NPY format (what the file holds).
    """
    path = Path(path)
    header, arrays = _read(path)
    try:
        fit = _rebuilt(path, header, arrays, p)
    except StoreError:
        raise
    except Exception as error:  # a file that was made by hand may hold anything
        raise _no_fit(path, type(error).__name__) from None
    return fit


def _rebuilt(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray], p: Density) -> Fit:
    groups: dict[str, dict[str, np.ndarray]] = {
        "parameter": {},
        "covariance": {},
        "location": {},
        "path": {},
    }
    for name, value in arrays.items():
        kind, _, rest = name.partition(" ")
        if kind in groups:
            groups[kind][rest] = value
    _refuse_other(path, header, p)
    _refuse_sizes(path, header["dimensions"], groups["parameter"], p)
    density = _at(p.with_dimensions(**header["dimensions"]), groups["parameter"])
    _refuse_other_function(path, header, density)
    location = None
    if header["located"]:
        sides = [
            {n.split(" ", 1)[1]: v for n, v in groups["location"].items() if n.startswith(side)}
            for side in ("centre", "scale")
        ]
        location = tuple(side or None for side in sides)
    stored: dict[str, Any] = {name: header[name] for name in PLAIN_FIELDS}
    stored |= {name: arrays.get(name) for name in ARRAY_FIELDS}
    return Fit(
        density=density,
        log_z=None if header["log_z"] is None else FitLogZ(*header["log_z"]),
        findings=[
            Finding(*parts, FindingCode(code))  # type: ignore[call-arg]
            for *parts, code in header["findings"]
        ],
        _covariance=Covariance(**groups["covariance"]) if groups["covariance"] else None,
        _degrees=header.get("degrees", np.inf),  # files of earlier versions have none
        _log_likelihood=header.get("log_likelihood"),
        _penalized=header.get("penalized", False),
        _location=location,
        _path=NoisePath(**groups["path"]) if groups["path"] else None,
        **stored,
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        content = read(path, follow=True)
        if not archive.is_whole(content) and content[:2] == b"PK":
            raise DamageError("a damaged one, or one of an older format")
        arrays = archive.unpack(content)
        header = parse_json(arrays.pop("told").tobytes())
    except (OSError, DamageError, KeyError) as error:
        raise _no_fit(
            path, error if isinstance(error, DamageError) else type(error).__name__
        ) from None
    if header.get("format") != FILE.format:
        raise StoreError(
            f"path {path} is of format {header.get('format')}, and this version of unnorm reads "
            f"format {FILE.format}; "
            "expected the same; fit again, or load it with the version that wrote it."
        )
    return header, arrays


def _no_fit(path: Path, why: Any) -> StoreError:
    return StoreError(
        f"path {path} holds no fit ({why}); expected a file that Fit.save wrote; name that one."
    )


def _refuse_other(path: Path, header: dict[str, Any], p: Density) -> None:
    """Refuse a density that declares something else."""
    found = f"{header['density']}({', '.join(sorted(header['parameters']))})"
    given = f"{p.name}({', '.join(sorted(p.supports))})"
    if found != given:
        raise StoreError(
            f"path {path} holds a fit of {found}, and {given} was given; expected the same; pass "
            "the density that was fitted."
        )
    for kind, own in declarations(p).items():
        for name in sorted(set(own) | set(header[kind])):
            if own.get(name) != header[kind].get(name):
                raise StoreError(
                    f"path {path} holds a fit whose {kind[:-1]} {name} is "
                    f"{header[kind].get(name)}, and {own.get(name)} "
                    "was given; expected the same; pass the density that was fitted."
                )


def _refuse_sizes(
    path: Path, dimensions: dict[str, Any], leaves: dict[str, np.ndarray], p: Density
) -> None:
    """Refuse dimensions other than those of the arrays that are there, before anything of that size
    is made.
    """
    sizes = {
        name: value if isinstance(value, int) else len(value) for name, value in dimensions.items()
    }
    for name, support in p.supports.items():
        axes = getattr(support, "shape_axes", ())
        expected = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in axes)
        if axes and leaves[f"{name} 0"].shape != expected:
            raise _no_fit(
                path,
                f"{name} has the shape {leaves[f'{name} 0'].shape} and its dimensions say "
                f"{expected}",
            )


def _refuse_other_function(path: Path, header: dict[str, Any], density: Density) -> None:
    """Refuse a density whose function is another: by its program, or under other versions by its
    values.
    """
    if header["versions"] == provenance():
        same = header["program"] == program_text(density)
    else:
        same = np.allclose(
            header["probe"],
            probe_values(density),
            rtol=FILE.same_function,
            atol=FILE.same_function,
            equal_nan=True,
        )
    if not same:
        raise StoreError(
            f"path {path} holds a fit of another function than that of {density.name}; expected "
            "the same log-density; pass the density that was fitted."
        )


def _at(p: Density, leaves: dict[str, np.ndarray]) -> Density:
    """The density with these floating leaves in the place of its parameters' own."""
    values = {}
    for name in p.supports:
        own = [
            leaves[key]
            for key in sorted(
                (k for k in leaves if k.rpartition(" ")[0] == name),
                key=lambda k: int(k.rpartition(" ")[2]),
            )
        ]
        values[name] = p.with_leaves(name, own)
    return p.bind(**values)


__all__ = ["load"]

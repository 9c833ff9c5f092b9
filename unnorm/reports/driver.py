"""`un.report`: fits, draws and estimates of log Z on one self-contained page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unnorm.core.findings import Result
from unnorm.core.validation import verb
from unnorm.diagnostics.convergence import Diagnosis
from unnorm.diagnostics.report import Section, write_report
from unnorm.fitting.comparison.result import Comparison
from unnorm.fitting.results.fit import Fit
from unnorm.partition.base import LogZ
from unnorm.reports.draws import draws_sections
from unnorm.reports.fits import fit_sections
from unnorm.reports.others import diagnosis_section, log_z_sections, result_section


@verb
def report(results: Any, path: str | os.PathLike, *, title: str | None = None) -> Path:
    """Write one self-contained HTML page of results.

    A fit has its header (n, criteria, what it aims at), the declaration's source, the forest beside
    the table, its symmetric matrices as networks, data against simulations, and, folded, the
    history and the exact call. Draws have their diagnosis with traces and ranks, against the
    density of a fit in the same report where the variables agree. Verdicts that failed come first.
    The page makes no request, and runs no script but its own.

    Args:
        results: a `Fit`, draws, a `LogZ`, a `Diagnosis` or a `Comparison`; a list of several, or a
            dict by name.
        path: an HTML file in an existing folder; an older one is replaced, whole or not at all.
        title: of the page; None: what it holds.

    Returns:
        The path.

    Raises:
        ValueError: nothing to report.
        TypeError: a value that is neither a result nor draws.
        FileNotFoundError: the folder does not exist.

    Example:
        >>> import tempfile, unnorm as un
        >>> z = un.log_z(un.Density(lambda x: -0.5 * x**2, {"x": un.Real}), seed=0)
        >>> un.report(z, tempfile.mkdtemp() + "/report.html").name
        'report.html'

    References:
        Xie (2015), Dynamic Documents with R and knitr, doi:10.1201/b15166 (reports beside code).
    """
    named = _by_name(results)
    fits = [one for one in named.values() if isinstance(one, Fit)]
    sections: list[Section] = []
    estimates = {name: one for name, one in named.items() if isinstance(one, LogZ)}
    done = False
    for name, one in named.items():
        if isinstance(one, Fit):
            sections += fit_sections(name, one)
        elif isinstance(one, LogZ):
            sections += [] if done else log_z_sections(estimates)
            done = True
        elif isinstance(one, Diagnosis):
            sections.append(diagnosis_section(name, one))
        elif isinstance(one, Comparison | Result):
            sections.append(result_section(name, one))
        else:
            sections += draws_sections(name, one, fits)
    return write_report(path, title or f"unnorm · {', '.join(named)}", _with_overview(sections))


def _by_name(results: Any) -> dict[str, Any]:
    """The results by name; equal names are numbered."""
    if isinstance(results, Mapping) and _holds_results(results):
        given = [(str(name), one) for name, one in results.items()]
    elif isinstance(results, Sequence) and not isinstance(results, str):
        given = [(_name_of(one), one) for one in results]
    else:
        given = [(_name_of(results), results)]
    if not given:
        raise ValueError(
            "results is empty; it must hold a fit, draws or a LogZ; pass at least one result."
        )
    out: dict[str, Any] = {}
    for name, one in given:
        key, count = name, 1
        while key in out:
            count += 1
            key = f"{name} ({count})"
        out[key] = one
    return out


def _holds_results(results: Mapping) -> bool:
    """Whether a mapping is of results by name, and not draws by variable."""
    import xarray as xr

    if isinstance(results, xr.DataTree | xr.Dataset):
        return False
    kinds = (Result, xr.DataTree)
    return bool(results) and all(
        isinstance(one, kinds) or hasattr(one, "posterior") for one in results.values()
    )


def _name_of(one: Any) -> str:
    """A name for a result."""
    if isinstance(one, Fit):
        densities = one.density if isinstance(one.density, list) else [one.density]
        return f"{' and '.join(p.name for p in densities)} by {one.objective}"
    if isinstance(one, LogZ):
        return f"log Z by {one.estimator}"
    if isinstance(one, Result):
        return type(one).__name__.lower()
    kernel = (getattr(one, "attrs", None) or {}).get("kernel")
    return f"draws by {kernel}" if kernel else "draws"


def _with_overview(sections: list[Section]) -> list[Section]:
    """The sections, and before them which did not pass, if any."""
    failed = [s.heading for s in sections if s.verdict is not None and not s.verdict[1]]
    if not failed:
        return sections
    text = (
        f"{len(failed)} of the results on this page did not pass. Read their findings before any "
        f"number: {'; '.join(failed)}."
    )
    return [Section("Read this first", text, verdict=("not passed", False)), *sections]

"""Resampled rows, and subsets of the rows, of a fit: what is refused, and the refits.

References: Epskamp, Borsboom and Fried (2018), doi:10.3758/s13428-017-0862-1.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.messages import choose_from, shown
from unnorm.core.progress import bar, report
from unnorm.core.random_keys import fold_in, make_key, split_keys
from unnorm.fitting.edge_stability.result import OPTIONS, EdgeStability
from unnorm.fitting.inference.bootstrap.refits import bootstrap_rows, subset_rows
from unnorm.fitting.problem import Problem
from unnorm.fitting.results.entries import entry_keys, flat_label, free_places
from unnorm.supports.matrices import Matrix

# From the rows of each data set, and a key, to the estimates of all listed entries (a row for each
# finite one) and which are finite.
Refit = Callable[[Iterable[np.ndarray], jax.Array], tuple[pd.DataFrame, np.ndarray]]


# -- resamples and subsets -------------------------------------------------------------------------
def stability_of(
    fit: Any,
    problem: Problem,
    edges: str,
    refit: Refit,
    n: int,
    dropped: Any,
    seed: int,
    progress: bool,
    notes: Sequence[Finding] = (),
) -> EdgeStability:
    """Refit resamples and subsets of the rows of a fit.

    Args:
        fit: whose edges the subsets' are compared with.
        problem: its data and clusters.
        edges: the name of the matrix.
        refit: the estimates of data sets given by their rows.
        n: how many resamples, and how many subsets of all shares together.
        dropped: the shares, or None.
        seed: of the rows.
        progress: whether to show a bar.
        notes: findings to begin with.
    """
    _refuse_data(problem)
    columns = _edge_columns(fit.density, edges)
    fitted = pd.Series(fit._estimates, fit._index())[columns]
    _refuse_infinite(fitted, edges)
    units = problem.rows if problem.clusters is None else len(np.unique(problem.clusters))
    shares = _shares(dropped, units)
    counts = [n // len(shares) + (at < n % len(shares)) for at in range(len(shares))]
    rows, clusters = problem.rows, problem.clusters
    with jax.enable_x64(problem.is_double), bar("edge stability", 2.0 * n, progress):
        # `Fit.bootstrap` draws the same resamples from the same seed.
        draw_key, key = split_keys(make_key(seed))
        chosen = _stepping_bar(bootstrap_rows(draw_key, rows, n, clusters))
        estimates, finite = refit(chosen, key)
        estimates = estimates.loc[:, columns]
        correlations = []
        for at, (share, count) in enumerate(zip(shares, counts, strict=True)):
            draw_key, key = split_keys(fold_in(make_key(seed), 1 + at))
            chosen = _stepping_bar(subset_rows(draw_key, rows, count, share, clusters))
            correlations.append(_correlations(fitted, share, columns, *refit(chosen, key)))
    findings = [*notes, *_findings(fit, finite, min(counts))]
    found = EdgeStability(
        edges, fitted, estimates, pd.concat(correlations, ignore_index=True),
        int((~finite).sum()), findings,
    )  # fmt: skip
    findings += _doubts(found)
    return found


def _stepping_bar(chosen: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """The same, stepping the bar."""
    for rows in chosen:
        yield rows
        report(1)


def _correlations(
    fitted: pd.Series,
    share: float,
    columns: np.ndarray,
    estimates: pd.DataFrame,
    finite: np.ndarray,
) -> pd.DataFrame:
    """Pearson's correlation of each subset's edges with the fit's own; 0 where one of them does not
    vary, as in bootnet.
    """
    found = np.full(len(finite), np.nan)
    found[finite] = [
        _correlation(row, fitted.to_numpy()) for row in estimates.to_numpy()[:, columns]
    ]
    return pd.DataFrame({"dropped": share, "correlation": found})


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.clip(one @ other / size, -1.0, 1.0)) if size > 0 else 0.0


# -- what is refused, and what is said -------------------------------------------------------------
def _edge_columns(density: Any, edges: str) -> np.ndarray:
    """Which listed entries are edges: those beside the diagonal."""
    keys = entry_keys(density)
    known = [name for name, one in density.supports.items() if isinstance(one, Matrix)]
    if edges not in known:
        raise ValueError(
            f"edges is {edges!r}; it must be a symmetric matrix among the parameters of "
            f"{density.name}; "
            + (choose_from(edges, known) if known else "it has none; use fit.bootstrap().")
        )
    _, places = free_places(density, edges)
    beside = iter([place[-1] != place[-2] for place in places])
    columns = np.array([key[0] == edges and next(beside) for key in keys])
    if columns.sum() < 2:
        raise ValueError(
            f"edges is {edges!r}, which has {columns.sum()} edges; it must have at least two, "
            "because a correlation needs them; use fit.bootstrap()."
        )
    return columns


def _refuse_infinite(fitted: pd.Series, edges: str) -> None:
    unknown = ~np.isfinite(fitted.to_numpy(float))
    if unknown.any():
        label = flat_label(tuple(one for one in fitted.index[unknown.argmax()] if one != ""))
        raise ValueError(
            f"edge_stability was asked of {edges}, and {label} has no finite estimate; it must be "
            "finite in all rows; penalise it, or leave its variable out."
        )


def _refuse_data(problem: Problem) -> None:
    why = None
    if problem.weights is not None:
        why = "sampling weights; it must have none, or frequency weights"
    elif problem.rows < 2:
        why = "one row; it must have several; use fit.bootstrap(), which draws from the fit"
    if why:
        raise ValueError(f"edge_stability was asked of a fit with {why}.")


def _shares(dropped: Any, units: int) -> list[float]:
    """The shares that are dropped, smallest first."""
    if dropped is None:
        given = np.array(OPTIONS.dropped)
    else:
        try:
            given = np.unique(np.asarray(dropped, float).reshape(-1))
        except (TypeError, ValueError):
            given = np.array([np.nan])
    if not given.size or not np.all((given > 0) & (given < 1)):
        raise ValueError(
            f"dropped is {shown(dropped)}; it must hold shares between 0 and 1; pass, for example, "
            "[0.1, 0.3, 0.5]."
        )
    kept = np.array([round((1 - share) * units) for share in given])
    if np.any(kept >= units) or np.any(kept < 2):
        share, left = next((s, k) for s, k in zip(given, kept, strict=True) if k >= units or k < 2)
        raise ValueError(
            f"dropped holds {share:.3g}, which leaves {left} of {units} rows or clusters; it must "
            "leave at least two and drop one; pass other shares."
        )
    return [float(share) for share in given]


def _findings(fit: Any, finite: np.ndarray, subsets: int) -> list[Finding]:
    findings = []
    if not fit.passed:
        what = "the fit did not pass, and its edges may be wrong whatever their stability"
        findings.append(Finding(what, "read fit.findings", ERROR, FindingCode.FIT_DID_NOT_PASS))
    if not finite.all():
        what = f"{(~finite).sum()} of {len(finite)} resamples have no finite estimate"
        advice = "read the percentiles as conditional on a finite estimate, or penalise the edges"
        level = NOTE if finite.mean() >= OPTIONS.finite else WARNING
        level = level if finite.any() else ERROR
        findings.append(Finding(what, advice, level, FindingCode.NO_FINITE_ESTIMATE))
    if subsets < OPTIONS.subsets:
        what = f"there are {subsets} subsets of a share, too few to tell a probability of .95"
        findings.append(Finding(what, "raise n, or pass fewer shares", WARNING))
    return findings


def _doubts(found: EdgeStability) -> list[Finding]:
    """What the CS-coefficient says."""
    coefficient = found.cs_coefficient()
    if coefficient >= OPTIONS.doubtful:
        return []
    what = (
        f"the CS-coefficient of {found.edges} is {coefficient:.2f}, below {OPTIONS.doubtful:g}: "
        "with fewer rows the edges would be others"
    )
    return [Finding(what, "do not interpret differences between edges; collect more rows", WARNING)]


__all__ = ["stability_of"]

"""Standard errors from few rows or few clusters: the jackknife by one Newton step, and Student's
quantiles.

The sandwich squares scores at an estimate that was fitted to them, and is too small by terms of
order p/n. To leave row i out moves the estimate, to first order, by d_i = (n H - H_i)⁻¹ ψ_i, with
H_i the row's own Hessian; then V = (n - 1)/n Σ d_i d_i', and (n - 1) mean d_i estimates the bias.
For least squares d_i is exact: V is HC3, and with clusters CR3. Intervals take Student's quantiles
with n - p, or G - 1, degrees of freedom.

References:
    MacKinnon and White (1985), doi:10.1016/0304-4076(85)90158-7 (HC3); Bell and McCaffrey (2002),
    Survey Methodology 28, 169-181 (CR3); Cameron and Miller (2015), doi:10.3368/jhr.50.2.317 (few
    clusters); Carter, Schnepel and Steigerwald (2017), doi:10.1162/REST_a_00639 (the effective
    number of clusters).
"""

from typing import NamedTuple

import jax
import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.fitting.base import HasRowScores
from unnorm.fitting.solvers.newton import hessian, losses, parameters_of
from unnorm.numerics import diagonal_scaling

FEW_ROWS, ROWS_PER_PARAMETER = 100, 10  # below either the sandwich is several per cent too small
FEW_CLUSTERS = 50
_EFFECTIVE = (
    4.0  # clusters that a parameter's error must rest on at least, for its interval to be trusted
)
_ENTRIES = 2**24  # of the rows' Hessians, held at once
_BIASED, _MOSTLY_BIAS = 0.5, 1.5  # standard errors of bias: 95% intervals cover .92, .68
# of sums over pairs: nearly all quartics of 1,280 rows have more of it, and cover .87 to .91
_BIAS_OF_PAIRS = 1.0
_NOTHING = 1e-10  # curvature, of all rows', that is none without one of them
_VERY_FEW = 3  # rows per parameter, below which even corrected intervals are rough


class Corrected(NamedTuple):
    """What the jackknife says of few rows or clusters; without a covariance the sandwich's must
    do.
    """

    total: np.ndarray | None
    degrees: float
    findings: list[Finding]


def is_small(rows: int, parameters: int, clusters: np.ndarray | None) -> bool:
    """Whether so few independent rows or clusters ask for a correction."""
    if clusters is not None:
        return clusters.max() + 1 < FEW_CLUSTERS
    return 1 < rows < max(FEW_ROWS, ROWS_PER_PARAMETER * parameters)


@jax.jit
def _hessians(objective, density, state, events) -> jax.Array:
    """The Hessian of every row's loss, (n, p, p)."""
    vector = parameters_of(density, state)[0]
    if objective.traits.couples_rows:  # a row has its part in the losses of all others too
        return 2 * jax.jacfwd(jax.jacrev(lambda v: losses(objective, density, state, events, v)))(
            vector
        )

    def one(given):
        row, event = jax.tree.map(lambda leaf: leaf[None], given)
        return hessian(
            lambda v: losses(objective, density, state._replace(per_row=row), event, v)[0], vector
        )

    together = objective.row_batch_size(density, state)
    return jax.lax.map(one, (state.per_row, events), batch_size=together)


def jackknife(
    objective, density, state, events, psi, curvature, clusters, basis
) -> Corrected | None:
    """The covariance without the sandwich's bias; None where rows have no loss of their own, or
    there are too many.

    Args:
        objective, density, state, events: as in `inference.sandwich`.
        psi: all that a row adds to the score, (n, p), in the coordinates of the basis.
        curvature: H in the same coordinates.
        clusters: numbered from 0, or None.
        basis: W, whose columns are these coordinates.
    """
    rows, size = psi.shape
    no_rows = isinstance(objective, HasRowScores)
    count = rows if clusters is None else int(clusters.max()) + 1
    in_pairs = objective.traits.couples_rows
    if (
        no_rows
        or rows * size**2 > _ENTRIES
        or count * size**3 > 2**30
        or count <= size
        or count < 2
    ):
        return Corrected(None, np.inf, [_unknown_bias()]) if in_pairs else None
    own = np.einsum(
        "ja,ijk,kb->iab", basis, np.asarray(_hessians(objective, density, state, events)), basis
    )
    own = own if state.weights is None else np.asarray(state.weights)[:, None, None] * own
    scores = psi - psi.mean(0)
    if clusters is not None:
        own, scores = _sums(own, clusters, count), _sums(scores, clusters, count)
    moves = _moves(rows * curvature - own, scores, diagonal_scaling.units_of(curvature))
    if moves is None:
        return Corrected(
            None, float(count - size), [_decided_by_one(clusters, ERROR if in_pairs else WARNING)]
        )
    total = (count - 1) / count * moves.T @ moves
    biases = (count - 1) * moves.mean(0) / np.sqrt(np.diagonal(total))
    findings = _of_bias(biases, in_pairs)
    if clusters is None:
        return Corrected(total, float(rows - size), [*_of_rows(rows, size), *findings])
    inverse = diagonal_scaling.inverse(curvature)
    shares = np.einsum("ja,iab,bj->ij", inverse, own, inverse)
    return Corrected(total, float(count - 1), [_of_clusters(count, shares), *findings])


def _moves(left: np.ndarray, scores: np.ndarray, units: np.ndarray) -> np.ndarray | None:
    """How each row's absence moves the estimate; None where without some row it is not
    identified.
    """
    left = left / units[:, None] / units[None, :]
    if (
        not np.isfinite(left).all()
        or np.linalg.eigvalsh((left + left.swapaxes(1, 2)) / 2).min() <= _NOTHING
    ):
        return None
    return np.linalg.solve(left, (scores / units)[..., None])[..., 0] / units


def _sums(values: np.ndarray, clusters: np.ndarray, count: int) -> np.ndarray:
    found = np.zeros((count, *values.shape[1:]))
    np.add.at(found, clusters, values)
    return found


def _decided_by_one(clusters: np.ndarray | None, severity: str) -> Finding:
    one = "row" if clusters is None else "cluster"
    return Finding(
        f"one {one} alone decides some parameter: without it the loss has no minimum, so that "
        "the standard errors are "
        "too small",
        f"pass more {one}s, fewer parameters, or a penalty; do not trust the intervals",
        severity,
        FindingCode.SMALL_SAMPLE if clusters is None else FindingCode.FEW_CLUSTERS,
    )


def _of_bias(biases: np.ndarray, in_pairs: bool) -> list[Finding]:
    """A finding where the jackknife's estimate of the bias is large beside the standard error."""
    limit = _BIAS_OF_PAIRS if in_pairs else _MOSTLY_BIAS
    worst = float(np.max(np.abs(biases)))
    if worst <= _BIASED:
        return []
    what = f"the estimated bias is {worst:.1f} standard errors, because the sample is small"
    what += "; the intervals cover less than their level" if in_pairs else ""
    advice = "pass more rows, or use maximum likelihood or score matching where they serve"
    return [Finding(what, advice, ERROR if worst > limit else WARNING, FindingCode.SMALL_SAMPLE)]


def _unknown_bias() -> Finding:
    return Finding(
        "the bias cannot be estimated: there are too many parameters or too few rows",
        "compare with maximum likelihood or score matching where they serve",
        WARNING,
        FindingCode.SMALL_SAMPLE,
    )


def _of_rows(rows: int, size: int) -> list[Finding]:
    if not is_small(rows, size, None):
        return []
    told = Finding(
        f"{rows} rows are few for {size} parameters: the standard errors are the jackknife's and "
        "the intervals "
        f"Student's with {rows - size} degrees of freedom",
        "compare fit.profile() for a likelihood, or fit.bootstrap()",
        WARNING if rows < _VERY_FEW * size else NOTE,
        FindingCode.SMALL_SAMPLE,
    )
    return [told]


def _of_clusters(count: int, shares: np.ndarray) -> Finding:
    """`shares` (G, p): what each cluster adds to the variance of each coordinate if its rows were
    independent.
    """
    with np.errstate(all="ignore"):
        effective = np.nanmin(shares.sum(0) ** 2 / (shares**2).sum(0))
    what = (
        f"{count} clusters are few: the standard errors are the jackknife's over clusters and "
        "the intervals Student's "
        f"with {count - 1} degrees of freedom"
    )
    advice = "collect more clusters; more rows in each do not help"
    if effective < _EFFECTIVE:
        what += f", and one of the parameters rests on about {effective:.1f} of the clusters"
        return Finding(
            what, f"do not trust its interval; {advice}", WARNING, FindingCode.FEW_CLUSTERS
        )
    return Finding(what, advice, NOTE, FindingCode.FEW_CLUSTERS)


def parameters_beside_rows(rows: int, parameters: int, penalised: bool) -> list[Finding]:
    """An error where there are more parameters than rows and nothing else that holds them; one row
    is one graph.
    """
    if rows < 2 or parameters < rows or penalised:
        return []
    if parameters == rows:
        what = f"there are as many parameters as rows, {rows}"
        return [
            Finding(what, "read the standard errors with care", WARNING, FindingCode.SMALL_SAMPLE)
        ]
    return [
        Finding(
            f"there are {parameters:,} parameters and {rows:,} rows, so that the data do not "
            "determine them",
            "pass rows along the first axis (is the data transposed?), penalise or fix "
            "parameters, or pass more rows",
            ERROR,
            FindingCode.MORE_PARAMETERS_THAN_ROWS,
        )
    ]

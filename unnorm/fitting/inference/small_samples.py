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

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.fitting.base import HasRowScores
from unnorm.fitting.loss import Loss, hessian
from unnorm.numerics import diagonal_scaling


@dataclass(frozen=True)
class SmallSampleOptions:
    """What counts as a small sample, and what is said of one.

    Attributes:
        rows, rows_per_parameter: below either the sandwich is several per cent too small.
        clusters: below so many the sandwich over clusters is too small.
        effective_clusters: on which a parameter's error must rest for its interval to be trusted.
        hessian_entries: of the rows' Hessians, held at once.
        pair_entries: pairs of rows by pairs of parameters, visited by objectives of pairs.
        biased, very_biased: standard errors of bias: 95% intervals cover 0.92, 0.68.
        very_biased_pairs: of sums over pairs: nearly all quartics of 1,280 rows have more, and
            cover 0.87 to 0.91.
        no_curvature: curvature, relative to that of all rows, below which there is none without
            one of them.
        very_few_rows: rows per parameter below which even corrected intervals are rough.
        outweighed: rows or clusters, by their influences, that all others do not outweigh.
        collapsed: variance of the influences, relative to the model's, that hints at rows which
            the estimate follows.
        few: rows on which a parameter rests, by their Hessians, below which its error is rough.
    """

    rows: int = 100
    rows_per_parameter: int = 10
    clusters: int = 50
    effective_clusters: float = 4.0
    hessian_entries: int = 2**24
    pair_entries: int = 2**30
    biased: float = 0.5
    very_biased: float = 1.5
    very_biased_pairs: float = 1.0
    no_curvature: float = 1e-10
    very_few_rows: int = 3
    outweighed: float = 6.0
    collapsed: float = 0.6
    few: float = 10.0


DEFAULTS = SmallSampleOptions()


class Correction(NamedTuple):
    """The jackknife of few rows or clusters; without a covariance the sandwich's is used."""

    total: np.ndarray | None
    degrees: float
    findings: list[Finding]


def rests_on_few(
    psi: np.ndarray, curvature: np.ndarray, clusters: np.ndarray | None, is_likelihood: bool
) -> bool:
    """Whether a parameter's variance may rest on a few of many rows or clusters.

    That is seen by the influences H⁻¹ψ: a few outweigh all others, or, of a likelihood, their
    variance is far below the model's, because the estimate follows the few rows and leaves no
    residuals there.
    """
    with np.errstate(all="ignore"):
        influence = diagonal_scaling.solve(curvature, (psi - psi.mean(0)).T).T
        if clusters is not None:
            influence = _sums(influence, clusters, int(clusters.max()) + 1)
        squares = influence**2
        effective = squares.sum(0) ** 2 / (squares**2).sum(0)
        modelled = len(psi) * np.diag(diagonal_scaling.inverse(curvature))
        collapsed = is_likelihood & (squares.sum(0) < DEFAULTS.collapsed * modelled)
    few = effective < DEFAULTS.outweighed
    return bool(np.any(few | (collapsed if clusters is None else few)))


def is_small(rows: int, parameters: int, clusters: np.ndarray | None) -> bool:
    """Whether there are so few independent rows or clusters that a correction is needed."""
    if clusters is not None:
        return clusters.max() + 1 < DEFAULTS.clusters
    return 1 < rows < max(DEFAULTS.rows, DEFAULTS.rows_per_parameter * parameters)


def _hessians_over_pairs(loss: Loss) -> jax.Array:
    """One pair of parameters at a time: the rows' losses hold all pairs of rows."""
    vector, units = loss.vector, jnp.eye(loss.vector.size, dtype=loss.vector.dtype)

    def along(function, direction):
        return lambda v: jax.jvp(function, (v,), (direction,))[1]

    def second(first):
        return jax.lax.map(lambda other: along(along(loss.rows, other), first)(vector), units)

    return jnp.moveaxis(jax.lax.map(second, units), -1, 0)


@compiled
def _hessians(loss: Loss) -> jax.Array:
    """The Hessian of every row's loss, (n, p, p)."""
    objective, density, state, events = loss
    vector = loss.vector
    if objective.traits.couples_rows:  # a row has its part in the losses of all others too
        return 2 * _hessians_over_pairs(loss)

    def one(given):
        row, event = jax.tree.map(lambda leaf: leaf[None], given)
        of_row = loss._replace(state=state._replace(per_row=row), events=event)
        return hessian(lambda v: of_row.rows(v)[0], vector)

    together = objective.row_batch_size(density, state)
    return jax.lax.map(one, (state.per_row, events), batch_size=together)


def jackknife(
    loss: Loss,
    psi: np.ndarray,
    curvature: np.ndarray,
    clusters: np.ndarray | None,
    basis: np.ndarray,
    options: SmallSampleOptions = DEFAULTS,
) -> Correction | None:
    """The covariance without the sandwich's bias; None where rows have no loss of their own, or
    there are too many.

    Args:
        loss: at its minimum.
        psi: all that a row adds to the score, (n, p), in the coordinates of the basis.
        curvature: H in the same coordinates.
        clusters: numbered from 0, or None.
        basis: W, whose columns are these coordinates.
        options: budgets and thresholds.
    """
    rows, size = psi.shape
    count = rows if clusters is None else int(clusters.max()) + 1
    in_pairs = loss.objective.traits.couples_rows
    too_large = rows * size**2 > options.hessian_entries or count * size**3 > 2**30
    too_large |= in_pairs and (rows * size) ** 2 > options.pair_entries
    if isinstance(loss.objective, HasRowScores) or too_large or count <= size or count < 2:
        return Correction(None, np.inf, [_unknown_bias()]) if in_pairs else None
    own = np.einsum("ja,ijk,kb->iab", basis, np.asarray(_hessians(loss)), basis)
    weights = loss.state.weights
    own = own if weights is None else np.asarray(weights)[:, None, None] * own
    scores = psi - psi.mean(0)
    if clusters is not None:
        own, scores = _sums(own, clusters, count), _sums(scores, clusters, count)
    moves = _moves(rows * curvature - own, scores, diagonal_scaling.units_of(curvature))
    many = not is_small(rows, size, clusters)
    if moves is None:
        severity = ERROR if in_pairs or many else WARNING
        return Correction(None, float(count - size), [_depends_on_one(clusters, severity)])
    total = (count - 1) / count * moves.T @ moves
    spread = np.sqrt(np.diagonal(total))
    # without spread no row moves the parameter
    biases = np.divide((count - 1) * moves.mean(0), spread, np.zeros(size), where=spread > 0)
    findings = _of_bias(biases, in_pairs)
    degrees = float(rows - size if clusters is None else count - 1)
    if clusters is None and (in_pairs or not many):
        return Correction(total, degrees, [*_of_rows(rows, size), *findings])
    inverse = diagonal_scaling.inverse(curvature)
    shares = np.einsum("ja,iab,bj->ij", inverse, own, inverse)
    if many:
        return Correction(total, degrees, [*_of_few(shares, clusters), *findings])
    return Correction(total, degrees, [_of_clusters(count, shares), *findings])


def _moves(left: np.ndarray, scores: np.ndarray, units: np.ndarray) -> np.ndarray | None:
    """How each row's absence moves the estimate; None where without some row it is not
    identified.
    """
    left = left / units[:, None] / units[None, :]
    if (
        not np.isfinite(left).all()
        or np.linalg.eigvalsh((left + left.swapaxes(1, 2)) / 2).min() <= DEFAULTS.no_curvature
    ):
        return None
    return np.linalg.solve(left, (scores / units)[..., None])[..., 0] / units


def _sums(values: np.ndarray, clusters: np.ndarray, count: int) -> np.ndarray:
    found = np.zeros((count, *values.shape[1:]))
    np.add.at(found, clusters, values)
    return found


def _depends_on_one(clusters: np.ndarray | None, severity: str) -> Finding:
    one = "row" if clusters is None else "cluster"
    return Finding(
        f"one {one} alone decides some parameter: without it the loss has no minimum, so that the "
        "standard errors are too small",
        f"pass more {one}s, fewer parameters, or a penalty; do not trust the intervals",
        severity,
        FindingCode.SMALL_SAMPLE if clusters is None else FindingCode.FEW_CLUSTERS,
    )


def _of_bias(biases: np.ndarray, in_pairs: bool) -> list[Finding]:
    """A finding where the jackknife's estimate of the bias is large beside the standard error."""
    limit = DEFAULTS.very_biased_pairs if in_pairs else DEFAULTS.very_biased
    worst = float(np.max(np.abs(biases)))
    if worst <= DEFAULTS.biased:
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
    note = Finding(
        f"{rows} rows are few for {size} parameters: the standard errors are the jackknife's and "
        f"the intervals Student's with {rows - size} degrees of freedom",
        "compare fit.profile() for a likelihood, or fit.bootstrap()",
        WARNING if rows < DEFAULTS.very_few_rows * size else NOTE,
        FindingCode.SMALL_SAMPLE,
    )
    return [note]


def _of_few(shares: np.ndarray, clusters: np.ndarray | None) -> list[Finding]:
    """A finding where a parameter rests on few of many rows or clusters, by their shares of H."""
    with np.errstate(all="ignore"):
        effective = np.nanmin(shares.sum(0) ** 2 / (shares**2).sum(0))
    if not effective < DEFAULTS.few:
        return []
    kind, code = "rows", FindingCode.SMALL_SAMPLE
    if clusters is not None:
        kind, code = "clusters", FindingCode.FEW_CLUSTERS
    what = (
        f"one of the parameters rests on about {effective:.1f} of {len(shares):,} {kind}: the "
        "standard errors are the jackknife's, and its own is rough"
    )
    advice = f"pool levels that are rare, collect more such {kind}, or see fit.profile()"
    severity = ERROR if effective < DEFAULTS.effective_clusters else WARNING
    return [Finding(what, advice, severity, code)]


def _of_clusters(count: int, shares: np.ndarray) -> Finding:
    """`shares` (G, p): what each cluster adds to the variance of each coordinate if its rows were
    independent.
    """
    with np.errstate(all="ignore"):
        effective = np.nanmin(shares.sum(0) ** 2 / (shares**2).sum(0))
    what = (
        f"{count} clusters are few: the standard errors are the jackknife's over clusters and the "
        f"intervals Student's with {count - 1} degrees of freedom"
    )
    advice = "collect more clusters; more rows in each do not help"
    if effective < DEFAULTS.effective_clusters:
        what += f", and one of the parameters rests on about {effective:.1f} of the clusters"
        return Finding(
            what, f"do not trust its interval; {advice}", WARNING, FindingCode.FEW_CLUSTERS
        )
    return Finding(what, advice, NOTE, FindingCode.FEW_CLUSTERS)


def parameters_beside_rows(rows: int, parameters: int, penalised: bool) -> list[Finding]:
    """An error where there are not fewer parameters than rows and nothing else that holds them; one
    row is one graph.
    """
    if rows < 2 or parameters < rows or penalised:
        return []
    if parameters == rows:
        what = (
            f"there are as many parameters as rows, {rows}, and the scores of the rows sum to "
            "zero, so that the rows do not determine the standard errors"
        )
        advice = "penalise or fix parameters, or pass more rows"
        return [Finding(what, advice, ERROR, FindingCode.SMALL_SAMPLE)]
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

"""Whether one row makes up most of the variance of a score: the central limit is not at work then.

The leverage of row i is ψ_i' (Σ_j ψ_j ψ_j')⁻¹ ψ_i, the largest share that it has of the scores'
variance in any direction: of order p/n where scores have moments, and near 1 where one row
outweighs all others together, whatever n.
"""

from dataclasses import dataclass

import numpy as np

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode


@dataclass(frozen=True)
class LeverageCriteria:
    """Which share of the scores' variance one row may have.

    Median and largest leverage of 25 data sets, and coverage of intervals of 95%, by score
    matching of two parameters:

    | density | 200 rows | 2,000 rows |
    | --- | --- | --- |
    | lognormal, sigma 2 | .79, .99: .20 to .28 | .75, .99: .32 to .48 |
    | lognormal, sigma 1 | .53, .97: .84 to .88 | .40, .87: .88 to .92 |
    | gamma, shape 1 and 3 | .40, .77: .88 to .96 | .19, .55: .96 to 1 |

    Attributes:
        rows: below so many a large share is usual.
        many: rows.
        error: an error beyond it.
        error_of_many: an error beyond it, from `many` rows on.
        warning: a warning beyond this share of what is an error.
        alike: factor within which the scores' variance is the model's.
        rounding: directions of less variance, relative to the largest, are not looked at.
    """

    rows: int = 200
    many: int = 1000
    error: float = 0.8
    error_of_many: float = 0.5
    warning: float = 0.75
    alike: float = 1.5
    rounding: float = 1e-10


def influential_row_findings(
    psi: np.ndarray,
    names: list[str],
    model_based: np.ndarray | None,
    criteria: LeverageCriteria = LeverageCriteria(),
) -> list[Finding]:
    """Return a finding if one row's score outweighs the others.

    Args:
        psi: the rows' scores (n, p).
        names: of the parameters.
        model_based: H of a log-likelihood. Where the scores vary at most as much as the model says
            in the row's direction, its share does no harm, as of one row in a table's cell.
        criteria: the limits.
    """
    n, limit = len(psi), criteria.error
    if n < criteria.rows or psi.shape[1] >= n:
        return []
    if n >= criteria.many:
        limit = criteria.error_of_many
    centred = psi - psi.mean(0)
    with np.errstate(all="ignore"):
        scaled = centred / np.sqrt((centred**2).mean(0))
    if not np.isfinite(scaled).all():
        return []
    sizes, axes = np.linalg.eigh(scaled.T @ scaled)
    seen = sizes > criteria.rounding * sizes[-1]
    leverage = np.sum((scaled @ axes[:, seen]) ** 2 / sizes[seen], 1)
    row = int(np.argmax(leverage))
    if not leverage[row] > criteria.warning * limit or _as_modelled(
        centred, row, model_based, criteria
    ):
        return []
    name = names[int(np.argmax(scaled[row] ** 2))]
    what = (
        f"row {row} makes up {leverage[row]:.0%} of the variance of the scores of {n:,} rows, most "
        f"of all in {name}: its standard error rests on that row"
    )
    advice = "look at the row, or transform the variable (its logarithm)"
    other = ", or use maximum likelihood"
    if model_based is not None:
        other = ", or pool such rows and take its interval from fit.profile()"
    severity = ERROR if leverage[row] > limit else WARNING
    return [Finding(what, advice + other, severity, FindingCode.INFLUENTIAL_ROW)]


def _as_modelled(
    centred: np.ndarray, row: int, model_based: np.ndarray | None, criteria: LeverageCriteria
) -> bool:
    """Whether ψ varies no more than H says (Bartlett's second identity) in the direction in which
    the row has its share.
    """
    if model_based is None:
        return False
    meat = centred.T @ centred / len(centred)
    way = np.linalg.lstsq(meat, centred[row], rcond=None)[0]
    ratio = (way @ meat @ way) / (way @ model_based @ way)
    return bool(ratio < criteria.alike)


__all__ = ["LeverageCriteria", "influential_row_findings"]

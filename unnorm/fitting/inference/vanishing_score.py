"""Parameters whose score vanishes in every row at the estimate: the sandwich does not hold there.

A density that depends on a² has a score of zero at a = 0, whatever the data; J is zero beside H,
and H⁻¹ J H⁻¹ / n is an error of zero for a parameter that the data hardly determine (Rotnitzky,
Cox, Bottai and Robins 2000, doi:10.2307/3318576). Where two components of a mixture coincide, its
weight does not change the density at all, and J and H are both rounding errors.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, Finding, FindingCode, join_names
from unnorm.fitting.loss import Loss, scores_and_curvature


@dataclass(frozen=True)
class VanishingScoreOptions:
    """When a score counts as zero.

    Attributes:
        suspect: J of a parameter relative to H, in units of the spread of the rows' losses. It is
            near 1 for a regular likelihood; only below this is the parameter moved.
        vanishing: standard deviation of the scores relative to that after the move.
        constant: change of a row's loss by the move, relative to the loss, that is rounding.
    """

    suspect: float = 1e-8
    vanishing: float = 1e-6
    constant: float = 1e-12


DEFAULTS = VanishingScoreOptions()


def vanishing_score(loss: Loss, psi: np.ndarray, curvature: np.ndarray) -> Finding | None:
    """A finding that names the parameters whose score is zero in every row; None where there are
    none.

    Args:
        loss: at its minimum, without a penalty.
        psi: the rows' scores (n, p).
        curvature: H.
    """
    with np.errstate(all="ignore"):
        share = (psi**2).mean(0) / np.abs(np.diag(curvature))
    unit = max(1.0, share.max(initial=0.0, where=np.isfinite(share)))
    suspects = np.flatnonzero(~(share > DEFAULTS.suspect * unit))
    if not len(suspects):
        return None
    spread = float(np.std(np.asarray(_rows(loss, loss.vector))))
    constant, vanishing = [], []
    for i in suspects[~(share[suspects] > DEFAULTS.suspect * spread)]:
        step = np.sqrt(2 * spread / max(abs(curvature[i, i]), np.finfo(float).tiny))
        # a long step has rounding of its own
        short = min(step, max(1.0, abs(float(loss.vector[i]))))
        if all(_moved(loss, psi, i, sign * short)[0] < DEFAULTS.constant for sign in (-1, 1)):
            constant.append(i)
        elif all(_moved(loss, psi, i, sign * step)[1] < DEFAULTS.vanishing for sign in (-1, 1)):
            vanishing.append(i)
    if constant:
        return Finding(
            f"{_names(loss, constant)} does not change the loss of any row at "
            "the estimate, as where two components coincide: these data do not determine it",
            "leave it out, fix it, or penalise it",
            ERROR,
            FindingCode.NOT_IDENTIFIED,
        )
    if vanishing:
        return Finding(
            f"the score of {_names(loss, vanishing)} is zero in every row at the estimate, as at 0 "
            "where the density depends on a square, or where a single row informs it: its standard "
            "error cannot be estimated there",
            "take its interval from fit.profile(), declare it un.Positive, or drop that row",
            ERROR,
            FindingCode.NO_STANDARD_ERRORS,
        )
    return None


@compiled
def _rows(loss: Loss, vector: jax.Array) -> jax.Array:
    return loss.rows(vector)


def _moved(loss: Loss, psi: np.ndarray, place: int, step: float) -> tuple[float, float]:
    """What a step of one parameter does that would change a regular loss by its spread: the largest
    change of a row's loss, relative to the loss, and the spread of the scores before relative to
    after.
    """
    vector = np.asarray(loss.vector)
    there = vector.copy()
    there[place] += step
    elsewhere = loss.at(jnp.asarray(there, vector.dtype))
    before, after = (np.asarray(_rows(loss, jnp.asarray(v, vector.dtype))) for v in (vector, there))
    scores = np.asarray(scores_and_curvature(elsewhere)[0])[:, place]
    with np.errstate(all="ignore"):
        change = np.max(np.abs(after - before) / (1 + np.abs(before)))
        ratio = np.std(psi[:, place]) / np.std(scores)
    return float(change), float(ratio) if np.isfinite(ratio) else np.inf


def _names(loss: Loss, places: list[int]) -> str:
    """The coordinates of the vector at these places, by name."""
    labels = loss.coordinate_names()
    return join_names([labels[i] for i in places])


__all__ = ["VanishingScoreOptions", "vanishing_score"]

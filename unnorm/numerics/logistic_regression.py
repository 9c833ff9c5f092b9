"""Many logistic regressions of one size at once, on the host: no program is compiled for them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class LogisticOptions:
    """When the iterations stop.

    Attributes:
        steps: Newton steps at most; a regression with a finite estimate takes about six.
        halvings: of a step that increases the loss.
        decrement: g'H⁻¹g of a minimum, for a loss that is a sum over the responses.
        largest: log-odds beyond which the responses may be separated, and the estimate infinite.
    """

    steps: int = 50
    halvings: int = 30
    decrement: float = 1e-18
    largest: float = 15.0


class LogisticFits(NamedTuple):
    """The estimates (b, p), their summed losses and decrements (b,), and which of them surely are
    minima: converged, with no log-odds so large that the responses might be
    separated.
    """

    coefficients: np.ndarray
    loss: np.ndarray
    decrement: np.ndarray
    regular: np.ndarray


def logistic_regressions(
    design: np.ndarray,
    offset: np.ndarray,
    response: np.ndarray,
    weights: np.ndarray | None = None,
    options: LogisticOptions = LogisticOptions(),
) -> LogisticFits:
    """Minimize Σ_k w_k (log(1 + e^{η_k}) − y_k η_k), η = X β + offset, by Newton's method.

    Args:
        design: X (b, k, p).
        offset: (b, k).
        response: y (b, k), 0 or 1.
        weights: w (b, k); None: 1.
        options: when the iterations stop.

    Example:
        >>> fits = logistic_regressions(np.ones((1, 4, 1)), np.zeros((1, 4)), np.eye(4)[:1])
        >>> round(float(fits.coefficients[0, 0]), 4)  # the logit of 1/4
        -1.0986
    """
    weights = np.ones_like(response) if weights is None else weights
    beta = np.zeros((len(design), design.shape[2]))

    def evaluate(beta):
        eta = np.einsum("bkp,bp->bk", design, beta) + offset
        return eta, np.sum(weights * (np.logaddexp(0.0, eta) - response * eta), 1)

    eta, loss = evaluate(beta)
    for _ in range(options.steps):
        chance = 0.5 * (1 + np.tanh(eta / 2))
        gradient = np.einsum("bkp,bk->bp", design, weights * (chance - response))
        curvature = np.einsum(
            "bkp,bk,bkq->bpq", design, weights * chance * (1 - chance), design, optimize=True
        )
        step = np.einsum("bpq,bq->bp", np.linalg.pinv(curvature, hermitian=True), gradient)
        decrement = np.einsum("bp,bp->b", gradient, step)
        if not np.any(decrement > options.decrement):
            break
        part = np.ones(len(beta))
        for _halving in range(options.halvings):
            _, after = evaluate(beta - part[:, None] * step)
            worse = ~(after <= loss + 1e-12 * np.abs(loss))
            if not worse.any():
                break
            part = np.where(worse, part / 2, part)
        beta = beta - part[:, None] * step
        eta, loss = evaluate(beta)
    regular = (decrement <= options.decrement) & (np.abs(eta).max(1) <= options.largest)
    regular &= np.linalg.cond(curvature) < 1 / np.sqrt(np.finfo(float).eps)
    return LogisticFits(beta, loss, decrement, regular)


__all__ = ["LogisticFits", "LogisticOptions", "logistic_regressions"]

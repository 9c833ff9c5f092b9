"""A classifier two-sample test: can draws be distinguished from data?

The statistic is the area under the ROC curve (AUC), the probability that a classifier ranks a draw
and a data row correctly: 1/2 if both have the same distribution, at most 1/2 + V where V is their
total variation distance. Some classifiers are fixed scores (log p̃, the distance from the centre),
others kernel regressions of the label on the point, at several bandwidths, evaluated on folds that
they were not fitted to. Labels are permuted within folds, which is exact for exchangeable rows, and
the p-value is that of the largest standardised AUC.

References: Lopez-Paz and Oquab (2017), arXiv:1610.06545; Kim, Ramdas, Singh and Wasserman (2021),
doi:10.1214/20-AOS1962.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class TwoSampleOptions:
    """Options of the test.

    Args:
        permutations: the smallest p-value is 1 / (permutations + 1).
        folds: of cross-validation.
        bandwidths: of the kernels, as shares of the median distance: overall shape, separate
            modes, shapes of modes.
    """

    permutations: int = 399
    folds: int = 5
    bandwidths: tuple[float, ...] = (1.0, 1 / 4, 1 / 16)


class TwoSample(NamedTuple):
    """The largest AUC and the permutation p-value of the test."""

    auc: float
    p_value: float


def two_sample(
    data: np.ndarray,
    draws: np.ndarray,
    scores: list[np.ndarray],
    rng: np.random.Generator,
    options: TwoSampleOptions = TwoSampleOptions(),
) -> TwoSample:
    """Compare rows (n, d) with draws (m, d); `scores` are further fixed scores of the pooled rows,
    data first.
    """
    points = _standardize(data, draws)
    folds = _folds(len(data), len(draws), rng, options.folds)
    labels = _permute_labels(len(data), folds, rng, options)
    fixed = [np.sum(points**2, 1), *scores]
    one_sided = [_auc(np.broadcast_to(score, labels.shape), labels) for score in fixed]
    curves = [0.5 + np.abs(auc - 0.5) for auc in one_sided]
    curves += [
        _auc(_kernel_regression(kernel, labels), labels)
        for kernel in _kernels(points, folds, options.bandwidths)
    ]
    found = np.array(curves)  # (classifiers, 1 + permutations)
    centre, spread = found[:, 1:].mean(1, keepdims=True), found[:, 1:].std(1, keepdims=True)
    largest = ((found - centre) / np.maximum(spread, 1e-12)).max(0)
    p_value = (1 + np.sum(largest[1:] >= largest[0])) / (1 + options.permutations)
    return TwoSample(float(found[:, 0].max()), float(p_value))


def _standardize(data: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The pooled points, centred and scaled by column; labels play no part, or they would not be
    exchangeable.
    """
    far = 1e30  # in place of coordinates that are not finite, as of chains that diverged
    pooled = np.nan_to_num(
        np.concatenate([data, draws]).astype(float), nan=far, posinf=far, neginf=-far
    )
    apart = pooled - np.median(pooled, 0)
    spread = np.abs(apart).mean(0)
    return apart / np.where(spread > 0, spread, 1.0)


def _folds(rows: int, draws: int, rng: np.random.Generator, folds: int) -> np.ndarray:
    """The fold of every pooled point, as many of either sample in each as possible."""
    return np.concatenate([rng.permutation(np.arange(size) % folds) for size in (rows, draws)])


def _permute_labels(
    rows: int, folds: np.ndarray, rng: np.random.Generator, options: TwoSampleOptions
) -> np.ndarray:
    """Labels (1 + permutations, n + m), 1 for data: first the observed ones, then permutations
    within folds.
    """
    labels = np.zeros((1 + options.permutations, len(folds)), np.float32)
    labels[:, :rows] = 1.0
    for fold in range(options.folds):
        members = np.flatnonzero(folds == fold)
        labels[1:, members] = rng.permuted(labels[1:, members], axis=1)
    return labels


def _kernels(points: np.ndarray, folds: np.ndarray, bandwidths: tuple[float, ...]):
    """Gaussian kernels between points of different folds (n + m, n + m), at each bandwidth."""
    squares = np.sum(points**2, 1)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0)
    positive = distances[distances > 1e-12]
    median = np.median(positive) if positive.size else 1.0
    for bandwidth in bandwidths:
        kernel = np.exp(-distances / (2 * bandwidth**2 * median)).astype(np.float32)
        kernel[folds[:, None] == folds] = 0.0
        yield kernel


def _kernel_regression(kernel: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Nadaraya and Watson's estimate of the probability that a point is a data row, without its own
    fold.
    """
    prior = labels[0].mean()
    tiny = np.float32(1e-30)
    return (labels @ kernel + tiny * prior) / (kernel.sum(0) + tiny)


def _auc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The AUC of each row of scores for that row of labels (Mann and Whitney's U over its
    maximum).
    """
    positives = labels.sum(1)
    ranks = rankdata(scores, axis=1) if scores.strides[0] else rankdata(scores[0])
    above = np.sum(ranks * labels, 1) - positives * (positives + 1) / 2
    return above / (positives * (labels.shape[1] - positives))

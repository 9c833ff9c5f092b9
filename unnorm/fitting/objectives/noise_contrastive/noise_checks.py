"""Conditions on the noise: its shape, positive density at the data, and overlap with them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.core.validation import refuse_other_measure
from unnorm.fitting.objectives.flow_distribution import GivenFlow
from unnorm.supports import Support


@dataclass(frozen=True)
class NoiseCriteria:
    """When noise is too easy to tell from the data."""

    # With less information standard errors are some three times those of maximum likelihood.
    min_information: float = 0.1
    # Rows that the information left is worth. A normal with 500 rows, by noise with a sixth of its
    # width: 0.5 rows, estimates 25 times as far off as their standard errors. A fourth: 2 rows.
    min_rows: float = 5.0
    min_ess_per_parameter: float = 3.0  # with fewer, sums over noise points are no expectations
    most_parameters: int = 500  # whose scores are compared; beyond, the mean over the rows counts


NOISE = NoiseCriteria()


def check_noise(
    given: Mapping, shapes: dict[str, tuple[int, ...]], variables: dict[str, Support]
) -> None:
    """Raise unless there is one distribution of the right shape and measure per variable."""
    from numpyro.distributions import Distribution

    if set(given) != set(shapes):
        raise ValueError(
            f"noise was given for {', '.join(given)}; expected {', '.join(shapes)}; pass a dict "
            "with a distribution for each of these."
        )
    for name, distribution in given.items():
        if isinstance(distribution, GivenFlow):
            _check_flow(name, variables[name], shapes[name], distribution)
            continue
        if not isinstance(distribution, Distribution):
            raise ValueError(
                f"noise for {name} is {distribution!r}; expected a distribution over one event; "
                "pass one of numpyro.distributions or flowjax.distributions."
            )
        refuse_other_measure("noise for", name, variables[name], distribution)
        found = tuple(distribution.batch_shape) + tuple(distribution.event_shape)
        if found != shapes[name]:
            raise ValueError(
                f"noise for {name} has the shape {found}; expected {shapes[name]}; use "
                ".expand(...) or .to_event(...)."
            )


def _check_flow(name: str, support: Support, shape: tuple[int, ...], flow: GivenFlow) -> None:
    """Raise unless a flow is a density of the variable, with as many entries."""
    if support.discrete:
        raise ValueError(
            f"The noise for {name} is {flow!r}, which is continuous, and {name} is {support!r}; "
            "expected a discrete distribution; choose one of numpyro.distributions."
        )
    if math.prod(flow.shape) != math.prod(shape):
        raise ValueError(
            f"noise for {name} is {flow!r}; expected a draw of as many entries as {shape} has; "
            "pass a flow of that dimension."
        )


def refuse_uncovered(on_data: np.ndarray, on_noise: np.ndarray) -> None:
    """Refuse noise that is zero at data, or not finite at its own draws."""
    if not np.isfinite(on_data).all():
        row = int(np.argmin(np.isfinite(on_data)))
        raise ValueError(
            f"noise has the log-density {on_data[row]} at data row {row}; expected noise that is "
            "positive wherever data can be; pass noise with a wider support."
        )
    if not np.isfinite(on_noise).all():
        raise ValueError(
            "noise has a log-density that is not finite at its own draws; expected finite "
            "numbers; correct the distribution."
        )


def refuse_covariates(objective: str, density) -> str | None:
    """Return why an objective that learns one log Z does not serve covariates, or None."""
    if density.covariates:
        return (
            f"{objective} learns one log Z, and with the covariate "
            f"{next(iter(density.covariates))} every row has its own; use un.objectives.RankingNCE"
            ", ConditionalNCE, MaximumLikelihood, PseudoLikelihood, ScoreMatching or "
            "ContrastiveDivergence"
        )
    return None


def refuse_infinite_log_z(density, log_z: jax.Array) -> None:
    """Raise unless the initial log Z, by importance sampling from the noise, is finite."""
    if not np.isfinite(log_z):
        raise ValueError(
            f"Density {density.name} has the log Z {float(log_z)} by the noise at the start; "
            "expected a finite number; pass start= parameters at which it has a finite Z."
        )


def relative_information(weights: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The least and the largest eigenvalue of Σ wᵢ sᵢsᵢ' relative to Σ sᵢsᵢ', over the directions
    of the parameters and log Z.

    With the shares of the rows' information as weights, the least is what is left in the direction
    in which it is least. Noise that is narrower than the data leaves much on average, and nothing
    in the tails, which decide on the width.

    Args:
        weights: wᵢ of each row, (n,).
        scores: ∇ log p̃, (n, q).
    """
    scores = np.column_stack([scores, np.ones(len(scores))])
    scales = np.linalg.norm(scores, axis=0)
    if not (np.isfinite(scales).all() and np.isfinite(weights).all()):
        return float(weights.mean()), float(weights.mean())
    left, sizes, _ = np.linalg.svd(scores / np.where(scales > 0, scales, 1.0), full_matrices=False)
    basis = left[:, sizes > 1e-8 * sizes.max()]
    values = np.linalg.eigvalsh(basis.T @ (weights[:, None] * basis))
    return max(float(values[0]), 0.0), float(values[-1])


def overlap_findings(
    density,
    information: float,
    rows: int,
    log_weights: np.ndarray | None,
    parameters: int,
    criteria: NoiseCriteria = NOISE,
) -> list[Finding]:
    """Return a finding where noise and data hardly overlap.

    Args:
        density: named in the finding.
        information: share of the data's information that the contrast leaves.
        rows: of the data.
        log_weights: log p_model / p_noise at the noise points, or None.
        parameters: their number.
        criteria: limits of both.
    """
    reasons, severity = [], WARNING
    if not information >= criteria.min_information:
        reasons.append(
            f"it leaves {information:.2%} of the information in the data on some combination of "
            "the parameters"
        )
        severity = WARNING if information * rows >= criteria.min_rows else ERROR
    if log_weights is not None:
        weights = np.exp(log_weights - log_weights.max())
        ess = weights.sum() ** 2 / (weights**2).sum()
        if not ess >= criteria.min_ess_per_parameter * parameters:
            reasons.append(
                f"its {len(weights):,} points have ESS = {ess:.1f} as draws of {density.name}"
            )
            severity = ERROR if not ess >= parameters else severity
    if not reasons:
        return []
    what = f"the noise is too easy to tell from the data: {' and '.join(reasons)}"
    return [
        Finding(
            what,
            "pass noise= nearer to the data and as wide as they are, or raise noise_ratio",
            severity,
            code=FindingCode.UNSUITABLE_NOISE,
        )
    ]

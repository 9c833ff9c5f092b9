"""What noise must be to serve: of the right shape, positive where data are, and not too easy to
tell from them.
"""

from collections.abc import Mapping

import jax
import numpy as np

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.core.validation import refuse_other_measure
from unnorm.supports import Support

_LEAST_INFORMATION = (
    0.1  # below it the standard errors are some three times those of maximum likelihood
)
_DRAWS_PER_PARAMETER = 3  # effective noise points, below which sums over them are no expectations


def check_given(
    given: Mapping, shapes: dict[str, tuple[int, ...]], variables: dict[str, Support]
) -> None:
    from numpyro.distributions import Distribution

    if set(given) != set(shapes):
        raise ValueError(
            f"noise was given for {', '.join(given)}; expected {', '.join(shapes)}; pass a dict "
            "with a distribution "
            "for each."
        )
    for name, distribution in given.items():
        if not isinstance(distribution, Distribution):
            raise ValueError(
                f"noise for {name} is {distribution!r}; expected an object of "
                "numpyro.distributions over one event; "
                "pass such a one."
            )
        refuse_other_measure("noise for", name, variables[name], distribution)
        found = tuple(distribution.batch_shape) + tuple(distribution.event_shape)
        if found != shapes[name]:
            raise ValueError(
                f"noise for {name} has the shape {found}; expected {shapes[name]}; use "
                ".expand(...) or .to_event(...)."
            )


def refuse_uncovered(on_data: np.ndarray, on_noise: np.ndarray) -> None:
    """Refuse noise that is zero at data, or not finite at its own draws."""
    if not np.isfinite(on_data).all():
        row = int(np.argmin(np.isfinite(on_data)))
        raise ValueError(
            f"noise has the log-density {on_data[row]} at data row {row}; expected noise that is "
            "positive wherever "
            "data can be; pass noise with a wider support."
        )
    if not np.isfinite(on_noise).all():
        raise ValueError(
            "noise has a log-density that is not finite at its own draws; expected finite "
            "numbers; mend it."
        )


def one_log_z(objective: str, density) -> str | None:
    """Why an objective that learns one log Z does not serve covariates, as a sentence, or None."""
    if density.covariates:
        return (
            f"{objective} learns one log Z, and with the covariate "
            f"{next(iter(density.covariates))} every row has its "
            "own; use un.objectives.RankingNCE, ConditionalNCE, MaximumLikelihood, "
            "PseudoLikelihood, ScoreMatching or "
            "ContrastiveDivergence"
        )
    return None


def finite_log_z(density, log_z: jax.Array) -> jax.Array:
    if not np.isfinite(log_z):
        raise ValueError(
            f"Density {density.name} has the log Z {float(log_z)} by the noise at the start; "
            "expected a finite "
            "number; pass start= parameters at which it can be normalized."
        )
    return log_z


def too_easy(
    density, share: float, log_weights: np.ndarray | None, parameters: int
) -> list[Finding]:
    """A finding where noise and data hardly overlap: `share` of the information left, log p_m/p_n
    at the noise.
    """
    told, severity = [], WARNING
    if not share >= _LEAST_INFORMATION:
        told.append(f"it leaves {share:.2%} of the information in the data")
    if log_weights is not None:
        weights = np.exp(log_weights - log_weights.max())
        effective = weights.sum() ** 2 / (weights**2).sum()
        if not effective >= _DRAWS_PER_PARAMETER * parameters:
            told.append(
                f"its {len(weights):,} points are worth {effective:.1f} draws of {density.name}"
            )
            severity = ERROR if not effective >= parameters else WARNING
    if not told:
        return []
    what = f"the noise is too easy to tell from the data: {' and '.join(told)}"
    return [
        Finding(
            what,
            "pass noise= nearer to the data, or raise noise_ratio",
            severity,
            code=FindingCode.UNSUITABLE_NOISE,
        )
    ]

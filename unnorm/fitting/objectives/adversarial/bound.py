"""The bound of the mean log-likelihood by a generator, and its distance from the maximum."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.random_keys import make_key
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.loss import scores_at
from unnorm.fitting.objectives.flow_distribution import events_of


@dataclass(frozen=True)
class AdversaryOptions:
    """How the generator is trained, and what is held against the fit.

    Attributes:
        learning_rate: of the generator's Adam, that of a flow at maximum likelihood: faster than
            the energy, which would run away from it otherwise; it does not fall, so that the
            generator follows to the end.
        clip: norm of its gradients.
        draws: of a flow at the end, for the bound and the comparison with maximum likelihood.
        implicit_draws: of an implicit generator, each of which takes many for its density.
        far: standard errors between an estimate and maximum likelihood that are reported; an error
            beyond `very_far`.
        errors: Monte Carlo errors by which the distance must exceed these.
        max_error: Monte Carlo error of the distance, in standard errors, above which it says
            nothing.
    """

    learning_rate: float = 3e-3
    clip: float = 10.0
    draws: int = 20_000
    implicit_draws: int = 1_000
    far: float = 0.3
    very_far: float = 1.0
    errors: float = 3.0
    max_error: float = 0.5


ADVERSARY = AdversaryOptions()


class Generated(NamedTuple):
    """Draws of the generator for every row, (n, m, ...) by variable, and log q at them, 0 where it
    is not at hand.
    """

    events: dict[str, jax.Array]
    log_prob: jax.Array


class Bound(NamedTuple):
    """The bound of the mean log-likelihood with its Monte Carlo error, and the draws behind it."""

    value: float
    error: float
    drawn: dict[str, jax.Array]
    log_weights: np.ndarray
    exact: bool  # whether log q is at hand

    def finding(self) -> Finding:
        """What it is, and what it is not."""
        what = (
            f"the mean log-likelihood of the data is at most {self.value:.4f} (Monte Carlo error "
            f"{self.error:.2g}), by the generator; that is a bound and no estimate"
        )
        advice = "run un.log_z(fit.density), where the fit has no log Z, for an estimate"
        return Finding(what, advice, NOTE, FindingCode.LIKELIHOOD_BOUND)


def likelihood_bound(objective: Any, density, state: ObjectiveState, events: dict) -> Bound:
    """The bound, by fresh draws of the generator."""
    drawn, log_weights, on_data = _draws_with_weights(density, state, events)
    weights = np.asarray(log_weights, float)
    value, error = float(on_data) - weights.mean(), weights.std() / np.sqrt(len(weights))
    return Bound(
        value, float(error), drawn, weights, state.shared.generator.noise_dimension is None
    )


@compiled
def _draws_with_weights(
    density, state: ObjectiveState, events: dict
) -> tuple[dict, jax.Array, jax.Array]:
    """Draws of the generator, f − log q at them, and the mean of f at the rows."""
    generator = state.shared.generator
    count = ADVERSARY.draws if generator.noise_dimension is None else ADVERSARY.implicit_draws
    points, log_prob = generator.draw_with_upper_log_prob(make_key(1), count)
    drawn, log_det = events_of(density, points)
    values = jax.vmap(density.log_density)
    return drawn, values(drawn) - log_prob + log_det, values(events).mean()


def distance_findings(density, events: dict, bound: Bound) -> list[Finding]:
    """Findings where the estimate is far from maximum likelihood, or that could not be seen.

    One Newton step to the maximum, I⁻¹ r, with r the mean score minus its expectation and I the
    covariance of the score, both by weighted draws; its Monte Carlo error in each coordinate is √(n
    / ESS) standard errors.
    """
    weights = np.exp(bound.log_weights - bound.log_weights.max())
    weights = weights / weights.sum()
    at_data, at_draws_ = (np.asarray(scores_at(density, one)) for one in (events, bound.drawn))
    ess = 1 / np.sum(weights**2)
    error = float(np.sqrt(len(at_data) / ess))
    if not bound.exact or not error <= ADVERSARY.max_error:
        why = f"draws of the generator have ESS = {ess:,.0f} for {len(at_data):,} rows"
        why = why if bound.exact else "the density of an implicit generator is not known"
        what = f"the distance from maximum likelihood could not be estimated: {why}"
        advice = "compare the fit with un.objectives.FlowContrastive"
        return [Finding(what, advice, WARNING, FindingCode.FAR_FROM_MAXIMUM_LIKELIHOOD)]
    centred = at_draws_ - weights @ at_draws_
    information = centred.T @ (weights[:, None] * centred)
    inverse = np.linalg.pinv(information)
    step = inverse @ (at_data.mean(0) - weights @ at_draws_)
    errors = np.sqrt(np.maximum(np.diagonal(inverse), 1e-300) / len(at_data))
    distance, error = float(np.max(np.abs(step) / errors)), ADVERSARY.errors * error
    if distance <= ADVERSARY.far + error:
        return []
    severity = ERROR if not distance <= ADVERSARY.very_far + error else WARNING
    what = f"the estimate is about {distance:.2g} standard errors from maximum likelihood"
    advice = "raise steps, or give a larger flow as the generator"
    return [Finding(what, advice, severity, FindingCode.FAR_FROM_MAXIMUM_LIKELIHOOD)]

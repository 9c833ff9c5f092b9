"""Draws against rows: a two-sample test, and mean log p̃ at both."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.statistics.two_sample import TwoSample, two_sample


@dataclass(frozen=True)
class DrawCriteria:
    """Sizes and limits of the comparison."""

    max_rows: int = 400  # compared: an AUC of .58 is then four standard errors from chance
    held_out_share: float = 0.05  # of the rows, at most `max_rows`
    # With fewer held-out rows the test has little power: training rows are compared instead.
    min_rows: int = 50
    # AUC above which a fit is refused. A KL divergence of .1 has one of .61 with 400 rows, give or
    # take .02, if log p/q is about normal (Φ(√KL)), and .03 one of .57; mass that leaks between
    # modes has .60 at .13.
    max_auc: float = 0.58
    level: float = 0.005  # of each of the two tests
    # After a fit by noise levels, whose lowest density may have wrong weights of modes while each
    # mode is right: eight Gaussians at a KL divergence of .15 had an AUC of .65 with p = .01.
    level_by_noise: float = 0.02
    proposal_rows: int = 5_000  # to which the wide proposal is fitted
    reliable_dimension: int = 3  # up to which a wide proposal covers every mode


CRITERIA = DrawCriteria()


class Comparison(NamedTuple):
    """The two-sample test, and mean log p̃ at the rows and at the draws."""

    test: TwoSample
    at_rows: float
    at_draws: float

    def differs(self, criteria: DrawCriteria) -> bool:
        """Return whether the test rejects."""
        return self.test.p_value <= criteria.level

    def is_far(self, criteria: DrawCriteria) -> bool:
        """Return whether the test rejects with an AUC beyond the limit."""
        return self.differs(criteria) and self.test.auc > criteria.max_auc

    def describe(self, against: str) -> str:
        """Return the numbers in words."""
        return (
            f"{against} a classifier has AUC {self.test.auc:.2f} (0.5 is chance; p = "
            f"{self.test.p_value:.2g}), and mean log p̃ is {self.at_rows:.4g} at the rows, "
            f"{self.at_draws:.4g} at the draws"
        )


@compiled
def _log_densities(density, events: dict) -> jax.Array:
    return jax.vmap(density.log_density)(events)


def compare_draws(
    density, targets: list[dict], draws: dict, rng: np.random.Generator
) -> Comparison:
    """Return the comparison with the most similar target: an objective with several noise levels
    estimates none of the smoothed densities alone.
    """
    found = [_compare_with(density, rows, draws, rng) for rows in targets]
    return min(found, key=lambda one: one.test.auc)


def _compare_with(density, rows: dict, draws: dict, rng: np.random.Generator) -> Comparison:
    values = [np.asarray(_log_densities(density, events), float) for events in (rows, draws)]
    values = [np.where(np.isnan(value), -np.inf, value) for value in values]
    points = flatten_rows(rows), flatten_rows({name: draws[name] for name in rows})
    return Comparison(
        two_sample(*points, [np.concatenate(values)], rng), *map(_finite_mean, values)
    )


def _finite_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else -np.inf


def flatten_rows(events: dict) -> np.ndarray:
    """The variables of every row as one vector, (n, d)."""
    return np.concatenate(
        [np.asarray(value, float).reshape(len(value), -1) for value in events.values()], 1
    )

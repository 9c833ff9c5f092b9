"""What a fit was asked, as all of its parts see it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.core.findings import Finding
from unnorm.core.progress import Bar
from unnorm.declaration.density import Density
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.inference.sandwich import Covariance, NoCovariance


class Origin(NamedTuple):
    """What a fit was made of, for what is asked of it afterwards: the problem, and where it
    ended.
    """

    problem: "Problem"
    density: Density  # bare, in the dtype of the fit, at the estimate
    state: ObjectiveState


@dataclass
class Problem:
    """The user's density and its compiled twin, the data, the objective, how to run it, and what
    was noticed.
    """

    p: Density  # the user's, with labels
    objective: Any
    density: Density  # bare, in the dtype of the fit
    events: dict[str, Any]
    seed: int
    shown: Bar
    weights: np.ndarray | None = None  # of mean 1
    clusters: np.ndarray | None = None  # numbered from 0
    steps: int | None = None
    batch_size: int | None = None
    optimizer: Any = None
    held_out: dict[str, Any] | None = None
    batches: Iterator[dict[str, Any]] | None = (
        None  # where the user brings the batches, `events` is the first
    )
    callback: Callable[[dict[str, float]], Any] | None = None
    store: str | Path | None = None
    restarts: int = 0
    penalty: Any = None  # `penalties.Penalties`, or what a path asks for
    findings: list[Finding] = field(default_factory=list)
    given: dict[str, Any] | None = (
        None  # all rows, where `events` leaves some out that draws are compared with
    )
    degrees: float = math.inf  # of freedom of the intervals: few rows or clusters have Student's

    @property
    def rows(self) -> int:
        return len(next(iter(self.events.values())))

    @property
    def is_double(self) -> bool:
        """Whether the fit runs in double precision, inside `jax.enable_x64`."""
        return next(iter(self.events.values())).dtype == np.float64

    def prepared(self, key: jax.Array) -> ObjectiveState:
        """What the objective prepares for these data, with the user's weights and penalties."""
        state = self.objective.prepare(self.density, self.events, key)
        return state._replace(weights=self.weights, penalty=self.penalty)

    def covariance_or_finding(self, compute: Callable[[], Covariance]) -> Covariance | None:
        """The covariance, or why there is none as a finding."""
        try:
            return compute()
        except NoCovariance as reason:
            self.findings.append(reason.finding)
            return None

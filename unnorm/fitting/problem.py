"""What a fit was asked, as all of its parts see it, and how it ended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.core.findings import Finding
from unnorm.core.progress import Bar
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.inference.sandwich import Covariance, NoCovarianceError
from unnorm.fitting.loss import Loss
from unnorm.supports.base import has_network


@dataclass
class Problem:
    """The user's density and its compiled twin, the data, the objective, how to run it, and what
    was noticed.
    """

    p: Any  # the user's density, with labels; `Densities` in a joint fit
    objective: Any
    density: Any  # bare, in the dtype of the fit
    events: dict[Any, Any]  # by variable; in a joint fit by data set
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
    callback: Callable[[dict[str, Any]], Any] | None = None
    store: str | Path | None = None
    restarts: int = 0
    average: str | None = None  # of a training's iterates
    penalty: Any = None  # `penalties.Penalties`, or what a path asks for
    findings: list[Finding] = field(default_factory=list)
    given: dict[str, Any] | None = (
        None  # all rows, where `events` leaves some out that draws are compared with
    )

    @property
    def rows(self) -> int:
        return len(next(iter(self.events.values())))

    @property
    def is_double(self) -> bool:
        """Whether the fit runs in double precision, inside `jax.enable_x64`."""
        return next(iter(self.events.values())).dtype == np.float64

    @property
    def has_network(self) -> bool:
        """Whether a parameter is a PyTree: its estimate means nothing, only its draws do."""
        return has_network(self.p.supports)

    @property
    def unprepared_loss(self) -> Loss:
        """The loss before the objective has prepared anything: its parameters, without a value."""
        return Loss(self.objective, self.density, ObjectiveState(), self.events)

    def loss(self, key: jax.Array, density: Any = None) -> Loss:
        """The loss, with what the objective prepares for these data, and the user's weights and
        penalties; it stands at the density's parameters.
        """
        density = self.density if density is None else density
        state = self.objective.prepare(density, self.events, key)
        state = state._replace(weights=self.weights, penalty=self.penalty)
        return Loss(self.objective, density, state, self.events)

    def covariance_or_finding(self, compute: Callable[[], Covariance]) -> Covariance | None:
        """The covariance, or why there is none as a finding."""
        try:
            return compute()
        except NoCovarianceError as reason:
            self.findings.append(reason.finding)
            return None


class Outcome(NamedTuple):
    """How a procedure ended, of which a `Fit` is assembled."""

    problem: Problem
    loss: Loss  # at the estimate
    converged: bool
    history: np.ndarray
    covariance: Covariance | None = None
    divergent: Any = None  # `DivergentParameters`: what has no finite estimate
    degrees: float = np.inf  # of freedom of the intervals: few rows or clusters have Student's
    refit: Callable | None = None  # (fit, replicates, seed) to a `Bootstrap`


class Origin(NamedTuple):
    """What a fit was made of, for later questions: the problem, and the loss at the estimate."""

    problem: Problem
    loss: Loss

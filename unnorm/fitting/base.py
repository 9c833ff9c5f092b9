"""The contract of an objective: two functions, and small optional protocols.

To add an objective, write a class of options with the decorator `@method` that inherits
`LossObjective`, give it `prepare` and `loss_i` (or `losses`), and put it into `OBJECTIVES`. As an
M-estimator it then has standard errors. Whatever else an objective can do is a protocol of one or
two functions, which solvers ask for by `isinstance`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from unnorm.core.findings import Finding
from unnorm.core.messages import RowLabels
from unnorm.declaration.composite.missing_entries import places_of_missing
from unnorm.declaration.density import Density
from unnorm.declaration.noise_levels import LEVEL

Events = dict[str, Any]  # data (n, ...) by variable and covariate


class ObjectiveState(NamedTuple):
    """What an objective prepares once: a frozen pytree that is passed into the compiled loss.

    `per_row` and `shared` are named tuples or arrays of the objective's own. Solvers take rows of
    `per_row` and read neither.
    """

    nuisance: dict[Any, Any] = {}  # noqa: RUF012 - a default that nothing writes; estimated jointly with the parameters, such as log Z
    per_row: Any = ()  # arrays (n, ...) that belong to the data row by row, such as noise
    shared: Any = ()  # the same for all rows, such as quadrature nodes
    weights: jax.Array | None = None  # the user's sampling weights, of mean 1
    penalty: Any = None  # `Penalties`, added to the mean loss


@dataclass(frozen=True)
class Traits:
    """Properties of a loss on which solvers, standard errors and checks depend."""

    supports_weights: bool = True  # sampling weights and clusters
    is_likelihood: bool = False  # Cov(ψ) = H where the model is true
    is_deviance: bool = False  # 2 n loss may be compared between models, as a deviance
    couples_rows: bool = False  # a row's loss depends on all rows (a sum over pairs)
    in_data_units: bool = False  # other units of the data rescale the loss, not only shift it
    uses_second_derivatives: bool = False  # of log p̃ in x, which do not see kinks
    bootstraps_single_row: bool = False  # one row (a graph, a lattice): parametric bootstrap
    is_game: bool = False  # no minimum is an estimate: always trained, against its adversary
    bounds_likelihood: bool = False  # a bound of −log p(x) whatever an adversary does
    rounding: float = 1.0  # factor by which the loss amplifies the rounding of log p̃


class Objective(Protocol):
    """What every objective has; one with a sampler has `gradient` (`Stochastic`) for `losses`."""

    target: str  # which fixed point it aims at, in a phrase
    traits: Traits

    def refuse(self, density: Density) -> str | None:
        """Return why this objective does not serve the density, as a sentence, or None."""

    def refuse_latent(self, density: Density, events: Events) -> str | None:
        """Return why it does not serve variables that are absent from the data, or None."""

    def prepare(self, density: Density, events: Events, key: jax.Array) -> ObjectiveState:
        """Return what stays fixed while the parameters move."""

    def losses(self, density: Density, state: ObjectiveState, events: Events) -> jax.Array:
        """Return the loss of every row, (n,)."""


class LossObjective:
    """Base class of objectives with a loss: defaults for all but `prepare` and `loss_i`."""

    traits: ClassVar[Traits] = Traits()

    def refuse(self, density: Density) -> str | None:
        return None

    def refuse_latent(self, density: Density, events: Events) -> str | None:
        return no_latent_variables(self, density, events)

    def row_batch_size(self, density: Density, state: ObjectiveState) -> int:
        """Return how many rows may be differentiated together, so that memory stays bounded."""
        return 512

    def loss_i(
        self, density: Density, state: ObjectiveState, event: Events, key: jax.Array | None
    ) -> jax.Array:
        """Return the loss of one row; `state.per_row` holds that row's part."""
        raise NotImplementedError

    def losses(self, density: Density, state: ObjectiveState, events: Events) -> jax.Array:
        """Return the loss of every row, (n,); overridden where rows are faster together."""

        def one(row, event):
            return self.loss_i(density, state._replace(per_row=row), event, None)

        return jax.vmap(one)(state.per_row, events)


def no_latent_variables(objective: Any, density: Density, events: Events) -> str:
    """Return the refusal of an objective that needs every variable in the data, in every row."""
    kind = type(objective).__name__
    serving = "un.objectives.MaximumLikelihood or ContrastiveDivergence"
    name = next((name for name in density.variables if name not in events), None)
    if name is None:
        labels = RowLabels(None, density.labels)
        place = places_of_missing(density.variables, events, labels)[0]
        return (
            f"{kind} does not serve missing values, and {place} is missing; expected complete "
            f"rows; use {serving}, or drop the row"
        )
    return (
        f"{kind} does not serve latent variables, and data has no values for {name}; found "
        f"{', '.join(events)}; expected {', '.join(density.variables | density.covariates)} (look "
        f"for a mistyped name); use {serving}"
    )


# -- how the minimum is found ----------------------------------------------------------------------
@runtime_checkable
class HasClosedForm(Protocol):
    """The minimum may be at hand without iterations."""

    def closed_form_minimum(self, density: Density, state: ObjectiveState, events: Events) -> Any:
        """Return the minimum (`numerics.newton.Minimum`), or None where it needs iterations."""

    def prepare_path(
        self, density: Density, state: ObjectiveState, events: Events
    ) -> ObjectiveState:
        """Return the state with what is the same for all penalties, for repeated solves."""


@runtime_checkable
class Refreshable(Protocol):
    """What was prepared holds near some parameters only: nodes, truncated sums, draws."""

    def refresh(
        self, density: Density, state: ObjectiveState, events: Events
    ) -> ObjectiveState | None:
        """Return a new state where the old one is not accurate enough here, else None."""


@runtime_checkable
class ProvidesStart(Protocol):
    """`prepare` may bring the parameters near the estimate."""

    def start_values(self, state: ObjectiveState) -> dict[str, Any] | None:
        """Return free parameters to start from, or None."""


@runtime_checkable
class HasAdversary(Protocol):
    """A second player, such as a trained noise or a generator, moves against the parameters.

    Its own parameters are part of `state.shared`. In training it takes one step before each step of
    the parameters, whose loss is evaluated with it held fixed.
    """

    def with_run_length(self, state: ObjectiveState, steps: int) -> ObjectiveState:
        """Return the state for a training of so many steps, which the game may take a share of."""

    def adversary_step(
        self, density: Density, state: ObjectiveState, events: Events, key: jax.Array
    ) -> ObjectiveState:
        """Return the state after the adversary's step on a batch, inside compiled code."""


@runtime_checkable
class ResamplesNoise(Protocol):
    """`per_row` can be drawn for rows of a batch, inside a compiled step of training."""

    def resample_noise(
        self, density: Density, state: ObjectiveState, events: Events, key: jax.Array
    ) -> Any:
        """Return `per_row` for these rows."""


@runtime_checkable
class PreparesRows(Protocol):
    """`per_row` follows from the rows alone, so that a batch which comes later has its own."""

    def rows_of(self, density: Density, state: ObjectiveState, events: Events) -> Any:
        """Return `per_row` for these rows; traceable."""


# -- standard errors -------------------------------------------------------------------------------
@runtime_checkable
class HasRowScores(Protocol):
    """The rows' scores are computed by the objective itself."""

    def row_scores(
        self, density: Density, state: ObjectiveState, events: Events, vector: jax.Array
    ) -> jax.Array:
        """Return ψ of every row, (n, p)."""


@runtime_checkable
class CorrectsScores(Protocol):
    """Something was estimated beforehand (a fitted noise), and moves the estimate too."""

    def score_correction(
        self, density: Density, state: ObjectiveState, events: Events
    ) -> jax.Array | None:
        """Return what is added to each row's score, (n, p), or None."""


@runtime_checkable
class DrawsRowNoise(Protocol):
    """Every row has random draws of its own."""

    def noise_variance(
        self, density: Density, state: ObjectiveState, events: Events
    ) -> jax.Array | None:
        """Return the part of Cov(ψ), (p, p), that another seed would change, or None."""


@runtime_checkable
class DrawsSharedNoise(Protocol):
    """Random draws are shared by all rows."""

    def shared_noise(
        self, density: Density, state: ObjectiveState, events: Events
    ) -> jax.Array | None:
        """Return the covariance of the mean score, (p, p), that these draws cause, or None."""


@runtime_checkable
class RefitsTogether(Protocol):
    """Many data sets may be fitted at once, for the bootstrap."""

    def refit_together(
        self, density: Density, drawn: Events
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the estimates of data sets ``{name: (replicates, n, ...)}``, (replicates, p), and
        which of them surely are finite minima; None where each needs a fit of its own.
        """


# -- existence of a finite estimate, findings ------------------------------------------------------
@runtime_checkable
class HasMargins(Protocol):
    """The loss decreases in certain differences of log p̃, its margins.

    Where they are affine in all that is estimated, directions of recession are found exactly.
    """

    def margins(self, density: Density, state: ObjectiveState, events: Events) -> jax.Array | None:
        """Return the margins as one vector; None where they are not known."""


@runtime_checkable
class HasRecessionDirections(Protocol):
    """The objective may know which coordinates run off to infinity."""

    def recession_directions(
        self, density: Density, state: ObjectiveState, events: Events
    ) -> jax.Array | None:
        """Return ±1 for a coordinate that runs off, 0 for others; None where it is not known."""


@runtime_checkable
class ReportsFindings(Protocol):
    """The objective has conditions on the data or the fit, which it checks."""

    def findings(self, density: Density, state: ObjectiveState, events: Events) -> list[Finding]:
        """Return what the user should know of how well it serves these data, at the fit."""


@runtime_checkable
class SmoothsData(Protocol):
    """Noise is added to the data: the estimate is that of the smoothed data."""

    @property
    def smoothing(self) -> tuple[float, ...]:
        """The noise's standard deviations; none: it is not added with these options."""


@runtime_checkable
class ConditionsOnNoise(Protocol):
    """A density for every noise level is estimated; the objective brings the covariate `sigma`."""

    @property
    def noise_levels(self) -> np.ndarray | None:
        """The levels from the highest to the lowest; None: not with these options."""


def levels_of(objective: Any) -> np.ndarray | None:
    """Return the noise levels of an objective that brings them, from the highest to the lowest."""
    return objective.noise_levels if isinstance(objective, ConditionsOnNoise) else None


def supplied_covariates(objective: Any) -> tuple[str, ...]:
    """Return the covariates that the objective brings, and the data do not."""
    return () if levels_of(objective) is None else (LEVEL,)


def at_lowest_level(p: Density, objective: Any) -> Density:
    """Return a noise-conditional density at the lowest level of the objective; others as they
    are.
    """
    levels = levels_of(objective)
    return p if levels is None else p.given(**{LEVEL: float(levels[-1])})


# -- log Z -----------------------------------------------------------------------------------------
class LogZEstimate(NamedTuple):
    """log Z with the standard errors that another seed, and other data, would show."""

    value: float
    monte_carlo_error: float
    sampling_error: float


@runtime_checkable
class LearnsLogZ(Protocol):
    """log Z is a nuisance parameter."""

    def learned_log_z(self, nuisance: dict[str, Any]) -> jax.Array:
        """Return log Z of the nuisance parameters."""


@runtime_checkable
class EstimatesLogZ(Protocol):
    """log Z is estimated beside the fit."""

    def log_z_estimate(
        self, density: Density, state: ObjectiveState, events: Events, covariance: Any
    ) -> LogZEstimate | None:
        """Return log Z with its errors, or None."""


@runtime_checkable
class HasLogZPlan(Protocol):
    """log Z is a sum over nodes."""

    def log_z_plan(self, state: ObjectiveState) -> Any:
        """Return the nodes (`integration.nodes.Plan`), or None."""


# -- objectives with a sampler ---------------------------------------------------------------------
class StochasticGradient(NamedTuple):
    """An unbiased estimate of the gradient in `density.free()`, and what it came from."""

    gradient: dict[str, Any]
    state: ObjectiveState
    negatives: Events  # draws of the model, whose scores' covariance is a metric for steps
    acceptance: jax.Array


@runtime_checkable
class Stochastic(Protocol):
    """An objective without a loss: the root of the expected gradient is the estimate."""

    def gradient(
        self, density: Density, state: ObjectiveState, events: Events, key: jax.Array, gain: Any
    ) -> StochasticGradient:
        """Return a gradient; `gain` is that of the sampler's adaptation, 0 at its end."""

    def with_run_length(self, state: ObjectiveState, steps: int) -> ObjectiveState:
        """Return the state for a run of so many steps, over which noise is annealed."""

    def refuse_nan(self, density: Density, state: ObjectiveState) -> None:
        """Raise where log p̃ was NaN at finite parameters."""

    def chain_findings(
        self, density: Density, state: ObjectiveState, events: Events, key: jax.Array
    ) -> list[Finding]:
        """Return warnings about the sampler at the fit."""

    def fixed_point_findings(
        self, density: Density, state: ObjectiveState, events: Events, key: jax.Array
    ) -> list[Finding]:
        """Return a warning where the fit lies far from maximum likelihood."""

    def covariance(
        self, density: Density, state: ObjectiveState, events: Events, key: jax.Array
    ) -> Any:
        """Return the covariance (`inference.sandwich.Covariance`), or raise `NoCovarianceError`."""

    def fisher_information(
        self, density: Density, state: ObjectiveState, events: Events, key: jax.Array
    ) -> np.ndarray:
        """Return maximum likelihood's information of one row, where there is no covariance."""


@runtime_checkable
class SamplesPower(Protocol):
    """The negatives may follow a power of the density."""

    def sampling_target(self, density: Density) -> Density:
        """Return the density that the negatives follow, which the data are compared with."""


@runtime_checkable
class HasChains(Protocol):
    """Chains of the model that go on from step to step may be looked at."""

    def chain_events(self, density: Density, state: ObjectiveState) -> Events | None:
        """Return the events where the persistent chains stand, or None without such."""


__all__ = [
    "ConditionsOnNoise",
    "CorrectsScores",
    "DrawsRowNoise",
    "DrawsSharedNoise",
    "EstimatesLogZ",
    "HasAdversary",
    "HasChains",
    "HasClosedForm",
    "HasLogZPlan",
    "HasMargins",
    "HasRecessionDirections",
    "HasRowScores",
    "LearnsLogZ",
    "LogZEstimate",
    "LossObjective",
    "Objective",
    "ObjectiveState",
    "PreparesRows",
    "ProvidesStart",
    "RefitsTogether",
    "Refreshable",
    "ReportsFindings",
    "ResamplesNoise",
    "SamplesPower",
    "SmoothsData",
    "Stochastic",
    "StochasticGradient",
    "Traits",
    "at_lowest_level",
    "levels_of",
    "no_latent_variables",
    "supplied_covariates",
]

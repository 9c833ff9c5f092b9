"""The contract of an objective."""

from typing import Any, ClassVar, NamedTuple, Protocol

import jax

from unnorm.core.findings import Finding
from unnorm.declaration.density import Density


class ObjectiveState(NamedTuple):
    """What an objective prepares once: a pytree that goes along into the compiled loss.

    `nuisance` is estimated jointly with the parameters (NCE's log Z), `per_row` belongs to the data row
    by row (its noise), `shared` is the same for all rows (the nodes of a quadrature, scales);
    `weights`, of mean 1, and `penalty` (`penalties.Penalties`, which is added to the mean loss) are
    the user's.
    """

    nuisance: dict[str, Any] = {}
    per_row: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    weights: jax.Array | None = None
    penalty: Any = None


class Objective(Protocol):
    """The contract: how to add an objective.

    Write a class of options with the decorator `@method`, give it `prepare`, and either `loss_i` (a
    per-example loss:
    an M-estimator, whose standard errors come for free; or `losses`, of all rows together) or
    `gradient` (stochastic: a sampler inside), and put it into `OBJECTIVES`.
    """

    target: ClassVar[str]  # which fixed point it aims at, in a phrase

    def refuse(self, density: Density) -> str | None:
        """Return why this objective does not serve the density, as a sentence, or None."""

    def prepare(self, density: Density, events: dict[str, Any], key: jax.Array) -> ObjectiveState:
        """Return what stays fixed while the parameters move; `events` are the data, (n, ...) by
        name.
        """

    def loss_i(
        self, density: Density, state: ObjectiveState, event: dict[str, Any], key: jax.Array | None
    ) -> jax.Array:
        """Return the loss of one row; `state.per_row` holds that row's part."""

    def gradient(
        self, density: Density, state: ObjectiveState, events: dict, key: jax.Array
    ) -> tuple[dict, ObjectiveState]:
        """Return an unbiased estimate of the gradient in `density.free()` whose root is the fit,
        and the new state.
        """


def no_latent(objective: Any, density: Density, events: dict) -> str:
    """The refusal of an objective that needs every variable in the data."""
    name = next(name for name in density.variables if name not in events)
    return (
        f"{type(objective).__name__} does not serve latent variables, and data has no values for "
        f"{name}; found "
        f"{', '.join(events)}; expected {', '.join(density.variables | density.covariates)} "
        "(look for a mistyped "
        "name); use un.objectives.MaximumLikelihood or ContrastiveDivergence"
    )


class PerExample:
    """What per-example objectives share."""

    stochastic: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = True  # sampling weights
    rounding: ClassVar[float] = 1.0  # by how much the loss magnifies the rounding of log p̃
    information_identity: ClassVar[bool] = False  # Cov(ψ) = H where the model is true: a likelihood
    in_pairs: ClassVar[bool] = (
        False  # a row's loss needs all rows: derivatives are taken of all rows together
    )
    second_derivatives: ClassVar[bool] = False  # of log p̃ in x, which kinks hide from the loss
    smoothing: ClassVar[
        tuple[float, ...]
    ] = ()  # standard deviations of the noise in the data that the fit aims at
    in_units_of_data: ClassVar[bool] = (
        False  # data in other units change the loss, not by a constant alone
    )

    smooths_data: ClassVar[bool] = (
        False  # noise is added to the data: columns without spread do no harm
    )

    def refuse(self, density: Density) -> str | None:
        return None

    def refuse_latent(self, density: Density, events: dict) -> str | None:
        """Return why this objective does not serve variables that are not among the events, as a
        sentence, or None.
        """
        return no_latent(self, density, events)

    def rows_at_once(self, density: Density, state: ObjectiveState) -> int:
        """Return how many rows may be differentiated together, so that memory stays bounded."""
        return 512

    def losses(self, density: Density, state: ObjectiveState, events: dict) -> jax.Array:
        """Return the loss of every row (n,); written anew in place of `loss_i` where rows together
        are quicker.
        """

        def one(row, event):
            return self.loss_i(density, state._replace(per_row=row), event, None)

        return jax.vmap(one)(state.per_row, events)

    def closed_form_minimum(self, density: Density, state: ObjectiveState, events: dict) -> Any:
        """Return the minimum (`optimise.Minimum`) where it is at hand without iterations, or
        None.
        """
        return None

    def refresh(
        self, density: Density, state: ObjectiveState, events: dict
    ) -> ObjectiveState | None:
        """Return a new state where the fixed one is no longer good enough at these parameters."""
        return None

    def resample_noise(
        self, density: Density, state: ObjectiveState, events: dict, key: jax.Array
    ) -> dict | None:
        """Return `state.per_row` drawn anew for these rows, traceably, for training on batches; None:
        they stay.
        """
        return None

    def recession_directions(
        self, density: Density, state: ObjectiveState, events: dict
    ) -> jax.Array | None:
        """Return ±1 for each coordinate that is known to run off to infinity, 0 for others; None:
        look at the loss.
        """
        return None

    def margins(self, density: Density, state: ObjectiveState, events: dict) -> jax.Array | None:
        """Return differences of log p̃ in each of which the loss falls for ever (`margins`); None:
        they are not known.

        Where they are affine in all that is estimated, directions of recession are found from them
        exactly.
        """
        return None

    def findings(self, density: Density, state: ObjectiveState, events: dict) -> list[Finding]:
        """Return what the user should know of how well this objective serves these data, at the
        fit.
        """
        return []

    def score_correction(
        self, density: Density, state: ObjectiveState, events: dict
    ) -> jax.Array | None:
        """Return what is added to each row's score for what was estimated beforehand (a fitted
        noise).
        """
        return None

    def noise_variance(
        self, density: Density, state: ObjectiveState, events: dict
    ) -> jax.Array | None:
        """Return the part of the scores' covariance that is drawn noise, which another seed would
        change.
        """
        return None

    def log_z_estimate(
        self, density: Density, state: ObjectiveState, events: dict, covariance: Any
    ) -> Any:
        """Return log Z with its errors (`FitLogZ`) where this objective estimates it without
        learning it, or None.
        """
        return None

    def shared_noise(
        self, density: Density, state: ObjectiveState, events: dict
    ) -> jax.Array | None:
        """Return the covariance of the mean score that comes from what was drawn for all rows
        together.
        """
        return None

"""The generators of adversarial training: a flow with its density, or an implicit one."""

from typing import Any

import jax
import jax.numpy as jnp

from unnorm.core.method import method
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.objectives.adversarial.implicit import hold_implicit
from unnorm.fitting.objectives.flow_distribution import (
    FlowDistribution,
    data_points,
    fit_to_data,
    refuse_flow,
)


class GivenModule:
    """An Equinox module as a static option: compared by identity, for arrays have no hash."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"a {type(self.function).__name__}"


@method
class FlowGenerator:
    """A flow, whose log-density comes with each draw.

    Attributes:
        flow: the distribution.
    """

    flow: FlowDistribution

    noise_dimension = None

    @property
    def parameters(self) -> Any:
        """What is trained."""
        return self.flow.parameters

    def with_parameters(self, parameters: Any) -> "FlowGenerator":
        """The same generator with other parameters."""
        return FlowGenerator(self.flow.with_parameters(parameters))

    def draw(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """Points (n, D), and their log-densities."""
        return self.flow.sample_and_log_prob(key, (n,))

    def points_and_entropy_term(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """Points (n, D), and −H(q) by them."""
        points, log_prob = self.draw(key, n)
        return points, log_prob.mean()

    draw_with_upper_log_prob = draw


def refuse_generator(density: Any, given: Any, noise_dimension: int | None) -> str | None:
    """Why a generator does not serve a density, as a sentence, or None."""
    if density.covariates:
        return (
            "Adversarial trains one generator for all rows, and with the covariate "
            f"{next(iter(density.covariates))} every row has its own density; use "
            "un.objectives.RankingNCE, ConditionalNCE, ScoreMatching or ContrastiveDivergence"
        )
    if not isinstance(given, GivenModule):
        if noise_dimension is not None:
            found = "the default flow" if given is None else repr(given)
            return (
                f"noise_dimension is {noise_dimension} and the generator is {found}, whose noise "
                "has its own; expected None; leave noise_dimension out, or pass an Equinox module "
                "as the generator"
            )
        return refuse_flow("Adversarial", density, given)
    refusal = refuse_flow("Adversarial", density, None)
    if refusal is not None:
        return refusal
    assert noise_dimension is not None
    size = Unconstrained(density).dimension
    found = _output_shape(given.function, noise_dimension)
    if found == (size,):
        return None
    return (
        f"Adversarial was given {given!r} as the generator, which makes {found} of noise "
        f"({noise_dimension},); expected a function to ({size},), the unconstrained coordinates "
        f"of {', '.join(density.variables)}; pass an Equinox module of that kind, or a flowjax "
        "distribution without noise_dimension"
    )


def _output_shape(function: Any, noise_dimension: int) -> Any:
    try:
        made = jax.eval_shape(function, jax.ShapeDtypeStruct((noise_dimension,), jnp.float32))
    except Exception as error:  # whatever a user's function raises
        return f"a {type(error).__name__}"
    return getattr(made, "shape", type(made).__name__)


def prepare_generator(
    density: Any, events: dict, given: Any, noise_dimension: int | None, key: jax.Array
) -> Any:
    """The generator before the game: a flow at maximum likelihood, an implicit one as given."""
    if not isinstance(given, GivenModule):
        return FlowGenerator(fit_to_data("Adversarial", density, events, given, key))
    assert noise_dimension is not None
    points = data_points(density, events)
    centre, scale = points.mean(0), jnp.std(points, 0)
    return hold_implicit(given.function, noise_dimension, centre, jnp.diag(scale))


__all__ = ["FlowGenerator", "GivenModule", "prepare_generator", "refuse_generator"]

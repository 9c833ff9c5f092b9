"""Flowjax distributions over the unconstrained coordinates of a density: a noise or a generator
that is trained.
"""

import functools
import sys
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.method import method, static
from unnorm.core.random_keys import make_key, split_keys
from unnorm.core.validation import require_flowjax
from unnorm.declaration.unconstrained import Unconstrained


@dataclass(frozen=True)
class FlowDefaults:
    """The flow that is used where the user gives none.

    Attributes:
        layers: of the flow.
        autoregressive: dimensions up to which it is masked autoregressive, which takes as many
            passes to draw from; with more of them it is a coupling flow, which takes one.
        min_rows: of data that a flow is fitted to; half of them end its training.
    """

    layers: int = 4
    autoregressive: int = 8
    min_rows: int = 10


DEFAULTS = FlowDefaults()


# -- what the user gives ---------------------------------------------------------------------------
class GivenFlow:
    """A flowjax distribution as a static option: compared by identity, for arrays have no hash.

    As plain noise it is the distribution of one variable's event: `sample` and `log_prob`.
    """

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution

    def __repr__(self) -> str:
        return f"a flowjax {type(self.distribution).__name__} of shape {self.shape}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one draw."""
        return self.distribution.shape

    def in_precision(self, dtype: Any) -> Any:
        """The distribution with its floating arrays in this dtype."""
        import equinox as eqx

        def to(leaf):
            return jnp.asarray(leaf, dtype) if eqx.is_inexact_array(leaf) else leaf

        return jax.tree.map(to, self.distribution)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws (*sample_shape, *shape)."""
        return self.in_precision(jnp.result_type(float)).sample(key, sample_shape)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """The log-density at one event, of the distribution's shape or another of its size."""
        flow = self.in_precision(value.dtype)
        return flow.log_prob(jnp.reshape(value, self.shape))


def read_flow(given: Any) -> Any:
    """A flowjax distribution, or a bijection around a standard normal, as `GivenFlow`; else what
    was given.
    """
    if "flowjax" not in sys.modules or isinstance(given, GivenFlow):
        return given
    from flowjax.bijections import AbstractBijection
    from flowjax.distributions import AbstractDistribution, StandardNormal, Transformed

    if isinstance(given, AbstractBijection):
        given = Transformed(StandardNormal(given.shape), given)  # type: ignore[call-arg]
    if not isinstance(given, AbstractDistribution):
        return given
    if given.cond_shape is not None:
        raise ValueError(
            f"A flowjax {type(given).__name__} was given with a condition of shape "
            f"{given.cond_shape}; expected a distribution without a condition; make it with "
            "cond_dim=None."
        )
    return GivenFlow(given)


def refuse_flow(who: str, density: Any, flow: Any) -> str | None:
    """Why a flow over unconstrained coordinates does not serve a density, or None."""
    require_flowjax(who)
    for name, support in density.variables.items():
        if support.discrete or support.chart is not support:
            why = "is discrete" if support.discrete else "is not a one-to-one image of R^n"
            return (
                f"{who} trains a flow over unconstrained coordinates, and {name} is {support!r}, "
                f"which {why}; expected continuous variables such as Real or Positive; use "
                "un.objectives.NCE"
            )
    size = Unconstrained(density).dimension
    if flow is None or (isinstance(flow, GivenFlow) and flow.shape == (size,)):
        return None
    return (
        f"{who} was given {flow!r}; expected a flowjax distribution or bijection of shape "
        f"({size},), over the unconstrained coordinates of {', '.join(density.variables)}; pass a "
        "flow of that shape, leave it out, or use un.objectives.NCE"
    )


# -- the flow --------------------------------------------------------------------------------------
@method
class FlowDistribution:
    """u = centre + factor · y, with y of a flowjax distribution that is held in three parts.

    Attributes:
        parameters: the arrays that are trained.
        constants: its other arrays.
        centre: (D,).
        factor: (D, D), lower triangular.
        skeleton: what of it is no array.
    """

    parameters: Any
    constants: Any
    centre: Any
    factor: Any
    skeleton: Any = static()

    @property
    def distribution(self) -> Any:
        """The flowjax distribution of y."""
        import equinox as eqx

        treedef, leaves = self.skeleton
        rest = eqx.combine(self.constants, jax.tree.unflatten(treedef, leaves))
        return eqx.combine(self.parameters, rest)

    def with_parameters(self, parameters: Any) -> "FlowDistribution":
        """The same flow with other parameters."""
        return replace(self, parameters=parameters)

    def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Points (*shape, D)."""
        return self.centre + self.distribution.sample(key, shape) @ self.factor.T

    def sample_and_log_prob(
        self, key: jax.Array, shape: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array]:
        """Points (*shape, D), and their log-densities."""
        y, log_prob = self.distribution.sample_and_log_prob(key, shape)
        return self.centre + y @ self.factor.T, log_prob - self._log_det()

    def log_prob(self, point: jax.Array) -> jax.Array:
        """The log-density at a point (D,); minus infinity where a coordinate is infinite."""
        finite = jnp.all(jnp.isfinite(point))
        offset = jnp.where(finite, point - self.centre, 0.0)
        y = jax.scipy.linalg.solve_triangular(self.factor, offset, lower=True)
        return jnp.where(finite, self.distribution.log_prob(y) - self._log_det(), -jnp.inf)

    def _log_det(self) -> jax.Array:
        return jnp.sum(jnp.log(jnp.diag(self.factor)))


def hold(distribution: Any, centre: jax.Array, factor: jax.Array) -> FlowDistribution:
    """The distribution in the three parts of a `FlowDistribution`."""
    import equinox as eqx

    from unnorm.partition.proposals.normalizing_flow import trainable_part

    parameters, rest = trainable_part(distribution)
    constants, rest = eqx.partition(rest, eqx.is_array)
    leaves, treedef = jax.tree.flatten(rest)
    return FlowDistribution(parameters, constants, centre, factor, (treedef, tuple(leaves)))


@functools.cache
def default_flow(size: int, dtype: str) -> Any:
    """The flow before training, one object for a size, so that what is compiled for it is found
    again.
    """
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow

    from unnorm.partition.proposals.normalizing_flow import FLOW, initial_flow

    if size <= DEFAULTS.autoregressive:
        return initial_flow(size, DEFAULTS.layers, dtype)
    return coupling_flow(
        make_key(0),
        base_dist=Normal(jnp.zeros(size, dtype)),
        flow_layers=DEFAULTS.layers,
        nn_width=FLOW.width,
        transformer=RationalQuadraticSpline(knots=FLOW.knots, interval=FLOW.interval),
    )


def fit_to_data(
    who: str, density: Any, events: dict, given: GivenFlow | None, key: jax.Array
) -> FlowDistribution:
    """The flow of maximum likelihood on one half of the rows, its training ended by the other half.

    The default flow is over coordinates that are whitened by the data; a given one over the
    coordinates themselves, from its own parameters on.
    """
    points = data_points(density, events)
    if len(points) < DEFAULTS.min_rows:
        raise ValueError(
            f"data has {len(points)} rows; {who} expects at least {DEFAULTS.min_rows}, because a "
            "flow is fitted to them; pass more rows, or use un.objectives.NCE."
        )
    return fit_to_points(points, given, key)


def fit_to_points(points: jax.Array, given: GivenFlow | None, key: jax.Array) -> FlowDistribution:
    """The flow of `fit_to_data` from points (n, D)."""
    from unnorm.partition.proposals.normalizing_flow import split_and_whiten, train_flow

    shuffle, key = split_keys(key)
    points = points[jax.random.permutation(shuffle, len(points))]
    size, dtype = points.shape[1], points.dtype
    if given is None:
        start, (own, held, centre, factor) = (
            default_flow(size, str(dtype)),
            split_and_whiten(points),
        )
    else:
        start, (own, held) = given.in_precision(dtype), jnp.split(points, [len(points) // 2])
        centre, factor = jnp.zeros(size, dtype), jnp.eye(size, dtype=dtype)
    return hold(train_flow(start, own, held, key), centre, factor)


def data_points(density: Any, events: dict) -> jax.Array:
    """The rows as flat unconstrained vectors (n, D); values on a bound are moved just inside."""
    view = Unconstrained(density)
    return jax.vmap(view.flatten)(view.positions_of({n: np.asarray(v) for n, v in events.items()}))


# -- in the units of events ------------------------------------------------------------------------
def events_of(density: Any, points: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """The events at points (n, D), and log |det J| of each."""
    return jax.vmap(Unconstrained(density).event_at)(points)


def log_prob_of_event(density: Any, flow: FlowDistribution, event: dict) -> jax.Array:
    """The flow's log-density at one event."""
    view = Unconstrained(density)
    point = view.flatten(view.unconstrain(event))
    finite = jnp.all(jnp.isfinite(point))
    _, log_det = view.event_at(jnp.where(finite, point, 0.0))
    return flow.log_prob(point) - jnp.where(finite, log_det, 0.0)


__all__ = [
    "DEFAULTS",
    "FlowDistribution",
    "GivenFlow",
    "data_points",
    "events_of",
    "fit_to_data",
    "fit_to_points",
    "hold",
    "log_prob_of_event",
    "read_flow",
    "refuse_flow",
]

"""An objective as a pure function of parameters, for a training loop of the user's own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import shown
from unnorm.core.random_keys import fold_in
from unnorm.declaration.density import Density, cast
from unnorm.fitting.base import (
    Events,
    HasAdversary,
    ObjectiveState,
    PreparesRows,
    ResamplesNoise,
    Stochastic,
    at_lowest_level,
    supplied_covariates,
)
from unnorm.fitting.data.read import read_data
from unnorm.fitting.probe import probe


class TrainingState(NamedTuple):
    """What a training carries beside its parameters: a pytree."""

    density: Density  # for jit; its parameters are the start
    objective: ObjectiveState


class TrainingLoss:
    """The loss of an objective on a density: ``(params, state, batch, key) -> (loss, state)``.

    It is pure, so that it may be jitted and differentiated in `params`. `batch` is a dict of
    arrays (n, ...) by variable and covariate; rows of every batch get noise of their own from
    `key`. Where the objective has a sampler (contrastive divergence) only the gradient has a
    meaning: the value is ⟨params, stop_gradient(gradient)⟩, and the state holds the chains.

    Example:
        >>> import jax, numpy as np, optax, unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> data = {"x": np.random.default_rng(0).exponential(0.5, 500).astype(np.float32)}
        >>> loss = un.objectives.NCE().loss(p)
        >>> params, state = loss.init(data, jax.random.key(0))
        >>> optimizer = optax.adam(0.05)
        >>> moments = optimizer.init(params)
        >>> @jax.jit
        ... def step(params, state, moments, key):
        ...     (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(
        ...         params, state, data, key
        ...     )
        ...     update, moments = optimizer.update(gradient, moments)
        ...     return optax.apply_updates(params, update), state, moments
        >>> for key in jax.random.split(jax.random.key(1), 200):
        ...     params, state, moments = step(params, state, moments, key)
        >>> abs(float(loss.density(params).parameters["rate"]) - 2) < 0.3
        True
    """

    def __init__(self, objective: Any, p: Density) -> None:
        if not isinstance(p, Density):
            raise ValueError(
                f"loss was given {shown(p)}; it must be a density; declare it with @un.density."
            )
        if not p.supports:
            raise ValueError(
                f"Density {p.name} has no parameters; it must have at least one; declare what is "
                "trained as a keyword-only argument with a support."
            )
        self.objective, self.p = objective, p

    def init(self, data: Any, key: jax.Array) -> tuple[Any, TrainingState]:
        """Return the parameters to start from, unconstrained, and the state.

        Args:
            data: as for `un.fit`; what is fitted to all rows (a noise distribution) is fitted to
                these.
            key: of `jax.random`, for chains and noise.
        """
        p, events = read_data(self.p, data, supplied=supplied_covariates(self.objective))
        reason = self.objective.refuse(p)
        if reason is not None:
            raise ValueError(f"{reason}.")
        missing = [name for name in p.variables if name not in events]
        if missing:
            raise ValueError(
                f"data has no values for {missing[0]}; it must have every variable for a training "
                "loss; use un.fit, which takes latent variables."
            )
        self.p = p
        dtype = np.dtype(jnp.result_type(float))
        objective, density, events = cast(
            (self.objective, at_lowest_level(p, self.objective).for_jit(), events), dtype
        )
        probe(density, events)
        state = objective.prepare(density, events, key)
        params = {"parameters": density.free(), "nuisance": state.nuisance}
        return params, TrainingState(density, state)

    def __call__(
        self, params: Any, state: TrainingState, batch: Events, key: jax.Array
    ) -> tuple[jax.Array, TrainingState]:
        """Return the mean loss of a batch at these parameters, and the new state."""
        density = state.density.at(params["parameters"])
        dtype = jnp.result_type(*jax.tree.leaves(params))
        objective, batch = cast((self.objective, dict(batch)), dtype)
        inner = state.objective._replace(nuisance=params["nuisance"])
        if isinstance(objective, PreparesRows):
            inner = inner._replace(per_row=objective.rows_of(density, inner, batch))
        elif isinstance(objective, ResamplesNoise):
            inner = inner._replace(per_row=objective.resample_noise(density, inner, batch, key))
        if not isinstance(objective, Stochastic):
            value = objective.losses(density, inner, batch).mean()
            if not isinstance(objective, HasAdversary):
                return value, state
            at_rest = jax.lax.stop_gradient((density, inner))
            moved = objective.adversary_step(*at_rest, batch, fold_in(key, 1))
            return value, state._replace(objective=moved)
        held = jax.lax.stop_gradient(density)
        found = objective.gradient(held, inner, batch, key, jnp.ones((), dtype))
        products = jax.tree.map(
            lambda at, slope: jnp.vdot(jax.lax.stop_gradient(slope), at),
            params["parameters"],
            found.gradient,
        )
        value = sum(jax.tree.leaves(products), jnp.zeros((), dtype))
        return value, state._replace(objective=found.state)

    def density(self, params: Any) -> Density:
        """Return the user's density at these parameters."""
        density = self.p.for_jit().at(params["parameters"])
        return self.p.bind(**jax.tree.map(_as_numpy, density.parameters))


def _as_numpy(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf


def loss(self: Any, p: Density) -> TrainingLoss:
    """Return the loss of this objective on a density, for a training loop of one's own."""
    return TrainingLoss(self, p)


__all__ = ["TrainingLoss", "TrainingState", "loss"]

"""The joint log-density of a NumPyro model, as the function of a Density."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from unnorm.bridges.numpyro.enumeration import DiscreteSite, marginal
from unnorm.bridges.numpyro.sites import Call, signature_of
from unnorm.supports.base import Axis


@dataclass(frozen=True)
class Joint:
    """The joint log-density; equal for equal models, so that new data runs the same compiled
    program.

    Attributes:
        model: NumPyro's.
        variables: the continuous latent sites, in the order of the arguments.
        arguments: the model's own name of each of its arguments, and its name as a constant.
        discrete: the latent sites that are summed out.
        dependent: on which of these each factor depends.
        axes: the axes of each deterministic site that the draws carry.
    """

    model: Callable
    variables: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    discrete: tuple[DiscreteSite, ...] = ()
    dependent: tuple[tuple[str, tuple[int, ...]], ...] = ()
    axes: tuple[tuple[str, tuple[Axis, ...]], ...] = field(default=(), compare=False)

    @property
    def __name__(self) -> str:
        return getattr(self.model, "__name__", "numpyro_model")

    def __call__(self, *values: jax.Array, **constants: Any) -> jax.Array:
        call, sites = self._call(values, constants)
        if self.discrete:
            return marginal(call, sites, self.discrete, dict(self.dependent))
        return sum(
            (jnp.sum(each) for each in call.log_probs(sites)[0].values()), start=jnp.zeros(())
        )

    def _call(self, values: tuple, constants: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
        bound = signature_of(self.model).bind_partial()
        bound.arguments |= {own: constants[name] for own, name in self.arguments}
        sites = dict(zip(self.variables, values, strict=True))
        return Call(self.model, bound.args, bound.kwargs), sites

    @property
    def deterministic_axes(self) -> dict[str, tuple[Axis, ...]]:
        """The axes of the deterministic sites."""
        return dict(self.axes)

    def deterministics(self, *values: jax.Array, **constants: Any) -> dict[str, jax.Array]:
        """The deterministic sites."""
        call, sites = self._call(values, constants)
        first = {site.name: site.value(jnp.asarray(0)) for site in self.discrete}
        found = call.log_probs({**sites, **first})[1]
        return {name: jnp.asarray(found[name]["value"], float) for name, _ in self.axes}


__all__ = ["Joint"]

"""`density.to_numpyro()`: a Density as a NumPyro model."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from unnorm.declaration.density import Density
from unnorm.supports.base import Support


def to_numpyro(self: Density) -> Callable[[], None]:
    """Return a NumPyro model whose posterior is this density, for NumPyro's own samplers.

    Each variable is a site with the flat distribution on its support, and a factor named as the
    density adds log p̃; parameters stand at their values. A variable whose support has no
    constraint in NumPyro is a deterministic site of unconstrained coordinates, `<name>_free`.

    Returns:
        A model without arguments.

    Raises:
        ValueError: a discrete variable, a covariate, or a parameter or dimension without a value.

    Example:
        >>> import jax
        >>> import unnorm as un
        >>> from numpyro.infer.util import log_density
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> float(log_density(normal.to_numpyro(), (), {}, {"x": 2.0})[0])
        -2.0

    References:
        Phan, Pradhan, Jankowiak (2019), arXiv:1912.11554.
    """
    for name, support in self.variables.items():
        if support.discrete:
            raise ValueError(
                f"Variable {name} is {support!r}, discrete, for which NumPyro has no flat "
                f"distribution; expected continuous variables; fix it with p.given({name}=...)."
            )
    if self.covariates:
        name = next(iter(self.covariates))
        raise ValueError(
            f"Density {self.name} has the covariate {name}, so that each row has its own density; "
            f"expected no covariates; fix it with p.given({name}=...)."
        )
    density = self.on_chart().for_jit()
    shapes, label = density.shapes(), self.name
    while label in density.variables:  # no two sites have one name
        label += "_"

    def model() -> None:
        import numpyro

        event, total = {}, jnp.zeros(())
        for name, support in density.variables.items():
            event[name], log_det = _site(name, support, shapes[name])
            total = total + log_det
        numpyro.factor(label, total + density.log_density(event))

    model.__name__ = label
    return model


def _site(name: str, support: Support, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The value of a variable at its site, and what the factor must add for it."""
    import numpyro
    from numpyro.distributions import ImproperUniform, constraints

    constraint = support.numpyro_constraint()
    if constraint is not None:
        events = constraint.event_dim
        batch, event = shape[: len(shape) - events], shape[len(shape) - events :]
        flat = ImproperUniform(constraint, batch, event)
        return numpyro.sample(name, flat), 0.0
    free_shape = support.free_shape(shape)
    flat = ImproperUniform(constraints.real, free_shape, ())
    free = numpyro.sample(f"{name}_free", flat)
    return numpyro.deterministic(name, support.constrain(free)), support.log_det(free)


Density.to_numpyro = to_numpyro  # type: ignore[attr-defined, method-assign]

__all__ = ["to_numpyro"]

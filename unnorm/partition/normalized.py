"""`Density.normalized()`: the density with its log Z subtracted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import unnorm
from unnorm.core.messages import shown
from unnorm.declaration.density import Density


@dataclass(frozen=True)
class _MinusLogZ:
    """The function of a normalized density: log p̃ − log Z, with p̃ and log Z as constants."""

    name: str
    variables: tuple[str, ...]
    constants: tuple[str, str]

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *values: jax.Array, **constants: Any) -> jax.Array:
        density, log_z = (constants[name] for name in self.constants)
        return density.log_density(dict(zip(self.variables, values, strict=True))) - log_z


def normalized(p: Density, z: Any = None) -> Density:
    """Return the density with log Z subtracted; it declares log Z = 0 and has no parameters.

    log p(x) = log p̃(x) − log Z: an energy-based model becomes a density to evaluate, sample and
    compare. The values of the parameters become constants. The standard error of z is not carried
    along: all values of log p are off by the same error, and `un.log_z` of the result is 0.

    Args:
        p: the density, its parameters at their bound values.
        z: log Z, a `LogZ` or a number; None: `un.log_z` with its defaults and a random seed (pass
            ``un.log_z(p, seed=0)`` for a reproducible result).

    Raises:
        ValueError: log Z is not finite, or its verdict is neither "exact" nor "ok"; or p has
            covariates.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real}).normalized()
        >>> round(float(normal(0.0)), 4)  # -log sqrt(2 pi)
        -0.9189

    References:
        LeCun et al. (2006), A tutorial on energy-based learning (what Z is to an energy).
    """
    if p.covariates:
        covariate = next(iter(p.covariates))
        raise ValueError(
            f"Density {p.name} has the covariate {covariate}, so that each row has its own Z; "
            f"expected no covariates; fix it by p.given({covariate}=...)."
        )
    if z is None:
        z = unnorm.log_z(p, progress=False)
    if getattr(z, "verdict", "ok") not in ("exact", "ok"):
        raise ValueError(
            f"The log Z of {p.name} is {z.verdict} by {z.estimator}; expected a reliable "
            "estimate; read the findings of un.log_z(p, ...), and pass a LogZ that passed to "
            "normalized()."
        )
    try:
        value = float(z)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(
            f"z is {shown(z)}; expected a finite LogZ or number; pass un.log_z(p, ...)."
        )
    fixed = p.fix(**p.parameters).for_jit()
    names = _unlike("unnormalized", p.variables), _unlike("log_z", p.variables)
    function = _MinusLogZ(p.name, tuple(p.variables), names)
    constants = dict(zip(names, (fixed, value), strict=True))
    return Density(function, p.variables, constants=constants, log_z=0.0).with_dimensions(
        **_sizes_or_labels(p)
    )


def _unlike(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else _unlike(name + "_", taken)


def _sizes_or_labels(p: Density) -> dict[str, Any]:
    """The arguments of `with_dimensions` for the dimensions of the variables."""
    axes = {
        axis for support in p.variables.values() for axis in support.axes if isinstance(axis, str)
    }
    return {axis: p.labels.get(axis, p.dimensions[axis]) for axis in axes}


# Attached here, so that density.py does not depend on log Z.
Density.normalized = normalized  # type: ignore[method-assign, assignment]

__all__ = ["normalized"]

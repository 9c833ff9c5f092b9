"""Exponential families by their statistics: the quartic, any list of functions, and a kernel's
sections.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density, density
from unnorm.supports import Positive, Real

__all__ = ["exponential_family", "kernel_exponential_family", "quartic"]


@density
def quartic(
    x: Real, *, a: Real = 0.0, b: Real = 0.0, c: Real = 0.0, d: Positive = 1.0
) -> jax.Array:
    """One measurement with one mode or two, skewed or not: the exponential of a quartic.

    log p̃(x) = a x + b x² + c x³ − d x⁴, with d > 0 so that Z is finite. Divide the data by their
    standard deviation first: the powers of large numbers are hard on any optimiser.

    Example:
        >>> import unnorm as un
        >>> float(un.models.quartic.bind(a=1.0, b=3.0, c=0.0, d=0.5)(2.0))
        6.0

    References:
        Cobb, Koppstein and Chen (1983), Journal of the American Statistical Association 78,
        124-130, doi:10.1080/01621459.1983.10477940.
    """
    return a * x + b * x**2 + c * x**3 - d * x**4


@dataclass(frozen=True)
class _LinearInTheta:
    """θ'T(x) + b(x); equal for equal functions, so that nothing compiles twice."""

    statistics: tuple[Callable, ...]
    base: Callable | None
    __name__ = "exponential_family"

    def __call__(self, x, *, theta) -> jax.Array:
        linear = theta @ jnp.stack([statistic(x) for statistic in self.statistics])
        return linear if self.base is None else linear + self.base(x)


def exponential_family(
    statistics: Mapping[str, Callable], support: Any = Real, base: Callable | None = None
) -> Density:
    """Any exponential family, from its sufficient statistics: what you would match the means of.

    log p̃(x) = Σ_k theta_k T_k(x) + b(x). Maximum likelihood makes the model's means of the T_k
    those of the data; score matching is a linear solve.

    Args:
        statistics: ``{name: function}``; each takes one event and returns a number. The names label
            `theta`.
        support: the support of x, such as `un.Real`, `un.Positive["d"]`.
        base: the function b of one event; None: 0.

    Returns:
        A Density of `x` with the parameter `theta`, one entry for each statistic, which starts at
        0.

    Raises:
        ValueError: statistics is no mapping of names to functions, or empty.

    Example:
        >>> import jax.numpy as jnp
        >>> import unnorm as un
        >>> p = un.models.exponential_family({"log": jnp.log, "linear": lambda x: -x}, un.Positive)
        >>> float(p.bind(theta=[2.0, 3.0])(1.0))  # a gamma distribution
        -3.0

    References:
        Brown (1986), Fundamentals of Statistical Exponential Families, doi:10.1214/lnms/1215466757.
    """
    good = (
        isinstance(statistics, Mapping) and statistics and all(map(callable, statistics.values()))
    )
    if not good:
        raise ValueError(
            f"statistics is {statistics!r}; expected a dict of at least one name and function; "
            "pass, for example, {'linear': lambda x: x}."
        )
    function = _LinearInTheta(tuple(statistics.values()), base)
    p = Density(function, {"x": support}, {"theta": (Real["statistic"], 0.0)})
    return p.with_dimensions(statistic=list(statistics))


def kernel_exponential_family(
    centres: Any, bandwidth: float, scale: float | None = None
) -> Density:
    """A smooth density of any shape in a few dimensions, linear in its weights: bumps that tilt a
    Gaussian.

    log p̃(x) = Σ_m weights_m exp(−|x − z_m|² / 2 bandwidth²) − |x − z̄|² / 2 scale², with z_m the
    centres and z̄ their mean: the finite form of the kernel exponential family, with a Gaussian
    base measure, so that Z is finite for all weights.

    Args:
        centres: where the bumps stand, (M, D): some rows of the data, or a grid; (M,) is M centres
            on the line.
        bandwidth: the bumps' standard deviation, in the units of the data.
        scale: the standard deviation of the base; None: twice that of the centres, over all
            coordinates.

    Returns:
        A Density of `x` (D,) with the parameter `weights` (M,), which starts at 0: the base itself.

    Raises:
        ValueError: centres that are no finite (M, D) array; a bandwidth or a scale that is not
            positive.

    Example:
        >>> import unnorm as un
        >>> p = un.models.kernel_exponential_family([[-1.0], [1.0]], bandwidth=0.5, scale=2.0)
        >>> round(float(p.bind(weights=[0.0, 3.0])([1.0])), 4)
        2.875

    References:
        Sriperumbudur et al. (2017), arXiv:1312.3516; Arbel and Gretton (2018), arXiv:1711.05363;
        Sutherland et al. (2018), arXiv:1705.08360 (fixed centres).
    """
    centres = np.asarray(centres, float)
    centres = centres[:, None] if centres.ndim == 1 else centres
    if centres.ndim != 2 or not centres.size or not np.all(np.isfinite(centres)):
        raise ValueError(
            f"centres has the shape {centres.shape} with {np.sum(~np.isfinite(centres))} entries "
            "that are not finite; it must be a finite array of the shape (M, D); correct it."
        )
    scale = 2 * np.sqrt(np.mean(np.var(centres, 0))) if scale is None else scale
    for name, value in (("bandwidth", bandwidth), ("scale", scale)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; it must be finite and positive; correct it.")
    count, size = centres.shape
    constants = {
        "centres": centres,
        "bandwidth": float(bandwidth),
        "middle": centres.mean(0),
        "scale": float(scale),
    }
    return Density(_log_tilt, {"x": Real[size]}, {"weights": (Real[count], 0.0)}, constants)


def _log_tilt(x, *, weights, centres, bandwidth, middle, scale):
    """A Gaussian that is tilted by bumps."""
    bumps = jnp.exp(-jnp.sum((x - centres) ** 2, -1) / (2 * bandwidth**2))
    return weights @ bumps - jnp.sum((x - middle) ** 2) / (2 * scale**2)


_log_tilt.__name__ = "kernel_exponential_family"

"""Gaussian graphical models: on all of R^d, on non-negative values, and in powers of those."""

import jax
import jax.numpy as jnp

from unnorm.declaration.density import Density, density
from unnorm.supports import Positive, PositiveDefinite, Real, Symmetric

__all__ = ["gaussian_graphical", "non_negative_graphical", "truncated_gaussian"]


@density
def gaussian_graphical(
    x: Real["d"], *, eta: Real["d"] = 0.0, precision: PositiveDefinite["d"] = 1.0
) -> jax.Array:
    """Which measurements are dependent given all others: a Gaussian by its precision matrix.

    log p̃(x) = eta'x − ½ x' precision x; the mean is precision⁻¹ eta, an entry of the precision is
    0 where two measurements are independent given the others, and log Z = ½ (d log 2π − log
    |precision| + eta' precision⁻¹ eta). Score matching and maximum likelihood are the same estimate
    here: the inverse of the data's covariance (1/n).

    Example:
        >>> import unnorm as un
        >>> precision = [[2.0, 0.5], [0.5, 1.0]]
        >>> p = un.models.gaussian_graphical.bind(eta=[1.0, 0.0], precision=precision)
        >>> float(p([1.0, 2.0]))
        -3.0

    References:
        Dempster (1972), Biometrics 28, 157-175, doi:10.2307/2528966; Hyvärinen (2005), Journal of
        Machine Learning Research 6, 695-709.
    """
    return eta @ x - 0.5 * x @ precision @ x


@density
def truncated_gaussian(
    x: Positive["d"], *, eta: Real["d"] = 0.0, precision: Symmetric(diagonal=True)["d"] = 1.0
) -> jax.Array:
    """Non-negative measurements that depend in pairs: a Gaussian truncated to x ≥ 0.

    log p̃(x) = eta'x − ½ x' precision x on x ≥ 0. Z is finite for a strictly copositive precision,
    which need not be positive definite; no closed form beyond one dimension.

    Example:
        >>> import unnorm as un
        >>> precision = [[2.0, 0.5], [0.5, 1.0]]
        >>> p = un.models.truncated_gaussian.bind(eta=[1.0, 0.0], precision=precision)
        >>> float(p([1.0, 2.0])), float(p([-1.0, 2.0]))
        (-3.0, -inf)

    References:
        Hyvärinen (2007), Computational Statistics & Data Analysis 51, 2499-2512,
        doi:10.1016/j.csda.2006.09.003.
    """
    return eta @ x - 0.5 * x @ precision @ x


def non_negative_graphical(a: float = 1, b: float = 1) -> Density:
    """Skewed non-negative measurements that depend in pairs: interactions in powers of x, the a-b
    models.

    log p̃(x) = −(1 / 2a) Σ_jk K_jk x_j^a x_k^a + Σ_j eta_j (x_j^b − 1) / b on x ≥ 0, with log x_j
    for b = 0. a = b = 1 is the truncated Gaussian, a = b = ½ the exponential square-root model, a =
    ½ and b = 0 the gamma model. Z is finite for a positive definite K where 2a > b, and for b = 0
    with eta_j > −1. A power that is not whole has no derivative at 0: score matching asks for x > 0
    then.

    Args:
        a: the power of the interactions, above 0.
        b: the power of the linear part, at least 0.

    Returns:
        A Density of `x` (d,) with the parameters `eta` (d,) and `interaction` (d, d), the matrix K.

    Raises:
        ValueError: a or b is out of range.

    Example:
        >>> import unnorm as un
        >>> p = un.models.non_negative_graphical(a=0.5, b=0.5)
        >>> p = p.bind(interaction=[[2.0, 0.5], [0.5, 1.0]])
        >>> round(float(p([1.0, 4.0])), 4)
        -8.0

    References:
        Yu, Drton and Shojaie (2019), Generalized score matching for non-negative data,
        arXiv:1812.10551.
    """
    if not a > 0:
        raise ValueError(
            f"a is {a!r}, but it is the exponent of the interactions; it must be positive; "
            "correct it."
        )
    if not b >= 0:
        raise ValueError(
            f"b is {b!r}, but it is the exponent of the linear part; it must be nonnegative; "
            "correct it."
        )
    # Integer powers as integers: they are static, and have derivatives at 0.
    a, b = (int(power) if float(power).is_integer() else float(power) for power in (a, b))
    function, powers = (_with_powers, {"a": a, "b": b}) if b else (_with_logs, {"a": a})
    matrix = Symmetric(diagonal=True)["d"]
    return Density(
        function,
        {"x": Positive["d"]},
        {"eta": (Real["d"], 0.0), "interaction": (matrix, 1.0)},
        powers,
    )


def _with_powers(x, *, eta, interaction, a, b):
    """Non-negative measurements that interact in powers."""
    return eta @ (x**b - 1) / b - x**a @ interaction @ x**a / (2 * a)


def _with_logs(x, *, eta, interaction, a):
    """Non-negative measurements that interact in powers, with a log-linear part."""
    return eta @ jnp.log(x) - x**a @ interaction @ x**a / (2 * a)


_with_powers.__name__ = _with_logs.__name__ = "non_negative_graphical"

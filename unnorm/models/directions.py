"""Angles and directions."""

import jax
import jax.numpy as jnp

from unnorm.declaration.density import Density, density
from unnorm.supports import Circle, Positive, Real, Sphere, Symmetric

__all__ = ["bingham", "bivariate_von_mises", "torus_graph", "von_mises", "von_mises_fisher"]


@density
def von_mises(x: Circle, *, eta: Real[2] = 0.0) -> jax.Array:
    """One angle about a mean direction: the von Mises distribution.

    log p̃(x) = eta_0 cos x + eta_1 sin x = κ cos(x − μ), κ = |eta|, μ the angle of eta; log Z = log
    2π I_0(κ).

    Example:
        >>> import unnorm as un
        >>> round(float(un.models.von_mises.bind(eta=[0.0, 2.0])(0.5)), 4)
        0.9589

    References:
        Mardia and Jupp (2000), Directional Statistics, doi:10.1002/9780470316979.
    """
    return eta[0] * jnp.cos(x) + eta[1] * jnp.sin(x)


@density
def bivariate_von_mises(
    x: Circle[2], *, mean: Circle[2] = 0.0, concentration: Positive[2] = 1.0, coupling: Real = 0.0
) -> jax.Array:
    """Two angles that depend on each other, as torsion angles of proteins do: the sine model.

    log p̃(x) = κ_0 cos(x_0 − μ_0) + κ_1 cos(x_1 − μ_1) + coupling · sin(x_0 − μ_0) sin(x_1 − μ_1);
    Z = 4π² Σ_m C(2m, m) (coupling² / 4 κ_0 κ_1)^m I_m(κ_0) I_m(κ_1). It has two modes where
    coupling² > κ_0 κ_1.

    Example:
        >>> import unnorm as un
        >>> p = un.models.bivariate_von_mises.bind(concentration=[2.0, 1.0], coupling=0.5)
        >>> round(float(p([0.0, 1.0])), 4)
        2.5403

    References:
        Singh, Hnizdo and Demchuk (2002), Biometrika 89, 719-723, doi:10.1093/biomet/89.3.719.
    """
    away = x - mean
    return concentration @ jnp.cos(away) + coupling * jnp.prod(jnp.sin(away))


@density
def torus_graph(
    x: Circle["d"],
    *,
    cosine: Real["d"] = 0.0,
    sine: Real["d"] = 0.0,
    cosine_difference: Symmetric["d"] = 0.0,
    sine_difference: Symmetric["d"] = 0.0,
    cosine_sum: Symmetric["d"] = 0.0,
    sine_sum: Symmetric["d"] = 0.0,
) -> jax.Array:
    """Which of many angles (phases of oscillations) are coupled given all others: the torus graph.

    log p̃(x) = Σ_j cosine_j cos x_j + sine_j sin x_j + Σ_{j<k} cosine_difference_jk cos(x_j − x_k)
    + sine_difference_jk sin(x_j − x_k) + cosine_sum_jk cos(x_j + x_k) + sine_sum_jk sin(x_j + x_k),
    an exponential family, so that score matching is a linear solve. Differences alone (the others
    fixed at 0) are the phase difference model.

    Example:
        >>> import unnorm as un
        >>> p = un.models.torus_graph.bind(cosine=[1.0, 0.0], sine_difference=[[0, 2.0], [2.0, 0]])
        >>> round(float(p([0.0, -1.0])), 4)  # 1 + 2 sin(0 − (−1))
        2.6829

    References:
        Klein, Orellana, Brincat, Miller and Kass (2020), Annals of Applied Statistics 14, 635-660,
        doi:10.1214/19-AOAS1300.
    """
    # The sine of a difference has a sign: only pairs j < k count.
    difference, total = jnp.triu(x[:, None] - x[None, :], 1), jnp.triu(x[:, None] + x[None, :], 1)
    pairs = cosine_difference * jnp.cos(difference) + sine_difference * jnp.sin(difference)
    pairs += cosine_sum * jnp.cos(total) + sine_sum * jnp.sin(total)
    return cosine @ jnp.cos(x) + sine @ jnp.sin(x) + jnp.sum(jnp.triu(pairs, 1))


@density
def von_mises_fisher(x: Sphere["d"], *, eta: Real["d"] = 0.0) -> jax.Array:
    """Directions about a mean direction, on a sphere of any dimension: the von Mises-Fisher
    distribution.

    log p̃(x) = eta'x, κ = |eta|; on the sphere in R^3 log Z = log(4π sinh κ / κ).

    Example:
        >>> import unnorm as un
        >>> round(float(un.models.von_mises_fisher.bind(eta=[0.0, 0.0, 3.0])([0.0, 0.6, 0.8])), 4)
        2.4

    References:
        Fisher (1953), Proceedings of the Royal Society A 217, 295-305, doi:10.1098/rspa.1953.0064.
    """
    return eta @ x


def bingham(d: int = 3) -> Density:
    """Axes, that is directions without a sign (normals of planes, fibres): the Bingham distribution
    in R^d.

    log p̃(x) = x'Ax on |x| = 1. A and A + cI are one distribution, so that A_dd = 0: `diagonal` has
    the d − 1 entries before it, and `off_diagonal` the others. On the sphere in R^3 with A =
    diag(0, 0, −κ) + κI: Z = 4π ₁F₁(1/2; 3/2; κ) at diagonal = (−κ, −κ), times e^{−κ}.

    Args:
        d: the dimension of the space, at least 2.

    Returns:
        A Density of `x` (d,) with the parameters `off_diagonal` (d, d), zero on its diagonal, and
        `diagonal` (d − 1,).

    Raises:
        ValueError: d is not an integer of at least 2.

    Example:
        >>> import unnorm as un
        >>> p = un.models.bingham(3).bind(diagonal=[-2.0, -3.0])
        >>> round(float(p([0.6, 0.0, 0.8])), 4)
        -0.72

    References:
        Bingham (1974), Annals of Statistics 2, 1201-1225, doi:10.1214/aos/1176342874.
    """
    if isinstance(d, bool) or not isinstance(d, int) or d < 2:
        raise ValueError(
            f"d is {d!r}, but it is the dimension of the space; it must be an integer of at least "
            "2; raise it."
        )
    return Density(
        _bingham,
        {"x": Sphere[d]},
        {"off_diagonal": (Symmetric[d], 0.0), "diagonal": (Real[d - 1], 0.0)},
    )


def _bingham(x, *, off_diagonal, diagonal):
    """Axes: a quadratic form on the sphere."""
    return x @ off_diagonal @ x + diagonal @ x[:-1] ** 2


_bingham.__name__ = "bingham"

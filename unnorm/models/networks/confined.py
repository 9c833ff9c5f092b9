"""Energies that are neural networks, confined by a quadratic term."""

from typing import Any

import jax.numpy as jnp

from unnorm.declaration.density import Density
from unnorm.models.networks.initialization import check_sizes, initialize
from unnorm.models.networks.layers import evaluate, softplus
from unnorm.supports import PyTree, Real

_DTYPES = ("bfloat16", "float16", "float32", "float64")

__all__ = ["convolutional_energy", "fully_connected_energy"]


def fully_connected_energy(
    size: int,
    *,
    width: int = 64,
    depth: int = 3,
    confinement: float = 0.1,
    spectral_norm: bool = False,
    network_dtype: str | None = None,
    seed: int = 0,
) -> Density:
    """A density of vectors without a known shape: a fully connected network as its log.

    log p̃(x) = network(x) − confinement · |x|², with softplus between the layers, so that it is
    smooth; the network grows at most linearly, and the second term makes Z finite.

    Args:
        size: the entries of x.
        width: the units of each hidden layer.
        depth: the number of hidden layers.
        confinement: how fast the density falls far out, a number above 0; smaller for data of a
            larger scale.
        spectral_norm: divide the weights of every layer but the last by their largest singular
            value where that is above 1: the gradient in x stays bounded while training.
        network_dtype: the precision inside the network, such as "bfloat16"; log p̃ and the
            parameters keep the precision of the fit. None: the same.
        seed: of the network's random start.

    Returns:
        A Density of `x` (size,) with the PyTree parameter `network`, an `equinox.nn.MLP`.

    Raises:
        ValueError: a size that is not a positive integer; a confinement that is not positive.

    Example:
        >>> import unnorm as un
        >>> un.models.fully_connected_energy(2, width=8)
        Density fully_connected_energy(x: Real[2])

    References:
        LeCun et al. (2006), A tutorial on energy-based learning; Miyato et al. (2018),
        arXiv:1802.05957 (spectral normalization).
    """
    import equinox as eqx

    check_sizes(confinement, size=size, width=width, depth=depth)
    network = initialize(
        lambda key: eqx.nn.MLP(size, "scalar", width, depth, activation=softplus, key=key),
        seed,
    )
    return Density(
        _fully_connected,
        {"x": Real[size]},
        {"network": (PyTree, network)},
        _constants(confinement, spectral_norm, network_dtype),
    )


def convolutional_energy(
    height: int,
    width: int,
    *,
    support: Any = Real,
    channels: int = 16,
    depth: int = 2,
    confinement: float = 0.1,
    spectral_norm: bool = False,
    network_dtype: str | None = None,
    seed: int = 0,
) -> Density:
    """A density of images: a convolutional network as its log.

    log p̃(x) = network(x) − confinement · |x|²: `depth` convolutions of 3 × 3 that halve the image
    and double the channels, with softplus between them, and a linear layer on what is left.

    Args:
        height: rows of the image.
        width: columns of the image.
        support: of one pixel: `un.Real`, `un.Binary`, `un.Interval(0, 1)`.
        channels: after the first convolution.
        depth: the number of convolutions.
        confinement: as for `fully_connected_energy`; any number above 0 where pixels are bounded.
        spectral_norm: as for `fully_connected_energy`.
        network_dtype: as for `fully_connected_energy`.
        seed: of the network's random start.

    Returns:
        A Density of `x` (height, width) with the PyTree parameter `network`, an
        `equinox.nn.Sequential`.

    Raises:
        ValueError: a size that is not a positive integer; a confinement that is not positive.

    Example:
        >>> import unnorm as un
        >>> un.models.convolutional_energy(8, 8, support=un.Binary, channels=4)
        Density convolutional_energy(x: Binary[8, 8])

    References:
        Nijkamp, Hill, Han, Zhu and Wu (2020), On the anatomy of MCMC-based maximum likelihood
        learning of energy-based models, arXiv:1903.12370.
    """
    import equinox as eqx

    from unnorm.models.networks.strided_convolution import StridedConvolution

    check_sizes(confinement, height=height, width=width, channels=channels, depth=depth)

    def layers(key):
        made: list[eqx.Module] = [eqx.nn.Lambda(_with_a_channel)]
        sizes, before = [height, width], 1
        for level in range(depth):
            after = channels * 2**level
            made += [StridedConvolution(before, after), eqx.nn.Lambda(softplus)]
            sizes, before = [-(-size // 2) for size in sizes], after
        return [
            *made,
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(before * sizes[0] * sizes[1], "scalar", key=key),
        ]

    network = initialize(lambda key: eqx.nn.Sequential(layers(key)), seed)
    support = {"x": support[height, width]}
    return Density(
        _convolutional,
        support,
        {"network": (PyTree, network)},
        _constants(confinement, spectral_norm, network_dtype),
    )


def _with_a_channel(x):
    return x[..., None]


def _constants(confinement: float, spectral_norm: bool, network_dtype: str | None) -> dict:
    if not isinstance(spectral_norm, bool):
        raise ValueError(
            f"spectral_norm is {spectral_norm!r}; it must be True or False; choose one."
        )
    if network_dtype not in (None, *_DTYPES):
        raise ValueError(
            f"network_dtype is {network_dtype!r}; it must be None or one of {', '.join(_DTYPES)}; "
            "choose one."
        )
    return {
        "confinement": confinement,
        "spectral_norm": spectral_norm,
        "network_dtype": network_dtype or "",
    }


def _energy(x, *, network, confinement, spectral_norm, network_dtype):
    value = evaluate(network, x, normalize=spectral_norm, network_dtype=network_dtype)
    return value - confinement * jnp.sum(x**2)


def _fully_connected(x, *, network, confinement, spectral_norm, network_dtype):
    """A fully connected network, confined."""
    return _energy(
        x,
        network=network,
        confinement=confinement,
        spectral_norm=spectral_norm,
        network_dtype=network_dtype,
    )


def _convolutional(x, *, network, confinement, spectral_norm, network_dtype):
    """A convolutional network, confined."""
    return _energy(
        x,
        network=network,
        confinement=confinement,
        spectral_norm=spectral_norm,
        network_dtype=network_dtype,
    )


_fully_connected.__name__, _convolutional.__name__ = (
    "fully_connected_energy",
    "convolutional_energy",
)

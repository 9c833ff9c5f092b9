"""Energies that are neural networks."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.models.layers import evaluate, softplus
from unnorm.supports import Covariate, PyTree, Real

_DTYPES = ("bfloat16", "float16", "float32", "float64")

__all__ = ["convolutional_energy", "fully_connected_energy", "noise_conditional_energy"]


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

    _check(confinement, size=size, width=width, depth=depth)
    network = _initialize(
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

    from unnorm.models.strided_convolution import StridedConvolution

    _check(confinement, height=height, width=width, channels=channels, depth=depth)

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

    network = _initialize(lambda key: eqx.nn.Sequential(layers(key)), seed)
    support = {"x": support[height, width]}
    return Density(
        _convolutional,
        support,
        {"network": (PyTree, network)},
        _constants(confinement, spectral_norm, network_dtype),
    )


def noise_conditional_energy(
    size: int, *, width: int = 64, depth: int = 3, scale: float = 1.0, seed: int = 0
) -> Density:
    """A density of vectors at every noise level: a fully connected network as its log, conditioned
    on the level.

    log p̃(x; σ) = (scale/σ) c x'network(c x, log σ) − ½ c² |x|² with c = 1/√(scale² + σ²) and silu
    between the layers. Its score is one gradient, of size 1/σ, as the noise is (Song and Ermon,
    2020). The second term is the log-density of centred data of this scale, smoothed; far out the
    network is given c x at a bounded distance, so that Z is finite. Networks that return the scalar
    itself learn the toys more slowly. `p.given(sigma=0.1)` is the density at one level.

    Args:
        size: the entries of x.
        width: the units of each hidden layer.
        depth: the number of hidden layers.
        scale: standard deviation of the data's entries, a number above 0.
        seed: of the network's random start.

    Returns:
        A Density of `x` (size,) with the covariate `sigma` and the PyTree parameter `network`, an
        `equinox.nn.MLP`.

    Raises:
        ValueError: a size that is not a positive integer; a scale that is not positive.

    Example:
        >>> import unnorm as un
        >>> un.models.noise_conditional_energy(2, width=8)
        Density noise_conditional_energy(x: Real[2])

    References:
        Song and Ermon (2020), Improved techniques for training score-based generative models,
        arXiv:2006.09011; Du et al. (2023), Reduce, reuse, recycle, arXiv:2302.11552 (energies that
        are inner products with a network).
    """
    import equinox as eqx

    _check(scale, "scale", size=size, width=width, depth=depth)
    network = _initialize(
        lambda key: eqx.nn.MLP(size + 1, size, width, depth, activation=jax.nn.silu, key=key),
        seed,
    )
    return Density(
        _noise_conditional,
        {"x": Real[size]},
        {"network": (PyTree, network)},
        {"scale": scale},
        {"sigma": Covariate},
    )


def _initialize(make: Callable, seed: int) -> Any:
    """The network, its random start drawn by NumPy: a declaration runs no JAX operation, so that
    devices stay open.
    """
    import equinox as eqx

    rng = np.random.default_rng(seed)

    def draw(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        # As Equinox does: uniform within one over the root of what a unit takes in; biases (1 or 3
        # axes) start at 0.
        limit = math.prod(leaf.shape[1:]) ** -0.5 if leaf.ndim in (2, 4) else 0.0
        return rng.uniform(-limit, limit, leaf.shape).astype(leaf.dtype)

    return jax.tree.map(draw, eqx.filter_eval_shape(lambda: make(jax.random.key(0))))


def _check(confinement: float, name: str = "confinement", /, **sizes: int) -> None:
    for axis, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{axis} is {size!r}; it must be a positive integer; correct it.")
    if not confinement > 0:
        raise ValueError(
            f"{name} is {confinement!r}; it must be positive, or Z is infinite; raise it."
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


def _noise_conditional(x, *, sigma, network, scale):
    """A fully connected network that is given the noise level."""
    shrinkage = jax.lax.rsqrt(scale**2 + sigma**2)
    scaled = shrinkage * x
    bounded = scaled * jax.lax.rsqrt(1 + jnp.mean(scaled**2) / 16)
    found = network(jnp.append(bounded, 0.5 * jnp.log(sigma / scale)))
    return scale / sigma * (scaled @ found) - 0.5 * jnp.sum(scaled**2)


_noise_conditional.__name__ = "noise_conditional_energy"
_fully_connected.__name__, _convolutional.__name__ = (
    "fully_connected_energy",
    "convolutional_energy",
)

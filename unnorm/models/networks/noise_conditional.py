"""Energies at every noise level."""

import jax
import jax.numpy as jnp

from unnorm.declaration.density import Density
from unnorm.models.networks.initialization import check_sizes, initialize
from unnorm.supports import Covariate, PyTree, Real


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

    check_sizes(scale, "scale", size=size, width=width, depth=depth)
    network = initialize(
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


def _noise_conditional(x, *, sigma, network, scale):
    """A fully connected network that is given the noise level."""
    shrinkage = jax.lax.rsqrt(scale**2 + sigma**2)
    scaled = shrinkage * x
    bounded = scaled * jax.lax.rsqrt(1 + jnp.mean(scaled**2) / 16)
    found = network(jnp.append(bounded, 0.5 * jnp.log(sigma / scale)))
    return scale / sigma * (scaled @ found) - 0.5 * jnp.sum(scaled**2)


_noise_conditional.__name__ = "noise_conditional_energy"

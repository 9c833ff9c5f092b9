"""What the networks of `unnorm.models` are made of, as functions of their weights."""

from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)); its derivative is one sigmoid, where that of `jax.nn.softplus` takes
    several operations.
    """
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(x))


def spectral_norm(weight: jax.Array, iterations: int = 20) -> jax.Array:
    """The largest singular value of a matrix (out, in), by power iteration; differentiable.

    The singular vectors are held fixed in the derivative, uᵀ dW v (Miyato et al. 2018,
    arXiv:1802.05957). The iteration starts at the row of the largest norm, so that the result is
    a function of the weights alone: it needs no state.
    """
    held = jax.lax.stop_gradient(weight)
    start = held[jnp.argmax(jnp.sum(held**2, 1))]

    def multiply(v, _):
        v = held.T @ (held @ v)
        return v / jnp.maximum(jnp.linalg.norm(v), jnp.finfo(v.dtype).tiny), None

    v, _ = jax.lax.scan(multiply, start, None, length=iterations)
    u = held @ v
    return u / jnp.maximum(jnp.linalg.norm(u), jnp.finfo(u.dtype).tiny) @ weight @ v


def normalize_spectra(network: Any) -> Any:
    """The network with the weights of every layer but the last divided by their spectral norm
    where that is above 1.
    """

    def normalize(leaf):
        if not _is_weight(leaf) or leaf.ndim != 2 or leaf.shape[0] == 1:
            return leaf
        return leaf / jnp.maximum(1.0, spectral_norm(leaf))

    return jax.tree.map(normalize, network)


def evaluate(network: Any, x: jax.Array, *, normalize: bool, network_dtype: str) -> Any:
    """network(x), with the weights normalized, and inside the network in another precision."""
    network = normalize_spectra(network) if normalize else network
    if not network_dtype:
        return network(x)
    inner = jnp.dtype(network_dtype)

    def narrow(leaf):
        return leaf.astype(inner) if _is_weight(leaf) else leaf

    return jax.tree.map(narrow, network)(x.astype(inner)).astype(x.dtype)


def _is_weight(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)

"""The targets of the speed benchmarks: a mixture, a Gaussian of 100 dimensions and a small
network."""

import jax
import jax.numpy as jnp
import numpy as np

import unnorm as un

CENTRES = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, -2.0]], np.float32)


def mixture(x, *, centres):
    return jax.nn.logsumexp(-0.5 * jnp.sum((x - centres) ** 2, -1))


def gaussian(x, *, precision):
    return -0.5 * x @ (precision * x)


def network(x, *, w1, w2, w3):
    """A network 2→128→128→1 in a quadratic bowl, so that it can be normalized."""
    return jnp.tanh(jnp.tanh(x @ w1) @ w2) @ w3 - 0.5 * x @ x


def targets() -> dict[str, un.Density]:
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(size=shape).astype(np.float32) / shape[0] ** 0.5
        for name, shape in {"w1": (2, 128), "w2": (128, 128), "w3": (128,)}.items()
    }
    precision = np.linspace(0.5, 2.0, 100).astype(np.float32)
    return {
        "2-D mixture": un.Density(mixture, {"x": un.Real[2]}, constants={"centres": CENTRES}),
        "100-D Gaussian": un.Density(
            gaussian, {"x": un.Real[100]}, constants={"precision": precision}
        ),
        "network 2→128→128→1": un.Density(network, {"x": un.Real[2]}, constants=weights),
    }

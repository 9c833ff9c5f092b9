"""Encoders q(z | x): normal given noise, z = m(x, ε) + s(x, ε) ξ; without noise ε a Gaussian.

With noise, q(z | x) = ∫ N(z; m(x, ε), s(x, ε)²) p(ε) dε has no closed form (Yin and Zhou, 2018,
arXiv:1805.11183, who call it semi-implicit).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.random_keys import split_keys


@dataclass(frozen=True)
class EncoderOptions:
    """How an encoder starts, and how its density and the score of it are estimated.

    Attributes:
        output_scale: of the last layer's weights at the start: q(z | x) is then near the standard
            normal for every x.
        samples: of the noise, over which q is averaged for the loss that is shown.
        newton_steps: of Gauss and Newton to the noise that explains a draw best, about which these
            are drawn.
        radius: of that noise at most, which is standard normal.
        bound_samples: as `samples`, for the bound that is reported at the end.
        bound_draws: of z for each row, for the same.
        bound_rows: of the data at most, for that bound.
        score_draws: of every row, to which the score network is fitted.
        score_steps: of the score network before each step of the parameters.
        learning_rate: of the score network's Adam, faster than that of the default optimizer, so
            that the score follows the encoder.
        clip: norm of the score network's gradients.
        stein_draws: of every row, by which Stein's estimator goes.
        ridge: added to the diagonal of its kernel matrix, whose entries are at most 1.
    """

    output_scale: float = 0.1
    samples: int = 16
    newton_steps: int = 3
    radius: float = 6.0
    bound_samples: int = 200
    bound_draws: int = 10
    bound_rows: int = 2_000
    score_draws: int = 4
    score_steps: int = 1
    learning_rate: float = 2e-3
    clip: float = 10.0
    stein_draws: int = 32
    ridge: float = 0.05


ENCODER = EncoderOptions()


class Layer(NamedTuple):
    """An affine map of vectors along the last axis."""

    weight: jax.Array  # (out, in)
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight.T + self.bias


class Components(NamedTuple):
    """The normal distributions of z given x and several ε, arrays (n, m, D)."""

    means: jax.Array
    log_scales: jax.Array

    def log_prob(self, z: jax.Array) -> jax.Array:
        """The log-density of every component at z, which broadcasts to (n, m, D)."""
        offset = (z - self.means) * jnp.exp(-self.log_scales)
        size = self.log_scales.shape[-1]
        norm = jnp.sum(self.log_scales, -1) + 0.5 * size * math.log(2 * math.pi)
        return -0.5 * jnp.sum(offset**2, -1) - norm

    def entropy(self) -> jax.Array:
        """The entropy of every component, (n, m)."""
        size = self.log_scales.shape[-1]
        return jnp.sum(self.log_scales, -1) + 0.5 * size * math.log(2 * math.pi * math.e)


class Encoder(NamedTuple):
    """Hidden layers of x, one more that ε enters, and the affine map to m and log s."""

    hidden: tuple[Layer, ...]
    noise: jax.Array  # (width, noise dimension)
    joint: Layer
    last: Layer

    @property
    def noise_dimension(self) -> int:
        return self.noise.shape[1]

    def features(self, inputs: jax.Array) -> jax.Array:
        """What follows from x alone, (n, width)."""
        for layer in self.hidden:
            inputs = jax.nn.silu(layer(inputs))
        return inputs

    def components(self, features: jax.Array, noise: jax.Array) -> Components:
        """The components at ε (n, m, noise dimension)."""
        hidden = self.joint(features)[:, None] + noise @ self.noise.T
        found = self.last(jax.nn.silu(hidden))
        return Components(*jnp.split(found, 2, -1))

    def location(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """About the mean and the standard deviations (n, D) of q(z | x).

        By the cubature rule at ± √k e_i, k the dimension of the noise, which is exact where m and
        s² are quadratic in it. As functions of x alone they give coordinates in which the score of
        q is near −u.
        """
        size, dtype = self.noise_dimension, features.dtype
        points = math.sqrt(size) * jnp.eye(size, dtype=dtype)
        points = jnp.concatenate([points, -points]) if size else jnp.zeros((1, 0), dtype)
        found = self.components(features, jnp.broadcast_to(points, (len(features), *points.shape)))
        mean = found.means.mean(1)
        variance = jnp.mean(jnp.exp(2 * found.log_scales), 1) + found.means.var(1)
        return mean, jnp.sqrt(variance)


def start_layer(key: jax.Array, inputs: int, outputs: int, dtype, scale: float = 1.0) -> Layer:
    """Weights uniform within scale / √inputs, biases 0."""
    limit = scale / math.sqrt(max(inputs, 1))
    weight = jax.random.uniform(key, (outputs, inputs), dtype, -limit, limit)
    return Layer(weight, jnp.zeros(outputs, dtype))


def start_encoder(
    key: jax.Array,
    inputs: int,
    latent: int,
    noise_dimension: int,
    width: int,
    depth: int,
    dtype,
    options: EncoderOptions = ENCODER,
) -> Encoder:
    """An encoder whose q(z | x) is near the standard normal."""
    *keys, noise_key, joint_key, last_key = split_keys(key, depth + 3)
    sizes = [inputs, *[width] * depth]
    hidden = tuple(
        start_layer(one, before, width, dtype) for one, before in zip(keys, sizes, strict=False)
    )
    noise = start_layer(noise_key, noise_dimension, width, dtype, math.sqrt(3)).weight
    joint = start_layer(joint_key, width, width, dtype)
    last = start_layer(last_key, width, 2 * latent, dtype, options.output_scale)
    return Encoder(hidden, noise, joint, last)


__all__ = [
    "ENCODER", "Components", "Encoder", "EncoderOptions", "Layer", "start_encoder", "start_layer",
]  # fmt: skip

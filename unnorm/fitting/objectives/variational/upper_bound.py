"""An upper bound of log q(z | x) of an implicit encoder, which leaves the evidence bound one."""

import math

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.variational.encoder import ENCODER, Encoder, EncoderOptions


def upper_log_prob(
    encoder: Encoder, features: jax.Array, z: jax.Array, noise: jax.Array, normals: jax.Array,
    options: EncoderOptions = ENCODER,
) -> jax.Array:  # fmt: skip
    """A value whose expectation is at least log q(z | x), for one row and one z.

    log of the mean of N(z; m(x, ε_k), s(x, ε_k)²) p(ε_k) / τ(ε_k | z, x) over k = 0, ..., K: ε_0 is
    the noise that z came from, the others are drawn from τ, half the prior and half a normal
    distribution about the ε that explains z best.

    Args:
        encoder: with noise.
        features: (width,), of x.
        z: (D,).
        noise: ε_0, (e,).
        normals: (K, e + 1), standard normal, of which draws from τ are made.
        options: steps to the best ε, and how far it may lie.

    References:
        Sobolev and Vetrov (2019), Importance weighted hierarchical variational inference,
        arXiv:1905.03290.
    """
    size, dtype = len(noise), z.dtype

    def component(noise):
        found = encoder.components(features[None], noise[None, None])
        return found.means[0, 0], found.log_scales[0, 0]

    def linearize(noise):
        """The residual (z − m) / s, J' of it, and eigenvalues and vectors of I + J'J.

        Many small triangular systems would take minutes to compile.
        """
        mean, log_scale = component(noise)
        scale = jnp.exp(-log_scale)
        slope = jax.jacfwd(lambda noise: component(noise)[0])(noise) * scale[:, None]
        precision = jnp.eye(size, dtype=dtype) + slope.T @ slope
        return (z - mean) * scale, slope, jnp.linalg.eigh(precision)

    def step(at, _):
        residual, slope, (values, vectors) = linearize(at)
        target = slope.T @ (residual + slope @ at)
        moved = vectors @ ((vectors.T @ target) / values)
        inside = jnp.minimum(1.0, options.radius / (jnp.linalg.norm(moved) + 1e-6))
        return moved * inside, None

    start = jnp.zeros(size, dtype)
    centre, _ = jax.lax.scan(step, start, length=options.newton_steps)
    values, vectors = linearize(centre)[2]  # of the inverse covariance
    which, normal = normals[:, :1], normals[:, 1:]
    near = centre + normal * jax.lax.rsqrt(values) @ vectors.T
    others = jnp.where(which > 0, near, normal)
    all_noise = jnp.concatenate([noise[None], others])
    found = encoder.components(features[None], all_noise[None])
    log_joint = found.log_prob(z)[0] - 0.5 * jnp.sum(all_noise**2, -1)
    whitened = (all_noise - centre) @ vectors
    log_near = 0.5 * jnp.sum(jnp.log(values)) - 0.5 * jnp.sum(values * whitened**2, -1)
    log_proposal = jnp.logaddexp(log_near, -0.5 * jnp.sum(all_noise**2, -1)) - math.log(2)
    return jax.nn.logsumexp(log_joint - log_proposal) - math.log(len(all_noise))


__all__ = ["upper_log_prob"]

"""The chains' noise: JAX's own Threefry bits, and standard normals made of them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from scipy import stats

from unnorm.sampling.random_normals import normal, threefry


def test_the_unrolled_generator_gives_jaxs_own_bits():
    key, numbers = jax.random.key_data(jax.random.key(3)), jnp.arange(500, dtype=jnp.uint32)
    ours = jnp.concatenate(threefry(key, numbers, numbers + jnp.uint32(500)))
    assert np.array_equal(ours, threefry_2x32(key, jnp.arange(1000, dtype=jnp.uint32)))


def test_normals_are_standard_and_independent():
    draws = np.asarray(normal(jax.random.key(0), (1001, 999), jnp.float32), float).ravel()
    count, half = draws.size, draws.size // 2
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(draws)) < 4 * np.sqrt(24 / count)
    pairs = draws[:half], draws[half : 2 * half]  # the sine and the cosine of one point
    assert abs(np.corrcoef(*pairs)[0, 1]) < 4 / np.sqrt(half)
    assert abs(np.corrcoef(pairs[0] ** 2, pairs[1] ** 2)[0, 1]) < 4 / np.sqrt(half)

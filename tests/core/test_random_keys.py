"""Keys made on the host are JAX's."""

import jax
import numpy as np
import pytest

from unnorm.core.random_keys import fold_in, key_array, make_key, split_keys


def words(key):
    return np.asarray(jax.random.key_data(key))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1])
def test_keys_are_those_of_jax(seed, double):
    with jax.enable_x64(double):
        ours, theirs = make_key(seed), jax.random.key(seed)
        np.testing.assert_array_equal(words(ours), words(theirs))
        for data in (0, 5, 2**31):
            np.testing.assert_array_equal(
                words(fold_in(ours, data)), words(jax.random.fold_in(theirs, data))
            )
        for count in (1, 3, 40):
            split = words(jax.random.split(theirs, count))
            np.testing.assert_array_equal(words(key_array(ours, count)), split)
            np.testing.assert_array_equal([words(one) for one in split_keys(ours, count)], split)
        np.testing.assert_array_equal(
            jax.random.normal(ours, (3,)), jax.random.normal(theirs, (3,))
        )


def test_traced_keys_and_other_generators_are_left_to_jax():
    split = jax.jit(lambda key: key_array(fold_in(key, 2), 3))(jax.random.key(1))
    expected = jax.random.split(jax.random.fold_in(jax.random.key(1), 2), 3)
    np.testing.assert_array_equal(words(split), words(expected))
    other = jax.random.key(1, impl="rbg")
    np.testing.assert_array_equal(words(key_array(other, 3)), words(jax.random.split(other, 3)))
    with jax.default_prng_impl("rbg"):
        assert make_key(1).dtype == other.dtype

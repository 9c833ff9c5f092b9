"""The layers of the networks against independent computations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.models.networks.layers import normalize_spectra, softplus, spectral_norm
from unnorm.models.networks.strided_convolution import StridedConvolution

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 8), (7, 3)])
def test_the_convolution_is_that_of_xla(height, width):
    x = jnp.asarray(RNG.normal(size=(height, width, 3)), jnp.float32)
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 3, 4)), jnp.float32)
    layer = StridedConvolution(3, 4)
    layer = eqx.tree_at(lambda one: one.weight, layer, kernel.reshape(27, 4).T)
    expected = jax.lax.conv_general_dilated(
        x[None], kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_softplus_and_its_derivatives():
    x = jnp.linspace(-30, 30, 13)
    np.testing.assert_allclose(softplus(x), jax.nn.softplus(x), rtol=1e-6)
    for order in (jax.grad, lambda f: jax.grad(jax.grad(f))):
        ours, theirs = (jax.vmap(order(f))(x) for f in (softplus, jax.nn.softplus))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_spectral_norm_and_its_gradient():
    weight = jnp.asarray(RNG.normal(size=(12, 7)), jnp.float32)
    u, singular, v = np.linalg.svd(np.asarray(weight))
    np.testing.assert_allclose(spectral_norm(weight, 200), singular[0], rtol=1e-5)
    gradient = jax.grad(lambda w: spectral_norm(w, 200))(weight)
    np.testing.assert_allclose(gradient, np.outer(u[:, 0], v[0]), atol=1e-3)
    assert float(spectral_norm(jnp.zeros((3, 2)))) == 0


def test_a_normalized_network_has_bounded_slopes():
    p = un.models.fully_connected_energy(2, width=16, confinement=1e-6, spectral_norm=True)
    network = jax.tree.map(
        lambda leaf: 50 * leaf if isinstance(leaf, np.ndarray) else leaf, p.parameters["network"]
    )
    last = np.linalg.norm([leaf for leaf in jax.tree.leaves(network) if np.shape(leaf) == (1, 16)])
    slopes = np.linalg.norm(p.bind(network=network).score(RNG.normal(size=(200, 2))), axis=1)
    assert slopes.max() <= 1.05 * last  # every layer before the last is 1-Lipschitz
    plain = un.models.fully_connected_energy(2, width=16, confinement=1e-6)
    steep = np.linalg.norm(plain.bind(network=network).score(RNG.normal(size=(200, 2))), axis=1)
    assert steep.max() > 10 * last
    assert normalize_spectra(network) is not network


@pytest.mark.parametrize("make", [un.models.fully_connected_energy, un.models.convolutional_energy])
def test_bfloat16_inside_and_the_precision_of_the_fit_outside(make):
    sizes, shape = ((2,), (2,)) if make is un.models.fully_connected_energy else ((8, 8), (8, 8))
    narrow, plain = make(*sizes, network_dtype="bfloat16"), make(*sizes)
    x = RNG.normal(size=(5, *shape)).astype(np.float32)
    assert narrow(x).dtype == plain(x).dtype == np.float32
    np.testing.assert_allclose(narrow(x), plain(x), atol=0.05)
    assert np.abs(narrow(x) - plain(x)).max() > 0
    assert narrow.score(x).dtype == np.float32


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"network_dtype": "int8"}, "network_dtype is 'int8'"),
        ({"spectral_norm": 2}, "spectral_norm is 2"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_bad_options_are_refused(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        un.models.fully_connected_energy(2, **option)

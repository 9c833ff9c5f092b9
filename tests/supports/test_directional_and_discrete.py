"""Circle, Sphere, Categorical, Count and Graph: values, codes, measures, starts, noise and
refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within
from scipy import special
from targets import error_of_mean

import unnorm as un
from unnorm.supports.directional import log_area

QUICK = {"draws": 50, "warmup": 50, "chains": 2, "seed": 0, "progress": False}


def von_mises(concentration):
    return un.Density(lambda x: concentration * jnp.cos(x), {"x": un.Circle})


def von_mises_fisher(size, concentration):
    return un.Density(lambda x: concentration * x[0], {"x": un.Sphere[size]})


@pytest.mark.parametrize("concentration", [0.0, 2.0, 30.0])
def test_log_z_on_the_circle(concentration):
    z = un.log_z(von_mises(concentration), progress=False)
    assert z.verdict == "ok"
    assert z.value == pytest.approx(
        np.log(2 * np.pi * special.ive(0, concentration)) + concentration, abs=1e-8
    )


def test_log_z_of_two_angles_that_interact():
    """The bivariate von Mises density of Singh et al. (2002), by its series in Bessel functions."""
    p = un.Density(
        lambda x: 1.5 * jnp.cos(x[0]) + jnp.cos(x[1]) + 0.8 * jnp.sin(x[0]) * jnp.sin(x[1]),
        {"x": un.Circle[2]},
    )
    m = np.arange(30)
    series = (
        special.comb(2 * m, m)
        * (0.64 / (4 * 1.5 * 1.0)) ** m
        * special.iv(m, 1.5)
        * special.iv(m, 1.0)
    )
    assert un.log_z(p, progress=False).value == pytest.approx(
        np.log(4 * np.pi**2 * series.sum()), abs=1e-7
    )


@pytest.mark.parametrize("concentration", [0.5, 5.0])
def test_log_z_on_the_sphere_is_with_respect_to_its_surface(concentration):
    z = un.log_z(von_mises_fisher(3, concentration), progress=False)
    exact = np.log(4 * np.pi * np.sinh(concentration) / concentration)
    assert z.value == pytest.approx(exact, abs=1e-6) and z.measure == "x: surface"


@pytest.mark.slow
def test_log_z_of_von_mises_fisher_in_ten_dimensions():
    z = un.log_z(von_mises_fisher(10, 50.0), "smc", seed=0, progress=False)
    assert_within(z.value, 40.5073235554, z.standard_error)
    assert z.standard_error < 0.05


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_area_of_the_sphere(size):
    assert np.exp(log_area(size)) == pytest.approx(
        2 * np.pi ** (size / 2) / special.gamma(size / 2)
    )


@pytest.mark.slow
def test_angles_of_draws_are_wrapped_and_cross_the_cut():
    p = un.Density(lambda x: 3.0 * jnp.cos(x - np.pi), {"x": un.Circle})
    for kernel in ("random_walk_mh", "nuts", "mala"):
        x = un.sample(p, kernel, draws=500, seed=0, progress=False).posterior["x"].values
        assert np.all(np.abs(x) <= np.pi + 1e-6)
        assert 0.2 < (x > 0).mean() < 0.8  # both sides of the cut, in every chain
        assert np.all((np.abs(np.diff(x, axis=1)) > np.pi).sum(1) > 5)


@pytest.mark.slow
def test_draws_on_the_sphere_have_length_one_and_are_diagnosed():
    p = von_mises_fisher(4, 3.0)
    for kernel in ("random_walk_mh", "nuts"):
        draws = un.sample(p, kernel, draws=4000, warmup=1000, thin=5, seed=0, progress=False)
        x = draws.posterior["x"].values
        np.testing.assert_allclose((x**2).sum(-1), 1.0, atol=1e-5)
        exact = special.iv(2, 3.0) / special.iv(1, 3.0)
        assert_within(x[..., 0].mean(), exact, error_of_mean(x[..., :1].astype(float))[0])
        assert not any("do not fit" in finding.what for finding in un.diagnose(draws, p).findings)


def test_a_random_walk_with_a_covariance_leaves_a_density_on_the_sphere_as_it_is():
    """Geodesics whose directions are not alike are no symmetric proposal: E x_0² had been .23 off,
    300 errors."""
    p = un.Density(lambda x: 3 * x[0] ** 2 + 2 * x[1], {"x": un.Sphere[3]})
    walk = un.kernels.RandomWalkMH(step_size=0.8, covariance=np.array([1.5, 0.02, 0.2]))
    x = (
        un.sample(p, walk, draws=4000, warmup=200, chains=8, seed=0, progress=False)
        .posterior["x"]
        .values
    )
    height, around = np.polynomial.legendre.leggauss(200)[0], np.pi * (2 * np.arange(400) + 1) / 400
    weights = np.outer(np.polynomial.legendre.leggauss(200)[1], np.ones(400))
    x0 = np.sqrt(1 - height[:, None] ** 2) * np.cos(around)
    x1 = np.sqrt(1 - height[:, None] ** 2) * np.sin(around)
    mass = weights * np.exp(3 * x0**2 + 2 * x1)
    truth = (mass * x0**2).sum() / mass.sum()
    by_chain = (x[..., 0] ** 2).mean(1)
    assert abs(by_chain.mean() - truth) < 4 * by_chain.std(ddof=1) / np.sqrt(8)
    assert by_chain.std(ddof=1) / np.sqrt(8) < 0.02


@pytest.mark.slow
def test_stein_sees_a_wrong_density_on_circle_and_sphere():
    for right, wrong in (
        (von_mises(2.0), von_mises(3.0)),
        (von_mises_fisher(3, 2.0), von_mises_fisher(3, 4.0)),
    ):
        draws = un.sample(right, "nuts", draws=4000, seed=1, progress=False)
        assert any("do not fit" in finding.what for finding in un.diagnose(draws, wrong).findings)
        assert not any(
            "do not fit" in finding.what for finding in un.diagnose(draws, right).findings
        )


def test_a_category_is_a_code_outside_and_one_hot_inside():
    seen = []

    def function(x):
        seen.append(x.shape)
        return x @ jnp.array([0.0, 1.0, 2.0])

    p = un.Density(function, {"x": un.Categorical(3)})
    assert float(p(2)) == 2.0 and p(np.array([0, 1, 2])).tolist() == [0.0, 1.0, 2.0]
    assert set(seen) == {(3,)}
    assert float(p(3)) == -np.inf and float(p(0.5)) == -np.inf
    draws = un.sample(p, draws=4000, warmup=10, seed=0, progress=False).posterior["x"]
    assert draws.dtype.kind == "i"
    shares = np.bincount(draws.values.ravel(), minlength=3) / draws.size
    np.testing.assert_allclose(shares, np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), atol=0.02)


def test_a_category_that_is_given_is_encoded_too():
    p = un.Density(
        lambda x, y: x @ jnp.array([1.0, 5.0]) + y, {"x": un.Categorical(2), "y": un.Real}
    )
    assert float(p.given(x=1)(y=0.5)) == 5.5


def test_a_graph_is_symmetric_without_loops():
    p = un.Density(lambda g: 0.4 * g.sum() / 2, {"g": un.Graph["n"]}).with_dimensions(n=5)
    graphs = un.sample(p, draws=300, warmup=10, seed=0, progress=False).posterior["g"]
    assert graphs.dims == ("chain", "draw", "n", "n_2")
    g = graphs.values
    assert np.array_equal(g, g.swapaxes(-1, -2)) and not np.diagonal(g, axis1=-2, axis2=-1).any()
    assert g.sum() / 2 / (4 * 300 * 10) == pytest.approx(1 / (1 + np.exp(-0.4)), abs=0.03)
    assert un.log_z(p, progress=False).value == pytest.approx(10 * np.log1p(np.exp(0.4)), abs=1e-8)
    assert float(p(np.eye(5))) == -np.inf


def test_counts_below_zero_are_never_visited():
    p = un.Density(lambda x: x * jnp.log(0.5) - jax.scipy.special.gammaln(x + 1), {"x": un.Count})
    x = un.sample(p, draws=2000, seed=0, progress=False).posterior["x"]
    assert x.dtype.kind == "i" and x.values.min() == 0
    assert_within(x.values.mean(), 0.5, error_of_mean(x.values[..., None].astype(float))[0])


NOISES = {
    "circle": (un.Circle[2], (2,)),
    "sphere": (un.Sphere[3], (3,)),
    "categorical": (un.Categorical(3)[4], (4,)),
    "count": (un.Count[2], (2,)),
    "graph": (un.Graph[4], (4, 4)),
}


@pytest.mark.parametrize("name", NOISES)
def test_the_default_noise_is_normalized_and_inside(name):
    support, shape = NOISES[name]
    keys = jax.random.split(jax.random.key(0), 2000)
    value = jax.vmap(lambda k: support.constrain(support.random_free(k, shape, jnp.float32)))(keys)
    statistics = jax.vmap(support.noise_statistics)(value).mean(0)
    noise = support.noise(statistics, shape)
    drawn = noise.sample(jax.random.key(1), (4000,))
    assert drawn.shape == (4000, *shape)
    support.check(np.asarray(drawn), "noise")
    # Two samples' statistics agree, and log_prob is finite where it was drawn.
    again = jax.vmap(support.noise_statistics)(drawn)
    error = (
        np.asarray(again).std(0) / 4000**0.5
        + np.asarray(jax.vmap(support.noise_statistics)(value)).std(0) / 2000**0.5
    )
    assert np.all(np.abs(np.asarray(again.mean(0) - statistics)) <= 4 * error + 1e-6)
    assert np.isfinite(np.asarray(jax.vmap(noise.log_prob)(drawn))).all()


BAD = {
    "categories": (lambda: un.Categorical(1), "Categorical was given 1"),
    "categories not whole": (lambda: un.Categorical(2.5), "Categorical was given 2.5"),
    "sphere without axis": (lambda: un.Density(lambda x: 0.0, {"x": un.Sphere}), "x"),
    "mala on counts": (
        lambda: un.sample(un.Density(lambda x: -x, {"x": un.Count}), "mala", **QUICK),
        "MALA cannot move x, which is Count; use RandomWalkMH",
    ),
    "gibbs on counts": (
        lambda: un.sample(un.Density(lambda x: -x, {"x": un.Count}), "gibbs", **QUICK),
        "Gibbs cannot move x, which is Count; use RandomWalkMH",
    ),
    "block gibbs on interacting entries": (
        lambda: un.sample(
            un.Density(lambda x: x[0] * x[1] * x[2], {"x": un.Binary[3]}), "block_gibbs", **QUICK
        ),
        "entries of one of the variables .* interact",
    ),
    "mclmc in one dimension": (lambda: un.sample(von_mises(1.0), "mclmc", **QUICK), "at least 2"),
    "no gaussian factor": (
        lambda: un.sample(
            un.Density(lambda x: -(x**4), {"x": un.Real}), "elliptical_slice", **QUICK
        ),
        "no Gaussian factor",
    ),
    "blockwise without one": (
        lambda: un.sample(
            un.Density(lambda x, y: -x * y, {"x": un.Real, "y": un.Real}),
            un.kernels.Blockwise(x="nuts"),
            **QUICK,
        ),
        "no kernel for y",
    ),
    "blockwise with the wrong one": (
        lambda: un.sample(
            un.Density(lambda x, s: -x * s, {"x": un.Real, "s": un.Spin}),
            un.kernels.Blockwise(x="nuts", s="mala"),
            **QUICK,
        ),
        "MALA cannot move s",
    ),
    "one temperature": (
        lambda: un.kernels.ReplicaExchange("mala", temperatures=1),
        "temperatures is 1",
    ),
    "flat base on the line": (
        lambda: un.sample(von_mises(1.0), un.kernels.ReplicaExchange("mala", hottest=0.0), **QUICK),
        "hottest is 0 with a flat base",
    ),
    "proposal of another shape": (
        lambda: un.sample(
            von_mises_fisher(3, 1.0),
            un.kernels.IndependentMH(__import__("numpyro").distributions.Normal()),
            **QUICK,
        ),
        "draws the shape",
    ),
    "kernel without options": (
        lambda: un.sample(von_mises(1.0), "independent_mh", **QUICK),
        "options without defaults",
    ),
    "scan": (lambda: un.kernels.Gibbs(scan="sideways"), "scan is 'sideways'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    call, words = BAD[case]
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_mixed_density_gets_a_kernel_for_each_kind():
    p = un.Density(
        lambda s, k, x: (
            0.3 * s - 0.5 * (x - s) ** 2 + k * jnp.log(2.0) - jax.scipy.special.gammaln(k + 1)
        ),
        {"s": un.Spin, "k": un.Count, "x": un.Real},
    )
    draws = un.sample(p, draws=4000, seed=0, progress=False)
    assert draws.attrs["kernel"] == "blockwise"
    means = {name: draws.posterior[name].values.astype(float) for name in ("s", "k", "x")}
    for name, exact in (("s", np.tanh(0.3)), ("x", np.tanh(0.3)), ("k", 2.0)):
        assert_within(means[name].mean(), exact, error_of_mean(means[name][..., None])[0])

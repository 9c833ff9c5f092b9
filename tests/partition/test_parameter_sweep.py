"""`un.log_z(p, over={...})`: log Z, its joint covariance and its derivative over a parameter."""

import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.core.findings import Unreliable

BETAS = np.array([0.6, 0.0, 0.2, 0.44])  # in no order


@un.density
def lattice(x: un.Spin[4, 4], *, beta: un.Real):
    return beta * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1)))


@un.density
def gaussian(x: un.Real[5], *, beta: un.Positive):
    return -0.5 * beta * x @ x


def scaled(one, other):
    """Differences of the values in their standard errors, those that have one."""
    error = one.standard_error.values
    return (one.log_z.values - other)[error > 1e-9] / error[error > 1e-9]


@pytest.mark.slow
def test_one_run_finds_the_lattice_and_its_mean_energy_at_every_value():
    exact = un.log_z(lattice, over={"beta": BETAS}, progress=False)
    found = un.log_z(lattice, un.estimators.SMC(), over={"beta": BETAS}, seed=1, progress=False)
    assert (exact.attrs["verdict"], found.attrs["verdict"]) == ("exact", "ok")
    np.testing.assert_allclose(exact.log_z[1], 16 * np.log(2), rtol=1e-12)
    assert np.all(np.abs(scaled(found, exact.log_z.values)) < 4)
    assert np.all(found.standard_error < 0.05)
    apart = (found.derivative - exact.derivative) / found.derivative_standard_error
    assert np.all(np.abs(apart) < 4)
    assert np.all(found.derivative_standard_error < 0.5)


def test_the_derivative_is_that_of_log_z():
    near = un.log_z(lattice, over={"beta": [0.3, 0.3001]}, progress=False)
    np.testing.assert_allclose(np.diff(near.log_z) / 1e-4, near.derivative.mean(), rtol=1e-6)


def test_a_chain_of_many_spins_is_exact():
    """Z = 2 (2 cosh β)^(n − 1), by elimination; at β = 0 no spins interact."""
    chain = un.Density(
        lambda x, *, beta: beta * jnp.sum(x[1:] * x[:-1]), {"x": un.Spin[40]}, {"beta": un.Real}
    )
    betas = np.array([0.0, 0.3, 1.0])
    found = un.log_z(chain, over={"beta": betas}, progress=False)
    assert found.attrs["verdict"] == "exact"
    np.testing.assert_allclose(found.log_z, np.log(2) + 39 * np.log(2 * np.cosh(betas)), rtol=1e-10)
    np.testing.assert_allclose(found.derivative, 39 * np.tanh(betas), atol=1e-6)


def test_parameters_at_their_starts_are_told():
    p = un.Density(
        lambda x, *, a, b: a * x[0] + b * x[1],
        {"x": un.Spin[2]},
        {"a": un.Real, "b": (un.Real, 0.0)},
    )
    assert any(
        "b stood at the declared starts" in told
        for told in un.log_z(p, over={"a": [1.0]}).attrs["findings"]
    )


@pytest.mark.slow
def test_a_run_of_a_continuous_density_finds_its_closed_form():
    betas = np.array([0.5, 2.0, 8.0])
    found = un.log_z(gaussian, over={"beta": betas}, seed=0, progress=False)
    assert found.attrs["estimator"] == "smc"
    assert found.attrs["verdict"] == "ok"
    assert np.all(np.abs(scaled(found, 2.5 * np.log(2 * np.pi / betas))) < 4)
    apart = (found.derivative.values + 2.5 / betas) / found.derivative_standard_error.values
    assert np.all(np.abs(apart) < 4)
    np.testing.assert_allclose(found.covariance, found.covariance.T, atol=1e-15)
    assert np.linalg.eigvalsh(found.covariance).min() > 0


@pytest.mark.slow
def test_the_joint_covariance_is_that_over_seeds():
    """Of the values and of their differences: chi-squared over 100 seeds, 4 deviations of it
    allowed."""
    exact = un.log_z(lattice, over={"beta": BETAS}, progress=False).log_z.values
    runs = [
        un.log_z(lattice, un.estimators.SMC(), over={"beta": BETAS}, seed=s, progress=False)
        for s in range(100)
    ]
    places = [0, 2, 3]  # at 0 the base is the density, and there is no error
    squared = []
    for run in runs:
        apart = (run.log_z.values - exact)[places]
        squared.append(
            apart @ np.linalg.solve(run.covariance.values[np.ix_(places, places)], apart)
        )
    assert abs(np.mean(squared) - 3) < 4 * np.sqrt(6 / 100)
    slopes = np.array([run.derivative.values for run in runs])[:, places]
    told = np.array([run.derivative_standard_error.values for run in runs])[:, places]
    ratios = slopes.std(0, ddof=1) / np.sqrt((told**2).mean(0))
    assert np.all(np.abs(ratios - 1) < 4 / np.sqrt(2 * 100))


@pytest.mark.parametrize(
    ("over", "word"),
    [
        ({"beta": [1.0], "x": [1.0]}, "expected one parameter"),
        ({"gamma": [1.0]}, "gamma"),
        ({"beta": 1.0}, "different finite numbers"),
        ({"beta": [1.0, 1.0]}, "different finite numbers"),
        ({"beta": [1.0, np.nan]}, "different finite numbers"),
        ({"beta": ["a", "b"]}, "different finite numbers"),
        ({"beta": [1.0, -1.0]}, "beta"),
        ("beta", "expected one parameter"),
    ],
)
def test_what_is_no_path_is_refused_in_one_sentence(over, word):
    with pytest.raises(ValueError, match=word):
        un.log_z(gaussian, over=over, progress=False)


def test_other_estimators_are_refused():
    for estimator in (un.estimators.AIS(), "ais", un.estimators.SMC(variant="persistent")):
        with pytest.raises(ValueError, match="standard variant"):
            un.log_z(gaussian, estimator, over={"beta": [1.0, 2.0]}, progress=False)
    with pytest.raises(
        ValueError, match="particles is 3 in SMC; expected an integer of at least 10"
    ):
        un.log_z(
            gaussian, un.estimators.SMC(particles=3), over={"beta": [1.0, 2.0]}, progress=False
        )
    with pytest.raises(ValueError, match="declare a scalar factor"):
        un.log_z(
            un.Density(lambda x, *, a: a @ x, {"x": un.Spin[2]}, {"a": un.Real[2]}).bind(
                a=[1.0, 2.0]
            ),
            over={"a": [1.0]},
            progress=False,
        )


def test_an_infinite_z_is_said():
    tilted = un.Density(
        lambda x, *, beta: -0.5 * beta * x @ x, {"x": un.Real[5]}, {"beta": un.Real}
    )
    with pytest.raises(Unreliable):
        un.log_z(tilted, over={"beta": [-1.0, 1.0]}, progress=False, strict=True, seed=0)


def test_modes_of_the_last_value_that_the_first_does_not_have():
    """At a = -20 the second mode holds nothing, at 20 all: 3 log 2π + log(1 + e^a)."""
    p = un.Density(
        lambda x, *, a: jnp.logaddexp(
            -0.5 * jnp.sum((x + 5) ** 2), a - 0.5 * jnp.sum((x - 5) ** 2)
        ),
        {"x": un.Real[6]},
        {"a": un.Real},
    )
    values = np.array([-20.0, 20.0])
    found = un.log_z(p, over={"a": values}, seed=0, progress=False)
    right = np.abs(found.log_z - 3 * np.log(2 * np.pi) - np.log1p(np.exp(values))).max() < 0.1
    assert right or found.attrs["verdict"] == "unreliable"

"""Densities of several modes: replica exchange visits all, plain kernels fail the diagnosis."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within
from targets import error_of_mean

import unnorm as un


@un.density
def two_modes(x: un.Real[2]):
    """Gaussians 20 standard deviations apart, of weights 0.2 and 0.8."""
    left, right = x + jnp.array([10.0, 0.0]), x - jnp.array([10.0, 0.0])
    return jnp.logaddexp(jnp.log(0.2) - 0.5 * left @ left, jnp.log(0.8) - 0.5 * right @ right)


@un.density
def wide(x: un.Real[2]):
    return -0.5 * x @ x / 100.0


CASES = {
    "flat base": un.kernels.ReplicaExchange("mala", temperatures=10, hottest=0.01),
    "given base": un.kernels.ReplicaExchange(
        "random_walk_mh", temperatures=10, hottest=0.0, base=wide
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_both_modes_are_visited_in_their_proportion(case):
    draws = un.sample(two_modes, CASES[case], draws=8000, warmup=2000, seed=0, progress=False)
    x = draws.posterior["x"].values.astype(float)
    right = (x[..., 0] > 0).astype(float)
    error = error_of_mean(right)
    assert error < 0.04 and np.all(
        (right.mean(1) > 0.5) & (right.mean(1) < 0.99)
    )  # every chain visits both
    assert_within(right.mean(), 0.8, error)
    assert_within(x.mean((0, 1)), [6.0, 0.0], error_of_mean(x))


def test_the_ladder_is_adapted_to_equal_swap_rates():
    from unnorm.sampling.kernels.composite.replica_exchange import equal_rejections

    powers = np.log(np.array([1.0, 0.5, 0.1, 0.01]))
    moved = np.asarray(equal_rejections(jnp.asarray(powers), jnp.array([0.9, 0.1, 0.1])))
    assert moved[0] == powers[0] and np.isclose(moved[-1], powers[-1])
    assert moved[1] > powers[1] and np.all(np.diff(moved) < 0)


@pytest.mark.parametrize(
    "name", ["mala", pytest.param("nuts", marks=pytest.mark.slow), "random_walk_mh"]
)
def test_plain_kernels_fail_the_diagnosis_there(name):
    draws = un.sample(
        two_modes, name, draws=2000, chains=8, start=_starts(), seed=0, progress=False
    )
    check = un.diagnose(draws, two_modes)
    assert not check.passed and any("R-hat" in finding.what for finding in check.findings)


def _starts():
    return np.array([[10.0 * sign, 0.0] for sign in (-1, 1)] * 4)


@un.density
def lattice(x: un.Spin[32, 32], *, strength: un.Real = 0.46):
    """The Ising model on a torus; critical at log(1 + √2) / 2 = .4407."""
    return strength * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1)))


MAGNETISATION = {"magnetisation": lambda x: x.mean()}


@pytest.mark.slow
def test_ising_below_its_critical_temperature_shows_both_magnetisations():
    kernel = un.kernels.ReplicaExchange("gibbs", temperatures=16, hottest=0.82)
    draws = un.sample(
        lattice.bind(strength=0.46),
        kernel,
        draws=3000,
        warmup=1500,
        thin=3,
        seed=0,
        progress=False,
        keep="last",
        track=MAGNETISATION,
    )
    m = draws.posterior["magnetisation"].values.astype(float)
    up = (m > 0).astype(float)
    # Below the critical temperature |m| is large (Onsager and Yang: (1 - sinh(2K)^-4)^(1/8) = .84),
    # and ± alike.
    assert 0.6 < np.abs(m).mean() < 0.92
    assert np.all((up.mean(1) > 0.02) & (up.mean(1) < 0.98))
    assert_within(up.mean(), 0.5, error_of_mean(up))


@pytest.mark.slow
def test_plain_gibbs_there_fails_the_diagnosis():
    starts = np.ones((4, 32, 32)) * np.array([1.0, -1.0, 1.0, -1.0])[:, None, None]
    p = lattice.bind(strength=0.46)
    draws = un.sample(p, "gibbs", draws=2000, warmup=0, start=starts, seed=0, progress=False)
    assert not un.diagnose(draws).passed

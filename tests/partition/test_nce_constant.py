"""log Z as the constant of a contrast: against logistic regression, known values, and chains that
miss mass."""

import math

import numpy as np
import pytest
from helpers import assert_within
from log_z_targets import TARGETS
from scipy.optimize import minimize
from scipy.special import expit

import unnorm as un
from unnorm.partition.estimators.noise_contrastive import contrast

NCE = un.estimators.NCE


def log_z(p, estimator=None, seed=0):
    return un.log_z(p, estimator or NCE(), seed=seed, progress=False)


def test_the_constant_is_that_of_a_logistic_regression():
    """N(0, 1) against N(0, 2): log p̃/q with Z = √(2π); c minimizes the logistic loss, labels by
    which sample it is."""
    rng = np.random.default_rng(0)
    draws, noise = rng.normal(0, 1, (4, 500)), rng.normal(0, math.sqrt(2), 6000)

    def ratio(x):
        return -0.25 * x**2 + 0.5 * math.log(4 * math.pi)

    value, error, _ = contrast(ratio(noise), ratio(draws))
    margins = np.concatenate([ratio(draws).ravel(), -ratio(noise)]) - math.log(3) * np.repeat(
        [1, -1], [2000, 6000]
    )
    signs = np.repeat([1, -1], [2000, 6000])
    loss = minimize(lambda c: np.logaddexp(0, signs * c - margins).sum(), 0.0, tol=1e-12)
    assert value == pytest.approx(loss.x.item(), abs=1e-5)
    assert_within(value, 0.5 * math.log(2 * math.pi), error)


def test_the_error_is_that_of_the_estimating_equation():
    """Independent draws: the spread of c over 400 samples is the standard error's, to four of its
    own errors."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        draws, noise = rng.normal(0, 1, (4, 100)), rng.normal(0, math.sqrt(2), 400)
        found.append(contrast(-0.25 * noise**2, -0.25 * draws**2)[:2])
    values, errors = np.array(found).T
    assert values.std() == pytest.approx(np.sqrt(np.mean(errors**2)), rel=4 / math.sqrt(2 * 400))


def test_works_that_were_lost_have_a_root():
    """Walkers that were lost weigh e^−1e30; the root lies where the others put it."""
    noise = np.append(np.zeros(50), -1e30)
    value, *_ = contrast(noise, np.zeros((2, 26)))
    shifted = value + math.log(51 / 52)
    assert expit(noise - shifted).sum() == pytest.approx(52 * expit(shifted), rel=1e-6)


KNOWN = ("counts 10 2", "gaussian", "von Mises-Fisher", "ising 4", "digits joint")


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_nce_finds_known_values(name):
    p, truth = TARGETS[name]()[:2]
    z = log_z(p)
    assert z.verdict == "ok" and z.standard_error < 0.15, z
    assert_within(z.value, truth, z.standard_error)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["counts 10 2", "gaussian", "ising 4"])
def test_intervals_of_nce_cover(name):
    """Of 60 seeds, 90% of the intervals hold the truth."""
    p, truth = TARGETS[name]()[:2]
    found = [log_z(p, seed=seed) for seed in range(60)]
    assert all(z.verdict == "ok" for z in found)
    assert sum(z.interval()[0] <= truth <= z.interval()[1] for z in found) >= 54


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spike", "unequal shells", "unequal pair"])
def test_chains_that_miss_mass_are_not_called_ok(name):
    assert log_z(TARGETS[name]().density).verdict == "unreliable"


@pytest.mark.parametrize("option", ["chains", "draws", "noise_ratio"])
def test_options_are_checked(option):
    with pytest.raises(ValueError, match=f"{option} is 0 in NCE; expected an integer of at least"):
        log_z(un.Density(lambda x: -0.5 * x**2, {"x": un.Real}), NCE(**{option: 0}))


def test_an_infinite_constant_is_called_so():
    z = log_z(un.Density(lambda x: 0.5 * x @ x, {"x": un.Real[4]}))
    assert z.verdict == "unreliable" and math.isinf(z.value), z


@pytest.mark.slow
def test_two_runs_of_one_seed_are_one():
    p = TARGETS["counts 10 2"]().density
    assert log_z(p, NCE(draws=200)).value == log_z(p, NCE(draws=200)).value

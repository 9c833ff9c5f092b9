"""Contrastive divergence: its fixed points, its standard errors, and what it says of them.

Tolerances are a quarter of a standard error, or four Monte Carlo errors that are themselves below
.06 of one.
"""

import numpy as np
import pytest
from helpers import assert_within
from one_site import OneSite
from scipy.optimize import root
from targets import CASE_C, enumerated, ising, pair_features

import unnorm as un
from unnorm.demo import objectives, truncated_gaussian
from unnorm.fitting.objectives.registry import ContrastiveDivergence


def assert_at(fit, truth, standard_error):
    """Hold a stochastic fit to the tolerance rule."""
    summary = fit.summary()
    noise = fit.monte_carlo_error
    assert fit.passed and fit.converged, fit.findings
    assert np.all(noise > 0) and np.all(noise < 0.06 * summary.standard_error)
    off = np.abs(summary.estimate - truth)
    assert np.all(off <= np.maximum(0.25 * standard_error, 4 * noise)), (
        off / standard_error
    ).to_string()


# -- case C ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["persistent CD", "CD-10, HMC"])
@pytest.mark.slow
def test_case_c_is_maximum_likelihood(name, ozone):
    fit = un.fit(truncated_gaussian, ozone, objectives()[name], seed=0, progress=False)
    assert_at(fit, CASE_C.estimate, CASE_C.standard_error)
    assert np.all(np.abs(fit.summary().estimate - CASE_C.estimate) < 0.25 * CASE_C.standard_error)
    assert fit.model_based_covariance is None
    # log Z by quadrature has no Monte Carlo error at this estimate.
    assert fit.log_z.monte_carlo_error == 0 and 1 < fit.log_z.sampling_error < 2


@pytest.mark.slow
def test_cd_with_mala_says_that_its_fixed_point_lies_elsewhere(ozone):
    fit = un.fit(truncated_gaussian, ozone, objectives()["CD-10, MALA"], seed=0, progress=False)
    off = np.abs(fit.summary().estimate - CASE_C.estimate) / CASE_C.standard_error
    assert off.max() > 0.25 + 4 * (fit.monte_carlo_error / CASE_C.standard_error).max()
    (finding,) = [finding for finding in fit.findings if finding.severity == "error"]
    assert (
        "fixed point of CD-10 with MALA lies about" in finding.what
        and "persistent=True" in finding.advice
    )
    assert not fit.passed and "fixed point of CD-10" in fit.target
    with pytest.raises(RuntimeError, match="fixed point of CD-10 with MALA"):
        fit.raise_unless_passed()


# -- case A ----------------------------------------------------------------------------------------
@pytest.mark.slow
def test_persistent_gibbs_of_rochdale_is_maximum_likelihood(rochdale):
    fit = un.fit(
        ising,
        un.models.load("rochdale"),
        ContrastiveDivergence(persistent=True),
        seed=0,
        progress=False,
    )
    truth = rochdale.summary()
    assert_at(fit, truth.estimate, truth.standard_error)
    # Its covariance is the sandwich of maximum likelihood.
    assert (fit.summary().standard_error / truth.standard_error).to_numpy() == pytest.approx(
        np.ones(36), abs=0.15
    )


# -- exact answers for CD-1 ------------------------------------------------------------------------
def transitions(states, free):
    """The transition matrix of `OneSite`."""
    log_density, total = pair_features(states) @ free, np.zeros((len(states),) * 2)
    for site in range(states.shape[1]):
        flipped = (states[:, None] != states) == (np.arange(states.shape[1]) == site)
        other = np.argmax(flipped.all(-1), 1)
        move = 1 / (1 + np.exp(log_density - log_density[other]))
        total[np.arange(len(states)), other] += move / states.shape[1]
        total[np.arange(len(states)), np.arange(len(states))] += (1 - move) / states.shape[1]
    return total


def exact_fixed_point(data, start):
    """CD-1's fixed point with `OneSite`, and its standard errors: every expectation is a sum over
    all states."""
    states, _ = enumerated(ising.with_dimensions(d=data.shape[1]))
    share, features = (states[:, None] == data).all(-1).mean(1), pair_features(states)

    def psi(free):
        return features - transitions(states, free) @ features

    found = root(lambda free: share @ psi(free), start, tol=1e-10)
    assert found.success
    steps = 1e-5 * np.eye(len(start))
    curvature = np.stack(
        [share @ (psi(found.x + step) - psi(found.x - step)) / 2e-5 for step in steps], 1
    )
    half = np.linalg.solve(curvature, psi(found.x).T * np.sqrt(share))
    return found.x, np.sqrt((half**2).sum(1) / len(data))


@pytest.mark.slow
def test_cd_1_with_one_site_is_pseudo_likelihood(rochdale):
    data, likelihood = un.models.load("rochdale"), rochdale.summary()
    truth, error = exact_fixed_point(data.to_numpy(float), likelihood.estimate)
    by_name = dict(zip(likelihood.index.flat, truth, strict=True))
    published = {
        "Econ,HusbEmp": 1.3266,
        "Econ,Child": -1.4894,
        "Econ,Asian": -2.1820,
        "Age,Child": -2.9752,
    }
    for edge, value in (published | {"Educ,HusbEduc": 1.0333}).items():
        assert by_name[f"coupling[{edge}]"] == pytest.approx(value, abs=1e-4)
    fit = un.fit(ising, data, ContrastiveDivergence(k=1, kernel=OneSite()), seed=0, progress=False)
    assert_at(fit, truth, error)
    assert_within(fit.summary().estimate, truth, fit.monte_carlo_error)
    # The theory's identity takes the model as true, which Rochdale is only nearly.
    assert np.median(fit.summary().standard_error / error) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_cd_1_has_its_own_standard_errors_where_the_model_is_true():
    coupling, field = (
        np.array([[0, 1.5, -1.0], [1.5, 0, 0.8], [-1.0, 0.8, 0]]),
        np.array([-0.4, 0.3, 0.2]),
    )
    p = ising.bind(coupling=coupling, field=field)
    states, weights = enumerated(p)
    data = np.repeat(states, np.round(600 * weights).astype(int), 0)
    truth, error = exact_fixed_point(data, np.append(coupling[np.triu_indices(3, 1)], field))
    fit = un.fit(p, data, ContrastiveDivergence(k=1, kernel=OneSite()), seed=0, progress=False)
    assert_at(fit, truth, error)
    found = np.sqrt(fit.summary().standard_error ** 2 - fit.monte_carlo_error**2)
    assert (found / error).to_numpy() == pytest.approx(np.ones(6), abs=0.01)


@pytest.mark.slow
def test_cd_with_ula_settles_at_its_biased_variance_without_standard_errors():
    """1 / (p (1 - step_size p / 2)) is the variance of the data."""
    data = np.random.default_rng(0).normal(size=2000)
    p = un.Density(
        lambda x, *, precision: -0.5 * precision * x**2,
        {"x": un.Real},
        {"precision": (un.Positive, 1.0)},
    )
    kernel = un.kernels.ULA(step_size=0.2)
    fit = un.fit(p, data, ContrastiveDivergence(k=2, kernel=kernel), seed=0, progress=False)
    summary, likelihood = fit.summary().loc["precision"], 1 / np.mean(data**2)
    settled = (1 - np.sqrt(1 - 0.4 / np.mean(data**2))) / 0.2
    assert abs(summary.estimate - settled) < 0.25 * likelihood * np.sqrt(2 / len(data))
    assert abs(settled - likelihood) > 3 * likelihood * np.sqrt(2 / len(data))
    assert np.isnan(summary.standard_error) and np.isnan(summary.lower) and fit.covariance is None
    assert any(
        "ULA does not leave the density invariant" in finding.what for finding in fit.findings
    )
    assert not fit.passed and any(
        "lies about" in f.what and "exact kernel" in f.advice for f in fit.findings
    )

"""The likelihood by the probability-flow ODE, on normals, whose likelihood is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.fitting.results.flow_likelihood import NoisePath, flow_log_densities

LOW, HIGH = 0.3, 6.0
QUIET = {"seed": 0, "progress": False}
X = np.random.default_rng(0).normal(1.0, 1.5, 1000)
HELD_OUT = np.random.default_rng(1).normal(1.0, 1.5, 200)


@un.density
def normal(x: un.Real, *, sigma: un.Covariate, centre: un.Real = 0.0, variance: un.Positive = 1.0):
    return -0.5 * (x - centre) ** 2 / (variance + sigma**2)


@functools.cache
def fitted():
    levels = un.objectives.DenoisingScoreMatching(sigma=(LOW, HIGH, 4), corruptions=3)
    return un.fit(normal, X, levels, **QUIET)


def mismatch(found):
    (finding,) = found.findings
    assert finding.code == FindingCode.FLOW_PRIOR
    return float(finding.what.split("by ")[-1].split()[0])


@pytest.mark.slow
def test_the_likelihood_of_a_normal_is_the_closed_form():
    fit = fitted()
    values = fit.density.parameters
    exact = norm.logpdf(HELD_OUT, values["centre"], np.sqrt(values["variance"] + LOW**2))
    found = fit.log_likelihood(HELD_OUT)
    # what the normal distribution at the highest level changes is reported, to two digits
    gain = 200 * mismatch(found)
    assert abs(found.value + gain - exact.sum()) < found.monte_carlo_error + 0.06 * abs(gain)
    assert found.monte_carlo_error < 0.1 and len(found.pointwise) == 200
    z = 0.5 * np.log(2 * np.pi * (values["variance"] + LOW**2))
    at_lowest = fit.log_likelihood(HELD_OUT, log_z=float(z))
    assert at_lowest.value == pytest.approx(exact.sum())
    # the parameters' part of the error is the same by both ways
    assert found.sampling_error == pytest.approx(at_lowest.sampling_error, rel=0.02)
    assert found.standard_error > found.sampling_error


@pytest.mark.slow
def test_a_low_highest_level_is_a_warning():
    bent = un.Density(
        lambda x, *, sigma, shift: jax.scipy.special.logsumexp(
            -0.5 * (x - jnp.array([-4.0, 4.0]) - shift) ** 2 / (1 + sigma**2)
        ),
        {"x": un.Real},
        {"shift": (un.Real, 0.0)},
        covariates={"sigma": un.Covariate},
    )
    rng = np.random.default_rng(0)
    data = rng.choice([-4.0, 4.0], 500, p=[0.5, 0.5]) + rng.normal(size=500)
    levels = un.objectives.DenoisingScoreMatching(sigma=(LOW, 1.0, 4), corruptions=3)
    found = un.fit(bent, data, levels, **QUIET).log_likelihood(data)
    (finding,) = found.findings
    assert finding.severity == "warning" and mismatch(found) > 0.05
    truth = un.log_z(bent.bind(shift=0.0).given(sigma=LOW), progress=False).value
    exact = np.asarray(bent.given(sigma=LOW)(data)).sum() - truth * 500
    assert abs(found.value + 500 * mismatch(found) - exact) < 500 * 0.02


def flow(size, covariance):
    """log p of rows by the flow, of a normal that the path ends in exactly."""
    precisions = np.linalg.eigh(covariance)

    def log_density(x, *, sigma, turn, variances):
        return -0.5 * jnp.sum((turn.T @ x) ** 2 / (variances + sigma**2))

    p = un.Density(
        log_density,
        {"x": un.Real[size]},
        constants={"turn": precisions.eigenvectors, "variances": precisions.eigenvalues},
        covariates={"sigma": un.Covariate},
    )
    rows = np.random.default_rng(0).multivariate_normal(np.zeros(size), covariance, 40)
    path = NoisePath(np.geomspace(HIGH, LOW, 4), np.zeros(size), covariance)
    with jax.enable_x64(True):
        density = p.given(sigma=LOW).for_jit()
        found = flow_log_densities(density, {"x": jnp.asarray(rows)}, path, 0)
    exact = multivariate_normal.logpdf(rows, np.zeros(size), covariance + LOW**2 * np.eye(size))
    return found, exact


@pytest.mark.parametrize("size", [2, 25])
def test_the_reported_errors_hold(size):
    """Exact Laplacians in 2 dimensions, random directions in 25."""
    factor = np.random.default_rng(2).normal(size=(size, size))
    (values, solver, trace, _), exact = flow(size, factor @ factor.T / size)
    assert (trace > 0).all() == (size == 25)
    assert np.all(np.abs(values - exact) < 5 * np.hypot(solver, trace) + 1e-12)
    assert solver.max() < 0.01


@pytest.mark.slow
def test_a_saved_fit_keeps_its_path(tmp_path):
    fit = fitted()
    fit.save(tmp_path / "fit.npz")
    loaded = un.load(tmp_path / "fit.npz", normal)
    assert loaded.log_likelihood(HELD_OUT).value == fit.log_likelihood(HELD_OUT).value


def test_other_supports_are_refused():
    p = un.Density(
        lambda x, *, sigma, k: k * jnp.cos(x) / (1 + sigma**2),
        {"x": un.Circle},
        {"k": (un.Real, 1.0)},
        covariates={"sigma": un.Covariate},
    )
    angles = np.random.default_rng(0).vonmises(0.0, 1.0, 300)
    levels = un.objectives.DenoisingScoreMatching(sigma=(0.3, 3.0, 3))
    fit = un.fit(p, angles, levels, **QUIET)
    with pytest.raises(ValueError, match="needs variables on the whole line"):
        fit.log_likelihood(angles)

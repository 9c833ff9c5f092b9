"""Denoising score matching at many noise levels, a density at each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within

import unnorm as un
from unnorm.core.findings import FindingCode

DSM = un.objectives.DenoisingScoreMatching
SIGMA = (0.3, 3.0, 3)
LEVELS = np.geomspace(3.0, 0.3, 3)
QUIET = {"seed": 0, "progress": False}
X = np.random.default_rng(0).normal(1.0, 1.5, 2000)


@un.density
def normal(x: un.Real, *, sigma: un.Covariate, centre: un.Real = 0.0, variance: un.Positive = 1.0):
    return -0.5 * (x - centre) ** 2 / (variance + sigma**2)


@un.density
def free(x: un.Real, *, sigma: un.Covariate, variances: un.Positive[3] = 1.0):
    """A variance of its own at each level."""
    return -0.5 * (x - 1.0) ** 2 / variances[jnp.argmin(jnp.abs(LEVELS - sigma))]


def test_each_level_finds_the_variance_of_the_data_smoothed_at_that_level():
    found = un.fit(free, X, DSM(sigma=SIGMA), **QUIET).summary()
    smoothed = np.mean((X - 1.0) ** 2) + LEVELS**2
    assert_within(found.estimate.to_numpy(), smoothed, found.standard_error.to_numpy())
    assert np.all(found.standard_error < 0.1 * found.estimate)


def test_a_family_with_known_smoothing_finds_the_data():
    fit = un.fit(normal, X, DSM(sigma=SIGMA), **QUIET)
    found = fit.summary()
    assert fit.converged and "at each of the standard deviations 3, 0.9487, 0.3" in fit.target
    truth = np.array([X.mean(), X.var()])
    assert_within(found.estimate.to_numpy(), truth, fit.monte_carlo_error.to_numpy())
    # maximum likelihood's errors are the least; the levels lose less than a half to them
    least = np.array([X.std() / np.sqrt(2000), X.var() * np.sqrt(2 / 2000)])
    ratio = found.standard_error.to_numpy() / least
    assert np.all((ratio > 0.9) & (ratio < 1.5))


def test_the_density_at_a_level_is_a_plain_density():
    fit = un.fit(normal, X, DSM(sigma=SIGMA), **QUIET)
    variance = float(fit.density.parameters["variance"])
    for sigma in (0.3, 1.0):
        at_level = fit.density.given(sigma=sigma)
        log_z = 0.5 * np.log(2 * np.pi * (variance + sigma**2))
        assert un.log_z(at_level, progress=False).value == pytest.approx(log_z, abs=1e-6)
    assert fit.log_z.value == pytest.approx(0.5 * np.log(2 * np.pi * (variance + 0.3**2)), abs=1e-6)
    kernel = un.kernels.AnnealedLangevin(sigma=SIGMA)
    run = {"draws": 1, "warmup": 300, "chains": 1000} | QUIET
    x = un.sample(fit.density.given(sigma=0.3), kernel, **run).posterior["x"].to_numpy()
    assert abs(x.mean() - X.mean()) < 4 * x.std() / np.sqrt(1000)


def test_in_training_the_corruptions_of_a_row_are_spread_over_random_levels():
    objective, p = DSM(sigma=(0.1, 1.0, 8), corruptions=4), normal.given(sigma=0.1).for_jit()
    events = {"x": jnp.zeros(500)}
    state = objective.prepare(p, events, jax.random.key(0))
    assert state.per_row.noise.shape == (500, 32, 1)  # every level, each four times
    drawn = objective.resample_noise(p, state, events, jax.random.key(1))
    assert drawn.noise.shape == (500, 4, 1)
    values, counts = np.unique(np.asarray(drawn.sigma), return_counts=True)
    assert values == pytest.approx(np.geomspace(0.1, 1.0, 8), rel=1e-5)
    assert np.all(np.abs(counts - 250) < 4 * np.sqrt(250))
    assert all(len(set(row)) == 4 for row in np.asarray(drawn.sigma).tolist())


def test_covariates_of_the_rows_stay_beside_the_level():
    @un.density
    def line(y: un.Real, *, sigma: un.Covariate, dose: un.Covariate, slope: un.Real = 0.0):
        return -0.5 * (y - slope * dose) ** 2 / (1 + sigma**2)

    rng = np.random.default_rng(1)
    dose = rng.normal(size=1000)
    rows = {"y": 2 * dose + rng.normal(size=1000), "dose": dose}
    found = un.fit(line, rows, DSM(sigma=SIGMA), **QUIET).summary().loc["slope"]
    assert abs(found.estimate - 2) < 4 * found.standard_error


def test_a_fit_is_saved_and_loaded(tmp_path):
    fit = un.fit(normal, X, DSM(sigma=SIGMA), **QUIET)
    fit.save(tmp_path / "fit.npz")
    loaded = un.load(tmp_path / "fit.npz", normal)
    assert loaded.summary().equals(fit.summary()) and loaded.log_z == fit.log_z


@pytest.mark.parametrize(
    ("p", "data", "why"),
    [
        (normal.given(sigma=0.3), X, "has no scalar covariate sigma"),
        (normal, {"x": X, "sigma": X}, "'sigma'"),
        (normal * normal, X, "is a product"),
        ([normal, normal], [X, X], "fits one data set"),
    ],
)
def test_what_it_does_not_serve_is_refused(p, data, why):
    with pytest.raises(ValueError, match=why):
        un.fit(p, data, DSM(sigma=SIGMA), **QUIET)


@pytest.mark.parametrize("sigma", [(0.1, 3.0), (3.0, 0.1, 5), (0.1, 3.0, 1), (0.1, 3.0, 2.5)])
def test_other_levels_are_refused(sigma):
    with pytest.raises(ValueError, match=r"expected \(low, high, levels\)"):
        DSM(sigma=sigma)


@pytest.mark.slow
def test_the_ring_that_2000_steps_leave_on_eight_gaussians_is_not_converged():
    data = un.models.toys.SAMPLERS["eight_gaussians"](np.random.default_rng(0), 4000)
    p = un.models.noise_conditional_energy(2, width=64)
    fit = un.fit(p, data, DSM(sigma=(0.1, 4.0, 12), corruptions=1), steps=100, **QUIET)
    assert not fit.converged
    assert FindingCode.DRAWS_UNLIKE_DATA in {finding.code for finding in fit.findings}


def wide(variance):
    """Four entries, a normal at every level."""
    return un.Density(
        lambda x, *, sigma, variance: -0.5 * jnp.sum(x**2) / (variance + sigma**2),
        {"x": un.Real[4]},
        constants={"variance": variance},
        covariates={"sigma": un.Covariate},
    )


def test_draws_through_the_levels_follow_a_normal():
    from unnorm.fitting.checks.model_draws import DEFAULT, level_draws

    rows = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(1000, 4)))}
    expected = float(jnp.mean(jnp.var(rows["x"], 0))) + LEVELS[0] ** 2
    for sigma in LEVELS:
        for _ in range(DEFAULT.level_steps):
            step = 0.1 * sigma**2
            expected = (1 - step / (1 + sigma**2)) ** 2 * expected + 2 * step
    density = wide(1.0).given(sigma=0.3).for_jit()
    drawn = np.asarray(level_draws(density, rows, LEVELS, jax.random.key(0))["x"])
    assert drawn.shape == (1000, 4)
    assert abs(drawn.var() - expected) < 4 * expected * np.sqrt(2 / drawn.size)


@pytest.mark.slow
@pytest.mark.parametrize(("variance", "severity"), [(1.0, "note"), (4.0, "error")])
def test_draws_through_the_levels_are_compared_with_data_of_many_dimensions(variance, severity):
    from unnorm.fitting.checks.held_out_draws import Rows, draws_findings

    data = np.random.default_rng(0).normal(size=(2, 400, 4))
    train, held_out = (Rows({"x": jnp.asarray(part)}, None) for part in data)
    density = wide(variance).given(sigma=0.3).for_jit()
    *_, found = draws_findings(DSM(sigma=SIGMA), density, train, held_out, True, 0)
    assert "annealed Langevin" in found.what and found.severity == severity

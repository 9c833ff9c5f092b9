"""Missing entries are latent entries of their rows: against closed forms and enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.special import gammaln
from scipy import stats
from scipy.optimize import minimize

import unnorm as un
from unnorm.core.containers import to_numbers
from unnorm.core.findings import FindingCode
from unnorm.declaration.density import cast
from unnorm.fitting.data.read import read_data
from unnorm.fitting.row_normalizers import log_evidence, plan_for_latent
from unnorm.fitting.solvers.robbins_monro import DEFAULTS

ML = un.objectives.MaximumLikelihood()


def gaussian_log_z(mean, precision):
    return 0.5 * (mean.size * jnp.log(2 * jnp.pi) - jnp.linalg.slogdet(precision)[1])


@un.density(log_z=gaussian_log_z)
def gaussian(
    x: un.Real["d"], *, mean: un.Real["d"] = 0.0, precision: un.PositiveDefinite["d"] = 1.0
):
    return -0.5 * (x - mean) @ precision @ (x - mean)


@un.density
def ising(x: un.Binary["d"], *, coupling: un.Symmetric["d"] = 0.0, field: un.Real["d"] = 0.0):
    return field @ x + 0.5 * x @ coupling @ x


def with_holes(complete, seed, share=0.2):
    holes = np.random.default_rng(seed).random(complete.shape) < share
    holes[holes.all(1)] = False
    return np.where(holes, np.nan, complete)


def test_bivariate_gaussian_with_one_column_missing_is_andersons_closed_form():
    random = np.random.default_rng(0)
    x = random.multivariate_normal([1.0, -2.0], [[1.0, 0.6], [0.6, 2.0]], 100)
    x[random.random(100) < 0.3, 1] = np.nan  # Anderson (1957), doi:10.1080/01621459.1957.10501379
    both = ~np.isnan(x[:, 1])
    slope, intercept, *_ = stats.linregress(x[both, 0], x[both, 1])
    mean = np.array([x[:, 0].mean(), intercept + slope * x[:, 0].mean()])
    residual = np.mean((x[both, 1] - intercept - slope * x[both, 0]) ** 2)
    variance = x[:, 0].var()
    covariance = np.array(
        [[variance, slope * variance], [slope * variance, residual + slope**2 * variance]]
    )
    fit = un.fit(gaussian, x, ML, seed=0, progress=False)
    np.testing.assert_allclose(fit.density.parameters["mean"], mean, atol=1e-7)
    np.testing.assert_allclose(
        np.linalg.inv(fit.density.parameters["precision"]), covariance, atol=1e-7
    )
    codes = [finding.code for finding in fit.findings]
    assert fit.passed and codes.count(FindingCode.MISSING_VALUES) == 1
    # The observed log-likelihood of the two patterns, at the estimate.
    expected = stats.multivariate_normal(mean, covariance).logpdf(x[both]).sum()
    expected += stats.norm(mean[0], np.sqrt(variance)).logpdf(x[~both, 0]).sum()
    assert fit.log_likelihood(x).value == pytest.approx(expected, abs=1e-6)


def test_every_pattern_of_a_gaussian_has_its_marginal_density():
    covariance = np.array([[1.0, 0.5, 0], [0.5, 400.0, 2.0], [0, 2.0, 0.1]])
    mean = np.array([1.0, -300.0, 0.0])
    x = with_holes(stats.multivariate_normal(mean, covariance).rvs(12, random_state=1), 3, 0.4)
    assert len(np.unique(np.isnan(x), axis=0)) >= 4
    p = gaussian.with_dimensions(d=3).bind(mean=mean, precision=np.linalg.inv(covariance))
    with jax.enable_x64(True):
        density, events = cast((p.for_jit(), {"x": x}), jnp.float64)
        found = log_evidence(density, events, plan_for_latent(density, events))
        found = np.asarray(found - density._log_z())
    expected = [
        stats.multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
        for row in x
        for seen in [~np.isnan(row)]
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def enumerated_ising(x):
    """Minus the observed log-likelihood of a table with missing items, by enumeration."""
    size = x.shape[1]
    states = np.array(list(itertools.product([0.0, 1.0], repeat=size)))
    upper = np.triu_indices(size, 1)
    agrees = np.array([[(np.isnan(row) | (row == state)).all() for state in states] for row in x])

    def loss(vector):
        pairs, field = np.split(vector, [len(upper[0])])
        energies = states @ field + (states[:, upper[0]] * states[:, upper[1]]) @ pairs
        return -np.log(agrees @ np.exp(energies - np.logaddexp.reduce(energies))).sum()

    return loss, upper


def test_ising_with_missing_items_is_the_enumerated_maximum():
    complete = np.random.default_rng(4).integers(2, size=(80, 3)).astype(float)
    complete[:50, 1] = complete[:50, 0]
    x = with_holes(complete, 5)
    loss, upper = enumerated_ising(x)
    best = minimize(loss, np.zeros(6), tol=1e-10)
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).astype("Int64")  # pd.NA
    fit = un.fit(ising, {"x": frame}, seed=0, progress=False)
    pairs = fit.density.parameters["coupling"][upper]
    found = np.concatenate([pairs, fit.density.parameters["field"]])
    np.testing.assert_allclose(found, best.x, atol=1e-4)
    assert loss(found) <= best.fun + 1e-9
    assert fit.log_likelihood(x).value == pytest.approx(-loss(found), abs=1e-8)


def test_masked_arrays_and_none_are_missing_too():
    base = np.array([[0.0, 1.0], [1.0, np.nan], [1.0, 1.0], [np.nan, 1.0]])
    masked = np.ma.masked_array(np.nan_to_num(base, nan=7), np.isnan(base))
    for data in (masked, np.where(np.isnan(base), None, base), pd.DataFrame(base, dtype="Int8")):
        np.testing.assert_array_equal(read_data(ising, {"x": data})[1]["x"], base)
    labels = pd.Series(pd.Categorical(["b", None, "a"]))
    np.testing.assert_array_equal(to_numbers(labels, "y", 2, missing=True), [1, np.nan, 0])


def test_categories_and_counts_with_covariates_are_summed():
    def log_z(a, b, z):
        return jnp.log(jnp.exp(a).sum()) + jnp.exp(b + 0.3 * z)

    @un.density(log_z=log_z)
    def both(
        y: un.Categorical(3), n: un.Count, *, z: un.Covariate, a: un.Real[3] = 0.0, b: un.Real = 0.0
    ):
        return a @ y + n * (b + 0.3 * z) - gammaln(n + 1)

    random = np.random.default_rng(0)
    z, y = random.normal(size=60), random.integers(3, size=60).astype(float)
    n = random.poisson(2.0, 60).astype(float)
    y[:10], n[50:] = np.nan, np.nan
    p = both.fix(a=np.array([0.0, 0.3, -0.2]))
    fit = un.fit(p, {"y": y, "n": n, "z": z}, ML, seed=0, progress=False)
    # n alone is Poisson: b is log (Σ n / Σ exp(0.3 z)) over the rows where it was observed.
    expected = np.log(n[:50].sum() / np.exp(0.3 * z[:50]).sum())
    assert float(fit.density.parameters["b"]) == pytest.approx(expected, abs=1e-7)


WRONG = [
    ([[np.nan, np.nan], [0, 1]], ML, "x is missing throughout row 0"),
    ([[0, np.nan], [1, np.nan]], ML, r"x\[1\] is missing in every row"),
    ([[0, 1], [1, np.nan]], un.objectives.PseudoLikelihood(), r"x\[1\] at row 1 is missing.*Max"),
    ([[0, 1], [1, np.inf]], ML, r"x\[1\] holds inf at row 1"),
]


@pytest.mark.parametrize(("data", "objective", "sentence"), WRONG)
def test_what_cannot_be_used_is_refused_by_variable_and_row(data, objective, sentence):
    with pytest.raises(ValueError, match=sentence):
        un.fit(ising, np.array(data, float), objective, seed=0, progress=False)


def test_covariates_must_be_complete_and_wholes_too():
    p = un.Density(
        lambda y, *, z, a: a * z * y,
        {"y": un.Binary},
        {"a": un.Real},
        covariates={"z": un.Covariate},
    )
    with pytest.raises(ValueError, match="Covariate z is nan at row 2"):
        un.fit(p, {"y": [0, 1, 1.0], "z": [0.0, 1.0, np.nan]}, seed=0, progress=False)
    simplex = un.Density(
        lambda s, *, a: a * jnp.log(s).sum(), {"s": un.Simplex[3]}, {"a": (un.Real, 1.0)}
    )
    with pytest.raises(ValueError, match=r"s\[2\] is missing at row 1, and s is Simplex"):
        un.fit(simplex, [[0.2, 0.3, 0.5], [0.2, 0.3, np.nan]], seed=0, progress=False)
    with pytest.raises(ValueError, match=r"x\[1\] at row 0 is missing, and posterior"):
        un.posterior(ising, np.array([[0, np.nan], [1, 1]]), prior={})


def test_too_many_missing_entries_are_refused_with_the_row():
    x = np.zeros((3, 20))
    x[1] = 1
    x[2, :18] = np.nan
    with pytest.raises(ValueError, match=r"row 2 misses 18 entries of x.*ContrastiveDivergence"):
        un.fit(ising.fix(coupling=0.0), x, ML, seed=0, progress=False)


@pytest.mark.slow
def test_persistent_chains_of_missing_items_reach_the_maximum():
    complete = np.random.default_rng(4).integers(2, size=(300, 3)).astype(float)
    complete[:150, 1] = complete[:150, 0]
    x = with_holes(complete, 5)
    exact = un.fit(ising, x, ML, seed=0, progress=False)
    chains = un.objectives.ContrastiveDivergence(persistent=True)
    fit = un.fit(ising, x, chains, seed=0, progress=False)
    assert fit.converged
    errors = exact.summary()["standard_error"].to_numpy()
    difference = fit.summary()["estimate"].to_numpy() - exact.summary()["estimate"].to_numpy()
    assert np.all(np.abs(difference) <= 4 * DEFAULTS.relative_error * errors)


@pytest.mark.slow
def test_chains_of_positive_entries_reach_the_maximum():
    """A missing entry and a latent variable with bounds, whose chains have none."""

    @un.density
    def pair(x: un.Positive[2], h: un.Positive, *, a: un.Positive = 1.0, b: un.Real = 0.0):
        return -a * x.sum() - h * (1 + 0.5 * jnp.exp(b) * x[0]) - 0.3 * x[0] * x[1]

    random = np.random.default_rng(2)
    x = random.exponential(size=(4000, 2))  # drawn at a = 1, b = .5, by rejection
    accepted = np.exp(-0.3 * x[:, 0] * x[:, 1]) / (1 + 0.5 * np.exp(0.5) * x[:, 0])
    x = with_holes(x[random.random(len(x)) < accepted][:400], 6)
    exact = un.fit(pair, {"x": x}, ML, seed=0, progress=False)
    assert exact.passed
    chains = un.objectives.ContrastiveDivergence(persistent=True)
    fit = un.fit(pair, {"x": x}, chains, seed=0, progress=False)
    errors = exact.summary()["standard_error"].to_numpy()
    difference = fit.summary()["estimate"].to_numpy() - exact.summary()["estimate"].to_numpy()
    assert np.all(np.abs(difference) <= 4 * DEFAULTS.relative_error * errors)


def test_a_label_that_some_rows_have_is_not_summed_out_of_the_others():
    """An objective that takes no missing values sums out labels that no row has."""
    p = un.Density(
        lambda x, y, *, a: a * x * y - 0.5 * x**2, {"x": un.Real, "y": un.Binary}, {"a": un.Real}
    )
    data = {"x": np.arange(5.0), "y": np.array([0, 1, np.nan, 1, 0])}
    with pytest.raises(ValueError, match="NCE does not serve missing values, and y at row 2"):
        un.fit(p.bind(a=0.1), data, "nce", seed=0, progress=False)

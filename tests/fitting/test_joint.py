"""Several data sets with shared parameters: one sum over all rows, each data set prepared for
itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

import unnorm as un

o = un.objectives
RNG = np.random.default_rng(8)
FIRST, SECOND = 1.0 + 2.0 * RNG.normal(size=150), 1.0 + 0.5 * RNG.normal(size=100)


@un.density
def wide(x: un.Real, *, mean: un.Real = 0.0, wide_precision: un.Positive = 1.0):
    return -0.5 * wide_precision * (x - mean) ** 2


@un.density
def narrow(x: un.Real, *, mean: un.Real = 0.0, narrow_precision: un.Positive = 1.0):
    return -0.5 * narrow_precision * (x - mean) ** 2


def fitted(ps, data, objective=None, **options):
    return un.fit(ps, data, objective, seed=0, progress=False, **options)


def weighted_mean():
    """The mean that both share, by weighting to convergence; its information and its sandwich."""
    mean, sets = 0.0, (FIRST, SECOND)
    for _ in range(500):
        precisions = [1 / np.mean((x - mean) ** 2) for x in sets]
        mean = sum(a * x.sum() for a, x in zip(precisions, sets, strict=True)) / sum(
            a * len(x) for a, x in zip(precisions, sets, strict=True)
        )
    return mean, precisions


def test_a_mean_is_shared_by_two_data_sets():
    fit = fitted([wide, narrow], [FIRST, SECOND], o.MaximumLikelihood())
    mean, precisions = weighted_mean()
    table = fit.summary()
    assert list(table.index.flat) == ["mean", "wide_precision", "narrow_precision"]
    np.testing.assert_allclose(table.estimate, [mean, *precisions], atol=1e-7)
    information = sum(a * len(x) for a, x in zip(precisions, (FIRST, SECOND), strict=True))
    apart = [
        len(x) * a**2 * np.square(x.mean() - mean) * 2
        for a, x in zip(precisions, (FIRST, SECOND), strict=True)
    ]
    # the precisions are estimated too: their part of the mean's information is what their centres
    # lie apart
    assert fit.model_based_covariance.loc["mean", "mean"] == pytest.approx(
        1 / (information - sum(apart)), rel=1e-6
    )
    assert [p.name for p in fit.density] == ["wide", "narrow"] and fit.rows == 250
    for p, z, precision in zip(fit.density, fit.log_z, precisions, strict=True):
        assert float(p.parameters["mean"]) == pytest.approx(mean, abs=1e-7)
        assert (
            z.value == pytest.approx(0.5 * np.log(2 * np.pi / precision), abs=1e-6)
            and z.sampling_error > 0
        )
    # the sandwich by hand: scores centred in each data set, for the numbers of rows are given
    psi = np.zeros((250, 3))
    for k, (x, a, rows) in enumerate(
        zip((FIRST, SECOND), precisions, (slice(150), slice(150, 250)), strict=True)
    ):
        psi[rows, 0], psi[rows, 1 + k] = a * (x - mean), 0.5 / a - 0.5 * (x - mean) ** 2
        psi[rows] -= psi[rows].mean(0)
    bread = np.asarray(fit.model_based_covariance)
    np.testing.assert_allclose(fit.covariance, bread @ psi.T @ psi @ bread, rtol=1e-6)
    held_out = fit.log_likelihood([FIRST[:10], SECOND[:5]])
    for found, x, precision in zip(held_out, (FIRST[:10], SECOND[:5]), precisions, strict=True):
        assert found.value == pytest.approx(
            stats.norm(mean, precision**-0.5).logpdf(x).sum(), abs=1e-6
        )
    assert "Fit of wide and narrow by maximum_likelihood: converged, 3 parameters, 250 rows" in str(
        fit
    )
    assert fit.passed


@pytest.mark.slow
def test_counts_and_bits_share_a_field():
    """A sum of likelihoods of two kinds of data, by SciPy; one of them with a covariate."""
    rng = np.random.default_rng(3)
    dose = rng.normal(size=80)
    counts, bits = rng.poisson(np.exp(0.5 + 0.4 * dose)), rng.integers(0, 2, 60)
    p = un.Density(
        lambda n, *, dose, field, slope: (
            n * (field + slope * dose) - jax.scipy.special.gammaln(n + 1)
        ),
        {"n": un.Count},
        {"field": (un.Real, 0.0), "slope": (un.Real, 0.0)},
        covariates={"dose": un.Covariate},
    )
    q = un.Density(lambda b, *, field: field * b, {"b": un.Binary}, {"field": (un.Real, 0.0)})

    def loss(v):
        return np.sum(np.exp(v[0] + v[1] * dose) - counts * (v[0] + v[1] * dose)) + np.sum(
            np.logaddexp(0, v[0]) - bits * v[0]
        )

    known = minimize(loss, np.zeros(2), tol=1e-12)
    fit = fitted([p, q], [{"n": counts, "dose": dose}, bits])
    np.testing.assert_allclose(fit.summary().estimate, known.x, atol=1e-5)
    assert (
        fit.objective == "maximum_likelihood" and fit.log_z[0] is None and fit.log_z[1] is not None
    )
    assert fit.passed


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", [o.ScoreMatching(), o.NCE(noise_ratio=300), o.RankingNCE(noise_ratio=300)], ids=str
)
def test_other_objectives_of_single_rows(objective):
    fit = fitted([wide, narrow], [FIRST, SECOND], objective)
    best = fitted([wide, narrow], [FIRST, SECOND], o.MaximumLikelihood())
    apart = np.abs(fit.summary().estimate - best.summary().estimate)
    assert (
        apart < np.maximum(0.3 * best.summary().standard_error, 4 * fit.monte_carlo_error)
    ).all()
    np.testing.assert_allclose(
        fit.summary().standard_error, best.summary().standard_error, rtol=0.1
    )
    if isinstance(objective, o.NCE):
        assert all(0 < z.monte_carlo_error < z.sampling_error for z in fit.log_z)


@pytest.mark.slow
def test_the_intervals_of_a_shared_mean_cover():
    """300 pairs of data sets, and the bootstrap of one pair."""
    rng, covered = np.random.default_rng(12), []
    for _ in range(300):
        data = [1.0 + 2.0 * rng.normal(size=60), 1.0 + 0.5 * rng.normal(size=40)]
        row = fitted([wide, narrow], data, o.MaximumLikelihood()).summary().loc["mean"]
        covered.append(row.lower < 1.0 < row.upper)
    assert 0.91 < np.mean(covered) < 0.975
    fit = fitted([wide, narrow], [FIRST, SECOND], o.MaximumLikelihood())
    spread = fit.bootstrap(200).estimates["mean"].std()
    assert spread == pytest.approx(fit.summary().standard_error["mean"], rel=4 / np.sqrt(2 * 199))


def test_parameters_of_equal_names_must_be_alike():
    other = un.Density(
        lambda x, *, mean: -0.5 * x**2 * mean, {"x": un.Real}, {"mean": (un.Positive, 1.0)}
    )
    with pytest.raises(
        ValueError,
        match=r"mean is Real .* in wide and Positive .*; expected equal supports.*p.rename",
    ):
        fitted([wide, other], [FIRST, SECOND])
    vector = un.Density(
        lambda x, *, mean: -0.5 * jnp.sum((x - mean) ** 2),
        {"x": un.Real},
        {"mean": (un.Real[2], 0.0)},
    )
    with pytest.raises(
        ValueError, match=r"mean is .* of the shape \(\) in wide and .* of the shape \(2,\)"
    ):
        fitted([wide, vector], [FIRST, SECOND])
    with pytest.raises(
        ValueError, match="mean is bound to one value in wide and to another in narrow"
    ):
        fitted([wide.bind(mean=1.0), narrow.bind(mean=2.0)], [FIRST, SECOND])


def test_what_several_data_sets_do_not_take():
    pair = [wide, narrow]
    with pytest.raises(
        ValueError, match=r"^ContrastiveDivergence has no loss of single rows.*or NCE[.]$"
    ):
        fitted(pair, [FIRST, SECOND], o.ContrastiveDivergence())
    with pytest.raises(
        ValueError, match=r"^fit was given 2 densities and 1 data sets; expected a list"
    ):
        fitted(pair, [FIRST])
    with pytest.raises(
        ValueError, match=r"^fit was given 2 densities and a ndarray; expected a list"
    ):
        fitted(pair, FIRST)
    with pytest.raises(ValueError, match=r"^steps was given to a fit of 2 data sets"):
        fitted(pair, [FIRST, SECOND], steps=10)
    with pytest.raises(ValueError, match=r"^MaximumLikelihood was given draws=5000"):
        fitted(pair, [FIRST, SECOND], o.MaximumLikelihood(draws=5000))
    with pytest.raises(ValueError, match="start was given 'centre', which is no parameter"):
        fitted(pair, [FIRST, SECOND], start={"centre": 1.0})
    with pytest.raises(ValueError, match=r"^fit was given 3; expected a density"):
        fitted([wide, 3], [FIRST, SECOND])


def test_verbs_of_one_fit_refuse_a_fit_of_several(tmp_path):
    fit = fitted([wide, narrow], [FIRST, SECOND], o.MaximumLikelihood())
    for verb, asked in (
        ("save", lambda: fit.save(tmp_path / "fit.npz")),
        ("profile", fit.profile),
        ("simulate", lambda: un.simulate(fit)),
        ("compare", lambda: un.compare({"a": fit, "b": fit}, FIRST)),
    ):
        with pytest.raises(
            ValueError, match=f"^{verb} was asked of a fit of 2 data sets; expected a fit of one"
        ):
            asked()
    with pytest.raises(
        ValueError, match="data is a ndarray and the fit is of 2 data sets; expected a list"
    ):
        fit.log_likelihood(FIRST)

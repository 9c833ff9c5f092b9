"""Profile likelihood intervals against closed forms, brute force, and their coverage."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import chi2
from targets import ising

import unnorm as un

QUANTILE = chi2.ppf(0.95, 1)
RNG = np.random.default_rng(4)
ROWS = RNG.normal(2.0, 1.5, 30)


def log_z(mean, variance):
    return 0.5 * jnp.log(2 * jnp.pi * variance)


@un.density(log_z=log_z)
def normal(x: un.Real, *, mean: un.Real = 0.0, variance: un.Positive = 1.0):
    return -0.5 * (x - mean) ** 2 / variance


@un.density(log_z=lambda rate: -jnp.log(rate))
def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
    return -rate * x


def fitted(p, data, objective="maximum_likelihood", **options):
    return un.fit(p, data, objective, seed=0, progress=False, **options)


def ends_of(deviance, estimate, low, high):
    """Where a deviance of one number reaches the quantile."""
    return [
        brentq(lambda value: deviance(value) - QUANTILE, *side)
        for side in ((low, estimate), (estimate, high))
    ]


# -- known answers ---------------------------------------------------------------------------------
def test_a_normal_mean_and_variance_in_closed_form():
    """Deviances n log(1 + (x̄ − μ)²/s²) and n (log(v/s²) + s²/v − 1)."""
    n, middle, spread = len(ROWS), ROWS.mean(), ROWS.var()
    table = fitted(normal, ROWS).profile()
    half = np.sqrt(spread * np.expm1(QUANTILE / n))
    variance = ends_of(
        lambda v: n * (np.log(v / spread) + spread / v - 1), spread, spread / 9, 9 * spread
    )
    assert list(table.columns) == ["estimate", "lower", "upper"]
    assert table.index.names == ["parameter", "i", "j"]
    np.testing.assert_allclose(table.loc["mean"], [middle, middle - half, middle + half], atol=1e-7)
    np.testing.assert_allclose(table.loc["variance"], [spread, *variance], atol=1e-7)
    known = fitted(normal.fix(variance=2.0), ROWS).profile(0.99).loc["mean"]
    half = np.sqrt(chi2.ppf(0.99, 1) * 2 / n)
    np.testing.assert_allclose(known, [middle, middle - half, middle + half], atol=1e-7)


@pytest.mark.slow
def test_an_exponential_rate_in_closed_form_by_quadrature():
    """Z by nodes that are laid anew where the profile ends; deviance 2n (λ/λ̂ − 1 − log(λ/λ̂))."""
    waits = RNG.exponential(0.5, 12)
    rate = 1 / waits.mean()
    plain = un.Density(exponential.function, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
    expected = ends_of(lambda v: 24 * (v / rate - 1 - np.log(v / rate)), rate, rate / 9, 9 * rate)
    np.testing.assert_allclose(
        fitted(plain, waits).profile().loc["rate"], [rate, *expected], rtol=1e-6
    )


def test_an_end_that_does_not_exist_is_infinite():
    """A pair that is never seen together: its coupling may be as low as it likes. The upper end by
    brute force."""
    rows = np.array([[1, 0]] * 7 + [[0, 1]] * 7 + [[0, 0]] * 6)
    table = fitted(ising, rows).profile()
    assert list(table.loc["coupling[0,1]"][:2]) == [-np.inf, -np.inf]

    def deviance(coupling):
        def negative(field):
            return (
                20 * np.log(1 + np.exp(field).sum() + np.exp(field.sum() + coupling))
                - 7 * field.sum()
            )

        best = -(14 * np.log(7) + 6 * np.log(6) - 20 * np.log(20))  # the three cells that are seen
        return 2 * (minimize(negative, np.zeros(2), tol=1e-12).fun - best)

    assert deviance(table.loc["coupling[0,1]", "upper"]) == pytest.approx(QUANTILE, abs=1e-6)
    assert table.loc["field[0]"].tolist() == pytest.approx(table.loc["field[1]"].tolist(), abs=1e-7)


def test_a_chance_of_one_has_a_lower_end_alone():
    """Twenty ones of twenty: 20 log σ(field) = −q/2; the estimate itself is infinite."""
    p = un.Density(lambda x, *, field: field * x, {"x": un.Binary}, {"field": (un.Real, 0.0)})
    row = fitted(p, np.ones(20)).profile().loc["field"]
    chance = np.exp(-QUANTILE / 40)
    assert (
        row["lower"] == pytest.approx(np.log(chance / (1 - chance)), abs=1e-7)
        and row["upper"] == np.inf
    )


@pytest.mark.slow
def test_entries_of_a_matrix_by_brute_force():
    """A precision matrix: its entries are no coordinates of the fit, so that the held one bends the
    others."""
    rows = RNG.normal(size=(25, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])

    @un.density(
        log_z=lambda precision: jnp.log(2 * jnp.pi) - 0.5 * jnp.linalg.slogdet(precision)[1]
    )
    def centred(x: un.Real["d"], *, precision: un.PositiveDefinite["d"] = 1.0):
        return -0.5 * x @ precision @ x

    table = fitted(centred, rows).profile()
    second = rows.T @ rows / 25
    at = np.linalg.inv(second)
    names = {"precision[0,0]": (0, 0), "precision[0,1]": (0, 1), "precision[1,1]": (1, 1)}
    for name, place in names.items():
        if name not in table.index:
            name = "precision[1,0]"

        def loss(matrix):
            sign, log_det = np.linalg.slogdet(matrix)
            return (
                np.inf
                if sign <= 0 or matrix[0, 0] <= 0
                else 25 * (np.trace(matrix @ second) - log_det)
            )

        def deviance(value, place=place):
            def held(free):
                entries = [free[0], free[1], free[2]]
                entries[sum(place)] = value
                return loss(np.array([[entries[0], entries[1]], [entries[1], entries[2]]]))

            start = np.array([at[0, 0], at[0, 1], at[1, 1]])
            return minimize(
                held, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}
            ).fun - loss(at)

        for end in ("lower", "upper"):
            assert deviance(table.loc[name, end]) == pytest.approx(QUANTILE, abs=1e-4)


# -- coverage --------------------------------------------------------------------------------------
@pytest.mark.slow
def test_profile_intervals_cover_as_well_as_normal_ones_or_better():
    """Eight waiting times, 500 data sets: at so few rows the sandwich is too small."""
    rng, hits = np.random.default_rng(9), []
    for seed in range(500):
        fit = un.fit(
            exponential, rng.exponential(1.0, 8), "maximum_likelihood", seed=seed, progress=False
        )
        tables = fit.profile(progress=False), fit.summary()
        hits.append(
            [table.loc["rate", "lower"] <= 1 <= table.loc["rate", "upper"] for table in tables]
        )
    profile, normal_ = np.mean(hits, 0)
    print(f"profile {profile:.3f}, normal {normal_:.3f}")
    assert 0.92 <= profile <= 0.975 and profile >= normal_


# -- refusals --------------------------------------------------------------------------------------
def test_what_has_no_profile_is_refused_in_a_sentence(tmp_path):
    fit = fitted(normal, ROWS)
    fit.save(tmp_path / "fit.npz")

    def asked(**options):
        origin = fit._origin._replace(problem=dataclasses.replace(fit._origin.problem, **options))
        return dataclasses.replace(fit, _origin=origin)

    cases = {
        "by score_matching without an exact log Z; expected maximum": dataclasses.replace(
            fit, objective="score_matching"
        ),
        "that was loaded, without its data": un.load(tmp_path / "fit.npz", normal),
        "with weights, whose deviance": asked(weights=np.ones(30)),
        "with clusters, whose deviance": asked(clusters=np.arange(30) // 2),
        "with a penalty or prior": asked(penalty=un.L2(0.1)),
    }
    calls = {words: lambda one=one: one.profile() for words, one in cases.items()}
    calls["level is 95; expected a finite number above 0 and below 1"] = lambda: fit.profile(95)
    for words, call in calls.items():
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_higher_likelihood_met_on_the_way_is_told():
    """As where there are several optima: the fit is put away from its maximum by hand."""
    fit = fitted(normal, ROWS)
    loss = fit._origin.loss
    moved = loss._replace(density=loss.density.bind(mean=0.0))
    fit = dataclasses.replace(fit, _origin=fit._origin._replace(loss=moved))
    with pytest.raises(ValueError, match="found a likelihood that is higher than the fit's, by"):
        fit.profile()

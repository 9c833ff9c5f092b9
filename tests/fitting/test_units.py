"""Units: data and covariates times 10^±8, shifted, or beyond floating-point squares."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.core.findings import ERROR, FindingCode
from unnorm.numerics import diagonal_scaling

o = un.objectives
ML, SM = o.MaximumLikelihood, o.ScoreMatching
PAIRS = np.random.default_rng(0).multivariate_normal([1.0, 2.0], [[2.0, 0.7], [0.7, 1.0]], 200)
DOSE = np.random.default_rng(1).normal(size=200)
ANSWER = 0.5 + 0.7 * DOSE + np.random.default_rng(2).normal(size=200)
OVER_DOSE = {  # what serves a covariate
    "maximum likelihood": ML(),
    "score matching": SM(),
    "sliced score matching": o.SlicedScoreMatching(),
    "denoising score matching": o.DenoisingScoreMatching(sigma=0.3),
    "finite differences": o.FiniteDifferenceScoreMatching(),
    "ranking NCE": o.RankingNCE(noise_ratio=3),
    "conditional NCE": o.ConditionalNCE(),
}
# two columns, one in other units; random projections mix units, so that sliced forms change with
# them
OVER_DATA = {
    "maximum likelihood": ML(),
    "score matching": SM(),
    "finite differences": o.FiniteDifferenceScoreMatching(),
    "Stein": o.SteinDiscrepancy(),
    "NCE": o.NCE(noise_ratio=3),
    "self-normalised": o.SelfNormalized(noise_ratio=3),
}


@un.density
def line(
    y: un.Real,
    *,
    dose: un.Covariate,
    a: un.Real = 0.0,
    slope: un.Real = 0.0,
    precision: un.Positive = 1.0,
):
    return y * (a + slope * dose) - 0.5 * precision * y**2


@un.density
def cells(y: un.Count, *, dose: un.Covariate, a: un.Real = 0.0, slope: un.Real = 0.0):
    return y * (a + slope * dose) - jax.scipy.special.gammaln(y + 1)


@un.density
def gamma(x: un.Positive, *, shape: un.Positive = 1.0, rate: un.Positive = 1.0):
    return (shape - 1) * jnp.log(x) - rate * x


@functools.cache
def table(fit_of, what, unit):
    fit = fit_of(what, unit)
    assert fit.passed, (fit, fit.findings)
    return fit.summary()[["estimate", "standard_error"]]


def over_dose(what, unit):
    return un.fit(line, {"y": ANSWER, "dose": DOSE * unit}, OVER_DOSE[what], seed=0, progress=False)


def over_data(what, unit):
    start = {"precision": np.diag([1.0, unit**-2.0])}
    columns = PAIRS * [1.0, unit]
    return un.fit(
        un.models.gaussian_graphical, columns, OVER_DATA[what], start=start, seed=0, progress=False
    )


def quick_in_turn(names, units, quick=4):
    """All pairs; each of the first names with one of the units is quick."""
    return [
        pytest.param(
            name, unit, marks=() if i < quick and i % len(units) == k else pytest.mark.slow
        )
        for i, name in enumerate(names)
        for k, unit in enumerate(units)
    ]


@pytest.mark.parametrize(("what", "unit"), quick_in_turn(OVER_DOSE, [1e8, 1e-8]))
def test_a_covariate_in_other_units(what, unit):
    """Its slope and the slope's error are divided by the unit, and nothing else changes."""
    here, there = table(over_dose, what, 1.0), table(over_dose, what, unit)
    factors = np.array([1.0, unit, 1.0])[:, None]
    np.testing.assert_allclose(there * factors, here, rtol=1e-6)


@pytest.mark.parametrize(("what", "unit"), quick_in_turn(OVER_DATA, [1e8, 1e-8]))
def test_a_column_in_other_units(what, unit):
    here, there = table(over_data, what, 1.0), table(over_data, what, unit)
    factors = np.array([1.0, unit, 1.0, unit, unit**2])[:, None]
    np.testing.assert_allclose(
        there * factors, here, rtol=1e-5 if what == "finite differences" else 1e-6
    )


@pytest.mark.parametrize("unit", [1e8, 1e-8])
def test_counts_by_a_covariate_in_other_units(unit):
    """The sandwich of a Poisson regression, in closed form: H = mean μ zz', J = mean (y − μ)²
    zz'."""
    random = np.random.default_rng(0)
    z = random.normal(size=400)
    y = random.poisson(np.exp(0.5 + 0.7 * z))
    fit = un.fit(cells, {"y": y, "dose": z * unit}, seed=0, progress=False)
    a, slope = fit.summary().estimate * [1, unit]
    design, mean = np.stack([np.ones(400), z], 1), np.exp(a + slope * z)
    bread = np.linalg.inv((design * mean[:, None]).T @ design)
    errors = np.sqrt(np.diagonal(bread @ ((design * (y - mean)[:, None] ** 2).T @ design) @ bread))
    assert fit.passed and errors == pytest.approx([0.0417203, 0.0318986], abs=1e-6)
    np.testing.assert_allclose(fit.summary().standard_error * [1, unit], errors, rtol=1e-6)


@pytest.mark.parametrize(
    ("objective", "unit"), quick_in_turn([ML(), SM(), o.NCE()], [1e8, 1e-8, 1e12])
)
def test_positive_data_in_other_units(objective, unit):
    data = np.random.default_rng(0).gamma(3.0, 0.5, 200)
    here, there = (un.fit(gamma, data * u, objective, seed=0, progress=False) for u in (1.0, unit))
    assert here.passed and there.passed, there
    columns = ["estimate", "standard_error", "lower", "upper"]
    rtol = 1e-6 if objective != o.NCE() else 1e-4  # log p̃ of the noise points is rounded otherwise
    np.testing.assert_allclose(
        there.summary()[columns].to_numpy() * [[1], [unit]], here.summary()[columns], rtol=rtol
    )


# -- the scale and the place of the data -----------------------------------------------------------
@pytest.mark.slow
def test_old_faithful_in_minutes():
    """The quartic's maximum in minutes is that of standardised waits, mapped back."""
    waits = un.models.load("old_faithful").waiting.to_numpy(float)
    fit = un.fit(un.models.quartic, waits, ML(), seed=0, progress=False)
    assert fit.passed, (fit, fit.findings)
    assert fit.log_likelihood(waits).value == pytest.approx(-1040.4347, abs=1e-4)
    assert fit.summary().estimate["d"] == pytest.approx(1.4958e-5, abs=5e-10)


UNITS = [
    ([1, 1e3], 0.0, 1e-6),
    (1.0, [0, 1000.0], 1e-5),
    (1e-8, 0.0, 1e-6),
    (1e12, 0.0, 1e-6),
    (6e18, 0.0, 1e-6),
]


@pytest.mark.parametrize(
    ("objective", "scale", "shift", "rtol"),
    [
        *((SM(), *unit) for unit in UNITS),
        *((ML(), *unit) for unit in UNITS[:1]),
        *(pytest.param(ML(), *unit, marks=pytest.mark.slow) for unit in UNITS[1:]),
    ],
)
def test_a_gaussian_is_the_inverse_covariance(objective, scale, shift, rtol):
    data = PAIRS * scale + shift
    fit = un.fit(un.models.gaussian_graphical, data, objective, seed=0, progress=False)
    assert fit.passed, (fit, fit.findings)
    precision = np.linalg.inv(np.cov(PAIRS.T, ddof=0)) / np.outer(*[np.broadcast_to(scale, 2)] * 2)
    np.testing.assert_allclose(fit.density.parameters["precision"], precision, rtol=rtol)
    np.testing.assert_allclose(fit.density.parameters["eta"], precision @ data.mean(0), rtol=rtol)
    plain = (
        un.fit(un.models.gaussian_graphical, PAIRS, SM(), seed=0, progress=False)
        .summary()
        .standard_error[2:]
    )
    units = np.broadcast_to(scale, 2)[[0, 0, 1]] * np.broadcast_to(scale, 2)[[0, 1, 1]]
    np.testing.assert_allclose(fit.summary().standard_error[2:] * units, plain, rtol=rtol)


@pytest.mark.parametrize("unit", [1e-200, 1e160, 1e300])
@pytest.mark.parametrize("objective", [ML(), SM(), o.NCE()])
def test_squares_beyond_floating_point_never_pass(objective, unit):
    data = 2 * unit + unit * np.random.default_rng(0).normal(size=50)
    p = un.Density(lambda x, *, m: -0.5 * (x - m) ** 2, {"x": un.Real}, {"m": (un.Real, 0.0)})
    try:
        fit = un.fit(p, data, objective, seed=0, progress=False)
    except ValueError as refused:
        assert str(refused)
    else:
        assert not fit.passed and any(told.severity == ERROR for told in fit.findings), fit


def test_underflow_is_named():
    p = un.Density(lambda x, *, m: -0.5 * (x - m) ** 2, {"x": un.Real}, {"m": (un.Real, 0.0)})
    data = 1e-200 * np.random.default_rng(0).normal(size=50)
    fit = un.fit(p, data, SM(), seed=0, progress=False)
    assert FindingCode.OVERFLOW in [told.code for told in fit.findings if told.severity == ERROR]


# -- the algebra -----------------------------------------------------------------------------------
def test_scaled_algebra_does_not_see_units():
    random = np.random.default_rng(0)
    root = random.normal(size=(4, 4))
    matrix, units = root @ root.T, np.array([1.0, 1e8, 1e-8, 1e100])
    other = matrix * units[:, None] * units
    np.testing.assert_allclose(
        diagonal_scaling.inverse(other) * units[:, None] * units, np.linalg.inv(matrix), rtol=1e-9
    )
    np.testing.assert_allclose(
        diagonal_scaling.solve(other, units) * units, np.linalg.solve(matrix, np.ones(4)), rtol=1e-9
    )
    half = diagonal_scaling.covariance_root(other) / units[:, None]
    np.testing.assert_allclose(half @ half.T, matrix, rtol=1e-9)
    assert diagonal_scaling.smallest_singular_value(other) == pytest.approx(
        diagonal_scaling.smallest_singular_value(matrix), rel=1e-9
    )
    assert diagonal_scaling.covariance_root(-matrix) is None

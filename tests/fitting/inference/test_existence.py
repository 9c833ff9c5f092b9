"""Estimates that do not exist: directions of recession, parameters that are not identified, rows
without spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.fitting.checks.data_spread import without_spread
from unnorm.fitting.existence.recession_directions import cone

ROWS = np.random.default_rng(0)
objectives = un.objectives


def logit(y, *, z, w, a, b, c):
    return y * (a + b * z + c * w)


def poisson(y, *, z, a, b):
    return y * (a + b * z) - jax.scipy.special.gammaln(y + 1)


def ising(x, *, field, coupling):
    return field @ x + 0.5 * x @ coupling @ x


REALS = {"a": (un.Real, 0.0), "b": (un.Real, 0.0)}
LOGIT = un.Density(
    logit,
    {"y": un.Binary},
    REALS | {"c": (un.Real, 0.0)},
    covariates={"z": un.Covariate, "w": un.Covariate},
)
POISSON = un.Density(poisson, {"y": un.Count}, REALS, covariates={"z": un.Covariate})
ISING = un.Density(
    ising,
    {"x": un.Binary["d"]},
    {"field": (un.Real["d"], 0.0), "coupling": (un.Symmetric["d"], 0.0)},
)


def fitted(p, data, objective=None, **options):
    return un.fit(p, data, objective, seed=0, progress=False, **options)


def found(fit, code):
    return [finding for finding in fit.findings if finding.code is code]


# -- the programme ---------------------------------------------------------------------------------
def opened_one_by_one(matrix):
    """Row r can be opened if max A_r d over A d ≥ 0 within a box is above 0: one programme for each
    row."""
    size = matrix.shape[1]
    best = [
        -linprog(-row, A_ub=-matrix, b_ub=np.zeros(len(matrix)), bounds=[(-1, 1)] * size).fun
        for row in matrix
    ]
    return np.array(best) > 1e-9


@pytest.mark.parametrize("seed", range(30))
def test_the_cone_opens_what_can_be_opened(seed):
    random = np.random.default_rng(seed)
    matrix = random.integers(-1, 2, size=(random.integers(3, 9), 4)).astype(float) * [
        1.0,
        1e-6,
        1e6,
        1.0,
    ]
    expected = opened_one_by_one(matrix / [1.0, 1e-6, 1e6, 1.0])
    result = cone(matrix, np.zeros(len(matrix), bool))
    np.testing.assert_array_equal(result.separated, expected)
    change = matrix @ result.direction
    assert np.all(change[expected] > 0.4) and np.abs(change[~expected]).max(initial=0.0) < 1e-6
    # What is known to be level changes nothing.
    again = cone(matrix, ~expected)
    np.testing.assert_array_equal(again.separated, expected)
    np.testing.assert_array_equal(again.signs, result.signs)


# -- regressions -----------------------------------------------------------------------------------
Z, W = ROWS.normal(size=(2, 60))
TIES = (
    np.array([1.0, 1.0]),
    np.array([-1.0, -1.0]),
    np.array([0, 1]),
)  # z + w = 0 with both values of y
# 60 rows like the others: one shape, one set of programs
QUASI = (
    np.append(Z[2:], TIES[0]),
    np.append(W[2:], TIES[1]),
    np.append(Z[2:] + W[2:] > 0, TIES[2]),
)
SEPARATED = {
    "completely": (dict(y=Z > 0, z=Z, w=0.1 * W), {"b": np.inf}, "separates|separate"),
    "not at all centred": (dict(y=np.zeros(60), z=5 + Z, w=W), {}, "y is always 0"),
    "by two together": (
        dict(y=QUASI[2], z=QUASI[0], w=QUASI[1]),
        {"b": np.inf, "c": np.inf},
        "z and w together",
    ),
}


@pytest.mark.parametrize("case", SEPARATED)
def test_separation_has_no_finite_estimate(case):
    data, limits, why = SEPARATED[case]
    fit = fitted(LOGIT, {name: np.asarray(value, float) for name, value in data.items()})
    (told,) = found(fit, FindingCode.NO_FINITE_ESTIMATE)
    assert not fit.passed and not fit.converged
    summary = fit.summary()
    assert not np.isfinite(summary[["estimate", "standard_error"]]).any(axis=None)
    assert {name: summary.estimate[name] for name in limits} == limits
    assert any(words in told.what for words in why.split("|"))


def test_one_row_across_the_line_is_enough():
    """The maximum likelihood estimate of overlapping data, by scipy."""
    y, z = np.append(Z[2:] > 0, [False, True]).astype(float), np.append(Z[2:], [0.4, -0.4])
    w = np.append(W[2:], [0.0, 1.0])
    fit = fitted(LOGIT, dict(y=y, z=z, w=w))
    design = np.column_stack([np.ones_like(z), z, w])
    loss = lambda t: np.sum(np.logaddexp(0, design @ t) - y * (design @ t))  # noqa: E731
    expected = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    assert fit.passed and fit.summary().estimate.to_numpy() == pytest.approx(expected, rel=1e-5)


def test_collinear_covariates_are_named():
    y = ROWS.integers(0, 2, size=60)
    fit = fitted(LOGIT, dict(y=y, z=Z, w=3 * Z))
    (told,) = found(fit, FindingCode.NOT_IDENTIFIED)
    assert told.what.startswith("b and c are collinear") and not fit.passed
    assert np.isnan(fit.summary().estimate[["b", "c"]]).all() and np.isfinite(
        fit.summary().estimate["a"]
    )


def test_a_group_of_zero_counts():
    """log-rates of two groups: the one is the log of its mean, the other −inf."""
    group = np.repeat([0.0, 1.0], 30)
    y = np.where(group == 0, ROWS.poisson(2.0, size=60), 0)
    fit = fitted(POISSON, dict(y=y, z=group))
    mean = y[group == 0].mean()
    assert found(fit, FindingCode.NO_FINITE_ESTIMATE) and fit.summary().estimate["b"] == -np.inf
    assert fit.summary().estimate["a"] == pytest.approx(np.log(mean), abs=1e-6)


# -- items -----------------------------------------------------------------------------------------
ITEMS = ROWS.integers(0, 2, size=(150, 3))
CONSTANT = np.insert(ITEMS[:, :2], 2, 1, axis=1)


def test_a_constant_item_takes_its_own_field_alone():
    fit, without = fitted(ISING, CONSTANT), fitted(ISING, CONSTANT[:, :2])
    (told,) = found(fit, FindingCode.NO_FINITE_ESTIMATE)
    estimate, errors = fit.summary().estimate, fit.summary().standard_error
    expected, expected_errors = without.summary().estimate, without.summary().standard_error
    assert (
        estimate["field[2]"] == np.inf and "x[2] is always 1" in told.what and "drop" in told.advice
    )
    # What is left is the model without the item, whose fields are sums.
    assert estimate["coupling[0,1]"] == pytest.approx(expected["coupling[0,1]"], abs=1e-6)
    assert errors["coupling[0,1]"] == pytest.approx(expected_errors["coupling[0,1]"], rel=1e-4)
    for item in (0, 1):
        assert np.isnan(estimate[f"field[{item}]"]) and np.isnan(estimate[f"coupling[{item},2]"])
        known = expected[f"field[{item}]"], expected_errors[f"field[{item}]"]
        assert f"field[{item}] + coupling[{item},2] = {known[0]:.4g} ± {known[1]:.3g}" in told.what


@pytest.mark.parametrize(
    "objective",
    [
        objectives.PseudoLikelihood(),
        objectives.NCE(exact=True),
        *(
            pytest.param(objective, marks=pytest.mark.slow)
            for objective in (
                objectives.RatioMatching(),
                objectives.ScoreMatching(),
                objectives.ProbabilityFlow(),
                objectives.RankingNCE(),
                objectives.ConditionalNCE(),
                objectives.SelfNormalized(),
                objectives.ContrastiveDivergence(),
                objectives.ContrastiveDivergence(persistent=True),
            )
        ),
    ],
    ids=repr,
)
def test_every_objective_sees_a_constant_item(objective):
    fit = fitted(ISING, CONSTANT, objective)
    told = found(fit, FindingCode.NO_FINITE_ESTIMATE) or found(fit, FindingCode.NOT_IDENTIFIED)
    assert not fit.passed and "x[2] is always 1" in told[0].what
    assert not np.isfinite(fit.summary().estimate["field[2]"])
    assert np.isfinite(fit.summary().estimate["coupling[0,1]"])


@pytest.mark.parametrize("objective", [None, objectives.PseudoLikelihood()], ids=repr)
def test_a_conjunction_of_two_items(objective):
    """x3 = x0 x1 sends its field and three couplings off; x2's field and couplings stay."""
    data = np.column_stack([ITEMS, ITEMS[:, 0] * ITEMS[:, 1]])
    fit = fitted(ISING, data, objective)
    (told,) = found(fit, FindingCode.NO_FINITE_ESTIMATE)
    summary = fit.summary()
    gone = summary.index[~np.isfinite(summary.estimate)]
    assert set(gone.flat) == {"field[3]", "coupling[0,1]", "coupling[0,3]", "coupling[1,3]"}
    assert summary.estimate[["field[3]", "coupling[0,1]"]].to_list() == [-np.inf, -np.inf]
    assert summary.estimate[["coupling[0,3]", "coupling[1,3]"]].to_list() == [np.inf, np.inf]
    assert (
        np.isfinite(summary.drop(index=gone)).all(axis=None)
        and (summary.drop(index=gone).standard_error < 3).all()
    )
    assert "x[0] = 0 is never seen with x[3] = 1" in told.what and "separate" not in told.what


def test_an_empty_cell_and_one_row_in_it():
    data = np.array([[1, 0]] * 50 + [[0, 1]] * 50 + [[0, 0]] * 49 + [[1, 1]])
    assert fitted(ISING, data).passed
    fit = fitted(ISING, np.append(data[:-1], [[0, 0]], 0))
    (told,) = found(fit, FindingCode.NO_FINITE_ESTIMATE)
    assert "coupling[0,1] diverges to -inf, because x[0] and x[1] are never 1 together" in told.what
    # independent of the empty cell: log odds among rows without the other item
    assert fit.summary().estimate[["field[0]", "field[1]"]].to_list() == pytest.approx(
        [0.0, 0.0], abs=1e-6
    )


def test_a_row_without_weight_does_not_count():
    data = np.array([[1, 0]] * 30 + [[0, 1]] * 30 + [[0, 0]] * 30 + [[1, 1]])
    fit = fitted(ISING, data, sampling_weights=np.append(np.full(90, 0.5), 0.0))
    assert found(fit, FindingCode.NO_FINITE_ESTIMATE)


# -- rows without spread ---------------------------------------------------------------------------
def normal(x, *, m, s):
    return jnp.sum(-0.5 * ((x - m) / s) ** 2 - jnp.log(s))


NORMAL = un.Density(
    normal, {"x": un.Real["d"]}, {"m": (un.Real["d"], 0.0), "s": (un.Positive["d"], 1.0)}
)


@pytest.mark.parametrize(
    "objective",
    [
        objectives.ScoreMatching(),
        objectives.NCE(),
        objectives.FiniteDifferenceScoreMatching(),
        objectives.SteinDiscrepancy(),
        objectives.DenoisingScoreMatching(sigma=0.1),
        objectives.RankingNCE(),
        objectives.ConditionalNCE(),
        pytest.param(objectives.SlicedScoreMatching(), marks=pytest.mark.slow),
        pytest.param(objectives.MaximumLikelihood(), marks=pytest.mark.slow),
        pytest.param(objectives.ContrastiveDivergence(), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_equal_rows_are_refused_or_an_error(objective):
    try:
        fit = fitted(NORMAL, np.full((40, 1), 3.0), objective)
    except ValueError as refusal:
        assert any(words in str(refusal) for words in ("never changes", "vary in every direction"))
        return
    (told,) = [f for f in found(fit, FindingCode.NOT_IDENTIFIED) if "equal" in f.what]
    assert not fit.passed and "x[0] is equal in all 40 rows" in told.what


@pytest.mark.parametrize(("unit", "flagged"), [(1.0, True), (1e-7, True), (None, False)])
def test_a_column_that_another_determines(unit, flagged):
    x = ROWS.normal(size=200)
    other = 2 * x + 1 if unit else ROWS.normal(size=200)
    fit = fitted(NORMAL, np.column_stack([x, other]) * (unit or 1.0), objectives.ScoreMatching())
    told = [f.what for f in found(fit, FindingCode.NOT_IDENTIFIED)]
    assert (
        any("a linear combination of x[0], x[1] is equal in all rows" in what for what in told)
        == flagged
    )
    assert flagged or fit.passed


def test_a_covariate_that_determines_the_data():
    def line(y, *, z, a, b, s):
        return -0.5 * ((y - a - b * z) / s) ** 2 - jnp.log(s)

    p = un.Density(
        line, {"y": un.Real}, REALS | {"s": (un.Positive, 1.0)}, covariates={"z": un.Covariate}
    )
    assert (
        "linear combination of y and z"
        in without_spread(p, {"y": 2 * Z + 1, "z": Z}, False)[0].what
    )
    assert not without_spread(p, {"y": 2 * Z + W, "z": Z}, False)
    assert not without_spread(p, {"y": np.array([1.0, 2.0]), "z": np.array([0.0, 1.0])}, False)

"""What a person reads of a fit: the index, matrices, criteria, tests, and tables that hold any
text.
"""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unnorm as un
from unnorm.core.findings import ERROR, Finding
from unnorm.fitting.results import tables
from unnorm.fitting.results.fit import Fit

LABELS = ["a<b>", "c&d", r"e_$\x$"]
ROWS = np.random.default_rng(0).integers(0, 2, (200, 3))


def gaussian(x, *, mean, precision):
    return -0.5 * (x - mean) @ precision @ (x - mean)


@pytest.fixture(scope="module")
def normal():
    """A Gaussian in one dimension, of which all is known in closed form."""
    p = un.Density(
        lambda x, *, mean, rate: -rate * (x - mean) ** 2 / 2,
        {"x": un.Real},
        {"mean": (un.Real, 0.0), "rate": (un.Positive, 1.0)},
    )
    data = np.random.default_rng(1).normal(0.3, 2.0, 400)
    return un.fit(p, data, "maximum_likelihood", seed=0, progress=False), data


@pytest.fixture(scope="module")
def ising():
    frame = pd.DataFrame(ROWS, columns=LABELS)
    return un.fit(un.models.ising, frame, "maximum_likelihood", seed=0, progress=False)


def made(estimates, errors, p=None, **options):
    """A fit of these estimates, of scalars `theta` by default, without running one."""
    thetas = un.Density(
        lambda x, *, theta: theta @ x, {"x": un.Binary["d"]}, {"theta": (un.Real["d"], 0.0)}
    ).with_dimensions(d=len(estimates))
    return Fit(
        p or thetas.bind(theta=np.nan_to_num(np.asarray(estimates, float))),
        "nce", "a fixed point", True, None, np.zeros(1), 0, 10,
        _estimates=np.asarray(estimates, float),
        _covariance=None if errors is None else _diagonal(errors),
        **options,
    )  # fmt: skip


def _diagonal(errors):
    from unnorm.fitting.inference.sandwich import Covariance

    total = np.diag(np.square(errors))
    return Covariance(total, 0 * total, total)


# -- the index -------------------------------------------------------------------------------------
def test_levels_of_the_index(ising, normal):
    table = ising.summary()
    assert table.index.names == ["parameter", "i", "j"]
    pairs = [(a, b) for at, a in enumerate(LABELS) for b in LABELS[at + 1 :]]
    keys = [("coupling", *pair) for pair in pairs] + [("field", label, "") for label in LABELS]
    assert list(table.index) == keys
    assert list(normal[0].summary().index) == [("mean", "", ""), ("rate", "", "")]
    assert table.loc["coupling"].index.names == ["i", "j"] and len(table.loc["field"]) == 3


def test_lookups_by_tuple_and_by_flat_label(ising, normal):
    table = ising.summary()
    expected = table.estimate.to_numpy()[0]
    flat = f"coupling[{LABELS[0]},{LABELS[1]}]"
    assert table.loc[("coupling", LABELS[0], LABELS[1]), "estimate"] == expected
    assert table.loc[flat, "estimate"] == table.estimate[flat] == expected
    assert table[table.estimate == expected].loc[flat].estimate == expected
    assert table.estimate[[flat, f"field[{LABELS[2]}]"]].iloc[0] == expected
    scalars = normal[0].summary()
    assert scalars.estimate["rate"] == scalars.loc["rate", "estimate"] == scalars.iloc[1, 0]
    with pytest.raises(KeyError):
        table.loc["coupling[0,1]"]
    assert normal[0].monte_carlo_error.index.equals(scalars.index)


def test_unlabelled_axes_are_numbered_and_a_third_axis_has_a_level():
    p = un.Density(
        lambda x, *, w: (w * x[None, :, None]).sum(),
        {"x": un.Real[2]},
        {"w": (un.Real[1, 2, 2], 0.5)},
    )
    found = made([0.5] * 4, [0.1] * 4, p).summary()
    assert found.index.names == ["parameter", "i", "j", "k"]
    assert list(found.index)[1] == ("w", 0, 0, 1)
    assert np.isscalar(found.estimate["w[0,1,1]"])


# -- matrices --------------------------------------------------------------------------------------
def test_a_symmetric_matrix_is_full(ising):
    matrix, errors = ising.matrix("coupling"), ising.matrix("coupling", "standard_error")
    assert list(matrix.index) == list(matrix.columns) == LABELS
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix, ising.density.parameters["coupling"])
    assert np.isnan(np.diag(errors)).all() and errors.iloc[1, 0] == errors.iloc[0, 1] > 0
    field = ising.matrix("field", "upper")
    assert field.name == "field" and field[LABELS[1]] == ising.summary().loc["field"].iloc[1].upper


def test_a_scalar_is_a_number_and_faults_are_named(normal):
    fit, data = normal
    assert fit.matrix("mean") == pytest.approx(data.mean(), abs=1e-6)
    with pytest.raises(ValueError, match="did you mean 'rate'"):
        fit.matrix("rates")
    with pytest.raises(ValueError, match="must be a column"):
        fit.matrix("rate", "error")


# -- the header ------------------------------------------------------------------------------------
def test_criteria_are_those_of_the_closed_form(normal):
    fit, data = normal
    value = stats.norm(data.mean(), data.std()).logpdf(data).sum()
    expected = {
        "log-likelihood": value, "AIC": 4 - 2 * value, "BIC": 2 * np.log(400) - 2 * value
    }  # fmt: skip
    facts = fit._facts()
    for name, number in expected.items():
        assert float(facts[name].replace(",", "")) == pytest.approx(number, abs=0.006)
        assert f"{name} {number:,.2f}" in str(fit)
    assert facts["n"] == "400" and facts["aims at"] == fit.target


def test_criteria_survive_saving(normal, tmp_path):
    fit, _ = normal
    fit.save(tmp_path / "fit.npz")
    assert un.load(tmp_path / "fit.npz", fit.density)._facts() == fit._facts()


def test_no_criteria_without_a_likelihood():
    p = un.Density(lambda x, *, m: -((x - m) ** 2) / 2, {"x": un.Real}, {"m": (un.Real, 0.0)})
    data = np.random.default_rng(0).normal(size=200)
    given = {"seed": 0, "progress": False}
    fits = [
        un.fit(p, data, "score_matching", **given),
        un.fit(p, data, "maximum_likelihood", penalty={"m": un.L2(0.1)}, **given),
        un.fit(p, data, "maximum_likelihood", sampling_weights=1.0 + (data > 0), **given),
    ]
    for fit in fits:
        assert "AIC" not in str(fit) and "log-likelihood" not in fit._facts()
    clusters = un.fit(p, data, "maximum_likelihood", cluster=np.arange(200) // 2, **given)
    assert "log-likelihood" in clusters._facts() and "BIC" not in clusters._facts()
    with pytest.raises(ValueError, match="shrinks"):
        fits[1].wald()


# -- tests -----------------------------------------------------------------------------------------
def test_wald(normal):
    fit, data = normal
    table = fit.wald()
    z = data.mean() / (data.std() / 20)
    assert table.loc["mean", "z"] == pytest.approx(z, rel=1e-6)
    assert table.loc["mean", "p"] == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-5)
    assert table.loc["rate", ["z", "p"]].isna().all()  # a rate cannot be zero


def test_wald_is_refused_where_it_would_mislead():
    with pytest.raises(ValueError, match="no standard errors"):
        made([1.0], None).wald()
    failed = made([1.0], [0.5], findings=[Finding("it ran away", severity=ERROR)])
    with pytest.raises(ValueError, match="did not pass"):
        failed.wald()


def test_the_likelihood_ratio_of_nested_fits(normal):
    large, data = normal
    small = un.fit(large.density.fix(mean=0.0), data, "maximum_likelihood", seed=0, progress=False)
    compared = un.compare({"large": large, "small": small}, data[:10] + 0.1, progress=False)
    row = compared.likelihood_ratio.loc[("small", "large")]
    expected = 400 * np.log(np.mean(data**2) / data.var())
    assert row.likelihood_ratio == pytest.approx(expected, abs=1e-5)
    assert row.degrees_of_freedom == 1
    assert row.p == pytest.approx(stats.chi2(1).sf(expected), rel=1e-4)
    assert "likelihood ratio of small in large" in str(compared)
    assert "likelihood ratio" in compared._repr_html_()


def test_no_likelihood_ratio_of_other_rows(normal):
    large, data = normal
    small = un.fit(
        large.density.fix(mean=0.0), data[1:], "maximum_likelihood", seed=0, progress=False
    )
    assert un.compare({"a": large, "b": small}, data[:9], progress=False).likelihood_ratio.empty


# -- tables ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("estimate", "error", "shown"),
    [
        (0.34123, 0.0571, ("0.341", "0.057")),
        (1234.5678, 12.3, ("1,235", "12")),
        (-0.0004, 0.05, ("0.000", "0.050")),
        (2.5e-7, 1.2e-8, ("2.50e-07", "1.20e-08")),
        (0.5, np.nan, ("0.5000", "–")),
        (np.inf, np.nan, ("inf", "–")),
    ],
)
def test_digits_follow_the_standard_error(estimate, error, shown):
    table = pd.DataFrame({"estimate": [estimate], "standard_error": [error]}, index=["a"])
    assert tuple(tables.readable(table).iloc[0]) == shown


def test_latex_holds_any_label(ising):
    text = ising.to_latex(names={"field": "50% of #1"})
    assert r"coupling[a<b>,c\&d]" in text and r"e\_\$\textbackslash{}x\$" in text
    assert r"50\% of \#1[" in text and text.count(r"\\") == 7
    assert text.startswith(r"\begin{tabular}{lrrr}") and "$-$" in text


def test_csv_reads_back_in_full(ising, tmp_path):
    path = ising.to_csv(tmp_path / "fit.csv", names={"field": "Field, h"})
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert rows[0][:5] == ["Parameter", "i", "j", "Estimate", "Standard error"]
    assert rows[1][:3] == ["coupling", "a<b>", "c&d"] and rows[4][0] == "Field, h"
    assert [float(row[3]) for row in rows[1:]] == ising.summary().estimate.to_list()
    with pytest.raises(ValueError, match="must hold parameters"):
        ising.to_csv(tmp_path / "fit.csv", names={"fields": "h"})
    with pytest.raises(ValueError, match="existing folder"):
        ising.to_csv(tmp_path / "no" / "fit.csv")


def test_html_escapes_and_says_what_failed(ising):
    page = ising._repr_html_()
    assert "coupling[a&lt;b&gt;,c&amp;d]" in page and "<b>," not in page and "passed" in page
    failed = made([1.0], [0.5], findings=[Finding("<script>", "<img>", ERROR)])._repr_html_()
    assert "not passed" in failed and "<script>" not in failed and "&lt;img&gt;" in failed


def test_many_rows_are_cut():
    fit = made(np.arange(1000.0), None)
    assert "970 more rows" in str(fit) and "970 more rows" in fit._repr_html_()
    assert fit._repr_html_().count("<tr>") < 45


def test_rich_takes_names_as_text(ising):
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(ising, un.log_z(un.Density(lambda x: -(x**2), {"x": un.Real}), progress=False))
    text = console.export_text()
    assert "coupling[a<b>,c&d]" in text and "passed" in text and "95% interval" in text


def test_public_classes():
    assert un.Fit is Fit and un.LogZ.__name__ == "LogZ" and un.Diagnosis.__name__ == "Diagnosis"

"""Results as people read them: significant digits, short tables, singular and plural."""

import numpy as np
import pandas as pd
import pytest

import unnorm as un
from unnorm.core.findings import NOTE, Finding
from unnorm.core.messages import pluralize, significant, table_text
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.results.log_likelihood import LogLikelihood


def fit_of(estimates, rows=40):
    """A fit of as many parameters, without running one."""
    count = len(estimates)
    p = un.Density(lambda x, *, a: -(x**2) * a.sum(), {"x": un.Real}, {"a": un.Real["d"]})
    p = p.with_dimensions(d=count).bind(a=np.asarray(estimates, float))
    return Fit(
        p,
        "score_matching",
        "a test",
        True,
        None,
        np.zeros(1),
        0,
        rows,
        _estimates=np.asarray(estimates, float),
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (3.6e-5, "3.600e-05"),
        (-3.6e-5, "-3.600e-05"),
        (4e-4, "0.0004000"),
        (0.0123, "0.01230"),
        (0.5, "0.5000"),
        (12.34567, "12.3457"),
        (2.5e8, "2.500e+08"),
        (0.0, "0"),
        (np.nan, "–"),
        (-np.inf, "-inf"),
        (7, "7"),
        (np.float32(0.5), "0.5000"),
    ],
)
def test_numbers_keep_their_significant_digits(number, text):
    assert significant(number) == text
    if np.isfinite(number) and isinstance(number, float):
        assert float(text) == pytest.approx(number, rel=1e-3, abs=0)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12345, "12,345 rows")]
)
def test_singular_and_plural(count, text):
    assert pluralize(count, "row") == text


def test_a_fit_of_small_numbers_is_printed_in_full():
    text = str(fit_of([3.6e-5, 2.0]))
    assert "3.600e-05" in text and "0.0000" not in text and "2 parameters, 40 rows" in text


def test_one_parameter_and_one_row_are_singular():
    assert "1 parameter, 1 row" in str(fit_of([1.0], rows=1)) and "1 rows" not in str(
        fit_of([1.0], rows=1)
    )


@pytest.mark.parametrize(
    ("count", "end"),
    [(30, None), (31, "... 1 more row is not shown"), (42, "... 12 more rows are not shown")],
)
def test_a_long_table_is_cut(count, end):
    lines = str(fit_of(np.arange(1.0, count + 1))).splitlines()
    assert sum(line.startswith("a[") for line in lines) == 30
    assert (end in lines) if end else not any("more row" in line for line in lines)


def test_a_short_frame_is_whole():
    assert table_text(pd.DataFrame({"nonzero": [3], "loss": [1e-6]}, index=["0.1"])).split() == [
        "nonzero",
        "loss",
        "0.1",
        "3",
        "1.000e-06",
    ]


def test_a_log_likelihood_is_one_line():
    found = LogLikelihood(-2345.6789, 12.5, np.zeros(500))
    assert (
        str(found)
        == repr(found)
        == "log-likelihood = -2345.6789 (standard error 12.5000, 500 rows)"
    )
    value, error, *_ = found  # still a tuple
    assert (value, error) == (-2345.6789, 12.5)


def test_a_finding_without_advice_ends_after_the_observation():
    assert str(Finding("saw this", severity=NOTE)) == "[note] saw this."
    assert str(Finding("saw this", "do that", NOTE)) == "[note] saw this; do that."

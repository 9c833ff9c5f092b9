"""The report is one whole file, and figures are drawn without pyplot."""

import os
import re
import sys

import arviz_base
import numpy as np
import pandas as pd
import pytest

from unnorm.core.findings import Finding
from unnorm.core.messages import format_table
from unnorm.diagnostics.contours import scatter_with_contours
from unnorm.diagnostics.plots import plot_rank, plot_trace
from unnorm.diagnostics.report import Section, write_report


@pytest.fixture
def draws():
    rng = np.random.default_rng(0)
    posterior = {"x": rng.normal(size=(4, 200, 2)), "s": rng.integers(0, 2, (4, 200))}
    return arviz_base.from_dict(
        {"posterior": posterior}, dims={"x": ["k"]}, coords={"k": ["Ozone", "Wind"]}
    )


def normal_grid():
    axis = np.linspace(-5, 5, 101)
    return axis, axis, -0.5 * (axis[:, None] ** 2 + axis**2) - np.log(2 * np.pi)


def test_report_is_self_contained_and_escaped(tmp_path, draws):
    table = pd.DataFrame(
        {"mean": [1.23456, np.nan], "r_hat": [1.00049, 1.0]}, index=["x[<a>]", "x[b]"]
    )
    findings = [
        Finding("saw <b>", "do & be", severity) for severity in ("error", "warning", "note")
    ]
    path = write_report(
        tmp_path / "report.html",
        "A <title>",
        [
            Section(
                "One & two",
                "First.\n\nSecond < first.",
                code="def f(x: un.Real['d']):\n    return x < 1",
            ),
            Section("Draws", table=table, figure=plot_trace(draws), findings=findings),
        ],
    )
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page)
    assert not re.search(r"<script|<link|@import|url\(", page)
    assert page.count("data:image/png;base64,iVBOR") == 1
    assert "<title>A &lt;title&gt;</title>" in page
    assert "<p>Second &lt; first.</p>" in page and "return x &lt; 1" in page
    assert "x[&lt;a&gt;]" in page and "<td>1.23</td>" in page and "<td>–</td>" in page
    assert all(f'<li class="{finding.severity}">' in page for finding in findings)
    assert "Saw &lt;b&gt;." in page and "Do &amp; be." in page


def test_report_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(path, "old", [])

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, "new", [])
    assert os.listdir(tmp_path) == ["report.html"]
    assert "<title>old</title>" in path.read_text()


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        (["text"], "expected a Section"),
        ([Section("a", figure=3)], "Matplotlib"),
        ([Section("a", table=[1])], "DataFrame"),
    ],
)
def test_report_refuses_what_it_cannot_hold(tmp_path, sections, part):
    with pytest.raises(TypeError, match=part):
        write_report(tmp_path / "report.html", "title", sections)
    assert not os.listdir(tmp_path)


def test_report_asks_for_its_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="create it first"):
        write_report(tmp_path / "none" / "report.html", "title", [])


@pytest.mark.parametrize("plot", [plot_trace, plot_rank])
def test_plots_have_a_row_per_entry_and_leave_pyplot_alone(plot, draws, tmp_path):
    figure = plot(draws)
    labels = [ax.get_ylabel().split("\n")[0] for ax in figure.axes if ax.get_ylabel()]
    assert labels == ["x[Ozone]", "x[Wind]", "s"]
    figure.savefig(tmp_path / "figure.png")
    assert plot(draws, ["x[Wind]"]).axes[0].get_ylabel() == "x[Wind]"
    with pytest.raises(ValueError, match="'x\\[Rain\\]'"):
        plot(draws, ["x[Rain]"])
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


@pytest.mark.parametrize(
    "values", [np.full((2, 50), np.nan), np.ones((1, 1)), np.ones((12, 30, 14))]
)
def test_plots_survive_odd_draws(values, tmp_path):
    for plot in (plot_trace, plot_rank):
        plot({"x": values}).savefig(tmp_path / "figure.png")


def test_contours_hold_their_mass():
    x, y, values = normal_grid()
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["a", "b"])
    figure = scatter_with_contours(data, None, (x, y, values), masses=(0.5, 0.9))
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")
    lines = ax.collections[-1] if len(ax.collections) > 1 else ax.collections[0]
    radii = sorted(np.abs(path.vertices[:, 0]).max() for path in lines.get_paths())
    np.testing.assert_allclose(radii, np.sqrt(-2 * np.log([0.5, 0.1])), rtol=0.02)


def test_contours_refuse_a_density_that_is_not_normalized():
    x, y, values = normal_grid()
    with pytest.raises(ValueError, match="subtract log Z"):
        scatter_with_contours(np.zeros((3, 2)), None, (x, y, values + 2))
    with pytest.raises(ValueError, match=r"expected \(n, 2\)"):
        scatter_with_contours(np.zeros(3))


def test_numbers_are_rounded_for_reading():
    table = pd.DataFrame(
        {
            "mean": [41.234, 0.5012],
            "ess_bulk": [1234.5, np.inf],
            "r_hat": [1.00049, np.nan],
            "n": [1, 2000],
        }
    )
    assert format_table(table).to_numpy().tolist() == [
        ["41.23", "1,234", "1.000", "1"],
        ["0.50", "inf", "–", "2,000"],
    ]
    assert format_table(pd.DataFrame({"tiny": [1e-9]})).iloc[0, 0] == "1.00e-09"

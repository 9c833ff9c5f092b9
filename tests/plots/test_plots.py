"""Figures of results: what they draw, that any label and any number can be drawn, and refusals."""

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
from made_fits import matrix_fit
from matplotlib.figure import Figure

import unnorm as un
from unnorm.core.findings import ERROR, Finding
from unnorm.fitting.penalties.path_result import Path
from unnorm.fitting.results.fit import Fit
from unnorm.partition.base import LogZ

LABELS = ["$\\alpha$_", "<b>&", "c" * 90, "$^"]


def log_z(value, error=0.1, **options):
    return LogZ(value, error, {"values": 1, "gradients": 0}, "ok", "x: counting", "smc", **options)


def texts(figure):
    figure.canvas.draw()
    return " | ".join(
        text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))
    )


def lines(figure):
    return [line for ax in figure.axes for line in ax.lines if len(line.get_xdata()) == 2]


# -- forest ----------------------------------------------------------------------------------------
def test_forest_draws_each_interval_of_the_table():
    fit = matrix_fit([1.0, -0.5, 0.2], [0.1, 0.2, 0.1])
    figure = fit.plot()
    drawn = sorted(tuple(line.get_xdata()) for line in lines(figure) if line.get_linewidth() > 1)
    np.testing.assert_allclose(drawn, np.sort(fit.summary()[["lower", "upper"]].to_numpy(), axis=0))
    assert "v0, v1" in texts(figure) and "coupling" in texts(figure)


@pytest.mark.parametrize(
    ("estimates", "errors"),
    [
        ([np.nan, np.inf, -np.inf], None),
        ([np.nan] * 3, [np.nan] * 3),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([1e300, -1e300, 1e-300], [1e299, 1e5, 1e-301]),
        ([1.0, 2.0, 3.0], [1e9, 0.1, 0.1]),
    ],
)
def test_forest_and_network_draw_any_numbers(estimates, errors):
    fit = matrix_fit(estimates, errors, labels=LABELS[:3])
    for figure in (un.plot_forest(fit), un.plot_network(fit, "coupling")):
        assert isinstance(figure, Figure) and texts(figure)


def test_forest_limits_its_rows():
    fit = matrix_fit(np.linspace(-1, 1, 1035), np.full(1035, 0.1))
    figure = un.plot_forest(fit, most=40)
    assert "995 more rows" in texts(figure) and figure.get_figheight() < 12


def test_a_fit_that_did_not_pass_says_so_on_its_figures():
    fit = matrix_fit([1.0, -0.5, 0.2], converged=False, findings=[Finding("$it$ <ran>", "", ERROR)])
    for figure in (un.plot_forest(fit), un.plot_network(fit, "coupling"), un.plot_training(fit)):
        assert "Did not pass: $it$ <ran>" in texts(figure)


# -- network ---------------------------------------------------------------------------------------
def test_network_signs_widths_and_what_is_left_out():
    fit = matrix_fit([2.0, -1.0, 0.1], [0.1, 0.1, 0.1])
    figure = un.plot_network(fit, "coupling")
    edges = {line.get_linewidth(): line for line in lines(figure)}
    assert len(edges) == 2
    thin, thick = sorted(edges)
    assert edges[thick].get_linestyle() == "-" and edges[thin].get_linestyle() == "--"
    said = texts(figure)
    assert "1 edge not drawn" in said and "v0 – v1: 2.00 (1.80 to 2.20)" in said
    assert "v0 – v2: −1.00" in said


def test_no_edge_crosses_a_label():
    """Labels stand outside the circle on which the nodes are, and edges inside."""
    fit = matrix_fit(np.ones(190), np.full(190, 0.1))
    figure = un.plot_network(fit, "coupling")
    figure.canvas.draw()
    ax = figure.axes[0]
    to_data = ax.transData.inverted()
    for text in ax.texts:
        corners = to_data.transform(text.get_window_extent().corners())
        middle = corners.mean(0)
        assert np.hypot(*middle) > 1.0
    assert max(np.hypot(*np.array(line.get_data())).max() for line in lines(figure)) < 1.001


def test_network_refuses_what_is_no_symmetric_matrix():
    p = un.Density(lambda x, *, m: m @ x, {"x": un.Real[2]}, {"m": (un.Real[2], 0.5)})
    fit = Fit(p, "nce", "t", True, None, np.ones(1), 0, 5, _estimates=np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="symmetric matrix"):
        un.plot_network(fit, "m")
    with pytest.raises(ValueError, match="did you mean 'm'"):
        un.plot_network(fit, "mm")


# -- log Z, path, training -------------------------------------------------------------------------
def test_log_z_draws_intervals_bounds_and_verdicts():
    bad = log_z(1.2, findings=[Finding("no")])
    bad = dataclasses.replace(bad, verdict="unreliable")
    found = [log_z(1.0, bounds=(0.9, 1.1)), log_z(1.1, 0.0), bad, log_z(np.inf, np.nan)]
    figure = un.plot_log_z(found)
    said = texts(figure)
    assert "smc (1)" in said and "smc (3) (unreliable)" in said and "log Z = inf" in said
    assert "did not pass" in said and "exact" in said and "bounds" in said
    intervals = sorted(tuple(line.get_xdata()) for line in lines(figure))
    np.testing.assert_allclose(intervals[0], log_z(1.0).interval())
    far = un.plot_log_z({"$a$": log_z(1.0, bounds=(-50.0, np.inf))})
    assert "-50 ◂" in texts(far) and far.axes[0].get_xlim()[0] > 0
    for wrong in ([], [1.0], {"a": 3}):
        with pytest.raises(ValueError, match="must be a LogZ"):
            un.plot_log_z(wrong)


def test_path_marks_the_best_strength():
    strengths = pd.Index([1.0, 0.1, 0.01])
    table = pd.DataFrame({f"m[{i}$]": [0.0, i / 2, float(i)] for i in range(14)}, index=strengths)
    path = Path(
        table, pd.Series([3.0, 1.0, 2.0], strengths), pd.Series([1.0, 1, 1], strengths), None,
        list(table.columns), "p", "nce",
    )  # fmt: skip
    figure = un.plot_path(path)
    assert len(figure.axes) == 2 and "4 smaller entries are pale" in texts(figure)
    assert "m[13$]" in texts(figure) and "m[1$]" not in texts(figure)
    best = [line for line in figure.axes[0].lines if list(line.get_xdata()) == [0.1, 0.1]]
    assert len(best) == 1
    flat = dataclasses.replace(path, extended_bic=path.extended_bic * np.nan)
    assert len(un.plot_path(flat).axes) == 1


def test_training_curves():
    rng = np.random.default_rng(0)
    fit = dataclasses.replace(matrix_fit([1.0]), history=rng.normal(size=2000))
    figure = un.plot_training(fit)
    assert len(figure.axes[0].lines) == 2 and "running median" in texts(figure)
    odd = dataclasses.replace(fit, history=np.array([1.0, np.nan, np.inf]))
    assert "not finite from here" in texts(un.plot_training(odd))
    with pytest.raises(ValueError, match="without a history"):
        un.plot_training(dataclasses.replace(fit, history=np.zeros(0)))


# -- grid ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("draws", "shape"),
    [
        (np.ones((5, 4, 6)), None),
        (np.zeros((5, 16)), None),
        (np.full((2, 3, 24), np.nan).reshape(6, 24), (4, 6)),
        (np.random.default_rng(0).random((3, 4, 4, 3)), None),
        ({"x": np.random.default_rng(0).random((2, 50, 4, 4))}, None),
    ],
)
def test_grid_takes_images(draws, shape):
    figure = un.plot_grid(draws, shape=shape, most=9)
    assert len(figure.axes[0].images) == 1 and "images" in texts(figure)


def test_grid_refuses_other_shapes():
    with pytest.raises(ValueError, match="pass the shape"):
        un.plot_grid(np.zeros((3, 7)))
    with pytest.raises(ValueError, match="pass name="):
        un.plot_grid({"x": np.zeros((1, 3, 4)), "y": np.zeros((1, 3, 4))})


# -- density ---------------------------------------------------------------------------------------
def test_density_in_one_dimension_is_normalized():
    p = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
    figure = un.plot_density(p, np.random.default_rng(0).normal(size=100), np.zeros(50))
    (curve,) = [one for one in figure.axes[0].lines if one.get_label() == "density"]
    x, y = curve.get_data()
    np.testing.assert_allclose(y, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), rtol=1e-6)
    assert "draws" in texts(figure)
    with pytest.raises(ValueError, match="pass window"):
        un.plot_density(p)
    with pytest.raises(ValueError, match="low before high"):
        un.plot_density(p, window=(1.0, 1.0))


def test_density_refuses_many_dimensions():
    p = un.Density(lambda x: -(x**2).sum(), {"x": un.Real[3]})
    with pytest.raises(ValueError, match="one or two"):
        un.plot_density(p, np.zeros((4, 3)))


def test_no_figure_uses_pyplot():
    figures = getattr(sys.modules.get("matplotlib.pyplot"), "get_fignums", list)()
    un.plot_forest(matrix_fit([1.0, 2.0, 3.0]))
    assert getattr(sys.modules.get("matplotlib.pyplot"), "get_fignums", list)() == figures

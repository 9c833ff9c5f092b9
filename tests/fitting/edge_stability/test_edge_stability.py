"""Edges of networks in resampled rows and in subsets, against NumPy and fits of the same rows."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from made_fits import matrix_fit

import unnorm as un
from unnorm.core.random_keys import fold_in, make_key, split_keys
from unnorm.fitting.edge_stability.result import EdgeStability
from unnorm.fitting.inference.bootstrap.refits import bootstrap_rows, subset_rows

NAMES = ["a", "b", "c", "d"]
MIXED = np.random.default_rng(0).normal(size=(60, 4)) @ [
    [1, 0.5, 0, 0], [0, 1, -0.4, 0], [0, 0, 1, 0.1], [0, 0, 0, 1.0]
]  # fmt: skip
ROWS = pd.DataFrame(MIXED - MIXED.mean(0), columns=NAMES)
UPPER = np.triu_indices(4, 1)
SHARES = [0.2, 0.5]


@un.density
def pairwise(x: un.Real["item"], *, coupling: un.Symmetric["item"] = 0.0):
    """A Gaussian of unit conditional variances; score matching's loss is quadratic."""
    return -0.5 * x @ x - 0.5 * x @ coupling @ x


def fitted(p, data=ROWS, objective="score_matching", **options):
    return un.fit(p, data, objective, **({"seed": 0, "progress": False} | options))


def stability(fit, edges="coupling", n=6, **options):
    given = {"dropped": SHARES, "seed": 3, "progress": False} | options
    return fit.edge_stability(edges, n, **given)


def chosen_rows(n, rows=60, seed=3):
    """The rows of the resamples, and of the subsets of each share."""
    with jax.enable_x64(True):  # the precision of the fits
        draws = list(bootstrap_rows(split_keys(make_key(seed))[0], rows, n))
        keys = [split_keys(fold_in(make_key(seed), 1 + at))[0] for at in range(2)]
        return draws, [
            list(subset_rows(key, rows, n // 2, share))
            for key, share in zip(keys, SHARES, strict=True)
        ]


# -- against NumPy ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def gaussian():
    return stability(fitted(un.models.gaussian_graphical), "precision", 40)


def edges_by_hand(rows):
    """Score matching of a Gaussian is the inverse of the data's covariance."""
    return np.linalg.inv(np.cov(ROWS.to_numpy()[rows].T, bias=True))[UPPER]


@pytest.mark.slow
def test_resamples_and_subsets_are_those_of_numpy(gaussian):
    draws, subsets = chosen_rows(40)
    by_hand = np.array([edges_by_hand(rows) for rows in draws])
    np.testing.assert_allclose(gaussian.estimates, by_hand, rtol=1e-8)
    everything = edges_by_hand(np.arange(60))
    np.testing.assert_allclose(gaussian.fitted, everything, rtol=1e-8)
    expected = [
        np.corrcoef(edges_by_hand(rows), everything)[0, 1] for part in subsets for rows in part
    ]
    np.testing.assert_allclose(gaussian.correlations["correlation"], expected, rtol=1e-8)
    table = gaussian.summary(0.9)
    np.testing.assert_allclose(table["lower"], np.quantile(by_hand, 0.05, axis=0))
    np.testing.assert_allclose(table["upper"], np.quantile(by_hand, 0.95, axis=0))
    np.testing.assert_allclose(table["mean"], by_hand.mean(0))
    same = np.sign(by_hand) == np.sign(everything)
    np.testing.assert_allclose(table["same_sign"], same.mean(0))
    assert (table["selected"] == 1).all() and 0 < table["same_sign"].min() < 1
    dropped = gaussian.case_drop(0.9)
    reached = [np.mean(np.array(expected[20 * at : 20 * at + 20]) >= 0.9) for at in range(2)]
    assert dropped["reaches"].tolist() == reached and dropped["subsets"].tolist() == [20, 20]


@pytest.mark.slow
def test_the_diagonal_is_no_edge_and_labels_are_the_data_s(gaussian):
    assert list(gaussian.fitted.index[:2]) == [("precision", "a", "b"), ("precision", "a", "c")]
    assert len(gaussian.fitted) == 6 and gaussian.passed


@pytest.mark.slow
def test_the_resamples_are_those_of_the_bootstrap(gaussian):
    found = fitted(un.models.gaussian_graphical).bootstrap(40, seed=3)
    np.testing.assert_array_equal(gaussian.estimates, found.estimates[gaussian.estimates.columns])


@pytest.mark.slow
def test_what_is_shown(gaussian):
    assert "6 edges, 40 resamples, 40 subsets, CS-coefficient" in repr(gaussian)
    page = gaussian._repr_html_()
    assert "CS-coefficient" in page and "50% dropped" in page and "same_sign" in page
    figure = gaussian.plot()
    assert figure.axes[0].get_title(loc="left") == "precision in resampled rows"
    assert "a – b" in [label.get_text() for label in figure.axes[0].get_yticklabels()]


# -- against fits of the same rows -----------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"penalty": {"coupling": un.L1(0.1)}}, {"prior": {"coupling": dist.Normal(0, 0.1)}}]
)
def test_each_refit_is_a_fit_of_its_rows(options):
    """With a lasso, whose zeros are counted; with a prior, which counts once for fewer rows too."""
    found = stability(fitted(pairwise, **options), n=4)
    draws, subsets = chosen_rows(4)

    def again(rows):
        return fitted(pairwise, ROWS.iloc[rows], **options).density.parameters["coupling"][UPPER]

    by_hand = np.array([again(rows) for rows in draws])
    np.testing.assert_allclose(found.estimates, by_hand, atol=1e-9)
    np.testing.assert_array_equal(found.summary()["selected"], (by_hand != 0).mean(0))
    last = again(subsets[1][1])
    expected = np.corrcoef(last, found.fitted)[0, 1]
    assert found.correlations["correlation"].iloc[-1] == pytest.approx(expected, abs=1e-8)
    held = any("own strength of the lasso" in f.what for f in found.findings)
    assert held == ("penalty" in options)


@pytest.mark.slow
def test_a_path_chooses_its_strength_again_for_all_rows_that_are_drawn():
    options = {"penalty": {"coupling": un.L1()}, "seed": 0, "progress": False}
    path = un.path(pairwise, ROWS, "score_matching", **options)
    found = stability(path, n=2)
    draws, subsets = chosen_rows(2)
    strengths = set()
    for rows, row in zip(draws, found.estimates.to_numpy(), strict=True):
        best = un.path(pairwise, ROWS.iloc[rows], "score_matching", **options)
        strengths.add(best.extended_bic.idxmin())
        np.testing.assert_allclose(row, best.best.density.parameters["coupling"][UPPER], atol=1e-9)
    assert len(strengths) == 2
    best = un.path(pairwise, ROWS.iloc[subsets[0][0]], "score_matching", **options).best
    last = np.corrcoef(best.density.parameters["coupling"][UPPER], found.fitted)[0, 1]
    assert found.correlations["correlation"].iloc[0] == pytest.approx(last, abs=1e-8)


# -- the CS-coefficient ----------------------------------------------------------------------------
def made(reaching, size=20):
    """A result in which so many of 20 subsets of each share reach .7; the first other has no
    estimate."""
    table = [
        {"dropped": share, "correlation": 0.7 if at < count else np.nan if at == count else 0.6}
        for share, count in reaching.items()
        for at in range(size)
    ]
    fitted = pd.Series([1.0, 2.0])
    return EdgeStability("coupling", fitted, pd.DataFrame(np.ones((3, 2))), pd.DataFrame(table), 0)


@pytest.mark.parametrize(
    ("reaching", "expected"),
    [
        ({0.1: 20, 0.3: 19, 0.5: 18}, 0.3),  # .95 itself is enough
        ({0.1: 20, 0.3: 20, 0.5: 20}, 0.5),
        ({0.1: 18, 0.3: 20}, 0.0),  # a larger share that holds by chance does not count
        ({0.1: 20, 0.3: 18, 0.5: 20}, 0.1),
    ],
)
def test_the_coefficient_is_the_largest_share_that_holds_with_all_smaller_ones(reaching, expected):
    assert made(reaching).cs_coefficient() == expected


def test_other_limits_give_other_coefficients():
    found = made({0.1: 20, 0.3: 19, 0.5: 18})
    assert found.cs_coefficient(probability=0.9) == 0.5
    assert found.cs_coefficient(correlation=0.71) == 0.0


@pytest.mark.slow
def test_edges_that_do_not_vary_are_uncorrelated():
    """A lasso that leaves nothing: the correlation counts as 0, and there is a warning."""
    found = stability(fitted(pairwise, penalty={"coupling": un.L1(10.0)}), n=40)
    assert (found.correlations["correlation"] == 0).all() and found.cs_coefficient() == 0
    assert (found.summary()[["selected", "same_sign"]] == [0, 1]).all(axis=None)
    assert any("CS-coefficient of coupling is 0.00" in f.what for f in found.findings)


@pytest.mark.slow
def test_subsets_without_a_finite_estimate_do_not_hold():
    data = np.array([[0, 0, 0]] * 9 + [[1, 0, 0]] * 8 + [[0, 1, 0]] * 8 + [[0, 0, 1]] * 8
                    + [[1, 1, 0]] * 3 + [[1, 0, 1]] * 3 + [[0, 1, 1]] * 2)  # fmt: skip
    fit = un.fit(un.models.ising, data, "maximum_likelihood", seed=0, progress=False)
    found = stability(fit, n=12, dropped=[0.6])
    dropped = found.case_drop().iloc[0]
    assert 0 < dropped["infinite"] < 12 and dropped["reaches"] <= 1 - dropped["infinite"] / 12
    assert found.infinite + len(found.estimates) == 12
    assert any("no finite estimate" in f.what for f in found.findings)
    found.plot()


# -- which rows ------------------------------------------------------------------------------------
def test_a_subset_has_its_share_of_rows_each_once():
    drawn = list(subset_rows(jax.random.key(0), 50, 400, 0.3))
    assert {len(set(rows)) for rows in drawn} == {35}
    share = np.bincount(np.concatenate(drawn), minlength=50) / 400
    assert np.abs(share - 0.7).max() < 4 * np.sqrt(0.7 * 0.3 / 400)


def test_clusters_are_dropped_whole():
    cluster = np.repeat(np.arange(10), 5)
    for rows in subset_rows(jax.random.key(0), 50, 20, 0.3, cluster):
        assert (np.bincount(cluster[rows], minlength=10) % 5 == 0).all() and len(rows) == 35


# -- refusals --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"edges": "couplin"}, "did you mean 'coupling'"),
        ({"edges": 3}, "edges is 3"),
        ({"dropped": [0.5, 1.0]}, "must hold shares between 0 and 1"),
        ({"dropped": "half"}, "must hold shares between 0 and 1"),
        ({"dropped": []}, "must hold shares between 0 and 1"),
        ({"dropped": 0.001}, "leaves 60 of 60 rows"),
        ({"dropped": 0.99}, "leaves 1 of 60 rows"),
        ({"n": 1}, "n is 1; expected an integer of at least 2"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(change, said):
    made = matrix_fit([0.5, -0.2, 0.1])
    asked = SimpleNamespace(rows=60, weights=None, clusters=None, penalty=None, objective=None)
    fit = dataclasses.replace(made, _origin=(asked, None), _refit=lambda *_: None)
    with pytest.raises(ValueError, match=said):
        stability(fit, **({"edges": "coupling"} | change))


@pytest.mark.slow
def test_fits_that_cannot_be_repeated_are_refused(tmp_path):
    fit = fitted(pairwise)
    fit.save(tmp_path / "fit")
    cases = [
        (un.load(tmp_path / "fit", pairwise), "cannot be repeated here"),
        (fitted(pairwise, sampling_weights=np.linspace(1, 2, 60)), "sampling weights"),
        (fitted(pairwise, ROWS.iloc[:, :2]), "it must have at least two"),
        (fitted(pairwise, cluster=np.arange(60) // 30), "leaves 2 of 2 rows or clusters"),
        (un.fit([pairwise] * 2, [ROWS, ROWS], "score_matching", seed=0, progress=False),
         "2 data sets"),
    ]  # fmt: skip
    for one, said in cases:
        with pytest.raises(ValueError, match=said):
            stability(one)

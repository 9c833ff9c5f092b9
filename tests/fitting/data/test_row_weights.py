"""Weights of rows: two kinds with two arguments, columns by name, indices aligned, and what is
refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import unnorm as un

ROWS = 400
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(2.0, 1.5, ROWS)
TIMES = RANDOM.integers(0, 4, ROWS)
SHARES = RANDOM.uniform(0.5, 3.0, ROWS)
GROUP = np.repeat(np.arange(40), 10)
LABELS = [f"r{i}" for i in range(ROWS)]
FRAME = pd.DataFrame({"x": X, "k": TIMES, "w": SHARES, "g": [f"g{i}" for i in GROUP]}, index=LABELS)


@un.density
def normal(x: un.Real, *, m: un.Real = 0.0):
    return -0.5 * (x - m) ** 2


@un.density
def plane(x: un.Real["d"], *, m: un.Real["d"] = 0.0):
    return -0.5 * ((x - m) ** 2).sum()


def fitted(data=X, p=normal, **options):
    return un.fit(p, data, "score_matching", seed=0, progress=False, **options)


def estimate(fit):
    return tuple(fit.summary()[["estimate", "standard_error"]].iloc[0])


def repeated():
    return estimate(fitted(np.repeat(X, TIMES)))


def weighted(weights=SHARES):
    """The weighted mean and its robust error, in closed form."""
    mean = np.average(X, weights=weights)
    return mean, np.sqrt(np.sum(weights**2 * (X - mean) ** 2)) / weights.sum()


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.uint64, np.float16, object])
def test_frequencies_of_any_type_are_so_many_equal_rows(kind):
    assert estimate(fitted(frequency_weights=TIMES.astype(kind))) == repeated()


@pytest.mark.parametrize("scale", [1.0, 350.0, 1e300, 1e-300])
def test_sampling_weights_matter_up_to_a_constant(scale):
    found = estimate(fitted(sampling_weights=scale * SHARES))
    assert found == (pytest.approx(weighted()[0], rel=1e-8), pytest.approx(weighted()[1], rel=1e-2))


def test_whole_sampling_weights_stand_for_no_rows():
    fit = fitted(sampling_weights=100 + 50 * TIMES)
    assert fit.rows == ROWS
    mean, error = weighted(100.0 + 50 * TIMES)
    assert estimate(fit) == (pytest.approx(mean, rel=1e-8), pytest.approx(error, rel=1e-2))


def test_a_column_by_its_name():
    assert estimate(fitted(FRAME, frequency_weights="k")) == repeated()
    for given in (FRAME, {"x": X, "w": SHARES}, xr.Dataset({"x": ("i", X), "w": ("i", SHARES)})):
        assert estimate(fitted(given, sampling_weights="w")) == estimate(
            fitted(sampling_weights=SHARES)
        )
    for given in (FRAME, {"x": X, "g": GROUP}):
        assert estimate(fitted(given, cluster="g")) == pytest.approx(
            estimate(fitted(cluster=GROUP))
        )


def test_the_column_of_weights_is_no_variable():
    table = pd.DataFrame({"a": X, "b": -X, "w": SHARES})
    fit = fitted(table, plane, sampling_weights="w")
    assert list(fit.summary().index.flat) == ["m[a]", "m[b]"]
    assert estimate(fit)[0] == pytest.approx(weighted()[0], rel=1e-8)
    array = xr.DataArray(
        table[["a", "b"]].to_numpy(), dims=("row", "d"), coords={"w": ("row", SHARES)}
    )
    assert estimate(fitted(array, plane, sampling_weights="w"))[0] == pytest.approx(
        weighted()[0], rel=1e-8
    )


def test_one_row_that_outweighs_the_others_is_an_error():
    """Intervals had been a thousandth as wide as the data, and passed."""
    weights = np.ones(ROWS)
    weights[0] = 1e4
    fit = fitted(sampling_weights=weights)
    (found,) = [f for f in fit.findings if "effective rows" in f.what]
    assert found.severity == "error" and found.code == "small_sample" and not fit.passed
    assert not any("effective" in f.what for f in fitted(sampling_weights=SHARES).findings)


def test_a_series_is_aligned_by_its_index():
    order = RANDOM.permutation(ROWS)
    moved = FRAME.iloc[order]
    assert estimate(fitted(FRAME, sampling_weights=moved["w"])) == estimate(
        fitted(sampling_weights=SHARES)
    )
    assert estimate(fitted(FRAME, frequency_weights=moved["k"])) == repeated()
    assert estimate(fitted(FRAME, cluster=moved["g"])) == pytest.approx(
        estimate(fitted(cluster=GROUP))
    )
    some = FRAME.iloc[100:]
    np.testing.assert_allclose(
        estimate(fitted(some, sampling_weights=moved["w"])),
        estimate(fitted(X[100:], sampling_weights=SHARES[100:])),
        rtol=1e-12,
    )


def test_weights_of_old_say_what_was_understood():
    with pytest.warns(FutureWarning, match="were read as frequency_weights"):
        fit = fitted(weights=TIMES)
    assert estimate(fit) == repeated()
    assert [f.code for f in fit.findings if "frequency_weights" in f.what] == ["kind_of_weights"]
    with pytest.warns(FutureWarning, match="were read as sampling_weights"):
        fit = fitted(FRAME, weights="w")
    assert estimate(fit) == estimate(fitted(sampling_weights=SHARES))
    assert [f.severity for f in fit.findings if "sampling_weights" in f.what] == ["warning"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(sampling_weights=SHARES)


def test_a_path_takes_them_too():
    options = dict(objective="score_matching", penalty={"m": un.L1([0.1])}, seed=0, progress=False)
    given = un.path(normal, FRAME, frequency_weights="k", **options).coefficients
    assert given.equals(un.path(normal, np.repeat(X, TIMES), **options).coefficients)
    given = un.path(normal, FRAME, sampling_weights="w", **options).coefficients.iloc[0, 0]
    assert given == pytest.approx(weighted()[0] - 0.1, rel=1e-6)


MASKED = np.ma.masked_array(SHARES, np.arange(ROWS) == 7)
GAPS = pd.Series(SHARES, LABELS, dtype="Float64").mask(np.arange(ROWS) == 7)
REFUSED = {
    "fractions": (
        {"frequency_weights": SHARES},
        r"^frequency_weights holds .* at row 0; "
        r"expected integers",
    ),
    "negative": ({"sampling_weights": SHARES - 2}, "sampling_weights holds -.* at row"),
    "NaN": (
        {"sampling_weights": np.where(np.arange(ROWS) == 7, np.nan, 1.0)},
        "holds nan at row 7",
    ),
    "masked": ({"sampling_weights": MASKED}, r"sampling_weights is masked at index \(7,\)"),
    "missing": ({"sampling_weights": GAPS}, "missing value at row 7 .*r7"),
    "zeros": ({"frequency_weights": np.zeros(ROWS)}, "holds only zeros"),
    "booleans": ({"frequency_weights": TIMES > 0}, "holds True and False"),
    "text": ({"sampling_weights": np.array(["1"] * ROWS)}, "sampling_weights has dtype <U1"),
    "complex": ({"sampling_weights": SHARES + 0j}, "complex"),
    "length": (
        {"frequency_weights": TIMES[1:]},
        r"shape \(399,\); expected one value for each "
        r"of 400 rows",
    ),
    "two axes": ({"cluster": np.stack([GROUP, GROUP], 1)}, r"cluster has the shape \(400, 2\)"),
    "a number": ({"sampling_weights": 2.0}, "sampling_weights is 2.0; expected one value for each"),
    "too many rows": ({"frequency_weights": np.full(ROWS, 1e12)}, "add up to 4e[+]14 rows"),
    "both kinds": (
        {"frequency_weights": TIMES, "sampling_weights": SHARES},
        "^frequency_weights and sampling_weights",
    ),
    "old and new": (
        {"weights": TIMES, "sampling_weights": SHARES},
        "^sampling_weights and weights were given",
    ),
    "no column": (
        {"data": FRAME, "cluster": "gg"},
        "cluster is 'gg', and data has the columns x, k, w, g",
    ),
    "no columns": ({"cluster": "g"}, "cluster is 'g', and data has no named columns"),
    "another index": (
        {"data": FRAME, "sampling_weights": pd.Series(SHARES)},
        "cannot be aligned .* no entry 'r0'",
    ),
    "repeated index": (
        {"data": FRAME, "cluster": pd.Series(GROUP, ["r0"] * ROWS)},
        "repeated entries",
    ),
    "shuffled index, no index": (
        {"cluster": pd.Series(GROUP)[::-1]},
        "not in the order of its rows",
    ),
    "no cluster": (
        {"cluster": np.where(GROUP == 3, None, GROUP)},
        "cluster has a missing value at row 30",
    ),
    "NaN cluster": (
        {"cluster": np.where(GROUP == 3, np.nan, GROUP)},
        "cluster has a missing value at row 30",
    ),
    "batches": (
        {"data": iter([X, X]), "sampling_weights": SHARES},
        "sampling_weights was given to a fit on an iter",
    ),
    "several": (
        {"data": [X, X], "p": [normal, normal], "frequency_weights": TIMES},
        "^frequency_weights was given",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    options, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as told:
        fitted(**options)
    assert "\n" not in str(told.value)


def test_clusters_of_mixed_labels():
    mixed = np.array([i if i % 2 else f"c{i}" for i in GROUP], dtype=object)
    np.testing.assert_allclose(
        estimate(fitted(cluster=mixed)), estimate(fitted(cluster=GROUP)), rtol=1e-10
    )

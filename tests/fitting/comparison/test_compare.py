"""Fits held against each other: values by hand, the blind spot of score matching, information
criteria, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from helpers import assert_within
from scipy import stats
from targets import ising

import unnorm as un
from unnorm.fitting.inference.information_criteria import information_criterion
from unnorm.fitting.loss import parameters_of

RNG = np.random.default_rng(5)
TRAIN, OTHER = RNG.normal(1.0, 1.0, 200), RNG.normal(1.0, 1.2, 80)
H, SMIC, NCIC = (f"{name} (lower is better)" for name in ("h_score", "smic", "ncic"))


@un.density
def precise(x: un.Real, *, precision: un.Real = 1.0):
    return -0.5 * precision * x**2


@un.density
def normal(x: un.Real, *, shift: un.Real = 0.0, precision: un.Positive = 1.0):
    return -0.5 * precision * (x - shift) ** 2


@pytest.fixture(scope="module")
def fits():
    return {
        "precise": un.fit(precise, TRAIN, "score_matching", seed=0, progress=False),
        "normal": un.fit(normal, TRAIN, "maximum_likelihood", seed=0, progress=False),
    }


# -- the two criteria ------------------------------------------------------------------------------
def test_criteria_and_paired_differences_by_hand(fits):
    found = un.compare(fits, OTHER, progress=False)
    laws = {"precise": (0.0, (TRAIN**2).mean()), "normal": (TRAIN.mean(), TRAIN.var())}
    logs = {name: stats.norm(m, np.sqrt(v)).logpdf(OTHER) for name, (m, v) in laws.items()}
    scores = {name: -1 / v + 0.5 * ((OTHER - m) / v) ** 2 for name, (m, v) in laws.items()}
    best, sharpest = (
        max(logs, key=lambda n: logs[n].sum()),
        min(scores, key=lambda n: scores[n].sum()),
    )
    for name, row in found.table.iterrows():
        assert row["log_likelihood"] == pytest.approx(logs[name].sum(), abs=1e-6)
        assert row[H] == pytest.approx(scores[name].sum(), abs=1e-6)
        apart, away = logs[name] - logs[best], scores[name] - scores[sharpest]
        assert row["log_likelihood_difference"] == pytest.approx(apart.sum(), abs=1e-6)
        assert row["log_likelihood_difference_error"] == pytest.approx(
            np.sqrt(80) * apart.std(ddof=1), abs=1e-6
        )
        assert row["h_score_difference"] == pytest.approx(away.sum(), abs=1e-6)
        assert row["h_score_difference_error"] == pytest.approx(
            np.sqrt(80) * away.std(ddof=1), abs=1e-6
        )
    assert (found.table["monte_carlo_error"] == 0).all() and found.passed
    assert repr(found) == (
        f"Comparison of 2 fits on 80 rows: the log-likelihood is best for {best}, the H-score is "
        f"best for {sharpest}"
    )
    assert H in str(found)


def test_an_estimated_log_z_adds_its_error_to_the_differences(fits, monkeypatch):
    """The same fits, each with a log Z whose error is .01: n times that, twice, in quadrature."""
    exact = un.compare(fits, OTHER, progress=False).table
    plain = type(fits["normal"]).log_likelihood

    def noisy(fit, data):
        return plain(fit, data)._replace(monte_carlo_error=0.01 * len(data))

    monkeypatch.setattr(type(fits["normal"]), "log_likelihood", noisy)
    found = un.compare(fits, OTHER, progress=False).table
    column = "log_likelihood_difference_error"
    added = np.where(exact[column] > 0, np.hypot(exact[column], 0.8 * np.sqrt(2)), 0.0)
    np.testing.assert_allclose(found[column], added, rtol=1e-10)
    assert (found["monte_carlo_error"] == 0.8).all()


@pytest.mark.slow
def test_the_blind_spot_of_score_matching_is_named():
    """Old Faithful's eruptions, a quartic: score matching fits each mode and gives the short one
    96% of the mass."""
    minutes = un.models.load("old_faithful")["eruptions"]
    data = ((minutes - minutes.mean()) / minutes.std(ddof=0)).to_numpy()
    order = np.random.default_rng(0).permutation(len(data))
    train, other = data[order[:136]], data[order[136:]]
    methods = ("score_matching", "maximum_likelihood")
    fits = {m: un.fit(un.models.quartic, train, m, seed=0, progress=False) for m in methods}
    found = un.compare(fits, other, progress=False)
    row = found.table.loc["score_matching"]
    assert row["log_likelihood_difference"] < -100 < -2 * row["log_likelihood_difference_error"]
    assert row["h_score_difference"] < 2 * row["h_score_difference_error"]
    (finding,) = found.findings
    assert (
        "cannot see the weights of separated modes" in finding.what
        and "calls the two alike" in finding.what
    )
    own = un.compare(fits, train, progress=False)
    assert any(
        "the held-out rows are those that 'score_matching', 'maximum_likelihood' were" in f.what
        for f in own.findings
    )
    assert any("prefers 'score_matching'" in f.what for f in own.findings)
    grid = np.linspace(-4, 4, 4001)
    cut = (3 - minutes.mean()) / minutes.std(ddof=0)  # three minutes part the modes
    shares = [
        np.exp(np.asarray(fit.density(grid), float) - float(fit.log_z)) for fit in fits.values()
    ]
    short = [share[grid < cut].sum() / share.sum() for share in shares]
    assert short[0] > 0.9 and abs(short[1] - (train < cut).mean()) < 0.05


@pytest.mark.slow
def test_discrete_fits_are_compared_by_likelihood_alone():
    data = RNG.integers(0, 2, (80, 3))
    fits = {
        m: un.fit(ising, data[:50], m, seed=0, progress=False)
        for m in ("pseudo_likelihood", "maximum_likelihood")
    }
    found = un.compare(fits, data[50:], progress=False)
    assert H not in found.table and found.table["log_likelihood"].notna().all()
    assert any("there is no H-score" in f.what and "discrete" in f.what for f in found.findings)


@pytest.mark.slow
def test_without_a_log_z_the_row_is_nan_and_says_why():
    """Four dimensions with a covariate: no exact log Z, and one of `un.log_z` would be needed for
    every row."""

    @un.density
    def line(y: un.Real[4], *, slope: un.Real = 0.0, z: un.Covariate):
        return -0.5 * jnp.sum((y - slope * z) ** 2)

    z = RNG.normal(size=60)
    data = {"y": 2 * z[:, None] + RNG.normal(size=(60, 4)), "z": z}
    fit = un.fit(line, data, "score_matching", seed=0, progress=False)
    noise = {"y": RNG.normal(size=(60, 4)), "z": z}
    flat = un.fit(line.bind(slope=0.0), noise, "score_matching", seed=0, progress=False)
    other = {"y": 2 * z[:20, None] + RNG.normal(size=(20, 4)), "z": z[:20]}
    found = un.compare({"line": fit, "flat": flat}, other, progress=False)
    assert found.table["log_likelihood"].isna().all() and not found.passed
    assert (
        sum("has no log-likelihood" in f.what and "covariate z" in f.what for f in found.findings)
        == 2
    )
    assert found.table[H].idxmin() == "line"
    assert any("SMIC of 'line' and 'flat' are of other rows" in f.what for f in found.findings)


# -- information criteria --------------------------------------------------------------------------
def test_smic_of_a_gaussian_in_closed_form(fits):
    """Loss −p + p²x²/2: p̂ = 1/m₂, mean loss −p̂/2, ψ = p̂x² − 1, H = m₂, so that tr(J/H) = p̂³
    var(x²)."""
    p = 1 / (TRAIN**2).mean()
    expected = -100 * p + p**3 * (TRAIN**2).var()
    assert information_criterion(fits["precise"]) == pytest.approx(expected, abs=1e-8)
    assert un.compare(fits, OTHER, progress=False).table.loc["precise", SMIC] == pytest.approx(
        expected, abs=1e-8
    )


def test_a_penalised_or_loaded_fit_has_no_criterion(tmp_path):
    fit = un.fit(
        precise, TRAIN, "score_matching", penalty={"precision": un.L2(0.1)}, seed=0, progress=False
    )
    assert np.isnan(information_criterion(fit))
    fit.save(tmp_path / "fit.npz")
    assert np.isnan(information_criterion(un.load(tmp_path / "fit.npz", precise)))


@pytest.mark.slow
@pytest.mark.parametrize("law, second, fourth", [("normal", 1.0, 3.0), ("laplace", 2.0, 24.0)])
def test_smic_is_unbiased_for_the_loss_on_new_rows(law, second, fourth):
    """Its mean over data sets, less n times the risk at the estimate; the loss at the optimum is
    taken off both."""
    rng, n, off = np.random.default_rng(2), 400, []
    for _ in range(300):
        x = getattr(rng, law)(size=n)
        fit = un.fit(precise, x, "score_matching", seed=0, progress=False)
        p, best = float(fit.density.parameters["precision"]), 1 / second
        common = n * (0.5 * best**2 * ((x**2).mean() - second))
        off.append(information_criterion(fit) - n * (-p + 0.5 * p**2 * second) - common)
    error = np.std(off) / np.sqrt(len(off))
    trace = best**3 * (fourth - second**2)  # what the loss alone would be too small by
    assert error < 0.15 * trace
    assert_within(np.mean(off), 0.0, error, k=3)


@pytest.mark.slow
def test_ncic_is_unbiased_for_the_loss_on_new_rows():
    """As above, with noise that is given; the risk by a grid."""
    objective = un.objectives.NCE(noise=dist.Normal(0.0, 1.5), noise_ratio=2)
    grid = np.linspace(-12, 12, 4001)
    laws = [stats.norm(0, scale).pdf(grid) * (grid[1] - grid[0]) for scale in (1.0, 1.5)]

    def risk(p, log_z):
        ratio = -0.5 * p * grid**2 - log_z - stats.norm(0, 1.5).logpdf(grid) - np.log(2)
        return laws[0] @ np.logaddexp(0, -ratio) + 2 * laws[1] @ np.logaddexp(0, ratio)

    rng, n, off = np.random.default_rng(3), 300, []
    truth = 1.0, 0.5 * np.log(2 * np.pi)
    for seed in range(300):
        fit = un.fit(precise, rng.normal(size=n), objective, seed=seed, progress=False)
        loss = fit._origin.loss
        with jax.enable_x64(True):
            there = parameters_of(
                loss.density.bind(precision=truth[0]),
                loss.state._replace(nuisance={"log_z": jnp.array(truth[1])}),
            )
            common = float(loss.mean(there[0])) - risk(*truth)
        at = float(fit.density.parameters["precision"]), float(fit.log_z)
        off.append(information_criterion(fit) - n * (risk(*at) + common))
    error = np.std(off) / np.sqrt(len(off))
    assert error < 0.15
    assert_within(np.mean(off), 0.0, error, k=3)


# -- refusals --------------------------------------------------------------------------------------
def test_what_does_not_compare_is_refused_in_a_sentence(fits):
    positive = un.Density(
        lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)}
    )
    waits = un.fit(positive, np.abs(TRAIN), "maximum_likelihood", seed=0, progress=False)
    for call, words in (
        (
            lambda: un.compare({"a": fits["normal"]}, OTHER),
            "fits is 1 entries; expected a dict of two",
        ),
        (lambda: un.compare([fits["normal"]] * 2, OTHER), "fits is list; expected a dict"),
        (lambda: un.compare(fits | {"p": precise}, OTHER), "expected a dict of two fits"),
        (
            lambda: un.compare(fits | {"waits": waits}, np.abs(OTHER)),
            "'waits' is of x: Positive and 'precise' of x: Re",
        ),
        (lambda: un.compare(fits, OTHER[:, None]), "expected 1 axis|reshape|shape"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_density_with_a_kink_has_no_h_score():
    """The second derivative of |x| has an atom, which no row shows."""

    def normal(x, *, m, s):
        return -0.5 * ((x - m) / s) ** 2

    def laplace(x, *, m, s):
        return -jnp.abs(x - m) / s

    x = np.random.default_rng(0).normal(1, 2, 200)
    parameters = {"m": (un.Real, 0.0), "s": (un.Positive, 1.0)}
    fits = {
        f.__name__: un.fit(un.Density(f, {"x": un.Real}, parameters), x, seed=0, progress=False)
        for f in (normal, laplace)
    }
    compared = un.compare(fits, x, progress=False)
    assert "h_score (lower is better)" not in compared.table
    (found,) = [f for f in compared.findings if "no H-score" in f.what]
    assert found.what.startswith("'laplace' has no H-score: the slope of log p̃ jumps at x = ")


# -- likelihood ratios of models that do not hold --------------------------------------------------
@un.density(log_z=lambda z, a, b: jnp.exp(a + b * z))
def poisson(y: un.Count, *, z: un.Covariate, a: un.Real = 0.0, b: un.Real = 0.0):
    return y * (a + b * z) - jax.scipy.special.gammaln(y + 1)


def likelihood_ratio_of_slope(seed, dispersion):
    """Its p, and the robust p that a warning gives, of counts that do not depend on z."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=300)
    mean = 3.0 if dispersion is None else rng.gamma(dispersion, 3.0 / dispersion, size=300)
    data = {"y": rng.poisson(mean, size=300), "z": z}
    large = un.fit(poisson, data, seed=0, progress=False)
    small = un.fit(poisson.fix(b=0.0), data, seed=0, progress=False)
    found = un.compare({"small": small, "large": large}, data, progress=False)
    said = [f.what for f in found.findings if "allowing for it, p = " in f.what]
    robust = float(said[0].split("p = ")[1]) if said else None
    return large, float(found.likelihood_ratio.p.iloc[0]), robust


def test_a_likelihood_ratio_of_overdispersed_counts_is_a_warning():
    large, naive, robust = likelihood_ratio_of_slope(0, 0.7)
    error = large.summary().standard_error["b"]
    wald = 2 * stats.norm.sf(abs(large.summary().estimate["b"]) / error)
    assert robust == pytest.approx(wald, abs=0.02) and robust > 2 * naive
    with pytest.warns(UserWarning, match="robust variance of b"):
        large.profile(progress=False)
    assert likelihood_ratio_of_slope(0, None)[2] is None


@pytest.mark.slow
def test_the_robust_p_of_a_likelihood_ratio_has_its_level():
    """Of 200 data sets; the uncorrected p rejects two of five."""
    found = [likelihood_ratio_of_slope(seed, 0.7)[1:] for seed in range(200)]
    naive, robust = np.array(found, float).T
    assert (naive < 0.05).mean() > 0.3
    assert abs((robust < 0.05).mean() - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 200)
    alone = [likelihood_ratio_of_slope(seed, None)[2] for seed in range(60)]
    assert sum(p is not None for p in alone) <= 2

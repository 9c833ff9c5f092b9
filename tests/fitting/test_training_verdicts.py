"""Whether training arrived: networks that did not are told so, and those that did are not.

The truth is known: Kullback-Leibler divergences are sums over a grid, and draws under the null are
exact.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import logsumexp
from scipy.stats import binom

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.fitting.checks.draw_comparison import CRITERIA, Comparison
from unnorm.fitting.checks.held_out_draws import Rows, draws_findings, split_rows, summary_finding
from unnorm.fitting.checks.kinks import kink_findings
from unnorm.fitting.procedures.monitor import Monitor
from unnorm.fitting.solvers import sgd
from unnorm.models.toys import SAMPLERS
from unnorm.statistics.two_sample import TwoSample, two_sample

o = un.objectives
ROWS = 4000
EIGHT = SAMPLERS["eight_gaussians"]
OBJECTIVES = {
    "denoising": o.DenoisingScoreMatching(sigma=0.1, corruptions=1),
    "NCE": o.NCE(noise_ratio=5),
    "persistent CD": o.ContrastiveDivergence(
        k=5, persistent=True, chains=512, kernel=un.kernels.MALA(step_size=0.02), reinitialise=0.05
    ),
    "CD": o.ContrastiveDivergence(k=2, kernel=un.kernels.MALA(step_size=0.02)),
    "score matching": o.ScoreMatching(),
    "sliced": o.SlicedScoreMatching(projections=1),
    "ranking": o.RankingNCE(),
    "conditional": o.ConditionalNCE(),
}


def network(width=64, depth=2, activation=jax.nn.softplus, size=2):
    return eqx.nn.MLP(size, "scalar", width, depth, activation=activation, key=jax.random.key(0))


def confined(net, size=2, confinement=0.1):
    return un.Density(
        lambda x, *, network: network(x) - confinement * x @ x,
        {"x": un.Real[size]},
        {"network": (un.PyTree, net)},
    )


ENERGY = confined(network())
SMALL = confined(network(16, 1))
AXIS = (np.arange(300) + 0.5) * 12 / 300 - 6
GRID = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2)


def divergence(fit, smooth=0.0):
    """KL from eight Gaussians, smoothed by N(0, smooth²), to the fit: a sum over a grid."""
    places = 2 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
    squares = ((GRID[:, None] - places) ** 2).sum(-1)
    truth = logsumexp(-squares / (2 * (0.2**2 + smooth**2)), axis=1)
    fitted = np.asarray(fit.density(GRID), float)
    truth, fitted = truth - logsumexp(truth), fitted - logsumexp(fitted)
    return float(np.exp(truth) @ (truth - fitted))


def codes(fit, severity="error"):
    return {finding.code for finding in fit.findings if finding.severity == severity}


def trained(objective, p=ENERGY, data=None, **options):
    data = EIGHT(np.random.default_rng(0), ROWS) if data is None else data
    return un.fit(p, data.astype(np.float32), objective, **{"seed": 0, "progress": False} | options)


# -- under-trained networks ------------------------------------------------------------------------
SLOW_OBJECTIVES = [
    pytest.param(what, marks=pytest.mark.slow) for what in OBJECTIVES if what != "denoising"
]


@pytest.mark.parametrize("what", ["denoising", *SLOW_OBJECTIVES])
@pytest.mark.parametrize("steps", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_under_trained_networks_are_not_called_converged(what, steps):
    fit = trained(OBJECTIVES[what], steps=steps)
    divergence_found = divergence(fit, smooth=0.1 if what == "denoising" else 0.0)
    if steps == 200:
        assert divergence_found > 0.5
    if divergence_found > 0.3:
        assert not fit.converged and not fit.passed
        assert FindingCode.DRAWS_UNLIKE_DATA in codes(fit)


@pytest.mark.slow
def test_a_network_that_learned_eight_modes_is_called_converged():
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 20_000))
    fit = trained(OBJECTIVES["denoising"], steps=20_000, optimizer=optimizer)
    assert divergence(fit, smooth=0.1) < 0.1
    assert fit.converged and fit.passed


@pytest.mark.parametrize(
    "what", ["NCE", *(pytest.param(w, marks=pytest.mark.slow) for w in OBJECTIVES if w != "NCE")]
)
def test_a_network_that_learned_a_normal_is_called_converged(what):
    """log p̃ = network − x²/4 on draws of N(0, 2): all objectives arrive there in 1,000 steps."""
    data = np.random.default_rng(0).normal(0, np.sqrt(2), (1400, 2))
    objective = (
        o.ContrastiveDivergence(persistent=True) if what == "persistent CD" else OBJECTIVES[what]
    )
    fit = trained(
        objective, confined(network(16, 1), confinement=0.25), data, steps=1000, batch_size=64
    )
    fitted, truth = np.asarray(fit.density(GRID), float), -(GRID**2).sum(1) / 4
    truth, fitted = truth - logsumexp(truth), fitted - logsumexp(fitted)
    assert np.exp(truth) @ (truth - fitted) < 0.1
    assert fit.converged and fit.passed, fit.findings


def test_mass_that_no_chain_from_the_data_reaches_is_seen():
    """Half of the fit's mass stands 20 away from all data, behind a wall."""

    def two(x, *, share):
        return jnp.logaddexp(-0.5 * x @ x, share[0] - 0.5 * jnp.sum((x - 20.0) ** 2))

    p = un.Density(
        two, {"x": un.Real[2]}, {"share": (un.PyTree, np.zeros(1, np.float32))}
    ).for_jit()
    rows = Rows({"x": np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)}, None)
    (found,) = draws_findings(o.ScoreMatching(), p, rows, rows, True, 0)
    assert (
        found.severity == "error"
        and "annealed" in found.what
        and found.code == FindingCode.DRAWS_UNLIKE_DATA
    )


@pytest.mark.slow
def test_a_difference_that_few_rows_cannot_confirm_is_a_warning():
    """Modes of weights .55 and .45 where the fit has .3 and .7; 60 distinct rows, each with
    copies in the training data."""

    def two(x, *, logit):
        left, right = (-2 * jnp.sum((x - sign * 2) ** 2) for sign in (1, -1))
        return jnp.logaddexp(left, logit[0] + right)

    logit = np.full(1, np.log(0.7 / 0.3), np.float32)
    p = un.Density(two, {"x": un.Real[2]}, {"logit": (un.PyTree, logit)}).for_jit()
    rng = np.random.default_rng(2)
    centres = np.where(rng.random((60, 1)) < 0.55, 2.0, -2.0)
    x = rng.normal(centres, 0.5, (60, 2)).astype(np.float32)
    rows = Rows({"x": np.repeat(x, 6, 0)}, None)
    (found,) = draws_findings(o.ScoreMatching(), p, rows, rows, True, 0)
    assert found.severity == "warning" and found.code == FindingCode.DRAWS_UNLIKE_DATA
    assert "60 distinct held-out rows (60 of them are copies of training rows)" in found.what
    assert "too few to tell" in found.what


@pytest.mark.parametrize(
    ("auc", "p_value", "severity"),
    [(0.60, 0.025, "warning"), (0.57, 0.025, "note"), (0.57, 0.005, "warning")],
)
def test_what_few_rows_say(auc, p_value, severity):
    found = summary_finding(63, "", Comparison(TwoSample(auc, p_value), 0, 0), None, CRITERIA)
    assert found.severity == severity
    assert ("63 are too few to tell" in found.what) == (auc > CRITERIA.max_auc)


def test_draws_far_from_the_data_in_many_dimensions_are_seen():
    """64 dimensions: the fit has its mass on a shell of radius 16, the data theirs at 8."""

    def shell(x, *, radius):
        return -0.5 * (jnp.linalg.norm(x) - radius[0]) ** 2

    p = un.Density(
        shell, {"x": un.Real[64]}, {"radius": (un.PyTree, np.full(1, 16.0, np.float32))}
    ).for_jit()
    rows = Rows({"x": np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)}, None)
    (found,) = draws_findings(o.NCE(), p, rows, rows, True, 0)
    assert found.severity == "error" and "start at the data" in found.what


@pytest.mark.slow
def test_a_network_in_64_dimensions_whose_draws_leave_the_data_does_not_pass():
    data = np.random.default_rng(0).normal(size=(2000, 64)) * np.linspace(0.2, 2, 64)
    p = confined(network(128, 2, size=64), 64, 0.01)
    fit = trained("nce", p, data, steps=300)
    assert not fit.passed and FindingCode.DRAWS_UNLIKE_DATA in codes(fit)


# -- the size and the power of the tests -----------------------------------------------------------
def test_the_two_sample_test_sees_a_ring_in_the_place_of_eight_modes():
    """With 50 rows and 100 draws the power is above a half; with 400 of either it is about one."""
    rng = np.random.default_rng(0)

    def ring(count):
        angle = rng.uniform(0, 2 * np.pi, count)
        return 2 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 0.2, (count, 2))

    large = two_sample(EIGHT(rng, 400), ring(400), [], rng)
    assert large.p_value <= CRITERIA.level and large.auc > 0.7
    small = [two_sample(EIGHT(rng, 50), ring(100), [], rng).p_value for _ in range(20)]
    assert np.mean(np.array(small) <= 0.05) > 0.5


def refusals(tilt, seeds):
    """(KL, share of refusals) where every second mode of eight has e^(2 tilt) times the weight."""
    logits = tilt * np.array([1.0, -1.0] * 4)
    weights = np.exp(logits) / np.exp(logits).sum()
    places = 2 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
    refused = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rows = EIGHT(rng, 400)
        draws = places[rng.choice(8, 400, p=weights)] + rng.normal(0, 0.2, (400, 2))
        pooled = np.concatenate([rows, draws])
        squares = ((pooled[:, None] - places) ** 2).sum(-1)
        values = logsumexp(-squares / (2 * 0.2**2) + logits, axis=1)
        refused.append(Comparison(two_sample(rows, draws, [values], rng), 0, 0).is_far(CRITERIA))
    return np.log(1 / 8) - np.log(weights).mean(), np.mean(refused)


def test_a_divergence_of_an_eighth_is_refused_and_one_of_a_hundredth_is_not():
    for tilt, divergence_there, share in ((0.5, 0.12, 1.0), (0.15, 0.011, 0.0)):
        found = refusals(tilt, range(2))
        assert abs(found[0] - divergence_there) < 0.001 and found[1] == share


@pytest.mark.slow
def test_the_power_against_a_divergence_of_a_tenth():
    """Nine in ten are refused at .1 and more, one in five at most at .02."""
    found = {tilt: refusals(tilt, range(20)) for tilt in (0.2, 0.35, 0.46, 0.6)}
    print(found)
    assert found[0.46][0] > 0.1 and found[0.46][1] >= 0.9 and found[0.6][1] == 1.0
    assert found[0.2][0] < 0.021 and found[0.2][1] <= 0.2


@pytest.mark.slow
def test_the_size_of_the_two_sample_test_is_nominal():
    """Equal distributions, 400 replicates: rejections at 5% are binomial; and with ties, in
    discrete data."""
    for sampler in (EIGHT, lambda rng, count: rng.integers(0, 2, (count, 3)).astype(float)):
        rng = np.random.default_rng(1)
        rejected = sum(
            two_sample(sampler(rng, 60), sampler(rng, 100), [rng.normal(size=160)], rng).p_value
            <= 0.05
            for _ in range(400)
        )
        print(rejected)
        assert binom.ppf(0.001, 400, 0.05) <= rejected <= binom.ppf(0.999, 400, 0.05)


@pytest.mark.slow
def test_a_right_density_is_not_refused():
    """At the truth, 40 data sets: neither kind of draws is told from the rows more often than the
    levels allow."""
    density = un.models.eight_gaussians.for_jit()
    findings = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows, others = (
            Rows({"x": EIGHT(rng, count).astype(np.float32)}, None) for count in (2000, 400)
        )
        findings += draws_findings(o.ScoreMatching(), density, rows, others, True, seed)
    print([str(finding) for finding in findings if finding.severity != "note"])
    assert not any(finding.severity == "error" for finding in findings)
    assert sum(finding.severity != "note" for finding in findings) <= binom.ppf(
        0.999, 80, CRITERIA.level
    )


def test_the_drift_of_gradients_is_seen_with_the_stated_power():
    """Noise alone gives about 1; a mean of 5% of the noise in each of 1,667 steps about 1 + 1667 ·
    0.05² = 5.2."""
    rng = np.random.default_rng(0)

    def ratio(shift):
        drift = sgd.Drift(5_000)
        for done in range(100, 5_001, 100):
            gradients = rng.normal(shift, 1.0, (100, 300))
            drift.add(_walk(gradients), done, 100)
        return drift.ratio

    assert 0.6 < ratio(0.0) < 1.4
    assert 4.4 < ratio(0.05) < 6.0
    assert ratio(0.1) > sgd.DEFAULTS.stationary


def _walk(gradients):
    nothing = jnp.zeros(0)
    sums = gradients.sum(0), np.sum(gradients**2)
    return sgd.Walk(nothing, nothing, (), None, *sums, jnp.ones(()))


# -- what is kept out ------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_twentieth_of_the_rows_is_kept_out_of_training_and_that_is_said():
    fit = trained(o.NCE(), SMALL, EIGHT(np.random.default_rng(0), 1000), steps=20, batch_size=64)
    assert fit.rows == 950
    assert any(
        "50 of 1,000 rows were kept out of training" in finding.what for finding in fit.findings
    )


def test_how_many_rows_are_kept_out():
    train, kept = split_rows(20_000, 0)
    assert len(kept) == 400 and len(np.intersect1d(train, kept)) == 0 and len(train) == 19_600
    assert split_rows(900, 0) is None


@pytest.mark.slow
def test_a_fit_with_own_held_out_rows_trains_on_all():
    data = EIGHT(np.random.default_rng(0), 1000)
    fit = trained(
        o.NCE(), SMALL, data, held_out=data[:100].astype(np.float32), steps=20, batch_size=64
    )
    assert fit.rows == 1000 and not any("kept out" in finding.what for finding in fit.findings)


# -- kinks -----------------------------------------------------------------------------------------
ACTIVATIONS = {
    jax.nn.relu: True,
    jax.nn.leaky_relu: True,
    jax.nn.softplus: False,
    jnp.tanh: False,
    jax.nn.elu: False,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_kinks_are_told_from_smooth_curvature(activation):
    p = confined(network(16, 1, activation)).for_jit()
    rows = {"x": EIGHT(np.random.default_rng(0), 300).astype(np.float32)}
    for objective in (o.ScoreMatching(), o.SlicedScoreMatching()):
        found = kink_findings(objective, p, rows, jax.random.key(0))
        assert [finding.code for finding in found] == [
            FindingCode.OBJECTIVE_CONDITIONS
        ] * ACTIVATIONS[activation]
        assert not found or (found[0].severity == "error" and "softplus" in found[0].advice)
    assert kink_findings(o.DenoisingScoreMatching(sigma=0.1), p, rows, jax.random.key(0)) == []


def test_a_relu_network_by_exact_score_matching_does_not_pass():
    fit = trained(
        "score_matching",
        confined(network(16, 1, jax.nn.relu)),
        EIGHT(np.random.default_rng(0), 300),
        steps=20,
        batch_size=64,
    )
    assert FindingCode.OBJECTIVE_CONDITIONS in codes(fit) and not fit.converged and not fit.passed


# -- which iterate ---------------------------------------------------------------------------------
def test_the_last_iterate_is_the_fit_where_steps_die_out_and_an_average_where_they_do_not(
    monkeypatch,
):
    assert sgd.has_died_out([1.0, 0.5, 0.3, 0.001]) and not sgd.has_died_out([1.0, 0.9, 1.0, 0.9])
    data, falling = np.random.default_rng(0).normal(size=300), optax.cosine_decay_schedule(0.5, 100)
    walks, chosen = [], Monitor.estimate
    monkeypatch.setattr(
        Monitor, "estimate", lambda monitor, walk: walks.append(walk) or chosen(monitor, walk)
    )
    for rate, wanted in ((falling, "vector"), (0.5, "average")):
        fit = trained(
            "score_matching", NORMAL, data, optimizer=optax.adam(rate), steps=100, batch_size=32
        )
        walk = walks[-1]
        assert float(fit.density.parameters["centre"]) == float(getattr(walk, wanted)[0])
        assert float(walk.vector[0]) != float(walk.average[0])


NORMAL = un.Density(
    lambda x, *, centre: -0.5 * (x - centre) ** 2, {"x": un.Real}, {"centre": (un.Real, 0.0)}
)


def test_formats_of_large_ratios_are_short():
    """A gradient without noise: the ratio is infinite, and is said in a few characters."""
    data = 50.0 + np.arange(300) % 2
    fit = trained("score_matching", NORMAL, data, optimizer=optax.sgd(1e-6), steps=50)
    told = [finding for finding in fit.findings if finding.code == FindingCode.NOT_CONVERGED]
    assert told and not fit.converged and all(len(finding.what) < 250 for finding in told)


@pytest.mark.slow
def test_copies_of_rows_and_weights_do_not_refuse_a_right_density():
    """Rows of the density itself, four copies each, or weighted: draws are not told from them."""
    p = un.Density(
        lambda x, *, rate: -0.5 * rate[0] * x @ x,
        {"x": un.Real[8]},
        {"rate": (un.PyTree, np.ones(1, np.float32))},
    ).for_jit()
    x = np.random.default_rng(0).normal(size=(800, 8)).astype(np.float32)
    weights = np.random.default_rng(1).uniform(size=800)
    for rows in (Rows({"x": np.repeat(x[:100], 4, 0)}, None), Rows({"x": x}, weights)):
        (found,) = draws_findings(o.NCE(), p, Rows({"x": x}, None), rows, True, 0)
        # of 100 distinct rows the AUC is above .58 by chance, which is a warning
        assert found.severity == ("warning" if "100 distinct" in found.what else "note"), found

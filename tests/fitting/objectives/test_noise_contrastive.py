"""Contrasts with noise: exact expectations, known asymptotic variances (case G), defaults,
findings, coverage."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from helpers import assert_within
from scipy import special
from targets import enumerated, ising, pair_features

import unnorm as un
from unnorm.demo import truncated_gaussian
from unnorm.fitting.objectives.registry import NCE, ConditionalNCE, RankingNCE, SelfNormalized

EDGES = ["Econ,HusbEmp", "Econ,Child", "Econ,Asian", "Age,Child", "Educ,HusbEduc"]
EDGES = [f"coupling[{edge}]" for edge in EDGES]
LOG_Z = 0.5 * np.log(2 * np.pi)

quadratic = un.Density(
    lambda x, *, a, b: a * x + b * x**2, {"x": un.Real}, {"a": (un.Real, 0.0), "b": (un.Real, -0.5)}
)


@un.density
def normal(x: un.Real["d"], *, mean: un.Real["d"] = 0.0, precision: un.Positive = 1.0):
    return -0.5 * precision * jnp.sum((x - mean) ** 2)


@un.density
def regression(y: un.Real, *, z: un.Covariate, slope: un.Real = 0.0, precision: un.Positive = 1.0):
    return -0.5 * precision * (y - slope * z) ** 2


def fitted(p, data, objective, seed=0):
    return un.fit(p, data, objective, seed=seed, progress=False)


def told(fit, *words):
    return [finding for finding in fit.findings if all(word in str(finding) for word in words)]


# -- exact expectations ----------------------------------------------------------------------------
@pytest.mark.slow
def test_exact_noise_on_rochdale_is_case_a():
    fit = fitted(ising, un.models.load("rochdale"), NCE(noise_ratio=100, exact=True))
    assert fit.passed and fit.log_z.value == pytest.approx(5.464677, abs=1e-6)
    assert fit.summary().estimate[EDGES].to_numpy() == pytest.approx(
        [1.3280, -1.4845, -2.1874, -3.0027, 1.0292], abs=1e-4
    )
    assert (
        not fit.monte_carlo_error.any()
        and fit.log_z.monte_carlo_error == 0 < fit.log_z.sampling_error
    )


@pytest.mark.slow
def test_exact_noise_has_the_errors_of_the_data_alone():
    """Fair coins at ν = 3 on three bits, every state as often as the model has it: H⁻¹ Cov_x((1 −
    h)g) H⁻¹ / n."""
    p = ising.bind(coupling=[[0, 1.5, -1.0], [1.5, 0, 0.8], [-1.0, 0.8, 0]], field=[-0.4, 0.3, 0.2])
    states, weights = enumerated(p)
    data, features = (
        np.repeat(states, np.round(20_000 * weights).astype(int), 0),
        np.column_stack([pair_features(states), -np.ones(len(states))]),
    )
    noise = 3 / len(states)
    h = weights / (weights + noise)
    curvature = (features.T * (weights * (1 - h))) @ features  # (p + ν p_n) h(1 − h) = p (1 − h)
    score = (1 - h)[:, None] * features
    score = score - weights @ score
    half = np.linalg.solve(curvature, (score.T * np.sqrt(weights)))
    errors = np.sqrt(np.diagonal(half @ half.T) / len(data))
    fit = fitted(p, data, NCE(noise=dist.Bernoulli(0.5 * jnp.ones(3)), noise_ratio=3, exact=True))
    assert fit.summary().standard_error.to_numpy() == pytest.approx(errors[:-1], rel=0.01)
    assert fit.log_z.standard_error == pytest.approx(errors[-1], rel=0.01)


@pytest.mark.parametrize(
    ("p", "data", "words"),
    [
        (quadratic, np.arange(4.0), "infinitely many"),
        (
            un.Density(lambda x, *, a: a * x, {"x": un.Count}, {"a": (un.Real, -1.0)}),
            np.arange(4),
            "infinitely many",
        ),
        (ising, np.eye(21), "2,097,152 states"),
    ],
)
def test_exact_noise_is_refused_where_states_cannot_be_listed(p, data, words):
    with pytest.raises(ValueError, match=f"{words}.*at most 2\\^20 joint states; leave exact out"):
        fitted(p, data, NCE(exact=True))


# -- case G: log p = ax + bx² + c, data N(0, 1), noise N(0, s²) ------------------------------------
CASE_G = {
    (1.5, 1): (1.6921, 0.7446, 1.3380),
    (1.5, 5): (1.1499, 0.5549, 0.6792),
    (1.5, 10): (1.0761, 0.5280, 0.5907),
    (2.0, 1): (1.7203, 0.7488, 1.8153),
    (2.0, 2): (1.3861, 0.6366, 1.1874),
    (2.0, 5): (1.1638, 0.5591, 0.7854),
    (2.0, 10): (1.0840, 0.5305, 0.6450),
    (1.0, 1): (2.0, 1.0, 1.0),
    (1.0, 2): (1.5, 0.75, 0.75),
    (1.0, 5): (1.2, 0.6, 0.6),
}
QUICK = {(1.0, 1)}


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CASE_G],
)
def test_the_sandwich_reproduces_the_exact_table(scale, ratio):
    """Data at the quantiles of N(0, 1), so that only 100,000 ν noise points blur n·Var: by about 1%
    at ν = 1."""
    n = 100_000
    data = special.ndtri((np.arange(n) + 0.5) / n)
    fit = fitted(quadratic, data, NCE(noise=dist.Normal(0.0, scale), noise_ratio=ratio))
    errors = np.append(fit.summary().standard_error, fit.log_z.standard_error)
    assert n * errors**2 == pytest.approx(CASE_G[scale, ratio], rel=0.03)


def covered(fits, truth):
    """The share of 95% intervals that hold the truth, for (parameters, log Z)."""
    z = special.ndtri(0.975)
    estimates = np.array([np.append(fit.summary().estimate, fit.log_z.value) for fit in fits])
    errors = np.array(
        [np.append(fit.summary().standard_error, fit.log_z.standard_error) for fit in fits]
    )
    return np.mean(np.abs(estimates - truth) <= z * errors, 0)


@pytest.mark.slow
def test_intervals_of_nce_cover():
    rng = np.random.default_rng(0)
    objective = NCE(noise=dist.Normal(0.0, 1.5), noise_ratio=5)
    shares = covered(
        [fitted(quadratic, rng.normal(size=1000), objective, seed) for seed in range(1000)],
        (0, -0.5, LOG_Z),
    )
    assert np.all((shares >= 0.93) & (shares <= 0.97)), shares


# -- a wrong model with fitted noise ---------------------------------------------------------------
MIXTURE = np.array([[0.7, -1.0, 0.6], [0.3, 1.5, 0.8]])  # share, mean, standard deviation


def mixture_data(rng, n):
    _, mean, deviation = MIXTURE[(rng.uniform(size=n) > MIXTURE[0, 0]).astype(int)].T
    return mean + deviation * rng.normal(size=n)


def mixture_fixed_point(ratio):
    """NCE's population root (a, b, log Z) with the default noise at the mixture's own moments, by
    quadrature."""
    x = np.linspace(-60, 60, 240_001)
    share, mean, deviation = MIXTURE.T[:, :, None]
    density = np.sum(share * np.exp(-0.5 * ((x - mean) / deviation) ** 2) / deviation, 0) / np.sqrt(
        2 * np.pi
    )
    step, centre = x[1] - x[0], np.sum(MIXTURE[:, 0] * MIXTURE[:, 1])
    variance = np.sum(MIXTURE[:, 0] * (MIXTURE[:, 1] ** 2 + MIXTURE[:, 2] ** 2)) - centre**2
    t = (x - centre) / np.sqrt(variance * 3 / 5)
    log_noise = (
        special.gammaln(3) - special.gammaln(2.5) - 0.5 * np.log(5 * np.pi * variance * 3 / 5)
    )
    log_noise = log_noise - 3 * np.log1p(t**2 / 5)
    noise, features = ratio * np.exp(log_noise), np.stack([x, x**2, -np.ones_like(x)])
    at = np.array(
        [
            centre / variance,
            -0.5 / variance,
            LOG_Z + 0.5 * np.log(variance) + 0.5 * centre**2 / variance,
        ]
    )
    for _ in range(30):
        h = special.expit(at @ features - log_noise - np.log(ratio))
        slope = features @ (noise * h - density * (1 - h)) * step
        curvature = (features * (h * (1 - h) * (noise + density))) @ features.T * step
        at = at - np.linalg.solve(curvature, slope)
    assert np.max(np.abs(slope)) < 1e-10
    return at


@pytest.mark.slow
def test_intervals_of_a_wrong_model_with_fitted_noise_cover():
    rng, reps = np.random.default_rng(1), 1000
    fits = [
        fitted(quadratic, mixture_data(rng, 1000), NCE(noise_ratio=1), seed) for seed in range(reps)
    ]
    shares = covered(fits, mixture_fixed_point(1))
    assert np.all((shares >= 0.925) & (shares <= 0.975)), shares


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [RankingNCE(noise_ratio=2), SelfNormalized(noise_ratio=2), ConditionalNCE(noise_ratio=2)],
    ids=str,
)
def test_reported_errors_are_the_spread_over_data_sets_though_the_model_is_wrong(objective):
    rng, reps = np.random.default_rng(2), 400
    fits = [fitted(quadratic, mixture_data(rng, 1000), objective, seed) for seed in range(reps)]
    spread = np.std([fit.summary().estimate for fit in fits], 0, ddof=1)
    reported = np.sqrt(np.mean([fit.summary().standard_error ** 2 for fit in fits], 0))
    assert spread / reported == pytest.approx(1.0, abs=4 / np.sqrt(2 * reps))


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [
        NCE(noise_ratio=2),
        RankingNCE(noise_ratio=2),
        SelfNormalized(noise_ratio=2),
        ConditionalNCE(noise_ratio=2),
    ],
    ids=str,
)
def test_the_monte_carlo_error_is_the_spread_over_seeds(objective):
    data, reps = mixture_data(np.random.default_rng(3), 1000), 200
    fits = [fitted(quadratic, data, objective, seed) for seed in range(reps)]
    spread = np.std([fit.summary().estimate for fit in fits], 0, ddof=1)
    reported = np.sqrt(np.mean([fit.monte_carlo_error**2 for fit in fits], 0))
    assert spread / reported == pytest.approx(1.0, abs=5 / np.sqrt(2 * reps))


# -- overlap ---------------------------------------------------------------------------------------
@pytest.mark.slow
def test_noise_that_is_too_easy_is_a_finding():
    data = np.random.default_rng(0).normal(size=(1000, 10))
    wide = fitted(normal, data, NCE(noise=dist.Normal(0.0, 5.0).expand([10]).to_event(1)))
    assert told(
        wide, "too easy to tell", "of the information", "10,000 points have ESS", "noise_ratio"
    )
    assert not wide.passed
    assert not told(fitted(normal, data, NCE()), "too easy")


@pytest.mark.parametrize("objective", [NCE, RankingNCE, SelfNormalized])
def test_noise_that_is_narrower_than_the_data_is_an_error(objective):
    """It looks like the data in the middle, and says nothing of the tails: estimates of the
    width were off by ten times their value."""
    data = np.random.default_rng(0).normal(2.0, 3.0, 500)
    narrow = fitted(quadratic, data, objective(noise=dist.Normal(2.0, 0.5)))
    assert told(narrow, "too easy to tell", "on some combination of the parameters", "as wide")
    assert not narrow.passed
    enough = fitted(quadratic, data, objective(noise=dist.Normal(2.0, 3.0)))
    assert enough.passed and not told(enough, "too easy")


def test_moves_that_tell_nothing_are_an_error():
    """By a hundredth of a standard deviation: intervals covered the width in 4 of 6 data sets."""
    data = np.random.default_rng(1).normal(2.0, 3.0, 500)
    near = fitted(quadratic, data, ConditionalNCE(scale=0.01))
    (found,) = told(near, "indistinguishable", "larger scale")
    assert found.severity == "error" and not near.passed


@pytest.mark.slow
def test_default_noise_on_ozone_overlaps(ozone):
    assert not told(fitted(truncated_gaussian, ozone, NCE()), "too easy")


# -- default noise ---------------------------------------------------------------------------------
@pytest.mark.slow
def test_ordered_noise_integrates_to_one_and_is_positive_at_ties(x64):
    data = np.sort(np.random.default_rng(0).normal(size=(500, 2)), 1)
    support = un.Ordered[2]
    noise = support.noise(jax.vmap(support.noise_statistics)(jnp.asarray(data)).mean(0), (2,))
    first, gap = np.sinh(np.linspace(-7, 7, 401)), np.linspace(0, 40, 4001)
    values = jnp.stack(jnp.broadcast_arrays(first[:, None], first[:, None] + gap), -1)
    inner = np.trapezoid(np.exp(noise.log_prob(values)), gap, axis=1)
    assert np.trapezoid(inner, first) == pytest.approx(1.0, abs=1e-3)
    assert np.isfinite(noise.log_prob(jnp.array([0.3, 0.3])))
    drawn = noise.sample(jax.random.key(0), (5000,))
    support.check(np.asarray(drawn), "noise")
    assert_within(drawn.mean(0), data.mean(0), drawn.std(0) / np.sqrt(5000))
    two = un.Ordered[3, 2]
    again = two.noise(jnp.concatenate([jnp.zeros(3), jnp.ones(6)]), (3, 2))
    assert again.log_prob(again.sample(jax.random.key(0), (7,))).shape == (7,)


# -- every support ---------------------------------------------------------------------------------
RANDOM = np.random.default_rng(5)
ROWS = 2000


def one(support, function, start=0.5):
    return un.Density(
        lambda x, *, theta: theta * function(x), {"x": support}, {"theta": (un.Real, start)}
    )


def graphs(rows, theta):
    ties = np.zeros((rows, 4, 4))
    upper = np.triu_indices(4, 1)
    ties[:, *upper] = RANDOM.uniform(size=(rows, 6)) < special.expit(theta)
    return ties + ties.swapaxes(1, 2)


def directions(rows, concentration):
    angle = RANDOM.vonmises(0, concentration, rows)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def mixed(rows):
    """s is a spin of mean tanh(0.3), and x ~ N(s, 1)."""
    s = np.where(RANDOM.uniform(size=rows) < special.expit(0.6), 1.0, -1.0)
    return {"s": s, "x": s + RANDOM.normal(size=rows)}


# name: density, data, the true parameter
SUPPORTS = {
    "real": (one(un.Real[2], lambda x: -jnp.sum(x**2)), RANDOM.normal(size=(ROWS, 2)), 0.5),
    "positive": (one(un.Positive, lambda x: -x), RANDOM.exponential(0.5, ROWS), 2.0),
    "interval": (
        one(un.Interval(0, 1), lambda x: -x),
        -np.log1p(-RANDOM.uniform(size=ROWS) * -np.expm1(-1.5)) / 1.5,
        1.5,
    ),
    "ordered": (
        one(un.Ordered[3], lambda x: -jnp.sum(x**2)),
        np.sort(RANDOM.normal(size=(ROWS, 3)), 1),
        0.5,
    ),
    "simplex": (
        one(un.Simplex[3], lambda x: jnp.sum(jnp.log(x))),
        RANDOM.dirichlet([3, 3, 3], ROWS),
        2.0,
    ),
    "circle": (one(un.Circle, jnp.cos), RANDOM.vonmises(0, 1.5, ROWS), 1.5),
    "sphere": (one(un.Sphere[2], lambda x: x[0]), directions(ROWS, 1.5), 1.5),
    "binary": (
        one(un.Binary[3], jnp.sum),
        RANDOM.uniform(size=(ROWS, 3)) < special.expit(-0.7),
        -0.7,
    ),
    "categorical": (
        one(un.Categorical(3)[2], lambda x: jnp.sum(x @ jnp.arange(3.0))),
        RANDOM.choice(3, (ROWS, 2), p=special.softmax(0.4 * np.arange(3))),
        0.4,
    ),
    "count": (
        un.Density(
            lambda x, *, theta: theta * x - jax.scipy.special.gammaln(x + 1),
            {"x": un.Count},
            {"theta": (un.Real, 0.0)},
        ),
        RANDOM.poisson(2.0, ROWS),
        np.log(2.0),
    ),
    "graph": (one(un.Graph[4], lambda g: g.sum() / 2), graphs(ROWS, -0.5), -0.5),
    "mixed": (
        un.Density(
            lambda s, x, *, theta: 0.3 * s - 0.5 * (x - theta * s) ** 2,
            {"s": un.Spin, "x": un.Real},
            {"theta": (un.Real, 0.5)},
        ),
        mixed(ROWS),
        1.0,
    ),
}
QUICK_PAIRS = {
    ("ordered", NCE),
    ("mixed", NCE),
    ("graph", ConditionalNCE),
    ("positive", ConditionalNCE),
}
PAIRS = [
    (name, objective)
    if (name, objective) in QUICK_PAIRS
    else pytest.param(name, objective, marks=pytest.mark.slow)
    for name, objective in itertools.product(
        SUPPORTS, (NCE, RankingNCE, ConditionalNCE, SelfNormalized)
    )
]


@pytest.mark.parametrize(("name", "objective"), PAIRS)
@pytest.mark.slow
def test_every_support_is_served(name, objective):
    p, data, truth = SUPPORTS[name]
    fit = fitted(p, data, objective())
    assert fit.passed and not told(fit, "too easy") and not told(fit, "trivially")
    error = fit.summary().standard_error["theta"]
    assert 0 < error < 0.15 * abs(truth) + 0.05
    assert_within(fit.summary().estimate["theta"], truth, error)


@pytest.mark.parametrize("name", ["simplex", "circle", "sphere", "count"])
def test_jitter_keeps_what_the_support_fixes(name, x64):
    """Sums, periods, lengths and integers stay; a displacement and its reverse undo each
    other."""
    support, data = SUPPORTS[name][0].variables["x"], SUPPORTS[name][1]
    x = jnp.asarray(data[:50], float)
    moved = support.jitter(x, 0.01 * jax.random.normal(jax.random.key(0), x.shape))
    inside = (
        moved[moved >= 0] if name == "count" else moved
    )  # counts may step below 0, where the density is 0
    support.check(np.asarray(inside), "x")
    assert np.all(np.asarray(moved != x).reshape(50, -1).any(1))


# -- covariates ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def line():
    rng = np.random.default_rng(4)
    z = rng.normal(size=2000)
    return {"z": z, "y": 1.5 * z + 0.7 * rng.normal(size=2000)}


@pytest.mark.parametrize(
    "objective", [RankingNCE(noise_ratio=20), ConditionalNCE(noise_ratio=20)], ids=str
)
@pytest.mark.slow
def test_covariates_have_a_log_z_of_their_own(line, objective):
    fit = fitted(regression, line, objective)
    summary = fit.summary()
    slope = line["y"] @ line["z"] / (line["z"] @ line["z"])
    assert fit.converged and fit.log_z is None
    assert_within(summary.estimate["slope"], slope, fit.monte_carlo_error["slope"])
    assert_within(summary.estimate, [1.5, 1 / 0.49], summary.standard_error)
    assert summary.standard_error["slope"] < 0.03  # least squares: .016


@pytest.mark.parametrize("objective", [NCE(), SelfNormalized()], ids=str)
def test_one_log_z_serves_no_covariates(line, objective):
    with pytest.raises(
        ValueError, match=r"covariate z every row has its own; use un.objectives.RankingNCE"
    ):
        fitted(regression, line, objective)


# -- ranking ---------------------------------------------------------------------------------------
@pytest.mark.slow
def test_ranking_estimates_log_z_by_importance_sampling():
    """In four dimensions, where no exact log Z is at hand."""
    data = np.random.default_rng(6).normal(size=(2000, 4))
    fit = fitted(normal, data, RankingNCE())
    precision = fit.summary().estimate["precision"]
    assert 0 < fit.log_z.monte_carlo_error < 0.05 and 0.01 < fit.log_z.sampling_error < 0.1
    assert_within(fit.log_z.value, 4 * LOG_Z, fit.log_z.standard_error)
    # At this estimate the truth is known.
    assert_within(fit.log_z.value, 4 * LOG_Z - 2 * np.log(precision), fit.log_z.monte_carlo_error)


@pytest.mark.slow
def test_the_errors_of_a_ranked_log_z_are_its_spread():
    rng, reps = np.random.default_rng(7), 200
    data = rng.normal(size=(reps, 500, 4))

    def spread_and_error(fits, error):
        return np.std([fit.log_z.value for fit in fits], ddof=1), np.sqrt(
            np.mean([error(fit) ** 2 for fit in fits])
        )

    anew = [fitted(normal, rows, RankingNCE(noise_ratio=2), seed) for seed, rows in enumerate(data)]
    spread, reported = spread_and_error(anew, lambda fit: fit.log_z.standard_error)
    assert spread / reported == pytest.approx(1.0, abs=0.2)
    again = [fitted(normal, data[0], RankingNCE(noise_ratio=2), seed) for seed in range(reps)]
    spread, reported = spread_and_error(again, lambda fit: fit.log_z.monte_carlo_error)
    assert spread / reported == pytest.approx(1.0, abs=0.2)


# -- the self-normalised likelihood ----------------------------------------------------------------
@pytest.mark.slow
def test_the_self_normalised_optimum_is_sampled_maximum_likelihood(x64):
    """Moments of the data are the weighted moments of the noise, and b is the log of the mean
    weight."""
    data, objective = (
        np.random.default_rng(8).normal(0.5, 1.2, size=500),
        SelfNormalized(noise_ratio=5),
    )
    fit = fitted(quadratic, data, objective)
    state = objective.prepare(quadratic.for_jit(), {"x": jnp.asarray(data)}, jax.random.key(0))
    x = np.asarray(state.per_row.noise["x"])
    weights = np.exp(np.asarray(fit.density(x)) - np.asarray(state.per_row.on_noise))
    assert fit.log_z.value == pytest.approx(np.log(weights.mean()), abs=1e-8)
    moments = [np.sum(weights * x**k) / weights.sum() for k in (1, 2)]
    assert moments == pytest.approx([data.mean(), np.mean(data**2)], abs=1e-8)


# -- conditional -----------------------------------------------------------------------------------
@pytest.mark.slow
def test_scales_that_tell_nothing_or_all_are_findings():
    data = np.random.default_rng(9).normal(size=(500, 2))
    assert told(
        fitted(normal, data, ConditionalNCE(scale=0.1)), "indistinguishable", "larger scale"
    )
    assert told(
        fitted(normal, data, ConditionalNCE(scale=30.0)), "trivially separable", "smaller scale"
    )
    assert not told(fitted(normal, data, ConditionalNCE()), "moved points are")


@pytest.mark.slow
def test_noise_by_variable_is_as_good_as_one_distribution():
    data = np.random.default_rng(10).normal(size=300)
    alone, by_name = (
        fitted(quadratic, data, NCE(noise=noise))
        for noise in (dist.Normal(0, 2), {"x": dist.Normal(0, 2)})
    )
    assert by_name.summary().equals(alone.summary())


BITS = np.random.default_rng(11).integers(0, 2, (30, 3))


@pytest.mark.parametrize(
    ("p", "data", "objective", "words"),
    [
        (
            quadratic,
            np.arange(4.0),
            lambda: NCE(exact="yes"),
            "exact is 'yes' in NCE; expected True or False",
        ),
        (quadratic, np.arange(4.0), lambda: RankingNCE(noise_ratio=0), "noise_ratio is 0"),
        (quadratic, np.arange(4.0), lambda: SelfNormalized(noise_ratio=1.5), "noise_ratio is 1.5"),
        (quadratic, np.arange(4.0), lambda: ConditionalNCE(noise_ratio=0), "noise_ratio is 0"),
        (
            quadratic,
            np.arange(4.0),
            lambda: ConditionalNCE(scale=-1.0),
            "scale is -1.0 .*a finite number above 0",
        ),
        (quadratic, np.ones(4), lambda: ConditionalNCE(), "x has a column that never changes"),
        (
            ising,
            BITS,
            lambda: ConditionalNCE(scale=0.5),
            "scale is 0.5.*finitely many states.*leave scale out",
        ),
        (quadratic, np.arange(4.0), lambda: RankingNCE(noise="normal"), "noise for x is 'normal'"),
        (
            quadratic,
            np.arange(4.0),
            lambda: SelfNormalized(noise=dist.Uniform(0.0, 1.0)),
            "noise has the log-d",
        ),
    ],
)
def test_bad_options_are_one_sentence(p, data, objective, words):
    with pytest.raises(ValueError, match=words) as caught:
        fitted(p, data, objective())
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")

"""Importance sampling and annealed importance sampling against closed forms, enumeration and each
other."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import log_z_targets
import numpy as np
import pytest
from scipy.special import gammaln

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition import default_estimator
from unnorm.partition.annealing.particles import Run, merge
from unnorm.partition.annealing.pilot_run import Pilot, run_pilot
from unnorm.partition.annealing.tempered import AnnealingPath, Particle
from unnorm.partition.base import LogZ
from unnorm.partition.combine import conclusive
from unnorm.partition.default_estimator import two_estimates
from unnorm.partition.estimators.bennett_acceptance_ratio import bennett
from unnorm.partition.importance_weights import assess_draws
from unnorm.partition.options import WEIGHTS
from unnorm.partition.proposals.automatic import make_proposal
from unnorm.partition.proposals.modes.mode_search import ModeSearch
from unnorm.partition.weight_checks import estimate, weight_findings
from unnorm.statistics.importance_weights import mean_of, pareto_smooth, too_heavy

AIS, ImportanceSampling = un.estimators.AIS, un.estimators.ImportanceSampling
Bennett, Bridge, SMC = un.estimators.Bennett, un.estimators.Bridge, un.estimators.SMC
ThermodynamicIntegration = un.estimators.ThermodynamicIntegration
CRITICAL = 0.5 * math.log(1 + math.sqrt(2))
CORRELATED = np.linalg.inv(0.9 ** np.abs(np.subtract.outer(np.arange(10), np.arange(10))))


@un.density
def gaussian(x: un.Real[10], *, precision: un.Constant[10, 10] = CORRELATED):
    return -0.5 * x @ precision @ x


@un.density
def lattice(x: un.Spin["side", "side"]):
    """The Ising model on a torus at its critical temperature; log Z on 4 by 4 sites by Kaufman's
    formula."""
    return CRITICAL * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1)))


@un.density
def dirichlet(x: un.Simplex[4]):
    return jnp.array([1.0, 2.0, 0.5, 3.0]) @ jnp.log(x)


@un.density
def mixed(x: un.Spin[3], y: un.Real):
    """y given x is N(sum x, 1): Z = 8 √(2π)."""
    return -0.5 * (y - jnp.sum(x)) ** 2


@un.density
def funnel(v: un.Real, x: un.Real[9]):
    return -(v**2) / 18 - 0.5 * jnp.sum(x**2 * jnp.exp(-v) + v)


@un.density
def laplace(x: un.Real[6], *, scale: un.Positive):
    return -jnp.sum(jnp.abs(x)) / scale


@un.density
def three_modes(x: un.Real[6]):
    """Masses .5, .3 and .2 of standard deviations .5, 1 and 2; up to (2π)^-3 normalized."""
    places, widths, masses = (
        jnp.array([-6.0, 0.0, 6.0]),
        jnp.array([0.5, 1.0, 2.0]),
        jnp.array([0.5, 0.3, 0.2]),
    )
    squares = jnp.sum((x - places[:, None]) ** 2, 1)
    return jax.scipy.special.logsumexp(
        jnp.log(masses) - 6 * jnp.log(widths) - 0.5 * squares / widths**2
    )


def shells_of(x):
    """Two Gaussian shells, each normalized in its radius up to 5e-9."""
    apart = [jnp.linalg.norm(x - jnp.array([side, 0.0])) for side in (-3.5, 3.5)]
    heights = [
        -0.5 * ((distance - 2) / 0.1) ** 2 - math.log(0.1 * math.sqrt(2 * math.pi))
        for distance in apart
    ]
    return jnp.logaddexp(*heights)


shells = un.Density(shells_of, {"x": un.Interval(-6.0, 6.0)[2]})
ALPHA = np.array([2.0, 3.0, 1.5, 4.0])
TARGETS = {
    "gaussian": (gaussian, 1.7160949013),
    "lattice": (lattice.with_dimensions(side=4), 15.5219154588),
    "dirichlet": (dirichlet, float(gammaln(ALPHA).sum() - gammaln(ALPHA.sum()))),
    "mixed": (mixed, math.log(8) + 0.5 * math.log(2 * math.pi)),
    "shells": (shells, 3.2241714275),
}


SLOW = {"gaussian", "dirichlet", "mixed", "shells"}  # each compiles a pilot of its own


def log_z(p, estimator, seed=0):
    return un.log_z(p, estimator, seed=seed, progress=False)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in TARGETS]
)
def test_annealing_finds_known_values(name):
    p, truth = TARGETS[name]
    z = log_z(p, AIS(chains=500, temperatures=50))
    assert z.verdict == "ok" and z.standard_error < 0.15, z
    assert abs(z.value - truth) < 4 * z.standard_error
    assert z.bounds[0] < truth < z.bounds[1]
    assert sum(z.evaluations.values()) > 500 * 50


ROUTES = [
    SMC(particles=500, temperatures=30, pilot=200),
    Bennett(chains=300, temperatures=30, pilot=200),
    ThermodynamicIntegration(100, 4, 30, pilot=200),
    ThermodynamicIntegration(100, 4, 30, "stepping_stones", pilot=200),
]
LOCAL = [Bridge(draws=400), Bridge(draws=400, proposal="normal")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "lattice", "mixed"])
def test_every_route_finds_the_same(name):
    p, truth = TARGETS[name]
    for estimator in [*ROUTES, *(LOCAL if name == "gaussian" else [])]:
        z = log_z(p, estimator, seed=1)
        assert z.verdict == "ok" and z.standard_error < 0.2, z
        assert abs(z.value - truth) < 4 * z.standard_error, z


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "lattice"])
def test_intervals_of_every_route_cover(name):
    """Of 40 seeds at least 33 intervals hold the truth, which a true coverage of 95% misses once in
    500."""
    p, truth = TARGETS[name]
    for estimator in [*ROUTES, *(LOCAL if name == "gaussian" else [])]:
        found = [log_z(p, estimator, seed) for seed in range(40)]
        covered = sum(lower <= truth <= upper for lower, upper in (z.interval() for z in found))
        assert covered >= 33, (estimator, covered)


def test_bennett_solves_for_normal_works():
    """Works N(c − 1/2, 1) out and N(c + 1/2, 1) back keep Crooks's relation: E[e^a] = e^c and
    E[e^−b] = e^−c."""
    rng = np.random.default_rng(0)
    forward, reverse = rng.normal(0.5, 1.0, 4000), rng.normal(1.5, 1.0, 4000)  # c = 1
    value, error, overlap = bennett(forward, reverse, np.arange(4000))
    assert abs(value - 1.0) < 4 * error < 0.1 and 0.3 < overlap < 1


@pytest.mark.slow
def test_chains_that_stay_apart_are_no_bridge():
    z = log_z(shells, Bridge(draws=200))
    assert z.verdict == "unreliable" and "R-hat" in z.findings[0].what


@pytest.mark.parametrize("name", ["gaussian", "shells"])
@pytest.mark.slow
def test_two_routes_agree(name, x64):
    p, truth = TARGETS[name]
    z = two_estimates(cast(p.for_jit(), jnp.float64), jax.random.key(3), 0.05, 3_000_000)
    assert z.verdict == "ok" and abs(z.value - truth) < min(4 * z.standard_error, 0.15), z


def route(name, value, error=0.01, verdict="ok"):
    return LogZ(value, error, {"values": 0, "gradients": 0}, verdict, "", name)


def test_no_two_annealed_runs_share_their_noise():
    """Both estimates are repeated at the same size, and a key used twice would make one number of
    two estimates."""
    keys, nothing = [], default_estimator.NOTHING
    start = default_estimator.Size(0, 0)
    pilot = SimpleNamespace(cost=lambda *_: nothing, transitions=(), stages=[])

    class Recorded(default_estimator._Search):
        def _run(self, pilot, key, size, trusted):
            keys.append(tuple(np.asarray(jax.random.key_data(key))))
            return default_estimator.AnnealingResult(pilot, route("smc", 0.0, 0.12), size, trusted)

    budget = default_estimator.Budget(nothing, 1)
    search = Recorded(None, budget, jax.random.key(0), 0.1)
    first = default_estimator.AnnealingResult(pilot, route("smc", 0.0, 0.12), start, trusted=True)
    search.annealed = [first, first]
    while search._anneal_more():
        pass
    assert len(keys) == len(set(keys)) >= 4


def test_a_bridge_that_misses_mass_is_left_out_and_its_precision_too():
    """Chains may find less mass than two other routes; the error that is asked for is then that of
    the others."""
    low, others = (
        route("bridge", 0.0, 0.001),
        [route("importance_sampling", 0.7), route("smc", 0.7)],
    )
    assert conclusive([low, *others], 0.05) == others
    assert conclusive([low, *others], 0.005) is None
    assert conclusive([route("bridge", 1.4, 0.001), *others], 0.05) is None
    assert conclusive([others[0], route("smc", 0.9)], 0.05) is None


def test_all_populations_are_looked_at():
    """What speaks against one population of thermodynamic integration is said of all."""
    position = {"x": np.zeros((10, 1))}
    none = np.zeros(10)
    particles = Particle(position, none, none, np.zeros((10, 1)), np.zeros((10, 1)), np.zeros(10))
    runs = [
        Run(particles, none, np.arange(10), none, none, np.full(5, 0.1 + i), 0.0, 30 * i)
        for i in range(2)
    ]
    whole = merge(runs)
    pilot = Pilot(AnnealingPath(Unconstrained(funnel), None), (), [], None, {})
    assert list(whole.ancestors) == list(range(20)) and list(whole.acceptance) == [0.1] * 5
    assert "30 times in 120 evaluations" in pilot.nonfinite_findings(whole)[0].what


@pytest.mark.slow
def test_two_routes_do_not_believe_a_funnel(x64):
    z = two_estimates(cast(funnel.for_jit(), jnp.float64), jax.random.key(0), 0.05, 300_000)
    assert z.verdict in ("unreliable", "disagree") and not z.passed


@pytest.mark.parametrize(
    "name",
    [
        "gaussian",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("dirichlet", "mixed", "shells")),
    ],
)
def test_importance_sampling_finds_known_values(name):
    p, truth = TARGETS[name]
    z = log_z(p, ImportanceSampling())
    assert z.verdict == "ok" and z.standard_error < 0.1, z
    assert abs(z.value - truth) < 4 * z.standard_error


@pytest.mark.slow
def test_a_funnel_is_not_called_infinite(x64):
    """A line askew through it rises far down before it falls, and a climb may leave the numbers."""
    p = cast(funnel.for_jit(), jnp.float64)
    for seed in range(40):
        make_proposal(p, jax.random.key(seed))  # raises if not


@pytest.mark.parametrize(
    ("scale", "temperatures"),
    [(0.01, 300), (1.0, 100), (100.0, 100)],
)
@pytest.mark.slow
def test_a_density_without_curvature_is_reached(scale, temperatures):
    """A Laplace density is linear on each side of its mode: the Hessian says nothing of how far it
    reaches.

    At .01 the base is too wide with this seed: at 100 temperatures the families are worth .19 of
    the walkers.
    """
    z = log_z(laplace.bind(scale=scale), SMC(temperatures=temperatures))
    assert z.verdict == "ok", z
    assert z.value == pytest.approx(6 * math.log(2 * scale), abs=4 * z.standard_error)


@pytest.mark.slow
def test_a_narrow_mode_beside_wide_ones_is_climbed_to(x64):
    """Half of the mass in a mode that few starts lead to; 128 climbs miss it with 6 of these 9
    keys."""
    p = cast(three_modes.for_jit(), jnp.float64)
    assert [
        len(ModeSearch(Unconstrained(p), jax.random.key(seed)).modes) for seed in range(1, 10)
    ] == [3] * 9


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 10))
def test_a_narrow_mode_beside_wide_ones_is_counted(seed):
    z = un.log_z(three_modes, seed=seed, progress=False)
    assert z.verdict == "ok", z
    assert z.value == pytest.approx(3 * math.log(2 * math.pi), abs=4 * z.standard_error)


@pytest.mark.parametrize(
    "estimator",
    [ImportanceSampling(), pytest.param(AIS(chains=300, temperatures=30), marks=pytest.mark.slow)],
)
def test_a_funnel_is_not_called_ok(estimator):
    z = log_z(funnel, estimator)
    assert z.verdict == "unreliable" and not z.passed
    assert "too heavy" in z.findings[0].what or "ESS = " in z.findings[0].what


def test_weights_without_a_variance_have_no_standard_error():
    """A Pareto shape of .61 passed for a mean that could be trusted: .36 low, six of its errors."""
    uniform = np.random.default_rng(0).uniform(size=4000)
    density = un.Density(lambda x: 0.0 * x.sum(), {"x": un.Real[2]})
    findings = weight_findings(density, -0.61 * np.log(uniform), 0.61)
    z = estimate(density, "importance_sampling", 0.0, 0.1, {}, findings)
    assert z.verdict == "unreliable" and any(
        "no finite variance" in finding.what for finding in z.findings
    )
    assert un.log_z(funnel, "importance_sampling", seed=25, progress=False).verdict == "unreliable"


@pytest.mark.parametrize(("variable", "verdict"), [(un.Real[2], "unreliable"), (un.Spin[2], "ok")])
def test_weights_between_finitely_many_states_have_a_variance(variable, verdict):
    """A Pareto shape of .6 speaks against the error of walks through R^2, and not of those between
    four states."""
    uniform = np.random.default_rng(0).uniform(size=4000)
    density = un.Density(lambda x: 0.0 * x.sum(), {"x": variable})
    findings = weight_findings(density, -0.6 * np.log(uniform), 0.6)
    assert estimate(density, "ais", 0.0, 0.1, {}, findings).verdict == verdict


@pytest.mark.parametrize(
    ("variable", "spread", "verdict"),
    [(un.Real, 0.8, "ok"), (un.Real, 1.2, "unreliable"), (un.Spin, 1.2, "ok")],
)
def test_walks_whose_log_weights_vary_by_more_than_one_are_not_believed(variable, spread, verdict):
    """Normal logs of variance s² leave e^(-s²) of the weights' number: .53 and .24."""
    logs = spread * np.random.default_rng(0).normal(size=1000)
    density = un.Density(lambda x: 0.0 * x.sum(), {"x": variable[2]})
    z = estimate(density, "ais", 0.0, 0.1, {}, weight_findings(density, logs, 0.3))
    assert z.verdict == verdict
    assert z.passed or "ESS = " in z.findings[0].what


@pytest.mark.parametrize(("shape", "verdict"), [(0.3, "unreliable"), (-1.0, "ok")])
def test_draws_that_rarely_reach_the_density_are_believed_where_their_weights_have_an_upper_end(
    shape, verdict
):
    """Four of 100 do, with weights of a Pareto law of this shape."""
    rng = np.random.default_rng(0)
    within, scale = rng.uniform(size=10_000) < 0.04, rng.uniform(size=10_000)
    logs = np.where(within, np.log1p((scale**-shape - 1) / shape), -30.0)
    density = un.Density(lambda x: 0.0 * x.sum(), {"x": un.Real[2]})
    z = assess_draws(
        density, logs, {"values": 10_000, "gradients": 0}, WEIGHTS.min_ess_fraction_unbounded
    )
    assert z.verdict == verdict
    assert z.passed or "below 500" in z.findings[0].what


# seeds of runs that had been called ok, and their errors
CHANCES = {
    "importance_sampling": (894, 995),  # .23 low
    "ais": (131, 178),  # .17 and .42 low
    "smc": (30, 62, 70, 221, 325),  # up to .29 low
    "thermodynamic_integration": (25, 268),  # .11 and .23 low
    "bennett": (91, 141),  # .17 and .30 low
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "seed"), [(name, seed) for name, seeds in CHANCES.items() for seed in seeds]
)
def test_weights_that_half_reach_the_funnel_are_not_called_ok(estimator, seed):
    assert log_z(log_z_targets.TARGETS["funnel"]().density, estimator, seed).verdict == "unreliable"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [226, 271])
def test_a_route_that_was_tried_until_it_passed_is_not_believed(seed):
    """Each try on a funnel has its chance of a tail that shows nothing: .25 low while claiming
    .05."""
    assert log_z(log_z_targets.TARGETS["funnel"]().density, None, seed).verdict == "unreliable"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "estimator",
    [ThermodynamicIntegration(), SMC(variant="waste_free"), SMC(variant="persistent")],
    ids=str,
)
def test_populations_that_all_miss_the_funnel_are_not_called_ok(estimator, seed):
    """Their spread alone said ±.5 of values 9 nats low."""
    z = log_z(funnel, estimator, seed=seed)
    assert z.verdict != "ok" or abs(z.value - 10.2879976207) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", range(1, 4)
)  # with seed 0 a chain comes to the spike, and R-hat tells
def test_chains_that_all_miss_a_spike_are_not_called_ok(seed):
    """Nine tenths of the mass: R-hat is 1, and the standard error .002 of an error of 2.3."""
    spike = log_z_targets.TARGETS["spike"]()
    z = log_z(spike.density, Bridge(), seed=seed)
    assert z.value < spike.log_z - 2 and z.verdict == "unreliable"
    assert any("the chains missed mass" in finding.what for finding in z.findings)


def test_weights_that_are_no_numbers_are_said():
    density = un.Density(lambda x: 0.0 * x.sum(), {"x": un.Real[2]})
    for lost in (math.nan, math.inf):
        findings = weight_findings(density, np.append(np.zeros(99), lost), 0.1)
        z = estimate(density, "ais", 0.0, 0.1, {}, findings)
        assert z.verdict == "unreliable" and "was NaN or +infinity at 1.0%" in z.findings[0].what


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        SMC(particles=200, temperatures=10, pilot=50),
        Bridge(draws=200),
        ImportanceSampling(draws=1000),
    ],
)
def test_numbers_that_are_none_are_said(estimator):
    """Walkers that stood where log p̃ is NaN are not drawn again, and are counted all the same."""
    z = log_z(
        un.Density(lambda x: jnp.where(x[0] > 0.5, jnp.nan, -0.5 * x @ x), {"x": un.Real[2]}),
        estimator,
    )
    assert z.verdict == "unreliable" and any(
        "was NaN or +infinity" in finding.what for finding in z.findings
    )


@pytest.mark.parametrize("estimator", [ImportanceSampling(), AIS()])
def test_an_infinite_constant_is_called_so(estimator):
    z = log_z(un.Density(lambda x: 0.5 * x @ x, {"x": un.Real[4]}), estimator)
    assert (
        z.value == math.inf
        and z.verdict == "unreliable"
        and "cannot be normalized" in z.findings[0].what
    )


def test_no_draw_inside_is_said():
    nowhere = un.Density(
        lambda x: jnp.where(x[0] > 1e6, 0.0, -jnp.inf) - 0.5 * x @ x, {"x": un.Real[2]}
    )
    z = log_z(nowhere, ImportanceSampling())
    assert z.verdict == "unreliable" and math.isnan(z.value)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (lambda: AIS(chains=1), "chains is 1 in AIS; expected an integer of at least 10"),
        (lambda: AIS(temperatures=0), "temperatures is 0 in AIS"),
        (lambda: ImportanceSampling(draws=5), "draws is 5 in ImportanceSampling"),
    ],
)
def test_options_are_checked(estimator, words):
    with pytest.raises(ValueError, match=words):
        log_z(gaussian, estimator())


@pytest.mark.parametrize(
    "estimator",
    [
        ImportanceSampling(draws=2000),
        pytest.param(AIS(chains=300, temperatures=20, pilot=100), marks=pytest.mark.slow),
    ],
)
def test_counts_are_served(estimator):
    """Two Poisson counts of means 3 and 40: log Z = 43."""
    rates = np.array([3.0, 40.0])
    p = un.Density(
        lambda x: x @ jnp.log(rates) - jnp.sum(jax.scipy.special.gammaln(x + 1)), {"x": un.Count[2]}
    )
    z = log_z(p, estimator)
    assert z.verdict == "ok" and abs(z.value - rates.sum()) < 4 * z.standard_error < 0.6


def test_the_pareto_shape_is_that_of_the_tail():
    """Weights 1/u^k have shape k; a mean of few such is not believed from k = .7 on."""
    uniform = np.random.default_rng(0).uniform(size=20_000)
    for shape in (0.3, 0.9):
        found = pareto_smooth(-shape * np.log(uniform))[1]
        assert found == pytest.approx(shape, abs=0.1) and too_heavy(found, len(uniform)) == (
            shape > 0.7
        )


def test_smoothing_leaves_the_body_of_the_weights_and_equal_weights_alone():
    logs = np.random.default_rng(0).normal(size=1000)
    smoothed, _ = pareto_smooth(logs)
    body = np.argsort(logs)[:900]
    assert np.allclose(smoothed[body], logs[body]) and not np.allclose(smoothed, logs)
    assert mean_of(smoothed)[0] == pytest.approx(mean_of(logs)[0], abs=0.01)
    assert np.isnan(pareto_smooth(np.ones(100))[1])


def test_rounding_makes_no_tail():
    """Three values of a weight, split by rounding, which had made k̂ = 4."""
    rng = np.random.default_rng(0)
    logs = 34.0 + rng.choice([0.0, 0.3, 0.6], 500, p=[0.3, 0.68, 0.02])
    smoothed, shape = pareto_smooth(logs + 1e-14 * rng.normal(size=500))
    assert not too_heavy(shape, 500) and mean_of(smoothed) == pytest.approx(mean_of(logs), abs=1e-9)
    far = np.append(
        -0.9 * np.log(rng.uniform(size=20_000)), -1e20
    )  # one light weight whose rounding is large
    assert pareto_smooth(far)[1] == pytest.approx(0.9, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "lattice", "mixed"])
def test_intervals_of_annealing_cover(name):
    """Of 200 seeds at least 180 intervals hold the truth (a binomial of .95 is below that once in
    800 times), and the errors are of the size of the standard error."""
    p, truth = TARGETS[name]
    found = [log_z(p, AIS(chains=500, temperatures=50, pilot=200), seed) for seed in range(200)]
    errors = np.array([z.value - truth for z in found])
    covered = sum(z.interval()[0] <= truth <= z.interval()[1] for z in found if z.verdict == "ok")
    called = sum(z.verdict == "ok" for z in found)
    assert called >= 180 and covered >= 0.9 * called
    assert 0.8 < np.median([z.standard_error for z in found]) / np.sqrt(np.mean(errors**2)) < 1.5
    assert sum(truth < z.bounds[0] for z in found) <= 10


# -- variants of SMC -------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["waste_free", "persistent"])
def test_variants_of_smc_find_a_known_value(variant):
    """The standard error is the spread of the populations, and the interval Student's t."""
    smc = un.estimators.SMC(particles=800, temperatures=20, pilot=200, variant=variant)
    z = un.log_z(un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[3]}), smc, seed=0, progress=False)
    assert z.verdict == "ok", z
    assert z.degrees == 7
    assert abs(z.value - 1.5 * np.log(2 * np.pi)) < 4 * z.standard_error < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "lattice"])
@pytest.mark.parametrize("variant", ["waste_free", "persistent"])
def test_intervals_of_the_variants_cover(variant, name):
    """Over 100 seeds; a binomial of .95 is below 88 once in 700 times."""
    (p, truth), covered = TARGETS[name], 0
    for seed in range(100):
        smc = un.estimators.SMC(temperatures=50, variant=variant)
        z = un.log_z(p, smc, seed=seed, progress=False)
        lower, upper = z.interval()
        covered += z.verdict == "ok" and lower <= truth <= upper
    assert covered >= 88


@pytest.mark.parametrize(
    ("options", "word"),
    [({"variant": "wasteful"}, "variant"), ({"populations": 2}, "populations"),
     ({"variant": "persistent", "particles": 100}, "particles")],
)  # fmt: skip
def test_variants_that_cannot_be_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        un.log_z(
            un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[5]}),
            un.estimators.SMC(**options),
            progress=False,
        )


# -- bases that are asked for ----------------------------------------------------------
def test_a_base_may_be_made_of_draws():
    """Normal draws as dicts, shifted and too wide: importance weights correct both."""
    draws = {"x": np.random.default_rng(0).normal(0.3, 1.2, size=(400, 3))}
    p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[3]})
    z = log_z(p, ImportanceSampling(base=draws))
    assert z.verdict == "ok", z
    assert abs(z.value - 1.5 * np.log(2 * np.pi)) < 4 * z.standard_error < 0.1


@pytest.mark.slow
def test_pathfinder_gives_a_base():
    p, truth = TARGETS["gaussian"]
    z = log_z(p, ImportanceSampling(base="pathfinder"))
    assert z.verdict == "ok", z
    assert abs(z.value - truth) < 4 * z.standard_error < 0.1


@pytest.mark.slow
def test_draws_of_a_lattice_give_its_fields():
    p, truth = TARGETS["lattice"]
    draws = un.sample(p, draws=200, seed=0, progress=False)
    z = log_z(p, SMC(base=draws))
    assert z.verdict == "ok", z
    assert abs(z.value - truth) < 4 * z.standard_error < 0.3


@pytest.mark.slow
def test_the_pilot_learns_its_steps_though_its_base_is_near():
    """One stage takes the base to the spike's density, too few moves to learn a step of .02."""
    density = cast(log_z_targets.TARGETS["spike"]().density.for_jit(), float)
    pilot = run_pilot(density, jax.random.key(0), 300)
    assert len(pilot.stages) == 1 and pilot.population.acceptance >= 0.4


def test_no_flow_where_all_is_discrete():
    with pytest.raises(ValueError, match="base='flow', and lattice has no continuous variable"):
        log_z(TARGETS["lattice"][0], AIS(base="flow"))


@pytest.mark.parametrize(
    ("base", "word"),
    [
        ("normal", "pathfinder"),
        (3, "pathfinder"),
        ({"y": [1.0]}, "expected x"),
        ({"x": [np.nan] * 9}, "base of x"),
        ({"x": [1.0]}, "at least 4"),
        ({"x": 1.0}, "shape"),
    ],
)
def test_what_is_no_base_is_refused(base, word):
    with pytest.raises(ValueError, match=word):
        log_z(un.Density(lambda x: -0.5 * x**4, {"x": un.Real}), SMC(base=base))

"""Nested sampling against closed forms and BlackJAX's own reckoning; importance sampling from
flows."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.ns import base, utils
from helpers import assert_within
from log_z_targets import TARGETS
from scipy.special import gammaln, logsumexp

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.partition.annealing.pilot_run import start_proposal
from unnorm.partition.estimators.nested_sampling import lineage_variance, simulate_parts

NestedSampling, FlowImportance = un.estimators.NestedSampling, un.estimators.FlowImportance
ALPHA = np.array([2.0, 3.0, 1.5, 4.0])

pytestmark = pytest.mark.slow  # each compiles a density of its own


@un.density
def dirichlet(x: un.Simplex[4]):
    return jnp.asarray(ALPHA - 1) @ jnp.log(x)


KNOWN = {name: TARGETS[name]()[:2] for name in ("gaussian", "shells", "student")}
KNOWN["dirichlet"] = (dirichlet, float(gammaln(ALPHA).sum() - gammaln(ALPHA.sum())))


def log_z(p, estimator, seed=0):
    return un.log_z(p, estimator, seed=seed, progress=False)


def slow_but(*quick):
    """The known answers, all but these marked slow."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in KNOWN]


# -- nested sampling -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", slow_but("dirichlet"))
def test_nested_sampling_finds_known_values(name):
    p, truth = KNOWN[name]
    z = log_z(p, NestedSampling())
    assert z.verdict == "ok" and z.standard_error < 0.1, z
    assert_within(z.value, truth, z.standard_error)
    assert z.evaluations["values"] > 5 * 500


def test_shrinkage_is_that_of_blackjax():
    """The same deaths and births, batches and ties among them: the same mean and spread of log
    Z."""
    rng = np.random.default_rng(0)
    died, born, living = [], [], [(height, -np.inf) for height in rng.uniform(size=60)]
    for _ in range(40):
        living.sort()
        contour = living[5][0]
        died, born = died + [h for h, _ in living[:6]], born + [b for _, b in living[:6]]
        living = living[6:] + [(height, contour) for height in rng.uniform(contour, 1, 6)]
    died, born = (
        np.array(first + [point[i] for point in living]) for i, first in enumerate((died, born))
    )
    heights = -30 * (1 - died) ** 2
    starts = np.where(np.isneginf(born), np.nan, -30 * (1 - born) ** 2)
    with jax.enable_x64(True):
        points = base.StateWithLogLikelihood(None, None, jnp.asarray(heights), jnp.asarray(starts))
        theirs = np.asarray(utils.log_weights(jax.random.key(0), base.NSInfo(points, None), 4000))
    order = np.argsort(heights)
    ours = simulate_parts(heights[order], np.where(np.isnan(starts), -np.inf, starts), rng, 4000)
    ours, theirs = logsumexp(ours, axis=1), logsumexp(theirs, axis=0)
    assert_within(
        ours.mean(), theirs.mean(), math.hypot(ours.std(), theirs.std()) / math.sqrt(4000)
    )
    assert ours.std() == pytest.approx(theirs.std(), rel=4 / math.sqrt(4000))


def test_families_show_the_drift_between_modes():
    """Equal shares of all families, descent alone left out, say nothing; half of them holding all
    says 1/n."""
    live, rounds = 100, 50
    families = np.tile(np.arange(live), rounds)
    level = (1 + (live * rounds - 1) / 2 / live) / live
    even = lineage_variance(np.zeros(live * rounds), families, live)
    assert even == pytest.approx(1 / live - level)
    halved = lineage_variance(np.where(families % 2 == 0, 0.0, -np.inf), families, live)
    assert halved - even == pytest.approx(1 / live, abs=0.02 / live)


def test_separated_modes_that_the_base_holds_keep_their_masses():
    """The pilot puts a component on each of the two, so that live points need not cross between
    them."""
    p, truth = TARGETS["unequal pair"]()[:2]
    for seed in range(4):
        z = log_z(p, NestedSampling(), seed)
        assert z.verdict == "ok" and z.standard_error < 0.05, z
        assert_within(z.value, truth, z.standard_error)


NOWHERE = {
    "growing without bound": lambda x: 0.5 * x @ x,
    "NaN on one half": lambda x: jnp.where(x[0] > 0, jnp.nan, -0.5 * x @ x),
    "minus infinity": lambda x: jnp.where(x[0] > 1e6, 0.0, -jnp.inf) - 0.5 * x @ x,
}


@pytest.mark.parametrize(
    "what", [*list(NOWHERE)[:2], pytest.param("minus infinity", marks=pytest.mark.slow)]
)
def test_what_has_no_log_z_gets_none(what):
    z = log_z(un.Density(NOWHERE[what], {"x": un.Real[2]}), NestedSampling(live=50, steps=2))
    assert z.verdict == "unreliable" and not math.isfinite(z.value) and not z.passed


@pytest.mark.parametrize(
    ("p", "estimator", "words"),
    [
        (
            lambda x: 0.0,
            lambda: NestedSampling(live=10),
            "live is 10 in NestedSampling; expected an integer of at least 50",
        ),
        (lambda x: 0.0, lambda: NestedSampling(steps=0), "steps is 0 in NestedSampling"),
    ],
)
def test_options_are_checked(p, estimator, words):
    with pytest.raises(ValueError, match=words):
        log_z(un.Density(p, {"x": un.Real}), estimator())


@pytest.mark.parametrize("estimator", [NestedSampling(), FlowImportance()])
def test_discrete_variables_are_refused(estimator):
    with pytest.raises(
        ValueError, match=r"Variable s is Spin.*expected continuous ones; use un.estimators.SMC"
    ):
        log_z(un.Density(lambda s, y: s.sum() * y, {"s": un.Spin[3], "y": un.Real}), estimator)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "shells"])
def test_intervals_of_nested_sampling_cover(name):
    """Of 60 seeds, 90% of the intervals hold the truth, and the errors are of the size of the
    standard error."""
    p, truth = KNOWN[name]
    found = [log_z(p, NestedSampling(), seed) for seed in range(60)]
    assert all(z.verdict == "ok" for z in found)
    errors = np.array([z.value - truth for z in found])
    assert sum(z.interval()[0] <= truth <= z.interval()[1] for z in found) >= 54
    assert 0.8 < np.median([z.standard_error for z in found]) / np.sqrt(np.mean(errors**2)) < 1.5


def test_a_funnel_is_believed_only_where_it_was_reached():
    """Five of eight seeds were called ok up to .47 low before the points had to balance."""
    p, truth = TARGETS["funnel"]()[:2]
    found = [log_z(p, NestedSampling(), seed) for seed in range(6)]
    assert any(
        "Stein's identities are rejected" in finding.what for z in found for finding in z.findings
    )
    for z in found:
        assert z.verdict == "unreliable" or abs(z.value - truth) < 4 * z.standard_error < 0.5, z


# -- flows -----------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_a_flow_finds_known_values(name):
    p, truth = KNOWN[name]
    z = log_z(p, FlowImportance())
    # Student's tails of 2.5 degrees are heavier than the base's: k̂ lies near .7, and either
    # verdict may be right.
    heavy = name == "student" and any("Pareto shape" in finding.what for finding in z.findings)
    assert (z.verdict == "ok" or heavy) and z.standard_error < 0.05, z
    assert_within(z.value, truth, z.standard_error)
    assert z.evaluations["values"] > 10_000 and z.evaluations["gradients"] > 5_000


@pytest.mark.slow
def test_a_base_with_a_flow_is_normalized_and_drawn_from():
    """Over a grid the base with a flow sums to one, and its draws have the moments of that sum."""
    p, _ = KNOWN["shells"]
    with jax.enable_x64(True):
        density = cast(p.on_chart().for_jit(), np.float64)
        proposal, _ = start_proposal(density, jax.random.key(0), "flow")
        side = jnp.linspace(-40.0, 40.0, 1601)  # unconstrained: 99.99% of both components' mass
        points = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
        heights = jax.lax.map(
            lambda flat: proposal.log_prob(proposal.view.split(flat)), points, batch_size=4096
        )
        mass = np.exp(np.asarray(heights)) * 0.05**2
        drawn = proposal.sample(jax.random.key(1), 4000)["x"]
    assert mass.sum() == pytest.approx(1.0, abs=1e-3)  # a finer grid: 4e-4 are outside
    near = np.asarray(drawn)[np.abs(drawn).max(1) < 3]
    inside = mass * (np.abs(points).max(1) < 3)
    assert_within(len(near) / 4000, inside.sum(), 0.5 / math.sqrt(4000))
    assert_within(
        near.mean(0), inside @ np.asarray(points) / inside.sum(), near.std(0) / math.sqrt(len(near))
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator", [un.estimators.AIS, un.estimators.SMC, un.estimators.ImportanceSampling]
)
def test_a_flow_is_a_base(estimator):
    p, truth = KNOWN["shells"]
    z = log_z(p, estimator(base="flow"))
    assert z.verdict == "ok" and z.standard_error < 0.03, z
    assert_within(z.value, truth, z.standard_error)


@pytest.mark.slow
def test_a_flow_is_a_base_beside_discrete_variables():
    """Spins whose sum s moves the mean of y: Z = Σ_s exp((.3 s)²/2) √(2π)."""
    p = un.Density(lambda s, y: 0.3 * s.sum() * y - 0.5 * y**2, {"s": un.Spin[3], "y": un.Real})
    truth = math.log(sum(n * math.exp(0.045 * s**2) for s, n in ((3, 2), (1, 6)))) + 0.5 * math.log(
        2 * math.pi
    )
    z = log_z(p, un.estimators.SMC(base="flow"))
    assert z.verdict == "ok" and z.standard_error < 0.03, z
    assert_within(z.value, truth, z.standard_error)

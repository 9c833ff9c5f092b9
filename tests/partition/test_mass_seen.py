"""Quadrature and sums that have seen the mass: second modes far off, counts far out, mass that
rounds onto a bound."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln
from numpyro.distributions import biject_to, constraints
from scipy import special, stats

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.declaration.density import cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.frame import Frame
from unnorm.integration.quadrature.centering import Location
from unnorm.integration.quadrature.integrand import Integrand
from unnorm.integration.quadrature.unseen_mass import (
    estimate_from_scans,
    local_maxima,
    scan_about,
    scan_log_density,
)
from unnorm.partition.base import LogZ
from unnorm.partition.estimators.quadrature import _mass_not_seen
from unnorm.partition.rounding_at_bounds import add_mass_at_bounds


def log_z(density, estimator=None):
    return un.log_z(density, estimator, seed=0, progress=False)


def log_normal(x, mean, width):
    return -0.5 * jnp.sum(((x - mean) / width) ** 2) - jnp.size(x) * (
        jnp.log(width) + 0.5 * math.log(2 * math.pi)
    )


# -- two modes -------------------------------------------------------------------------------------
@un.density
def pair(x: un.Real["d"], *, place: un.Real = 20.0, width: un.Positive = 0.1, share: un.Real = 0.0):
    """N(0, I) and exp(share) times a normal of another width in another place; each of mass one and
    exp(share)."""
    centre = jnp.full(x.shape, place / math.sqrt(x.size))
    return jnp.logaddexp(log_normal(x, 0.0, 1.0), share + log_normal(x, centre, width))


PAIRS = [  # dimensions, distance, width, log share
    (1, 5.0, 0.1, 0.0), (1, 20.0, 0.1, 0.0), (1, -20.0, 0.01, 0.0), (1, 1e3, 0.01, 0.0),
    (1, 1e4, 1e-3, 0.0), (1, 300.0, 0.05, 7.0), (1, 50.0, 1.0, -2.0), (2, 20.0, 0.1, 0.0),
    (2, 1e4, 0.1, 2.0), (3, 50.0, 1.0, 0.0),
]  # fmt: skip
SLOW_PAIRS = [(1, 20.0, 1e-3, 0.0), (2, 1e3, 0.05, 0.0), (3, 20.0, 0.1, 0.0), (3, 1e4, 0.1, 0.0)]


@pytest.mark.parametrize(
    "case", [*PAIRS, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_PAIRS)]
)
def test_a_narrow_mode_far_off_is_seen(case):
    dimensions, place, width, share = case
    z = log_z(pair.with_dimensions(d=dimensions).bind(place=place, width=width, share=share))
    assert z.verdict == "ok", z  # two modes: nothing bounds what was not seen
    assert z.value == pytest.approx(np.logaddexp(0, share), abs=1e-7)
    assert z.standard_error < 1e-6


def on(support, function):
    return un.Density(function, {"x": support})


def directions(x, mean, concentration):
    """The von Mises-Fisher density on the sphere in three dimensions."""
    log_area = jnp.log(2 * math.pi * -jnp.expm1(-2 * concentration) / concentration)
    return concentration * (x @ (mean / jnp.linalg.norm(mean)) - 1) - log_area


def angles(x, mean, concentration):
    return concentration * (jnp.cos(x - mean) - 1) - math.log(
        2 * math.pi * special.ive(0, concentration)
    )


ELSEWHERE = {
    "Positive": on(un.Positive, lambda x: jnp.logaddexp(-x, log_normal(x, 20.0, 0.1))),
    "near 0": on(un.Positive, lambda x: jnp.logaddexp(-x, log_normal(x, 1e-3, 1e-5))),
    "Interval": on(
        un.Interval(0, 1),
        lambda x: jnp.logaddexp(log_normal(x, 0.3, 0.05), log_normal(x, 0.999, 1e-5)),
    ),
    "Circle": on(un.Circle, lambda x: jnp.logaddexp(angles(x, 0.0, 50.0), angles(x, 2.9, 1e6))),
    "Sphere": on(
        un.Sphere[3],
        lambda x: jnp.logaddexp(
            directions(x, jnp.asarray([1.0, 0.0, 0.0]), 1.0),
            directions(x, jnp.asarray([0.6, 0.0, 0.8]), 100.0),
        ),
    ),
    "a spin beside": un.Density(
        lambda k, x: jnp.where(k > 0, log_normal(x, 0.0, 1.0), log_normal(x, 400.0, 0.1)),
        {"k": un.Spin, "x": un.Real},
    ),
    "two variables": un.Density(
        lambda x, y: (
            jnp.logaddexp(log_normal(x, 0.0, 1.0), log_normal(x, 20.0, 0.01))
            + log_normal(y, 5.0, 2.0)
        ),
        {"x": un.Real, "y": un.Real},
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_narrow_mode_is_seen_on_every_support(name):
    z = log_z(ELSEWHERE[name])
    assert z.verdict == "ok", z
    assert z.value == pytest.approx(math.log(2), abs=1e-6)


def test_quadrature_is_never_called_exact():
    """A needle beside a normal is seen by no rule, and log p̃ then looks like the normal alone."""

    def needle(x):
        return jnp.logaddexp(-0.5 * x**2, -0.5 * ((x - 12345.678) / 1e-6) ** 2)

    assert log_z(on(un.Real, needle)).verdict == "ok"
    assert log_z(on(un.Real, lambda x: -0.5 * x**2)).verdict == "ok"
    assert log_z(on(un.Real, lambda x: -jnp.log1p(x**2))).verdict == "ok"
    assert log_z(on(un.Real[2], lambda x: -0.5 * x @ x)).verdict == "ok"


def test_points_over_all_scales_hold_a_rule_that_missed_a_mode_against_its_log_z(x64):
    density = pair.with_dimensions(d=2).bind(place=20.0, width=0.3, share=1.0).on_chart().for_jit()
    integrand = Integrand(Unconstrained(density), 2**17)
    scan = scan_about(integrand, Frame(np.zeros(2), np.eye(2)))
    assert (
        np.linalg.norm(local_maxima(scan)[:3] - 20 / math.sqrt(2), axis=1).min() < 2
    )  # a start for a climb
    cell = np.mean(
        np.exp(-scan_log_density(scan.frame, scan.points))
        * (np.linalg.norm(scan.points, axis=1) < 10)
    )
    assert cell == pytest.approx(100 * math.pi, rel=0.05)  # the weights are those of the area
    near = scan_about(integrand, Frame(np.full(2, 20 / math.sqrt(2)), 0.3 * np.eye(2)))
    truth, found = math.log1p(math.e), estimate_from_scans([scan, near])
    assert abs(found.value - truth) < 4 * found.error < 0.2
    nothing = Location(scan.frame, np.ones(2), [], False, [scan, near])
    assert _mass_not_seen("pair", nothing, truth) == []
    (told,) = _mass_not_seen("pair", nothing, 0.0)  # the wide mode alone
    assert told.code == FindingCode.MASS_NOT_SEEN and told.severity == "error"


# -- counts ----------------------------------------------------------------------------------------
def log_poisson(y, rate):
    return y * jnp.log(rate) - gammaln(y + 1) - rate


COUNTS = {
    "two modes": (
        lambda y: jnp.logaddexp(log_poisson(y, 3.0), log_poisson(y, 7000.0)),
        math.log(2),
    ),
    "no mass below 5,000": (lambda y: jnp.where(y < 5000, -jnp.inf, log_poisson(y, 6000.0)), 0.0),
    "about a million": (lambda y: log_poisson(y, 1e6) + 1e6, 1e6),
    "about 10^9": (lambda y: log_poisson(y, 1e9), 0.0),
    "3 and 10^9": (
        lambda y: jnp.logaddexp(log_poisson(y, 3.0), log_normal(y, 1e9, 100.0)),
        math.log(2),
    ),
    "even counts": (
        lambda y: jnp.where(y % 2 == 0, 0.0, -3.0) + log_poisson(y, 1e7),
        math.log(0.5 + 0.5 * math.exp(-3)),
    ),
    "a slow tail": (lambda y: -1e-6 * y, -math.log(-math.expm1(-1e-6))),
    "one state": (
        lambda y: jnp.where(y == 7003, 5.0, -y),
        float(np.logaddexp(5, -math.log(-math.expm1(-1)))),
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_summed_where_its_mass_lies(name):
    function, truth = COUNTS[name]
    z = log_z(un.Density(function, {"y": un.Count}))
    assert z.passed and z.verdict == ("ok" if name == "about 10^9" else "exact"), z
    # beyond 10^8 rounding decides, and is told
    assert abs(z.value - truth) < 4 * z.standard_error + 1e-8
    assert z.standard_error < 1e-5


def test_a_count_without_a_sum_is_told():
    late = log_z(un.Density(lambda y: -y + 1e-9 * y**2, {"y": un.Count}))
    assert late.value == math.inf and late.findings[0].code == FindingCode.NOT_NORMALIZABLE
    nothing = log_z(un.Density(lambda y: 0 * y - jnp.inf, {"y": un.Count}))
    assert not nothing.passed and "minus infinity at every count" in nothing.findings[0].what


@un.density
def two_poissons(y: un.Count, *, low: un.Real = 1.0, high: un.Real = 8.8, share: un.Real = 0.0):
    return jnp.logaddexp(log_poisson(y, jnp.exp(low)), share + log_poisson(y, jnp.exp(high)))


@pytest.mark.slow
def test_fits_of_counts_far_out_have_the_log_z_of_the_density():
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.poisson(3, 300), rng.poisson(7000, 100)])
    fit = un.fit(two_poissons, data, "maximum_likelihood", seed=0, progress=False)
    assert fit.passed and fit.summary().estimate["share"] == pytest.approx(
        math.log(1 / 3), abs=1e-6
    )
    assert fit.log_z.value == pytest.approx(math.log(4 / 3), abs=1e-6)
    assert fit.log_z.value == pytest.approx(log_z(fit.density).value, abs=1e-8)


def test_a_million_counts_are_fitted():
    p = un.Density(lambda y, *, a: y * a - gammaln(y + 1), {"y": un.Count}, {"a": (un.Real, 0.0)})
    data = np.random.default_rng(0).poisson(1e6, 200)
    fit = un.fit(p, data, "maximum_likelihood", start={"a": 13.8}, seed=0, progress=False)
    assert fit.summary().estimate["a"] == pytest.approx(math.log(data.mean()), abs=1e-9)
    assert fit.summary().standard_error["a"] == pytest.approx(
        np.std(data) / data.mean() / math.sqrt(200), rel=0.01
    )


# -- bounds ----------------------------------------------------------------------------------------
def log_beta(*concentration):
    return float(np.sum(special.gammaln(concentration)) - special.gammaln(np.sum(concentration)))


@un.density
def beta(x: un.Interval(0, 1), *, a: un.Positive = 1.0, b: un.Positive = 1.0):
    return (a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x)


@pytest.mark.parametrize(
    "a, b", [(0.05, 0.05), (0.1, 0.1), (0.5, 0.5), (20.0, 0.05), (0.05, 20.0), (2.0, 3.0)]
)
def test_mass_that_rounds_onto_a_bound_is_added(a, b):
    z = log_z(beta.bind(a=a, b=b))
    assert z.passed and z.standard_error < 1e-4, z
    assert abs(z.value - log_beta(a, b)) < 2 * z.standard_error + 1e-9


LOG_HALF_NORMAL = 0.5 * math.log(2 * math.pi)
BOUNDED = {
    "another interval": (
        on(un.Interval(2, 5), lambda x: -0.95 * (jnp.log((x - 2) / 3) + jnp.log((5 - x) / 3))),
        log_beta(0.05, 0.05) + math.log(3),
    ),
    "far from 0": (
        on(un.Interval(-1000, -999), lambda x: -0.9 * (jnp.log(x + 1000) + jnp.log(-999 - x))),
        log_beta(0.1, 0.1),
    ),
    "two of them": (
        on(un.Interval(0, 1)[2], lambda x: -0.95 * jnp.sum(jnp.log(x) + jnp.log1p(-x))),
        2 * log_beta(0.05, 0.05),
    ),
    "Circle": (
        on(un.Circle, lambda x: -0.9 * jnp.log(jnp.pi - x)),
        math.log(10 * (2 * math.pi) ** 0.1),
    ),
    "Ordered": (
        on(un.Ordered[2], lambda x: -0.5 * x[0] ** 2 - 0.95 * jnp.log(x[1] - x[0]) - (x[1] - x[0])),
        LOG_HALF_NORMAL + math.lgamma(0.05),
    ),
    "gamma of .05": (on(un.Positive, lambda x: -0.95 * jnp.log(x) - x), math.lgamma(0.05)),
    "gamma of .001": (on(un.Positive, lambda x: -0.999 * jnp.log(x) - x), math.lgamma(0.001)),
    "truncated": (
        un.truncate(on(un.Real, lambda x: -0.95 * jnp.log(x) - x), x=un.Interval(0, 2)),
        math.lgamma(0.05) + math.log(special.gammainc(0.05, 2)),
    ),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_every_bound_is_followed(name):
    density, truth = BOUNDED[name]
    z = log_z(density)
    assert z.passed and z.standard_error < 1e-3, z
    assert abs(z.value - truth) < 2 * z.standard_error + 1e-9


def test_a_bound_that_leaves_too_few_digits_is_not_believed():
    z = log_z(
        on(un.Interval(1e6, 1e6 + 1), lambda x: -0.9 * (jnp.log(x - 1e6) + jnp.log(1e6 + 1 - x)))
    )
    assert not z.passed and not math.isinf(z.value)
    pole = log_z(on(un.Interval(0, 1), lambda x: -jnp.log(x)))
    assert pole.value == math.inf and "cannot be normalized" in pole.findings[0].what
    other = log_z(on(un.Interval(0, 1), lambda x: -jnp.log1p(-x)))
    assert not other.passed


@un.density
def dirichlet(x: un.Simplex["k"], *, power: un.Real["k"] = 0.0):
    return power @ jnp.log(x)


@pytest.mark.parametrize("a", [(0.05,) * 3, (0.1,) * 3, (0.5,) * 3, (0.05, 1, 20), (0.05, 0.05)])
def test_a_simplex_is_followed_into_its_vertices(a):
    z = log_z(dirichlet.bind(power=np.array(a) - 1.0))
    assert z.passed, z
    assert z.value == pytest.approx(log_beta(*a), abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("concentration, seeds", [(0.05, 4), (0.3, 4)])
def test_dirichlets_of_five_sides_are_right_or_not_ok(concentration, seeds):
    p, truth = dirichlet.bind(power=np.full(5, concentration - 1)), log_beta(*[concentration] * 5)
    for seed in range(seeds):
        z = un.log_z(p, seed=seed, progress=False)
        assert not z.passed or abs(z.value - truth) < 4 * z.standard_error, z


def test_breaking_the_stick_in_logarithms_is_numpyros_bijection(x64):
    free = np.random.default_rng(0).normal(scale=2, size=(5, 3))
    other = biject_to(constraints.simplex)
    # a program each: in one, XLA would take log exp x for x
    constrain, unconstrain = jax.jit(un.Simplex.constrain), jax.jit(un.Simplex.unconstrain)
    expected = np.asarray(jax.jit(lambda z: other(z))(free))
    np.testing.assert_allclose(constrain(free), expected, rtol=1e-13)
    np.testing.assert_allclose(unconstrain(expected), free, atol=1e-12)
    log_det = jax.jit(lambda z, x: other.log_abs_det_jacobian(z, x).sum())(free, expected)
    assert jax.jit(un.Simplex.log_det)(free) == pytest.approx(float(log_det))
    far = np.array([[300.0, -300.0, 200.0]] * 5)
    np.testing.assert_allclose(unconstrain(constrain(far)), far, rtol=1e-12)
    assert np.all(np.asarray(constrain(np.array([[800.0, -800.0, 0.0]] * 5))) > 0)  # no log of 0


def test_a_fit_on_nodes_that_miss_mass_says_so():
    data = np.clip(np.random.default_rng(0).beta(0.1, 0.1, 400), 1e-15, 1 - 1e-15)
    fit = un.fit(beta, data, "maximum_likelihood", seed=0, progress=False)
    assert not fit.passed
    assert FindingCode.MASS_NOT_SEEN in {finding.code for finding in fit.findings}
    ok = un.fit(
        beta,
        stats.beta(2, 3).rvs(400, random_state=0),
        "maximum_likelihood",
        seed=0,
        progress=False,
    )
    assert ok.passed and ok.log_z.value == pytest.approx(log_beta(*ok.summary().estimate), abs=1e-7)


@pytest.mark.parametrize("concentration", [0.05, 0.1, 2.0])
def test_what_rounding_hides_from_walkers_is_added(x64, concentration):
    """Four independent Beta(a, a): walkers see a flat density beyond 1 - x = 2^-52, where x stands
    still."""
    density = cast(many_betas.bind(a=concentration).on_chart().for_jit(), jnp.float64)
    clipped = 1 / (1 + math.exp(math.log(2.0**-52) + 2.0**-52))
    end = math.log(clipped / (1 - clipped))
    lost = math.exp(-concentration * end) * (
        1 / concentration - 1
    )  # in place of exp(-a u) walkers see exp(-u)
    gain = -4 * math.log1p(-lost / math.exp(log_beta(concentration, concentration)))
    estimate = LogZ(0.0, 0.01, {"values": 7, "gradients": 0}, "ok", "Lebesgue", "bridge")
    found = add_mass_at_bounds(density, estimate)
    assert found.passed and found.verdict == "ok" and found.evaluations["values"] > 7
    assert found.value == pytest.approx(gain, abs=2e-3 if gain > 1e-4 else 1e-12)
    assert found.standard_error == pytest.approx(0.01, abs=1e-3)


@un.density
def many_betas(x: un.Interval(0, 1)[4], *, a: un.Positive = 1.0):
    return (a - 1) * jnp.sum(jnp.log(x) + jnp.log1p(-x))

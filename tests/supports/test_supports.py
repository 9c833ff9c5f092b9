"""Every support: its bijection, its measure, its checks, its starts and its noise."""

import contextlib
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within
from scipy import special

import unnorm as un

CONTINUOUS = {
    "real": (un.Real, ()),
    "real vector": (un.Real["d"], (3,)),
    "positive": (un.Positive, ()),
    "positive matrix": (un.Positive[2, 2], (2, 2)),
    "unit interval": (un.Interval(0, 1), ()),
    "interval": (un.Interval(-2, 5)["d"], (3,)),
    "simplex": (un.Simplex[3], (3,)),
    "two simplexes": (un.Simplex[2, 4], (2, 4)),
    "ordered": (un.Ordered[4], (4,)),
    "two ordered": (un.Ordered[2, 3], (2, 3)),
    "symmetric": (un.Symmetric["d"], (4, 4)),
    "symmetric 1x1": (un.Symmetric["d"], (1, 1)),
    "symmetric with diagonal": (un.Symmetric(diagonal=True)["d"], (3, 3)),
    "two symmetric": (un.Symmetric(diagonal=True)[2, 3], (2, 3, 3)),
    "positive definite": (un.PositiveDefinite["d"], (3, 3)),
    "two positive definite": (un.PositiveDefinite[2, 3], (2, 3, 3)),
}
TWO_VALUED = {"binary": un.Binary, "spin": un.Spin}
EVERY = pytest.mark.parametrize("name", CONTINUOUS)
PRECISIONS = pytest.mark.parametrize("dtype", ["float32", "float64"])


def precision(dtype):
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def free_coordinates(support, shape, dtype, seed=0):
    drawn = np.random.default_rng(seed).uniform(-2, 2, support.free_shape(shape))
    return jnp.asarray(drawn, dtype)


def measured_entries(support, value):
    """The coordinates of the reference measure: k - 1 of a simplex, each free entry of a symmetric
    matrix once."""
    if support.measure.startswith("Lebesgue on the first"):
        return value[..., :-1].ravel()
    return jnp.stack([value[index] for index in support.entries(value.shape)])


# -- the bijection ---------------------------------------------------------------------------------
@PRECISIONS
@EVERY
def test_the_bijection_and_its_log_det(name, dtype):
    support, shape = CONTINUOUS[name]
    single = dtype == "float32"

    @jax.jit  # one program: eager JAX would compile every operation by itself
    def everything(free):
        value = support.constrain(free)
        jacobian = jax.jacfwd(
            lambda f: measured_entries(support, support.constrain(f.reshape(free.shape)))
        )
        jacobian = jacobian(free.ravel()) if free.size else jnp.zeros((0, 0))
        return value, support.unconstrain(value), support.log_det(free), jacobian

    with precision(dtype):
        free = free_coordinates(support, shape, dtype)
        value, back, log_det, jacobian = everything(free)
    assert value.shape == shape and value.dtype == back.dtype == dtype
    support.check(np.asarray(value), "x")
    np.testing.assert_allclose(back, free, atol=1e-4 if single else 1e-10)
    assert log_det.shape == () and (log_det.dtype == dtype or not log_det)
    assert jacobian.shape == (free.size, free.size)
    expected = np.linalg.slogdet(np.asarray(jacobian, float))[1]  # of an empty matrix: 0
    np.testing.assert_allclose(log_det, expected, atol=2e-3 if single else 1e-9)


@EVERY
def test_random_starts_lie_inside(name):
    support, shape = CONTINUOUS[name]

    @jax.jit
    def drawn(key):
        free = support.random_free(key, shape, jnp.float32)
        return free, support.contains(support.constrain(free))

    free, inside = drawn(jax.random.key(0))
    assert free.shape == support.free_shape(shape) and free.dtype == jnp.float32 and bool(inside)


@pytest.mark.parametrize("name", TWO_VALUED)
def test_two_valued_entries_are_their_own_coordinates(name):
    support = TWO_VALUED[name]["d"]
    drawn = support.random_free(jax.random.key(1), (200,), jnp.float32)
    assert set(np.unique(drawn)) == set(support.states)
    np.testing.assert_array_equal(support.constrain(support.unconstrain(drawn)), drawn)
    assert support.log_det(drawn) == 0 and support.measure == "counting" and support.discrete


# -- the measure: known integrals, by the trapezoid rule over free coordinates ---------------------
def integral(support, shape, log_density, limit, points):
    """∫ exp(log_density) with respect to the support's measure; the trapezoid rule is spectrally
    exact here."""
    size = math.prod(support.free_shape(shape))
    grid = np.linspace(-limit, limit, points)
    mesh = np.stack(np.meshgrid(*[grid] * size, indexing="ij"), -1).reshape(
        -1, *support.free_shape(shape)
    )
    with jax.enable_x64(True):
        terms = jax.vmap(lambda f: log_density(support.constrain(f)) + support.log_det(f))(
            jnp.asarray(mesh)
        )
        return float(jnp.exp(terms).sum()) * (grid[1] - grid[0]) ** size


def gaussian(value):
    return -0.5 * jnp.sum(value**2)


def wishart(value):
    """The Wishart density on 2x2 with 5 degrees of freedom and the identity as its scale."""
    return jnp.linalg.slogdet(value)[1] - 0.5 * jnp.trace(value)


# 2^(νp/2) Γ_p(ν/2): the Wishart normalising constant.
WISHART = 2.0**5 * np.exp(special.multigammaln(2.5, 2))
INTEGRALS = {
    "real": (un.Real, (), gaussian, 12, 200, math.sqrt(2 * math.pi)),
    "positive": (un.Positive, (), lambda x: -x, 40, 800, 1.0),
    "interval length": (un.Interval(-2, 5), (), lambda x: 0.0 * x, 40, 800, 7.0),
    "simplex volume": (un.Simplex[3], (3,), lambda x: 0.0 * x.sum(), 40, 500, 0.5),
    "Dirichlet": (
        un.Simplex[3],
        (3,),
        lambda x: jnp.sum(jnp.log(x) * jnp.arange(1.0, 4.0)),
        40,
        500,
        math.gamma(2) * math.gamma(3) * math.gamma(4) / math.gamma(9),
    ),
    "ordered": (un.Ordered[2], (2,), lambda x: gaussian(x) - math.log(2 * math.pi), 20, 500, 0.5),
    "symmetric": (un.Symmetric[3], (3, 3), gaussian, 8, 60, math.pi**1.5),
    "symmetric with diagonal": (
        un.Symmetric(diagonal=True)[2],
        (2, 2),
        gaussian,
        9,
        60,
        2 * math.pi**1.5,
    ),
    "positive definite": (un.PositiveDefinite[2], (2, 2), wishart, 9, 60, WISHART),
}


@pytest.mark.parametrize("name", INTEGRALS)
def test_known_integral(name):
    support, shape, log_density, limit, points, expected = INTEGRALS[name]
    assert integral(support, shape, log_density, limit, points) == pytest.approx(expected, rel=1e-5)


# -- checks ----------------------------------------------------------------------------------------
OUTSIDE = {
    "negative": (
        un.Positive["d"],
        [1.0, -2.0],
        r"^tau holds -2\.0 at index \(1,\), outside Positive\['d'\]; expected",
    ),
    "scalar": (
        un.Positive,
        -2.0,
        r"^tau holds -2\.0, outside Positive; expected numbers that are not",
    ),
    "interval": (
        un.Interval(0, 1),
        1.5,
        r"outside Interval\(0, 1\); expected numbers from 0 to 1;",
    ),
    "simplex": (
        un.Simplex[2],
        [0.5, 0.6],
        r"holds \[0\.5 0\.6\], outside Simplex\[2\]; expected vectors of",
    ),
    "simplex sign": (un.Simplex[2], [-0.5, 1.5], "outside Simplex"),
    "ordered": (un.Ordered[2, 2], [[1.0, 2.0], [2.0, 1.0]], r"holds \[2\. 1\.\] at index \(1,\)"),
    "binary": (un.Binary["d"], [0.0, 2.0], r"tau holds 2\.0 at index \(1,\).*expected 0 or 1"),
    "spin": (un.Spin["d"], [0.0, 1.0], "expected -1 or 1"),
    "asymmetric": (
        un.Symmetric[2],
        [[0.0, 1.0], [2.0, 0.0]],
        r"holds \[\[0\. 1\.\] \[2\. 0\.\]\], outside",
    ),
    "diagonal": (un.Symmetric[2], [[1.0, 1.0], [1.0, 1.0]], "with a zero diagonal"),
    "indefinite": (
        un.PositiveDefinite[2],
        [[1.0, 2.0], [2.0, 1.0]],
        "expected a symmetric positive definite matrix",
    ),
    "large matrix": (un.PositiveDefinite[30], np.zeros((30, 30)), r"\.\.\."),
    "nan": (
        un.Real["d"],
        [0.0, np.nan],
        r"^tau holds nan at index \(1,\); expected finite numbers; drop or impute",
    ),
    "inf": (un.Positive, np.inf, r"^tau holds inf; expected"),
    "words": (
        un.Real["d"],
        ["a"],
        r"^tau has dtype <U1; expected numbers for Real\['d'\]; convert",
    ),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_check_says_what_was_found_in_one_line(name):
    support, value, sentence = OUTSIDE[name]
    with pytest.raises(ValueError, match=sentence) as error:
        support.check(np.asarray(value), "tau")
    assert "\n" not in str(error.value) and "  " not in str(error.value)


@pytest.mark.parametrize("name", sorted(set(OUTSIDE) - {"words"}))
def test_contains_agrees_with_check(name):
    support, value, _ = OUTSIDE[name]
    assert not bool(support.contains(jnp.asarray(value)))


def test_bounds_and_whole_numbers_are_valid():
    un.Interval(0, 1)["d"].check(np.array([0.0, 1.0]), "x")
    un.Interval(0.1, 0.9)["d"].check(np.array([0.1, 0.9], "float32"), "x")
    un.Positive.check(np.array(0.0), "x")
    un.Binary["d"].check(np.array([0, 1]), "x")
    un.Binary["d"].check(np.array([True, False]), "x")
    un.Ordered[2].check(np.array([1.0, 1.0]), "x")


def test_the_checks_run_inside_jit():
    for support, value in [
        (un.Symmetric[2], jnp.zeros((2, 2))),
        (un.PositiveDefinite[2], jnp.eye(2)),
        (un.Real, 0.0),
    ]:
        assert bool(jax.jit(support.contains)(value))


# -- starts ----------------------------------------------------------------------------------------
def test_what_a_scalar_start_stands_for():
    np.testing.assert_array_equal(un.Real["d"].start(2.0, (3,)), np.full(3, 2.0))
    np.testing.assert_array_equal(un.Symmetric["d"].start(0.0, (2, 2)), np.zeros((2, 2)))
    np.testing.assert_array_equal(un.PositiveDefinite["d"].start(3.0, (2, 2)), 3.0 * np.eye(2))
    np.testing.assert_array_equal(
        un.PositiveDefinite[2, 2].start(3.0, (2, 2, 2))[1], 3.0 * np.eye(2)
    )
    np.testing.assert_allclose(un.Simplex["k"].start(0.3, (4,)), np.full(4, 0.25))
    np.testing.assert_allclose(un.Ordered["k"].start(1.0, (3,)), [0.0, 1.0, 2.0])
    for support in (un.Positive, un.PositiveDefinite[2]):
        with pytest.raises(ValueError, match="it must be positive"):
            support.start(0.0, (2, 2))


BOUNDARY = {
    "positive": (un.Positive["d"], [0.0, 1e-20, 3.0]),
    "interval": (un.Interval(0, 1)["d"], [0.0, 1.0, 1e-9, 0.5]),
    "far interval": (un.Interval(1000, 1001)["d"], [1000.0, 1001.0, 1000.5]),
    "simplex": (un.Simplex[3], [0.0, 0.4, 0.6]),
    "ordered": (un.Ordered[3], [5000.0, 5000.0, 5001.0]),
}


@PRECISIONS
@pytest.mark.parametrize("name", BOUNDARY)
def test_inward_gives_finite_coordinates(name, dtype):
    support, value = BOUNDARY[name]
    moved = support.inward(np.asarray(value, dtype)).astype(dtype)
    support.check(moved, "x")
    with precision(dtype):
        assert np.isfinite(support.unconstrain(moved)).all()


UNMOVED = {
    "positive": (un.Positive["d"], [1e-9, 1e9]),
    "interval": (un.Interval(0, 1)["d"], [1e-9, 0.999]),
    "simplex": (un.Simplex[3], [0.1, 0.2, 0.7]),
    "ordered": (un.Ordered[3], [0.1, 0.3, 0.7]),
    "real": (un.Real["d"], [0.0, -1e30]),
}


@pytest.mark.parametrize("name", UNMOVED)
def test_inward_leaves_what_is_inside_alone(name):
    support, value = UNMOVED[name]
    np.testing.assert_array_equal(support.inward(np.asarray(value)), value)


# -- the default noise -----------------------------------------------------------------------------
def fitted_noise(support, data):
    statistics = jax.vmap(support.noise_statistics)(data).mean(0)
    return support.noise(statistics, data.shape[1:])


def positive_data(shape):
    return jnp.asarray(np.random.default_rng(3).gamma(2.0, 1.5, (400, *shape)))


def test_real_noise_has_the_datas_moments_and_integrates_to_one():
    data = jnp.asarray(
        np.random.default_rng(1).normal(size=(500, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]]) + 2.0
    )
    noise = fitted_noise(un.Real["d"], data)
    grid = 2.0 + np.sinh(np.linspace(-7, 7, 300))  # heavy tails: the grid reaches far
    weight = np.gradient(grid)
    values = jnp.stack(jnp.meshgrid(grid, grid, indexing="ij"), -1)
    total = (jnp.exp(noise.log_prob(values)) * weight[:, None] * weight).sum()
    assert float(total) == pytest.approx(1.0, abs=2e-3)
    drawn = noise.sample(jax.random.key(0), (10_000,))
    assert drawn.shape == (10_000, 2)
    assert_within(drawn.mean(0), data.mean(0), drawn.std(0) / 100)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(data.T), atol=0.2)


@pytest.mark.parametrize(
    "support, shape", [(un.Positive, ()), (un.Positive[2, 2], (2, 2)), (un.Real[2, 1], (2, 1))]
)
def test_noise_on_any_shape(support, shape):
    data = positive_data(shape)
    noise = fitted_noise(support, data)
    drawn = noise.sample(jax.random.key(0), (10_000,))
    assert drawn.shape == (10_000, *shape) and noise.log_prob(drawn).shape == (10_000,)
    assert noise.log_prob(drawn[0]).shape == ()
    assert_within(drawn.mean(0), data.mean(0), drawn.std(0) / 100)


def test_positive_noise_integrates_to_one_and_is_positive_at_zero(x64):
    noise = fitted_noise(un.Positive, positive_data(()))
    grid = jnp.linspace(0, 100, 100_001)
    assert float(jnp.trapezoid(jnp.exp(noise.log_prob(grid)), grid)) == pytest.approx(1.0, abs=1e-5)
    assert np.isfinite(noise.log_prob(0.0))


def test_interval_and_simplex_noise_are_uniform():
    noise = un.Interval(-1, 3)["d"].noise(jnp.zeros(0), (2,))
    assert float(noise.log_prob(jnp.array([0.0, 3.0]))) == pytest.approx(-2 * math.log(4))
    drawn = noise.sample(jax.random.key(0), (5_000,))
    assert drawn.shape == (5_000, 2)
    assert_within(drawn.mean(0), 1.0, drawn.std(0) / math.sqrt(5_000))
    assert float(noise.log_prob(jnp.array([-1.0, 3.0]))) == pytest.approx(
        -2 * math.log(4)
    )  # on its bounds
    simplex = un.Simplex["k"].noise(
        jnp.zeros(0), (2, 3)
    )  # density 2 on each simplex, by its measure
    value = jnp.full((2, 3), 1 / 3)
    assert float(simplex.log_prob(value)) == pytest.approx(2 * math.log(2))
    corner = jnp.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    assert float(simplex.log_prob(corner)) == pytest.approx(2 * math.log(2))
    drawn = simplex.sample(jax.random.key(0), (5_000,))
    assert drawn.shape == (5_000, 2, 3)
    assert_within(drawn.mean(0), 1 / 3, drawn.std(0) / math.sqrt(5_000))


@pytest.mark.parametrize("name", TWO_VALUED)
def test_two_valued_noise_sums_to_one_and_has_the_margins(name):
    support = TWO_VALUED[name]
    low, high = support.states
    uniform = np.random.default_rng(2).uniform(size=(300, 3))
    data = jnp.asarray(np.where(uniform < [0.2, 0.5, 1.0], high, low))
    noise = fitted_noise(support["d"], data)
    states = jnp.array(list(itertools.product(support.states, repeat=3)))
    assert float(jnp.exp(noise.log_prob(states)).sum()) == pytest.approx(1.0)
    assert np.isfinite(noise.log_prob(states)).all()  # positive even where the data never was
    drawn = noise.sample(jax.random.key(0), (5_000,))
    assert drawn.shape == (5_000, 3) and set(np.unique(drawn)) <= set(support.states)
    assert_within(drawn[:, :2].mean(0), data[:, :2].mean(0), drawn[:, :2].std(0) / math.sqrt(5_000))
    scalar = fitted_noise(support, data[:, 0])
    assert scalar.sample(jax.random.key(0), (5,)).shape == (5,) and scalar.log_prob(
        data[:, 0]
    ).shape == (300,)


def test_a_support_without_default_noise_says_so():
    with pytest.raises(
        ValueError,
        match=r"no default noise on PositiveDefinite\[2\]; expected a NumPyro distribution",
    ):
        un.PositiveDefinite[2].noise(jnp.zeros(0), (2, 2))


# -- how a support is written ----------------------------------------------------------------------
def test_axes():
    assert un.Real[" d"] == un.Real["d"] and un.Real["school year"].axes == ("school", "year")
    assert (
        un.Real["3 d"].axes == (3, "d")
        and un.Real[3, "d"].axes == (3, "d")
        and un.Real[np.int64(3)].axes == (3,)
    )
    assert un.Symmetric["d"].shape_axes == ("d", "d") == un.Symmetric["d", "d"].shape_axes
    assert un.Symmetric["k", "d"].shape_axes == ("k", "d", "d")
    for wrong in (0, -1, "0", 1.5, True, None):
        with pytest.raises(TypeError, match="it must be a positive integer or a name"):
            un.Real[wrong]


def test_repr_equality_and_hash():
    assert repr(un.Interval(0, 1)["d"]) == "Interval(0, 1)['d']" and repr(un.Real) == "Real"
    assert repr(un.Symmetric(diagonal=True)["d"]) == "Symmetric(diagonal=True)['d']"
    assert un.Binary["d"] != un.Spin["d"] and un.Real["d"] != un.Positive["d"]
    assert un.Interval(0, 1)["d"] == un.Interval(0.0, 1.0)["d"] != un.Interval(0, 2)["d"]
    assert hash(un.Interval(0, 1)["d"]) == hash(un.Interval(0.0, 1.0)["d"])


@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (0, math.inf), (math.nan, 1)])
def test_interval_refuses_its_bounds_in_a_sentence(bounds):
    with pytest.raises(
        ValueError,
        match=r"expected two finite numbers, the lower first; use un.Positive or un.Real",
    ):
        un.Interval(*bounds)


def test_tables_list_each_free_entry_once():
    assert un.Symmetric["d"].entries((3, 3)) == [(0, 1), (0, 2), (1, 2)]
    assert len(un.PositiveDefinite["d"].entries((3, 3))) == 6
    assert un.Real["d"].entries((2,)) == [(0,), (1,)] and un.Real.entries(()) == [()]
    assert un.PositiveDefinite[2].entry_bounds((0, 0)) == (0.0, math.inf)
    assert un.Interval(0, 2).entry_bounds(()) == (0.0, 2.0)

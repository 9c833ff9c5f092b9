"""The conditions of score matching and its relatives: bounds, walls, jumps and kinks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.core.findings import ERROR, NOTE, FindingCode
from unnorm.declaration.density import cast
from unnorm.fitting.checks.boundary_weight import order_of
from unnorm.fitting.checks.discontinuities import breaks

objectives = un.objectives
POSITIVE, REAL = (un.Positive, 1.0), (un.Real, 0.0)


def fitted(p, data, objective, **options):
    return un.fit(p, data, objective, seed=0, progress=False, **options)


def conditions(fit):
    return [finding for finding in fit.findings if finding.code is FindingCode.OBJECTIVE_CONDITIONS]


# -- bounds ----------------------------------------------------------------------------------------
GAMMA = un.Density(
    lambda x, *, a, r: (a - 1) * jnp.log(x) - r * x,
    {"x": un.Positive},
    {"a": POSITIVE, "r": POSITIVE},
)
BETA = un.Density(
    lambda x, *, a, b: (a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x), {"x": un.Interval(0, 1)},
    {"a": POSITIVE, "b": POSITIVE},
)  # fmt: skip
DIRICHLET = un.Density(
    lambda x, *, a: jnp.sum((a - 1) * jnp.log(x)),
    {"x": un.Simplex["d"]},
    {"a": (un.Positive["d"], 1.0)},
)


def drawn(name, shape, rows=5000):
    return getattr(np.random.default_rng(0), name)(*shape, rows)


def assert_covers(fit, truth, errors=4.0):
    summary = fit.summary()
    away = np.abs(summary.estimate.to_numpy() - truth) / summary.standard_error.to_numpy()
    assert away.max() < errors and (summary.standard_error.to_numpy() < 0.1).all()


def test_a_density_that_is_infinite_at_its_bound():
    """gamma(.5): with h = min(u, 1) a goes to 1.0000 whatever the data; h = u² is consistent."""
    data = drawn("gamma", (0.5, 2.0))
    chosen = fitted(GAMMA, data, objectives.ScoreMatching())
    assert_covers(chosen, [0.5, 0.5])
    (told,) = conditions(chosen)
    assert chosen.passed and told.severity == NOTE and 'h = "square" was chosen' in told.what
    named = fitted(GAMMA, data, objectives.ScoreMatching(h="min"))
    (told,) = conditions(named)
    assert (
        not named.passed
        and told.severity == ERROR
        and "boundary condition" in told.what
        and "x = 0" in told.what
    )
    square = fitted(GAMMA, data, objectives.ScoreMatching(h="square"))
    assert square.passed and not conditions(square)
    np.testing.assert_allclose(square.summary().estimate, chosen.summary().estimate, rtol=1e-6)


def test_the_usual_weight_stays_where_it_is_valid():
    data = drawn("gamma", (3.0, 2.0), 1000)
    chosen = fitted(GAMMA, data, objectives.ScoreMatching())
    named = fitted(GAMMA, data, objectives.ScoreMatching(h="min"))
    assert chosen.passed and named.passed and not conditions(chosen) + conditions(named)
    np.testing.assert_allclose(named.summary().estimate, chosen.summary().estimate, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "data", "truth"),
    [(BETA, drawn("beta", (0.5, 0.7)), [0.5, 0.7]), (BETA, drawn("beta", (2.0, 0.6)), [2.0, 0.6]),
     (DIRICHLET, drawn("dirichlet", ([0.5, 0.7, 2.0],)), [0.5, 0.7, 2.0])],
    ids=["both ends", "the upper end", "simplex"],
)  # fmt: skip
def test_other_bounds(p, data, truth):
    fit = fitted(p, data, objectives.ScoreMatching())
    assert fit.passed and 'h = "square" was chosen' in conditions(fit)[0].what
    assert_covers(fit, truth)
    named = fitted(p, data, objectives.ScoreMatching(h="linear"))
    assert not named.passed and conditions(named)[0].severity == ERROR


@pytest.mark.slow
def test_intervals_of_the_chosen_weight_cover():
    """gamma(.5), 60 data sets of 1,000: .95 within three binomial standard errors, .866 to 1."""
    inside = 0
    for seed in range(60):
        data = np.random.default_rng(seed).gamma(0.5, 2.0, 1000)
        row = (
            un.fit(GAMMA, data, objectives.ScoreMatching(), seed=seed, progress=False)
            .summary()
            .loc["a"]
        )
        inside += row.lower < 0.5 < row.upper
    assert inside / 60 > 0.866


@pytest.mark.parametrize(
    ("weight", "order"),
    [
        (lambda u: jnp.minimum(u, 1.0), 1),
        (lambda u: u**2, 2),
        (jnp.log1p, 1),
        (jnp.sqrt, 0.5),
        (jnp.ones_like, 0),
    ],
)
def test_the_order_of_a_weight(weight, order):
    assert order_of(weight) == pytest.approx(order, abs=1e-3)


# -- walls, jumps and kinks ------------------------------------------------------------------------
def broken(function, support=un.Real, data=None):
    p = un.Density(function, {"x": support}, {"m": (un.Real, 0.3)})
    data = np.random.default_rng(0).normal(size=400) if data is None else data
    with jax.enable_x64(True):
        return breaks(cast(p.for_jit(), jnp.float64), cast({"x": data}, jnp.float64))


@pytest.mark.parametrize(
    ("function", "kind", "place"),
    [
        (lambda x, *, m: jnp.where(x > -0.5, -0.5 * (x - m) ** 2, -jnp.inf), "wall", -0.5),
        (
            lambda x, *, m: jnp.log(0.25 - (x - m) ** 2),
            "wall",
            None,
        ),  # 0 at the wall, but its slope is not
        (lambda x, *, m: -0.5 * (x - m) ** 2 + (x > 0.2), "jump", 0.2),
        (lambda x, *, m: -jnp.abs(x - m), "kink", 0.3),
        (lambda x, *, m: -0.5 * (x - m) ** 2 - jax.nn.relu(x), "kink", 0.0),
    ],
)
def test_breaks_are_found_where_they_are(function, kind, place):
    data = np.random.default_rng(0).uniform(0, 0.75, 400) if place is None else None
    found = {one.kind: one for one in broken(function, data=data)}
    assert kind in found and found[kind].entry == "x"
    assert place is None or found[kind].place == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, *, m: -0.5 * (x - m) ** 2,
        lambda x, *, m: -((x - m) ** 4) + 3 * (x - m) ** 2,
        lambda x, *, m: -0.5 * x**2 - jax.nn.softplus(1e3 * (x - m)),  # steep, and smooth
        lambda x, *, m: -(jnp.abs(x - m) ** 1.5),
        lambda x, *, m: jnp.where(
            jnp.abs(x - m) < 1, -0.5 * (x - m) ** 2, 0.5 - jnp.abs(x - m)
        ),  # Huber
        lambda x, *, m: jnp.where(
            x < 1e3, -0.5 * (x - m) ** 2, -jnp.inf
        ),  # a wall where nothing is
        lambda x, *, m: (
            4 * jnp.log(jnp.where(x > -5, x + 5, 0.0)) - m * x
        ),  # falls to 0 smoothly enough
    ],
)
def test_smooth_densities_have_none(function):
    assert not broken(function)


def test_a_seam_on_the_circle():
    angles = np.random.default_rng(0).vonmises(0.0, 2.0, 400)
    assert [
        one.place for one in broken(lambda x, *, m: -0.5 * (x - m) ** 2, un.Circle, angles)
    ] == [np.pi]
    assert not broken(lambda x, *, m: 2 * jnp.cos(x - m), un.Circle, angles)


HALF = un.Density(
    lambda x, *, m: jnp.where(x > 0, -0.5 * (x - m) ** 2, -jnp.inf), {"x": un.Real}, {"m": REAL}
)
LAPLACE = un.Density(
    lambda x, *, m, s: -jnp.abs(x - m) / s, {"x": un.Real}, {"m": (un.Real, 0.1), "s": POSITIVE}
)


@pytest.mark.parametrize(
    "objective",
    [
        objectives.ScoreMatching(),
        *(
            pytest.param(objective, marks=pytest.mark.slow)
            for objective in (
                objectives.SlicedScoreMatching(),
                objectives.DenoisingScoreMatching(sigma=0.1),
                objectives.SteinDiscrepancy(),
            )
        ),
    ],
    ids=repr,
)
def test_a_half_normal_on_the_line(objective):
    fit = fitted(HALF, np.abs(np.random.default_rng(0).normal(size=500)), objective)
    (told,) = conditions(fit)
    assert (
        not fit.passed
        and told.severity == ERROR
        and "wall at x = " in told.what
        and "un.Positive" in told.advice
    )


@pytest.mark.slow
def test_the_same_on_its_support_is_right():
    half = un.Density(lambda x, *, m: -0.5 * (x - m) ** 2, {"x": un.Positive}, {"m": REAL})
    fit = fitted(
        half, np.abs(np.random.default_rng(0).normal(size=2000)), objectives.ScoreMatching()
    )
    assert fit.passed and not conditions(fit)
    assert_covers(fit, [0.0])


@pytest.mark.parametrize(
    "objective",
    [
        objectives.ScoreMatching(),
        pytest.param(objectives.SteinDiscrepancy(), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_a_laplace_density_has_a_kink(objective):
    fit = fitted(LAPLACE, np.random.default_rng(0).laplace(size=400), objective)
    (told,) = conditions(fit)
    assert not fit.passed and "slope of log p̃ jumps at x = 0.1" in told.what

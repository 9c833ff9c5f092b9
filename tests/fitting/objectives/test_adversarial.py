"""Training against a generator: the estimate, the bound, and what is held against both."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flowjax.bijections import Affine, TriangularAffine
from flowjax.distributions import StandardNormal

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.declaration.density import cast
from unnorm.fitting.objectives.adversarial.bound import ADVERSARY, likelihood_bound
from unnorm.fitting.objectives.adversarial.generators import prepare_generator
from unnorm.fitting.objectives.adversarial.implicit import ImplicitOptions

o = un.objectives
SCHEDULE = optax.adam(optax.cosine_decay_schedule(5e-3, 2000))
LINE = o.Adversarial(Affine(jnp.zeros(1)))
quadratic = un.Density(
    lambda x, *, a, b: a * x + b * x**2, {"x": un.Real}, {"a": (un.Real, 0.0), "b": (un.Real, -0.5)}
)


@un.density
def normal(x: un.Real[2], *, mean: un.Real[2] = 0.0, precision: un.Positive = 1.0):
    return -0.5 * precision * jnp.sum((x - mean) ** 2)


def fitted(p, data, objective, **options):
    return un.fit(p, data, objective, **{"seed": 0, "progress": False} | options)


def of_code(fit, code):
    return [finding for finding in fit.findings if finding.code == code]


@pytest.fixture(scope="module")
def line():
    data = np.random.default_rng(0).normal(0.4, 0.8, 600)
    return data, fitted(quadratic, data, LINE, steps=2000, batch_size=200, optimizer=SCHEDULE)


def bound_of(fit):
    with jax.enable_x64(True):
        loss = fit._origin.loss
        return likelihood_bound(loss.objective, loss.density, loss.state, loss.events)


def test_it_comes_near_maximum_likelihood_and_says_that_it_has_no_errors(line):
    data, fit = line
    exact = fitted(quadratic, data, "maximum_likelihood").summary()
    apart = np.abs(fit.summary().estimate - exact.estimate) / exact.standard_error
    assert fit.converged and fit.passed and np.all(apart < 1.3 * ADVERSARY.far)
    assert fit.summary().standard_error.isna().all()
    assert of_code(fit, FindingCode.NO_STANDARD_ERRORS)
    assert not of_code(fit, FindingCode.FAR_FROM_MAXIMUM_LIKELIHOOD)


def test_the_bound_is_above_the_log_likelihood_and_tight(line):
    """log Z is quadrature's; the bound is reported as one."""
    data, fit = line
    bound = bound_of(fit)
    likelihood = fit.log_likelihood(data).value / len(data)
    assert -4 * bound.error < bound.value - likelihood < 0.1
    assert fit.log_z.monte_carlo_error == 0
    (finding,) = of_code(fit, FindingCode.LIKELIHOOD_BOUND)
    assert "at most" in finding.what and "no estimate" in finding.what


def test_a_fit_that_stops_short_is_not_called_converged():
    data = np.random.default_rng(0).normal(3.0, 0.3, 600)
    fit = fitted(quadratic, data, LINE, steps=50)
    assert not fit.converged and not fit.passed
    (finding,) = of_code(fit, FindingCode.FAR_FROM_MAXIMUM_LIKELIHOOD)
    assert finding.severity == "error"


# -- implicit generators ---------------------------------------------------------------------------
class Shift(eqx.Module):
    """u = scale · z + shift: with the normal noise, the density is normal."""

    scale: jax.Array
    shift: jax.Array

    def __call__(self, z):
        return self.scale * z + self.shift


MANY = ImplicitOptions(posterior_draws=2_000)
IMPLICIT = Shift(jnp.ones(1), jnp.zeros(1))


@pytest.fixture(scope="module")
def implicit():
    with jax.enable_x64(True):
        density, events = cast(
            (quadratic.for_jit(), {"x": np.random.default_rng(0).normal(size=500)}), np.float64
        )
        objective = o.Adversarial(IMPLICIT, noise_dimension=1)
        key = jax.random.key(0)
        yield prepare_generator(density, events, objective.generator, 1, key)


@pytest.mark.slow
def test_the_entropys_gradient_is_that_of_the_normal(implicit):
    """H = log √(a² + s²) + const. for y = a z + s ε, so that −dH/da = −a / (a² + s²); with many
    draws of the noise behind each y, for few leave a bias.
    """
    with jax.enable_x64(True):
        a, s = 1.0, float(implicit._scale)

        def term(parameters, key):
            moved = implicit.with_parameters(parameters)
            return moved.points_and_entropy_term(key, 200, MANY)[1]

        keys = jax.random.split(jax.random.key(1), 30)
        slopes = jax.lax.map(lambda key: jax.grad(term)(implicit.parameters, key), keys)
        for found, exact in (
            (slopes.arrays.scale[:, 0], -a / (a**2 + s**2)),
            (slopes.arrays.shift[:, 0], 0.0),
        ):
            error = float(jnp.std(found)) / np.sqrt(len(keys))
            assert abs(float(found.mean()) - exact) < 4 * error


def test_the_density_of_an_implicit_generator_is_bounded_from_above(implicit):
    """E log q of the normal is −log √(2πe (a² + s²)); the bound closes in on it from above."""
    with jax.enable_x64(True):
        draw = jax.jit(lambda key: implicit.draw_with_upper_log_prob(key, 400))
        found = np.asarray(draw(jax.random.key(0))[1])
        spread = float(implicit.factor[0, 0]) * np.sqrt(1 + float(implicit._scale) ** 2)
        exact = -np.log(spread) - 0.5 * np.log(2 * np.pi * np.e)
        error = found.std() / 20
        assert -4 * error < float(found.mean()) - exact < 4 * error + 0.05


@pytest.mark.slow
def test_an_implicit_generator_comes_near_maximum_likelihood(line):
    data, _ = line
    objective = o.Adversarial(IMPLICIT, noise_dimension=1)
    fit = fitted(quadratic, data, objective, steps=2000, batch_size=200, optimizer=SCHEDULE)
    exact = fitted(quadratic, data, "maximum_likelihood").summary()
    apart = np.abs(fit.summary().estimate - exact.estimate) / exact.standard_error
    assert np.all(apart < 1.0)
    bound = bound_of(fit)
    likelihood = fit.log_likelihood(data).value / len(data)
    assert -4 * bound.error < bound.value - likelihood < 0.2
    (finding,) = of_code(fit, FindingCode.FAR_FROM_MAXIMUM_LIKELIHOOD)
    assert finding.severity == "warning" and "generator is not known" in finding.what


# -- refusals --------------------------------------------------------------------------------------
def test_what_it_does_not_serve_is_one_sentence():
    rows = np.random.default_rng(0).normal(size=(50, 2))
    coin = un.Density(lambda x, *, a: a * x, {"x": un.Binary}, {"a": (un.Real, 0.0)})
    angle = un.Density(lambda x, *, a: a * jnp.cos(x), {"x": un.Circle}, {"a": (un.Real, 0.0)})
    network = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
    wrong = eqx.nn.MLP(3, 4, 8, 1, key=jax.random.key(0))
    plane = TriangularAffine(jnp.zeros(2), jnp.eye(2))
    for p, data, objective, words in (
        (coin, np.arange(20) % 2, o.Adversarial(), "x is Binary, which is discrete"),
        (angle, np.zeros(20), o.Adversarial(), "x is Circle, which is not a one-to-one image of R"),
        (normal, rows, o.Adversarial(StandardNormal((3,))), r"bijection of shape \(2,\)"),
        (normal, rows, o.Adversarial(network), r"bijection of shape \(2,\)"),
        (normal, rows, o.Adversarial(wrong, noise_dimension=3), r"expected a function to \(2,\)"),
        (normal, rows, o.Adversarial(network, noise_dimension=2), r"expected a function to \(2,\)"),
        (normal, rows, o.Adversarial(plane, noise_dimension=2), "leave noise_dimension out"),
        (normal, rows[:9], o.Adversarial(plane), "data has 9 rows; Adversarial expects at least"),
    ):
        with pytest.raises(ValueError, match=words):
            fitted(p, data, objective, steps=2)
    with pytest.raises(ValueError, match="whose loss moves with its adversary"):
        fitted(normal, rows, o.Adversarial(plane), held_out=rows)
    with pytest.raises(ValueError, match="has no loss of single rows"):
        un.fit([normal, normal], [rows, rows], o.Adversarial(plane), progress=False)
    with pytest.raises(ValueError, match="set no entry to zero"):
        fitted(normal, rows, o.Adversarial(plane), penalty={"mean": un.L1(0.1)})


# -- networks --------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_network_against_a_flow_has_its_bound_above_the_grids():
    from unnorm.models.toys import SAMPLERS

    data, held = (
        SAMPLERS["two_moons"](np.random.default_rng(seed), 4000).astype(np.float32)
        for seed in (0, 1)
    )
    axis = (np.arange(600) + 0.5) / 50 - 6
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    p = un.models.fully_connected_energy(2)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, 3000))
    fit = fitted(p, data, o.Adversarial(), steps=3000, optimizer=optimizer)
    log_z = np.logaddexp.reduce(np.asarray(fit.density(grid), float)) - 2 * np.log(50)
    loss = fit._origin.loss
    bound = likelihood_bound(loss.objective, loss.density, loss.state, loss.events)
    rows = np.asarray(loss.events["x"])
    likelihood = float(np.mean(np.asarray(fit.density(rows), float))) - log_z
    assert bound.value > likelihood - 4 * bound.error
    assert np.mean(np.asarray(fit.density(held), float)) - log_z < bound.value + 0.1

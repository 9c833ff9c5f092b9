"""Training that goes back to its last healthy chunk, averages to choose from, what a callback sees,
and losses for a loop of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.solvers import sgd

CD = un.objectives.ContrastiveDivergence


@un.density
def normal(x: un.Real, *, precision: un.Positive = 1.0):
    return -0.5 * precision * x**2


LENGTHS = np.random.default_rng(1).normal(0.0, 2.0, size=400)
VARIANCE = np.mean(LENGTHS**2)
ERROR = np.sqrt(2 / len(LENGTHS)) / VARIANCE  # of the precision, by Fisher's information
TRAINING = {"steps": 100, "batch_size": 64, "seed": 0, "progress": False}


def codes(fit):
    return {finding.code: finding for finding in fit.findings}


def test_a_training_that_blows_up_returns_to_its_last_healthy_chunk():
    rate = optax.piecewise_constant_schedule(0.01, {60: 1e9})
    fit = un.fit(normal, LENGTHS, "score_matching", optimizer=optax.adam(rate), **TRAINING)
    found = codes(fit)[FindingCode.TRAINING_DIVERGED]
    assert found.severity == "error" and not fit.passed and not fit.converged
    assert "the parameters are those of step 60" in found.what
    calm = un.fit(
        normal, LENGTHS, "score_matching", optimizer=optax.adam(0.01), average="last",
        callback=lambda seen: seen["step"] == 60, **TRAINING,
    )  # fmt: skip
    ended = un.fit(
        normal, LENGTHS, "score_matching", optimizer=optax.adam(rate), average="last", **TRAINING
    )
    assert ended.density.parameters == calm.density.parameters


def test_what_never_was_healthy_is_refused():
    with pytest.raises(ValueError, match="became NaN or infinite under ScoreMatching"):
        un.fit(normal, LENGTHS, "score_matching", optimizer=optax.scale(np.inf), **TRAINING)


def test_the_average_is_chosen():
    fits = {
        average: un.fit(
            normal, LENGTHS, "score_matching", optimizer=optax.sgd(0.05), average=average,
            **TRAINING,
        ).density.parameters["precision"]
        for average in (*sgd.AVERAGES, None)
    }  # fmt: skip
    assert len(set(map(float, fits.values()))) == 3  # None is the polynomial average here
    assert fits[None] == fits["polynomial"]
    with pytest.raises(ValueError, match="average is 'mean'; it must be None or one of last"):
        un.fit(normal, LENGTHS, "score_matching", average="mean", **TRAINING)


def test_the_moving_average_is_that_of_its_definition():
    optimizer, average, vector = optax.sgd(1.0), 0.0, 0.0
    density = normal.for_jit()
    walk = sgd.begin(optimizer, density, un.objectives.ScoreMatching().prepare(
        density, {"x": jnp.asarray(LENGTHS)}, jax.random.key(0)))  # fmt: skip
    walk = walk._replace(vector=jnp.zeros(1), average=jnp.zeros(1))
    for step in range(20):
        walk = sgd._move(walk, jnp.ones(1), jnp.asarray(step), optimizer, "ema")
        vector -= 1.0
        decay = min(0.999, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * vector
    np.testing.assert_allclose(walk.average[0], average, rtol=1e-5)


def test_a_callback_sees_the_density_and_the_chains():
    seen = []
    un.fit(
        normal, LENGTHS, CD(persistent=True, chains=32), optimizer=optax.adam(0.01),
        callback=lambda found: seen.append(found), **TRAINING,
    )  # fmt: skip
    assert len(seen) == 50 and seen[0]["losses"].shape == (2,)
    assert seen[-1]["chains"]["x"].shape == (32,)
    assert seen[-1]["parameters"] == seen[-1]["density"].parameters
    assert isinstance(seen[-1]["density"], un.Density)
    assert np.isfinite(seen[-1]["density"](np.zeros(3))).all()


# -- contrastive divergence ------------------------------------------------------------------------
def test_the_power_of_a_tempered_fit_is_the_density_of_the_data():
    """p^(1/T) has the precision θ/T, so that the fixed point is T over the variance."""
    objective = CD(persistent=True, temperature=0.5)
    fit = un.fit(normal, LENGTHS, objective, seed=0, progress=False)
    found = float(fit.density.parameters["precision"]) / 0.5
    assert abs(found - 1 / VARIANCE) < 0.25 * ERROR
    assert "fit.density ** 2" in codes(fit)[FindingCode.BIASED_OBJECTIVE].advice
    assert fit.covariance is None and "power 1/0.5" in str(fit)


def test_a_temperature_is_refused_where_variables_are_latent():
    p = un.Density(
        lambda x, z, *, a: -0.5 * (x - z) ** 2 - a * z**2,
        {"x": un.Real, "z": un.Real},
        {"a": (un.Positive, 1.0)},
    )
    with pytest.raises(ValueError, match=r"temperature is 2\.0 and data has no values"):
        un.fit(p, {"x": LENGTHS}, CD(temperature=2.0), seed=0, progress=False)


@pytest.mark.slow
def test_the_energy_penalty_is_named():
    fit = un.fit(normal, LENGTHS, CD(persistent=True, energy_penalty=0.1), seed=0, progress=False)
    assert "energy penalty 0.1" in codes(fit)[FindingCode.BIASED_OBJECTIVE].what
    assert fit.density.parameters["precision"] != pytest.approx(1 / VARIANCE, rel=0.05)


def test_a_batch_that_comes_later_starts_chains_at_its_own_rows():
    objective, density = CD(), normal.for_jit()
    first, later = ({"x": jnp.asarray(rows)} for rows in (LENGTHS[:8], LENGTHS[8:16]))
    state = objective.prepare(density, first, jax.random.key(0))
    rows = jax.jit(lambda events: objective.rows_of(density, state, events))(later)
    np.testing.assert_allclose(rows.starts["x"], LENGTHS[8:16], rtol=1e-6)


@pytest.mark.parametrize(
    ("support", "values"),
    [
        (un.Positive, np.array([0.0, 1e-9, 2.0])),
        (un.Interval(-1, 3), np.array([-1.0, 3.0, 0.5])),
        (un.Simplex[3], np.array([[0.0, 0.4, 0.6], [0.2, 0.3, 0.5]])),
    ],
)
def test_positions_of_traced_events_are_those_of_arrays(support, values):
    view = Unconstrained(un.Density(lambda x: 0.0 * jnp.sum(x), {"x": support}))
    values = values.astype(np.float32)
    traced = jax.jit(view.positions_of)({"x": values})
    np.testing.assert_allclose(traced["x"], view.positions_of({"x": values})["x"], rtol=1e-6)


# -- losses for a loop of one's own ----------------------------------------------------------------
@pytest.mark.parametrize("name", ["MaximumLikelihood", "ScoreMatching"])
def test_the_slope_of_the_loss_is_zero_at_the_estimate(name):
    objective = getattr(un.objectives, name)()  # both estimate one over the variance here
    loss = objective.loss(normal.bind(precision=1 / VARIANCE))
    params, state = loss.init(LENGTHS, jax.random.key(0))
    slope = jax.grad(lambda one: loss(one, state, {"x": LENGTHS}, jax.random.key(1))[0])(params)
    assert abs(float(slope["parameters"]["precision"])) < 1e-5
    assert loss.density(params).parameters["precision"] == pytest.approx(1 / VARIANCE, rel=1e-5)


def test_a_loop_of_contrastive_divergence_moves_its_chains():
    loss = CD(persistent=True, chains=64).loss(normal)
    params, state = loss.init(LENGTHS, jax.random.key(0))

    @jax.jit
    def step(params, state, key):
        slope, state = jax.grad(loss, has_aux=True)(params, state, {"x": LENGTHS}, key)
        return jax.tree.map(lambda at, by: at - 0.2 * by, params, slope), state

    for key in jax.random.split(jax.random.key(1), 300):
        params, state = step(params, state, key)
    found = float(loss.density(params).parameters["precision"])
    assert abs(found - 1 / VARIANCE) < 4 * np.sqrt(2 / 64) / VARIANCE  # of 64 chains


@pytest.mark.parametrize(
    ("p", "data", "sentence"),
    [
        (3, LENGTHS, "loss was given 3"),
        (un.Density(lambda x: -(x**2), {"x": un.Real}), LENGTHS, "has no parameters"),
        (normal, {"y": LENGTHS}, "y"),
    ],
)
def test_what_cannot_be_trained_is_refused(p, data, sentence):
    with pytest.raises(ValueError, match=sentence):
        un.objectives.NCE().loss(p).init(data, jax.random.key(0))

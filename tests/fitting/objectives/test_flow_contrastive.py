"""Noise that is a normalizing flow: given to NCE, and trained against the energy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flowjax.bijections import Affine, TriangularAffine
from flowjax.distributions import Normal, StandardNormal, Transformed
from flowjax.flows import masked_autoregressive_flow
from scipy import special

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.fitting.loss import Loss
from unnorm.fitting.objectives.flow_distribution import log_prob_of_event
from unnorm.fitting.objectives.noise_contrastive.flow_folds import (
    cross_fit,
    mean_log_likelihoods,
    split_rows,
    with_fresh_noise,
)
from unnorm.fitting.objectives.noise_contrastive.flow_game import GAME, flow_step, play_round
from unnorm.models.toys import SAMPLERS

o = un.objectives
quadratic = un.Density(
    lambda x, *, a, b: a * x + b * x**2, {"x": un.Real}, {"a": (un.Real, 0.0), "b": (un.Real, -0.5)}
)
exponential = un.Density(
    lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)}
)
LINE = o.FlowContrastive(Affine(jnp.zeros(1)))
PLANE = StandardNormal((2,))


@un.density
def normal(x: un.Real[2], *, mean: un.Real[2] = 0.0, precision: un.Positive = 1.0):
    return -0.5 * precision * jnp.sum((x - mean) ** 2)


def fitted(p, data, objective, **options):
    return un.fit(p, data, objective, **{"seed": 0, "progress": False} | options)


# -- plain noise -----------------------------------------------------------------------------------
def test_a_flow_as_plain_noise_has_the_errors_of_the_exact_table():
    """Data at the quantiles of N(0, 1), noise N(0, 1) by flowjax at ν = 1: n·Var = (2, 1, 1)."""
    n = 100_000
    data = special.ndtri((np.arange(n) + 0.5) / n)
    fit = fitted(quadratic, data, o.NCE(noise=Normal(0.0, 1.0), noise_ratio=1))
    errors = np.append(fit.summary().standard_error, fit.log_z.standard_error)
    assert n * errors**2 == pytest.approx((2.0, 1.0, 1.0), rel=0.03)


@pytest.mark.parametrize(
    ("objective", "noise"),
    [
        (o.NCE, TriangularAffine(jnp.zeros(2), 1.5 * jnp.eye(2))),
        (o.RankingNCE, {"x": Transformed(PLANE, Affine(jnp.zeros(2), jnp.full(2, 1.5)))}),
        pytest.param(
            o.SelfNormalized, Normal(jnp.zeros(2), jnp.full(2, 1.5)), marks=pytest.mark.slow
        ),
    ],
)
def test_any_flowjax_distribution_or_bijection_is_a_noise(objective, noise):
    data = np.random.default_rng(0).normal((0.5, -0.2), 1.0, (400, 2))
    fit = fitted(normal, data, objective(noise=noise, noise_ratio=20))
    assert fit.passed and fit.converged
    precision = 1 / data.var(0).mean()  # maximum likelihood in closed form
    apart = np.abs(fit.summary().estimate - [*data.mean(0), precision])
    assert np.all(apart < 4 * fit.monte_carlo_error)


@pytest.mark.parametrize(
    ("p", "noise", "words"),
    [
        (normal, StandardNormal((3,)), r"shape \(3,\); expected a draw of as many entries"),
        (
            un.Density(lambda x, *, a: a * x, {"x": un.Binary}, {"a": (un.Real, 0.0)}),
            StandardNormal(()),
            "is continuous, and x is Binary; expected a discrete distribution",
        ),
    ],
)
def test_a_flow_that_is_no_density_of_the_variable_is_one_sentence(p, noise, words):
    shape = p.shapes()["x"]
    with pytest.raises(ValueError, match=words):
        fitted(p, np.eye(4)[:, :2] if shape else np.arange(4) % 2, o.NCE(noise=noise))


def test_a_flow_with_a_condition_is_one_sentence():
    flow = masked_autoregressive_flow(
        jax.random.key(0), base_dist=PLANE, cond_dim=1, flow_layers=1, nn_width=4
    )
    for make in (o.NCE, o.RankingNCE, o.SelfNormalized):
        with pytest.raises(ValueError, match=r"shape \(1,\); expected .* without a condition"):
            make(noise=flow)
    with pytest.raises(ValueError, match="make it with cond_dim=None"):
        o.FlowContrastive(flow)


# -- the game: few parameters ----------------------------------------------------------------------
@pytest.fixture(scope="module")
def line():
    return fitted(quadratic, np.random.default_rng(3).normal(size=800), LINE)


def test_the_estimate_is_the_minimum_against_the_frozen_flow(line):
    """Zero slope of NCE with the last noise; the flow moved at least once, and has stopped."""
    assert line.passed and line.converged
    loss = line._origin.loss
    with jax.enable_x64(True):
        slope = jax.jit(lambda loss: jax.grad(loss.mean)(loss.vector))(loss)
        state = loss.state
        assert loss.objective.refresh(loss.density, state, loss.events) is None
    assert np.abs(slope).max() < 1e-8
    assert len(state.shared.folds.members) == GAME.folds
    assert bool(state.shared.frozen) and 1 <= int(state.shared.rounds) <= GAME.rounds


def test_its_log_z_and_errors_are_those_of_a_normal(line):
    """The noise is nearly the data's density: n·Var is near (1 + 1/ν)(1, ½) + the last term's."""
    data = np.random.default_rng(3).normal(size=800)
    b, mean = -0.5 / data.var(), data.mean()
    found, errors = line.summary().estimate, line.summary().standard_error
    exact = (mean / data.var(), b)
    assert np.all(np.abs(found - exact) < 4 * line.monte_carlo_error)
    ideal = np.sqrt(1.1 * np.array([1.0, 0.5]) / 800)
    assert errors.to_numpy() == pytest.approx(ideal, rel=0.15)
    log_z = 0.5 * np.log(2 * np.pi * data.var()) + mean**2 / (2 * data.var())
    assert abs(line.log_z.value - log_z) < 4 * line.log_z.monte_carlo_error


@pytest.mark.parametrize("rows", [10, 11, 116, 800])
def test_the_folds_are_a_partition_and_no_fold_is_among_its_others(rows):
    members, others = split_rows(rows, GAME.folds, jax.random.key(0))
    inside = members[members < rows]
    assert np.array_equal(np.sort(inside), np.arange(rows))
    assert others.shape == (len(members), rows - members.shape[1])
    for fold, rest in zip(members, others, strict=True):
        assert len(set(rest)) == len(rest) and not set(fold) & set(rest)


def test_the_noise_of_a_fold_is_made_without_its_rows(line):
    """With other values in one fold, its flow after a round against the same energy is the same to
    the bit, and so is its noise; the other folds' are not."""
    data, changed = np.random.default_rng(3).normal(size=800), 1
    key, (_, density, energy, _) = jax.random.key(0), line._origin.loss

    def played(values):
        events = {"x": jnp.asarray(values)}
        state = LINE.prepare(density, events, key)._replace(nuisance=energy.nuisance)
        game = state.shared._replace(folds=cross_fit(LINE, density, events, key))
        game = play_round(LINE, density, state._replace(shared=game), events, key)
        return with_fresh_noise(LINE, density, state._replace(shared=game), events, key)

    with jax.enable_x64(True):
        one = played(data)
        own = np.isin(np.arange(800), one.shared.folds.members[changed])
        other = played(np.where(own, data + 1.5, data))
    before, after = (jax.tree.leaves(state.shared.folds.statistics) for state in (one, other))
    alike = [
        [np.array_equal(*pair) for pair in zip(*leaves, strict=True)]
        for leaves in zip(before, after, strict=True)
    ]
    alike = [same for same in alike if not all(same)]  # all are the same: constants
    assert alike and alike == [[fold == changed for fold in range(GAME.folds)]] * len(alike)
    same = (one.per_row.noise["x"] == other.per_row.noise["x"]).all(-1)
    assert np.array_equal(same, own)


def test_the_flows_mean_log_q_is_that_of_every_rows_own_fold(line):
    loss = line._origin.loss
    folds, found = loss.state.shared.folds, 0.0
    with jax.enable_x64(True):
        for fold, rows in enumerate(np.asarray(folds.members)):
            flow = jax.tree.map(lambda leaf, fold=fold: leaf[fold], folds.statistics.flow)
            own = {"x": np.asarray(loss.events["x"])[rows]}
            found += jax.vmap(lambda e, q=flow: log_prob_of_event(loss.density, q, e))(own).sum()
        _, mean = mean_log_likelihoods(loss.objective, loss.density, loss.state, loss.events)
    assert float(mean) == pytest.approx(float(found) / 800, rel=1e-9)


def test_zeros_are_valid_data_of_a_positive_variable():
    data = np.append(np.random.default_rng(0).exponential(2.0, 300), [0.0, 0.0])
    fit = fitted(exponential, data, LINE)
    assert fit.passed and fit.converged
    assert abs(fit.summary().estimate["rate"] - 1 / data.mean()) < 4 * fit.monte_carlo_error["rate"]
    assert abs(fit.log_z.value - np.log(data.mean())) < 4 * fit.log_z.monte_carlo_error


@pytest.mark.slow
def test_one_flow_spans_all_variables():
    """log p̃ of two variables; the flow lives over (log s, x), in alphabetical order."""
    p = un.Density(
        lambda x, s, *, rate: -rate * s - 0.5 * jnp.sum(x**2),
        {"x": un.Real[2], "s": un.Positive},
        {"rate": (un.Positive, 1.0)},
    )
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(300, 2)), "s": rng.exponential(0.5, 300)}
    fit = fitted(p, data, o.FlowContrastive(TriangularAffine(jnp.zeros(3), jnp.eye(3))))
    assert fit.passed
    exact = 1 / data["s"].mean()
    assert abs(fit.summary().estimate["rate"] - exact) < 4 * fit.monte_carlo_error["rate"]
    assert abs(fit.log_z.value - np.log(2 * np.pi / exact)) < 4 * fit.log_z.monte_carlo_error


# -- the game: training ----------------------------------------------------------------------------
two_modes = un.Density(
    lambda x, *, height: height * jnp.logaddexp(-2 * (x - 2) ** 2, -2 * (x + 2) ** 2),
    {"x": un.Real},
    {"height": (un.Positive, 1.0)},
)


def test_the_flow_moves_in_the_second_third_of_a_training_alone():
    """Two modes, which a normal flow lacks: the energy is better than chance throughout."""
    rng = np.random.default_rng(0)
    data = rng.choice([-2.0, 2.0], 200) + rng.normal(0, 0.5, 200)
    with jax.enable_x64(True):
        density, events = cast((two_modes.for_jit(), {"x": data}), np.float64)
        state = LINE.prepare(density, events, jax.random.key(0))
        state, moved = LINE.with_run_length(state, 9), []
        step = jax.jit(LINE.adversary_step)
        for i in range(9):
            before = jax.tree.leaves(state.shared.statistics.flow.parameters)
            state = step(density, state, events, jax.random.key(i))
            after = jax.tree.leaves(state.shared.statistics.flow.parameters)
            moved.append(any(np.any(a != b) for a, b in zip(before, after, strict=True)))
    assert moved == [False] * 3 + [True] * 3 + [False] * 3


def test_the_flow_does_not_move_against_an_energy_that_is_worse_than_chance():
    data = np.random.default_rng(0).normal(size=200)
    with jax.enable_x64(True):
        density, events = cast((quadratic.bind(a=3.0).for_jit(), {"x": data}), np.float64)
        state = LINE.with_run_length(LINE.prepare(density, events, jax.random.key(0)), 2)
        loss = Loss(LINE, density, state, events)
        step = jax.jit(LINE.adversary_step)
        after = step(density, state, events, jax.random.key(1))
        after = step(density, after, events, jax.random.key(2))
        nu = LINE.noise_ratio
        chance = np.log1p(nu) + nu * np.log1p(1 / nu)
        assert float(jax.jit(lambda loss: loss.mean(loss.vector))(loss)) > chance
    assert int(after.shared.step) == 2
    for one, other in zip(
        jax.tree.leaves(state.shared.statistics), jax.tree.leaves(after.shared.statistics),
        strict=True,
    ):  # fmt: skip
        assert np.array_equal(one, other)


def test_a_draw_without_a_gradient_does_not_move_the_flow():
    """The square root's slope is NaN left of 0, where its value is finite."""

    def rooted(x, *, height):
        modes = height * jnp.logaddexp(-2 * (x - 2) ** 2, -2 * (x + 2) ** 2)
        return modes + 0.0 * jnp.where(x > 0, jnp.sqrt(x), 0.0)

    p = un.Density(rooted, {"x": un.Real}, {"height": (un.Positive, 1.0)})
    rng = np.random.default_rng(0)
    data = rng.choice([-2.0, 2.0], 200) + rng.normal(0, 0.5, 200)
    with jax.enable_x64(True):
        density, events = cast((p.for_jit(), {"x": data}), np.float64)
        state = LINE.prepare(density, events, jax.random.key(0))
        after = jax.jit(flow_step)(LINE, density, state, events, jax.random.key(1))
    for one, other in zip(
        jax.tree.leaves(state.shared.statistics), jax.tree.leaves(after.statistics), strict=True
    ):
        assert np.array_equal(one, other)


@pytest.mark.slow
def test_few_parameters_by_steps_come_to_the_same_estimate(line):
    """The default cosine schedule, 1,500 steps of all rows: the minimum against another flow."""
    data = np.random.default_rng(3).normal(size=800)
    fit = fitted(quadratic, data, LINE, steps=1500, batch_size=100)
    assert fit.passed and fit.converged and np.isnan(fit.log_z.sampling_error)
    apart = np.abs(fit.summary().estimate - line.summary().estimate)
    assert np.all(apart < 0.5 * line.summary().standard_error)
    assert abs(fit.log_z.value - line.log_z.value) < 0.05


# -- refusals --------------------------------------------------------------------------------------
def test_what_it_does_not_serve_is_one_sentence():
    coin = un.Density(lambda x, *, a: a * x, {"x": un.Binary}, {"a": (un.Real, 0.0)})
    angle = un.Density(lambda x, *, a: a * jnp.cos(x), {"x": un.Circle}, {"a": (un.Real, 0.0)})
    for p, data, words in (
        (coin, np.arange(20) % 2, "x is Binary, which is discrete; .* use un.objectives.NCE"),
        (angle, np.zeros(20), "x is Circle, which is not a one-to-one image of R"),
    ):
        with pytest.raises(ValueError, match=words):
            fitted(p, data, o.FlowContrastive())
    rows = np.random.default_rng(0).normal(size=(50, 2))
    for flow in (StandardNormal((3,)), "maf", 3):
        with pytest.raises(ValueError, match=r"bijection of shape \(2,\), over the unconstrained"):
            fitted(normal, rows, o.FlowContrastive(flow))
    with pytest.raises(ValueError, match="data has 9 rows; FlowContrastive expects at least 10"):
        fitted(normal, rows[:9], o.FlowContrastive())
    with pytest.raises(ValueError, match="whose loss moves with its adversary"):
        fitted(normal, rows, o.FlowContrastive(PLANE), held_out=rows)
    with pytest.raises(TypeError, match="noise"):
        o.FlowContrastive(noise=PLANE)


# -- networks --------------------------------------------------------------------------------------
AXIS = (np.arange(600) + 0.5) / 50 - 6
GRID = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("toy", SAMPLERS)
def test_the_learned_log_z_is_a_grids_and_the_energy_beats_its_flow(toy, seed):
    data, held = (
        SAMPLERS[toy](np.random.default_rng(one), 4000).astype(np.float32)
        for one in (seed, 1000 + seed)
    )
    p = un.models.fully_connected_energy(2, seed=seed)
    fit = fitted(p, data, o.FlowContrastive(noise_ratio=5), steps=6000, seed=seed)
    log_z = np.logaddexp.reduce(np.asarray(fit.density(GRID), float)) - 2 * np.log(50)
    assert abs(fit.log_z.value - log_z) < 0.05
    density, flow = fit.density.for_jit(), fit._origin.loss.state.shared.statistics.flow
    of_flow = jax.jit(jax.vmap(lambda x: log_prob_of_event(density, flow, {"x": x})))(held).mean()
    assert np.mean(np.asarray(fit.density(held), float)) - log_z > float(of_flow)

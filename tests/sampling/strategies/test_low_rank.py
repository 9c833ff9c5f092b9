"""Metrics of low rank: what the correlations ask for is kept, and the draws stay exact."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc.metrics import LowRankInverseMassMatrix
from helpers import assert_within
from targets import CONTINUOUS, error_of_mean

import unnorm as un
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.metric import no_moments, update_moments
from unnorm.sampling.strategies.low_rank import low_rank_of, no_correlations, words_of

RUN = {"seed": 0, "progress": False}
SIZE = 20


def learned(covariance, draws, rank, adaptive):
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=(draws // 4, 4))
    moments = no_moments(len(covariance), True)
    moments, _ = jax.lax.scan(
        lambda now, at: (update_moments(now, at, jnp.ones(4, bool)), None), moments, jnp.float32(x)
    )
    return low_rank_of(moments, no_correlations(len(covariance), rank), adaptive)


def matrix_of(metric):
    sigma, vectors, lam = (np.asarray(part, float) for part in metric)
    middle = np.eye(len(sigma)) + (vectors * (lam - 1)) @ vectors.T
    return sigma[:, None] * middle * sigma


SCALES = np.geomspace(0.01, 100, SIZE)
WEAK = np.diag(SCALES**2)
STRONG = SCALES[:, None] * SCALES * 0.95 ** np.abs(np.subtract.outer(range(SIZE), range(SIZE)))
RANK_ONE = SCALES[:, None] * SCALES * (0.1 * np.eye(SIZE) + 0.9)


@pytest.mark.parametrize("draws", [40, 200, 4000])
def test_scales_alone_leave_a_diagonal_metric(draws):
    metric = learned(WEAK, draws, 200, True)
    assert np.all(metric.lam == 1) and "diagonal" in words_of(metric)
    assert np.all(np.abs(np.log(np.asarray(metric.sigma) / SCALES)) < 0.5)


def test_strong_correlations_make_it_dense_where_draws_abound():
    metric = learned(STRONG, 4000, 200, True)
    whitened = np.linalg.eigvals(np.linalg.solve(matrix_of(metric), STRONG)).real
    assert "dense" in words_of(metric) and whitened.max() / whitened.min() < 2


def test_few_draws_keep_the_correlations_that_stand_out():
    metric = learned(STRONG, 120, 200, True)
    kept = int((np.asarray(metric.lam) != 1).sum())
    assert 0 < kept < SIZE and f"rank {kept}" in words_of(metric)


def test_a_metric_of_low_rank_finds_the_one_direction():
    metric = learned(RANK_ONE, 4000, 1, False)
    direction = np.full(SIZE, SIZE**-0.5)
    assert abs(np.asarray(metric.U)[:, 0] @ direction) > 0.99
    assert float(metric.lam[0]) == pytest.approx(
        0.1 + 0.9 * SIZE,
        rel=4 * np.sqrt(2 / 4000),  # of a sample variance
    )


def test_a_step_in_whitened_coordinates_is_that_of_the_dense_metric():
    """Of the same momentum HMC ends at the same point."""
    p = un.Density(lambda x: -jnp.sum(x**4) - x[0] * x[1], {"x": un.Real[3]})
    vectors = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    metric = LowRankInverseMassMatrix(
        *map(jnp.float32, (np.array([0.5, 1.0, 2.0]), vectors, np.array([0.3, 1.0, 4.0])))
    )
    target, position = Unconstrained(p.for_jit()), {"x": jnp.array([0.3, -0.2, 0.5])}
    kernel = un.kernels.HMC(metric="low_rank", jitter=0.0, leapfrogs=3)
    algorithm = kernel.build(target, {"step_size": 0.1, "inverse_mass_matrix": metric})
    state, key = algorithm.init(position), jax.random.key(0)
    new, info = algorithm.step(key, state)
    root = np.linalg.inv(np.diag(metric.sigma)) @ vectors @ np.diag(np.asarray(metric.lam) ** -0.5)
    momentum = root @ vectors.T @ np.asarray(info.momentum)
    x, inverse = np.asarray(position["x"], float), matrix_of(metric)
    score = lambda at: -4 * at**3 - np.array([at[1], at[0], 0])  # noqa: E731
    for _ in range(3):
        momentum = momentum + 0.05 * score(x)
        x = x + 0.1 * inverse @ momentum
        momentum = momentum + 0.05 * score(x)
    assert bool(info.is_accepted)
    np.testing.assert_allclose(new.position["x"], x, rtol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "target"),
    [
        (un.kernels.NUTS(metric="auto"), "gaussian"),
        pytest.param(un.kernels.HMC(metric="low_rank"), "gaussian", marks=pytest.mark.slow),
        pytest.param(un.kernels.NUTS(metric="low_rank"), "banana", marks=pytest.mark.slow),
    ],
)
def test_kernels_with_the_metric_are_exact(kernel, target):
    known = CONTINUOUS[target]
    draws = un.sample(known.density, kernel, draws=2000, warmup=500, **RUN)
    values = draws.posterior["x"].values.astype(float)
    for found, exact in ((values, known.mean), ((values - known.mean) ** 2, known.variance)):
        error = error_of_mean(found)
        assert np.all(error < 0.1 * np.sqrt(known.variance))
        assert_within(found.mean((0, 1)), exact, error)


def test_conflicting_metrics_are_refused():
    with pytest.raises(ValueError, match="expected one of the two"):
        un.kernels.NUTS(dense_mass=True, metric="diagonal")
    with pytest.raises(ValueError, match="expected one of the two"):
        un.kernels.HMC(metric="low_rank", inverse_mass_matrix=np.ones(3))
    with pytest.raises(ValueError, match="expected one of 'diagonal'"):
        un.kernels.NUTS(metric="full")
    assert un.kernels.NUTS(dense_mass=True, metric="dense").dense


@pytest.mark.slow
def test_dense_mass_and_metric_dense_make_the_same_bits():
    p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[2]})
    one, other = (
        un.sample(p, un.kernels.HMC(**kind), draws=30, warmup=60, chains=2, **RUN)
        for kind in ({"dense_mass": True}, {"metric": "dense"})
    )
    assert np.array_equal(one.posterior["x"], other.posterior["x"])


def test_what_was_chosen_is_in_the_attributes():
    p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[3]})
    draws = un.sample(p, draws=20, warmup=100, chains=2, **RUN)
    said = [finding[0] for finding in json.loads(draws.attrs["findings"])]
    assert any("NUTS was chosen" in one for one in said)
    assert any("diagonal metric" in one for one in said)

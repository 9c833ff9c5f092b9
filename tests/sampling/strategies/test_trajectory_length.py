"""The length of adjusted microcanonical trajectories: learned, of the mean asked, and exact."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_targets import TARGETS
from helpers import assert_within
from targets import error_of_mean

import unnorm as un
from unnorm.sampling.strategies.trajectory_length import steps_of_turn

RUN = {"seed": 0, "progress": False}
ADAPTED = un.kernels.MCLMC(adjusted=True)


def gaussian(condition, size=20):
    """Of this condition number, its axes turned against the coordinates."""
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))
    variances = np.geomspace(1, condition, size)
    precision = ((q / variances) @ q.T).astype(np.float32)
    return un.Density(
        lambda x, *, precision: -0.5 * x @ precision @ x,
        {"x": un.Real[size]},
        constants={"precision": precision},
    )


def tuning_of(draws):
    return json.loads(draws.attrs["tuning"])


@pytest.mark.parametrize("mean", [1.0, 1.3, 2.0, 7.5, 40.0])
def test_the_steps_of_the_turns_have_the_mean_asked(mean):
    steps = np.asarray(
        jax.vmap(lambda turn: steps_of_turn(turn, jnp.float32(mean)))(np.arange(1023))
    )
    assert steps.min() == 1 and steps.mean() == pytest.approx(mean, rel=0.01)


@pytest.mark.slow
def test_longer_trajectories_where_the_density_is_narrower():
    short = {"draws": 20, "warmup": 400, **RUN}
    means = []
    for condition in (1.0, 300.0):
        tuning = tuning_of(un.sample(gaussian(condition), ADAPTED, **short))
        means.append(tuning["length"] / tuning["step_size"])
    assert means[1] > 3 * means[0]


@pytest.mark.parametrize(
    "target",
    ["tilted", "banana", "dirichlet"],
)
@pytest.mark.slow
def test_adapted_trajectories_are_exact(target):
    exact = TARGETS[target]()
    draws = un.sample(exact.density, ADAPTED, draws=4000, warmup=500, **RUN)
    values = exact.features(
        *(draws.posterior[name].values.astype(float) for name in exact.density.variables)
    )
    error = error_of_mean(values)
    assert np.all(error < 0.15 * values.std((0, 1)))
    assert_within(values.mean((0, 1)), exact.means, error)


def test_a_length_that_is_given_stays():
    short = {"draws": 20, "warmup": 60, "chains": 2, **RUN}
    draws = un.sample(gaussian(1.0, 3), un.kernels.MCLMC(adjusted=True, length=3.0), **short)
    assert tuning_of(draws)["length"] == 3.0
    with pytest.raises(ValueError, match="expected one of the two"):
        un.kernels.MCLMC(adjusted=True, length=3.0, leapfrogs=4)


def test_all_chains_take_the_same_number_of_steps():
    draws = un.sample(gaussian(1.0), ADAPTED, draws=50, warmup=60, **RUN)
    steps = draws.sample_stats["n_steps"].values
    assert (steps == steps[0]).all() and len(np.unique(steps)) > 1

"""Warm-up: a search and a step size for each chain first, then pooled over the chains that move."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.warm_up import arma, eight_schools

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.sampling.adaptation import StepSize, schedule
from unnorm.sampling.metric import metric_of, no_moments, update_moments
from unnorm.sampling.step_sizes import Search, common_step

RUN = {"seed": 0, "progress": False}


def tuning_of(draws):
    return json.loads(draws.attrs["tuning"])


# -- step sizes ------------------------------------------------------------------------------------
class Sharp:
    """A kernel of which a step is accepted as exp(−step / scale), for each chain a scale of its
    own."""

    step_size = None

    def target_acceptance(self, size):
        return 0.8

    def stats(self, info):
        return {"acceptance_rate": info}


def adapted(scales, steps, first_step):
    strategy, kernel, positions = StepSize(), Sharp(), {"x": jnp.zeros((len(scales), 1))}
    state = strategy.begin(kernel, {"step_size": first_step}, positions)
    for _ in range(steps):
        acceptance = jnp.exp(-jnp.exp(state.averaging.log_step_size) / scales)
        state = strategy.advance(kernel, state, positions, acceptance, (0, 0))
    return state


@pytest.mark.parametrize("first_step", [1e-6, 1.0, 1e6])
def test_the_search_finds_each_chains_scale_from_any_first_step(first_step):
    scales = jnp.array([1e-4, 1.0, 30.0])
    state = adapted(scales, 40, first_step)
    assert (state.direction == Search.SETTLED).all()
    wanted = -np.log(0.8) * np.asarray(scales)
    assert np.all(np.abs(np.log10(np.exp(state.averaging.log_step_size_avg) / wanted)) < 0.7)


def test_the_common_step_leaves_out_a_chain_that_accepts_nothing():
    scales = jnp.array([1.0, 1.0, 1.0, 1e-30])
    state = adapted(scales, 60, 1.0)
    assert 0.05 < float(common_step(state)) < 1


def test_a_chain_that_is_stuck_goes_on_from_one_that_moves_and_this_is_told():
    """Its start is a needle of no mass: no step that float32 can see is accepted there.

    Averaged over chains its acceptance held all others below the target, and every step size fell
    to nothing.
    """
    p = un.Density(
        lambda x: jnp.logaddexp(-0.5 * x**2, -1e3 - 1e20 * (x - 100.0) ** 2), {"x": un.Real}
    )
    draws = un.sample(
        p, "nuts", start={"x": np.array([0.0, 1.0, -1.0, 100.0])}, dtype="float32", **RUN
    )
    assert tuning_of(draws)["step_size"] > 0.3
    check = un.diagnose(draws, p)
    assert check.passed and abs(draws.posterior["x"].values.std() - 1) < 0.1
    assert [(f.code, "chain 3 did not move" in f.what) for f in check.findings] == [
        (FindingCode.NOT_MIXED, True)
    ]


@pytest.mark.slow
def test_a_chain_in_a_narrow_mode_of_weight_is_not_taken_away():
    """Its steps are small, too, and its mode is where half of the mass is: the chains must go on to
    disagree."""
    p = un.Density(
        lambda x: jnp.logaddexp(-0.5 * x**2, jnp.log(1e5) - 0.5 * ((x - 10.0) * 1e5) ** 2),
        {"x": un.Real},
    )
    starts = {"x": np.array([0.0, 1.0, -1.0, 10.0])}
    draws = un.sample(p, "nuts", start=starts, dtype="float64", draws=300, warmup=300, **RUN)
    assert abs(draws.posterior["x"].values[3] - 10).max() < 0.01
    assert not un.diagnose(draws, p).passed


@pytest.mark.slow
def test_all_chains_of_an_arma_posterior_move():
    """From half of the default starts its residuals grow as a 200th power, and a first step must
    shrink by 1e-10."""
    check = un.diagnose(un.sample(arma(), "nuts", draws=500, warmup=500, **RUN), arma())
    assert check.table["r_hat"].max() < 1.02 and check.table["ess_bulk"].min() > 400


@pytest.mark.slow
def test_arma_posteriors_pass_in_twenty_seeds():
    p = arma()
    failed = [
        s for s in range(20) if not un.diagnose(un.sample(p, seed=s, progress=False), p).passed
    ]
    assert not failed


# NumPyro's NUTS at its defaults on the same densities, starts and 20 seeds: `python -m
# benchmarks.warm_up`.
ETA, PRECISION = np.array([3.2578, 5.4608]), np.array([[0.8835, 0.9625], [0.9625, 1.5315]])
TRUNCATED = un.Density(lambda x: ETA @ x - 0.5 * x @ PRECISION @ x, {"x": un.Positive[2]})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "numpyro"), [("truncated", 18), ("eight schools", 31)])
def test_divergences_are_no_more_than_numpyros(name, numpyro):
    p = TRUNCATED if name == "truncated" else un.from_numpyro(eight_schools)
    runs = [un.sample(p, "nuts", seed=seed, progress=False) for seed in range(20)]
    assert sum(int(run.sample_stats["diverging"].sum()) for run in runs) <= 1.3 * numpyro


@pytest.mark.slow
def test_the_truncated_gaussian_passes_in_twenty_seeds():
    failed = [
        seed
        for seed in range(20)
        if not un.diagnose(
            un.sample(TRUNCATED, "nuts", draws=2000, seed=seed, progress=False), TRUNCATED
        ).passed
    ]
    assert not failed


# -- the metric ------------------------------------------------------------------------------------
def test_the_metric_is_the_covariance_of_the_chains_that_move_in_any_units():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4, 3)) @ np.array([[1.0, 0.5, 0], [0, 1, -0.7], [0, 0, 1]])
    counted = np.array([True, False, True, True])
    for units in (np.ones(3), np.array([1e-6, 1.0, 1e6])):
        for dense in (False, True):
            moments = no_moments(3, dense)
            for positions in x:
                moments = update_moments(
                    moments, jnp.asarray(positions * units), jnp.asarray(counted)
                )
            known = np.cov((x[:, counted] * units).reshape(-1, 3).T)
            found = np.asarray(metric_of(moments, jnp.eye(3) if dense else jnp.ones(3)))
            shrunk = np.where(np.eye(3) == 1, 1, 150 / 155) * known
            np.testing.assert_allclose(found, shrunk if dense else np.diag(known), rtol=2e-4)


def test_a_coordinate_that_did_not_move_keeps_its_metric():
    moments = update_moments(
        no_moments(2, False), jnp.array([[1.0, 5.0], [2.0, 5.0]]), jnp.ones(2, bool)
    )
    np.testing.assert_allclose(metric_of(moments, jnp.array([7.0, 7.0])), [0.5, 7.0])


SCALES = np.array([0.01, 1.0, 100.0])


@pytest.mark.parametrize("name", ["mala", "barker", "random_walk_mh"])
def test_kernels_of_one_step_learn_the_scales(name):
    p = un.Density(lambda x: -0.5 * jnp.sum((x / SCALES) ** 2), {"x": un.Real[3]})
    draws = un.sample(p, name, draws=4000, **RUN)
    tuning = tuning_of(draws)
    metric = np.array(tuning["covariance" if name == "random_walk_mh" else "inverse_mass_matrix"])
    assert np.all(np.abs(np.log(metric / SCALES**2)) < 0.5)
    check = un.diagnose(draws, p)
    assert (
        check.table[["ess_bulk", "ess_tail"]].min(axis=None) > 400
        and check.table["r_hat"].max() < 1.02
    )


@pytest.mark.parametrize("name", ["mala", "barker", "random_walk_mh"])
@pytest.mark.slow
def test_given_options_of_kernels_of_one_step_stay(name):
    p, kind = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[2]}), un.kernels.KERNELS[name]
    option = "covariance" if name == "random_walk_mh" else "inverse_mass_matrix"
    short = {"draws": 20, "warmup": 60, "chains": 2, **RUN}
    assert tuning_of(un.sample(p, kind(step_size=0.3), **short)) == {
        "step_size": pytest.approx(0.3)
    }
    given = tuning_of(un.sample(p, kind(**{option: np.array([1.0, 4.0])}), **short))
    assert given[option] == [1.0, 4.0] and given["step_size"] > 0
    if name != "random_walk_mh":
        with pytest.raises(ValueError, match="expected a vector"):
            kind(inverse_mass_matrix=np.eye(2))


def test_the_schedule_looks_for_stuck_chains_before_the_metric_learns():
    stages, events, over = schedule(un.kernels.NUTS(), 1000)
    assert over[0] == pytest.approx(1e-3) and over[-1] == 1
    assert events[74] == 1 and stages[74] == 0 and stages[75] == 1
    assert np.flatnonzero(events == 2)[0] == 99 and events.max() == 2 and not events[-50:].any()

"""What is kept without draws: running moments, the last state, tracked functions."""

import json
import subprocess
import sys

import numpy as np
import pytest
from targets import gaussian, ising

import unnorm as un

RUN = {"draws": 250, "warmup": 100, "chains": 4, "seed": 1, "progress": False}


def test_moments_are_those_of_the_draws_that_would_have_been_kept():
    every = un.sample(gaussian, "mala", dtype="float64", **RUN)
    kept = un.sample(gaussian, "mala", dtype="float64", keep="moments", **RUN)
    x = every.posterior["x"].values
    np.testing.assert_allclose(kept["moments"]["x_mean"], x.mean(1), rtol=1e-10)
    np.testing.assert_allclose(kept["moments"]["x_variance"], x.var(1, ddof=1), rtol=1e-10)
    halves = np.concatenate([x[:, :125], x[:, 125:]])
    rhat = np.sqrt(124 / 125 + halves.mean(1).var(0, ddof=1) / halves.var(1, ddof=1).mean(0))
    np.testing.assert_allclose(kept["moments"]["x_rhat"], rhat, rtol=1e-8)
    assert kept["moments"]["x_mean"].dims == ("chain", "d") and kept.posterior["x"].shape == (
        4,
        1,
        3,
    )


def test_the_last_state_alone_is_kept():
    every = un.sample(gaussian, "mala", **RUN | {"draws": 240})
    last = un.sample(gaussian, "mala", keep="last", **RUN | {"draws": 240})
    assert np.array_equal(last.posterior["x"][:, 0], every.posterior["x"][:, -1])


def test_tracked_functions_are_kept_with_the_draws():
    draws = un.sample(
        gaussian, "mala", track={"norm": lambda x: x @ x, "first": lambda x: x[0]}, **RUN
    )
    x = draws.posterior["x"].values
    np.testing.assert_allclose(draws.posterior["norm"], (x**2).sum(-1), rtol=1e-5)
    assert np.array_equal(draws.posterior["first"], x[..., 0])


def test_tracked_functions_stand_alone_where_the_last_state_is_kept():
    every = un.sample(gaussian, "mala", **RUN | {"draws": 240})
    last = un.sample(
        gaussian, "mala", keep="last", track={"first": lambda x: x[0]}, **RUN | {"draws": 240}
    )
    assert np.array_equal(last.posterior["first"], every.posterior["x"][..., 0])
    assert (
        np.array_equal(last["last"]["x"][:, 0], every.posterior["x"][:, -1])
        and "x" not in last.posterior
    )


def test_moments_of_discrete_draws():
    p = ising.with_dimensions(d=3)
    kept = un.sample(p, keep="moments", **RUN)
    np.testing.assert_allclose(kept["moments"]["x_mean"].mean("chain"), 0.5, atol=0.1)


@pytest.mark.slow
def test_the_diagnosis_of_moments_reads_their_r_hat():
    kept = un.sample(
        gaussian, "nuts", keep="moments", **RUN | {"draws": 4000, "warmup": 500, "chains": 16}
    )
    check = un.diagnose(kept, gaussian)
    assert list(check.table.columns[:2]) == ["mean", "sd"] and check.passed
    np.testing.assert_allclose(check.table["mean"], gaussian.parameters["centre"], atol=0.1)
    stuck = un.sample(
        gaussian, un.kernels.MALA(step_size=1e-6), keep="moments", **RUN | {"draws": 2000}
    )
    assert not un.diagnose(stuck, gaussian).passed


def test_the_last_states_alone_never_pass():
    assert not un.diagnose(un.sample(gaussian, "nuts", keep="last", **RUN), gaussian).passed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep": "some"}, "keep is 'some'"),
        ({"track": {"x": len}}, "a variable's name for x"),
        ({"track": {"norm": 3}}, "track was given 3 for norm"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"start": "laplace"}, "start is 'laplace'"),
    ],
)
def test_bad_options_are_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        un.sample(gaussian, "mala", **RUN | options)


def test_pathfinder_starts_lie_where_the_mass_is():
    draws = un.sample(
        gaussian, un.kernels.MALA(step_size=1e-9), start="pathfinder", **RUN | {"warmup": 0}
    )
    first = draws.posterior["x"].values[:, 0]
    centre, precision = gaussian.parameters["centre"], gaussian.parameters["precision"]
    assert np.all(np.einsum("ci,ij,cj->c", first - centre, precision, first - centre) < 25)


PEAK = """
import resource, sys
import unnorm as un
from targets import gaussian
un.sample(gaussian, un.kernels.MALA(step_size=0.3), draws=int(sys.argv[1]), warmup=0, chains=1024, keep="moments",
          seed=0, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""  # noqa: E501


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_steps():
    def peak(steps):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(steps)],
            capture_output=True,
            text=True,
            cwd="tests/shared",
        )
        return float(done.stdout)

    few, many = peak(10_000), peak(100_000)
    assert many < 1.1 * few, json.dumps([few, many])

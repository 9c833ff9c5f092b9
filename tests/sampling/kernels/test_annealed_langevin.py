"""Annealed Langevin: on a normal every step is linear, so that its variance is known at each."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.sampling.output.run_spec import rebuild_kernel, spec

SIGMA = (0.3, 3.0, 4)
KERNEL = un.kernels.AnnealedLangevin(sigma=SIGMA)
VARIANCE = 0.5
QUIET = {"seed": 0, "progress": False}


@un.density
def normal(x: un.Real, *, sigma: un.Covariate):
    return -0.5 * x**2 / (VARIANCE + sigma**2)


@un.density
def labelled(x: un.Real, y: un.Categorical(3), *, sigma: un.Covariate):
    return -0.5 * x**2 / (VARIANCE + sigma**2) + y @ jnp.arange(3.0)


def variance_after(warmup, draws, start=4 / 3, step_size=0.1):
    """Of x after warm-up and some draws, from starts uniform on (-2, 2)."""
    low, high, count = SIGMA
    levels = np.repeat(np.geomspace(high, low, count), warmup // count).tolist() + [low] * draws
    for sigma in levels:
        step = step_size * sigma**2
        start = (1 - step / (VARIANCE + sigma**2)) ** 2 * start + 2 * step
    return start


def assert_variance(x, expected):
    assert abs(x.var() - expected) < 4 * expected * np.sqrt(2 / x.size)


@pytest.mark.parametrize(("denoise", "shrinkage"), [(False, 1.0), (True, VARIANCE / 0.59)])
def test_the_levels_are_passed_in_warm_up_and_the_draws_are_at_the_last(denoise, shrinkage):
    kernel = un.kernels.AnnealedLangevin(sigma=SIGMA, denoise=denoise)
    run = {"draws": 3, "warmup": 80, "chains": 4000} | QUIET
    draws = un.sample(normal.given(sigma=0.3), kernel, **run)
    x = draws.posterior["x"].to_numpy()
    for draw in (0, 2):
        assert_variance(x[:, draw], shrinkage**2 * variance_after(80, draw + 1))
    tuning = json.loads(draws.attrs["tuning"])
    assert tuning["sigma"] == pytest.approx(0.3) and tuning["step_size"] == pytest.approx(0.1)
    value = np.asarray(normal.given(sigma=0.3)(x))
    assert draws.sample_stats["lp"].to_numpy() == pytest.approx(value, abs=1e-5)


def test_it_is_biased_and_says_so():
    draws = un.sample(normal.given(sigma=0.3), KERNEL, draws=20, warmup=40, **QUIET)
    assert "does not reject" in draws.attrs["biased"]
    assert not un.diagnose(draws).passed
    without = un.sample(normal.given(sigma=0.3), KERNEL, draws=20, warmup=0, **QUIET)
    assert "noise levels are passed" in without.attrs["findings"]


def test_labels_move_beside_it():
    kernel = un.kernels.Blockwise(x=KERNEL, y="gibbs")
    run = {"draws": 1, "warmup": 80, "chains": 2000} | QUIET
    draws = un.sample(labelled.given(sigma=0.3), kernel, **run)
    assert_variance(draws.posterior["x"].to_numpy(), variance_after(80, 1))
    share = (draws.posterior["y"].to_numpy() == 2).mean()
    exact = np.exp(2) / np.exp(np.arange(3)).sum()
    assert abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / 2000)


def test_a_store_rebuilds_it():
    assert rebuild_kernel(json.loads(json.dumps(spec(KERNEL)))) == KERNEL


@pytest.mark.parametrize("sigma", [(0.1, 3.0), (3.0, 0.1, 5), (0.1, 3.0, 1), (0.1, 3.0, 2.5), 0.1])
def test_other_levels_are_refused(sigma):
    with pytest.raises(ValueError, match=r"expected \(low, high, levels\)"):
        un.kernels.AnnealedLangevin(sigma=sigma)


@pytest.mark.parametrize(
    ("p", "why"),
    [
        (un.Density(lambda x: -0.5 * x**2, {"x": un.Real}), "has no scalar constant sigma"),
        (normal.given(sigma=0.5), "has sigma = 0.5"),
        (normal, "covariate sigma"),
        (labelled.given(sigma=0.3), "cannot move y"),
        (normal.given(sigma=0.3) * normal.given(sigma=0.3), "has no scalar constant sigma"),
    ],
)
def test_densities_that_it_does_not_serve_are_refused(p, why):
    with pytest.raises(ValueError, match=why):
        un.sample(p, KERNEL, draws=10, warmup=20, **QUIET)

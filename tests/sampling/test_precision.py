"""Large constants in a density: float32 leaves no digits for its differences."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.precision_check import mass_at_ends

RUN = {"draws": 400, "warmup": 300, "seed": 0, "progress": False}


def normal(offset):
    return un.Density(lambda x, *, c: c - 0.5 * x @ x, {"x": un.Real[3]}, constants={"c": offset})


def found(check):
    return {
        (finding.code, finding.severity)
        for finding in check.findings
        if finding.code is not FindingCode.OTHER
    }


@pytest.mark.parametrize("offset", [-976412117.0, 1e8])
def test_a_large_constant_is_sampled_in_float64_and_told(offset):
    p = normal(offset)
    draws = un.sample(p, "nuts", **RUN)
    assert (
        draws.posterior["x"].dtype == np.float64
        and json.loads(draws.attrs["options"])["dtype"] == "float64"
    )
    assert abs(draws.posterior["x"].values.std() - 1) < 0.06
    check = un.diagnose(draws, p)
    assert check.passed and found(check) == {(FindingCode.PRECISION, "note")}


def test_a_constant_that_cancels_inside_is_seen_too():
    up_and_down = {"up": 1e9, "down": -1e9}  # two arguments, which the compiler cannot cancel
    p = un.Density(
        lambda x, *, up, down: (up - 0.5 * x @ x) + down, {"x": un.Real[3]}, constants=up_and_down
    )
    draws = un.sample(p, "random_walk_mh", **RUN)
    assert draws.posterior["x"].dtype == np.float64


def test_a_constant_that_float32_can_bear_stays_there():
    for offset in (0.0, 1e4):
        draws = un.sample(normal(offset), "nuts", **RUN | {"seed": 1})
        assert draws.posterior["x"].dtype == np.float32
        assert not found(un.diagnose(draws, normal(offset)))


def test_where_float32_was_named_the_loss_is_an_error():
    p = normal(1e8)
    draws = un.sample(p, "nuts", dtype="float32", **RUN)
    assert draws.posterior["x"].dtype == np.float32
    assert (FindingCode.PRECISION, "error") in found(un.diagnose(draws, p))


def test_where_float64_is_not_enough_either_it_is_an_error():
    p = normal(1e18)
    assert (FindingCode.PRECISION, "error") in found(un.diagnose(un.sample(p, "nuts", **RUN), p))


def test_discrete_draws_are_guarded_as_well():
    p = un.Density(lambda x: 1e9 + 0.4 * jnp.sum(x[1:] * x[:-1]), {"x": un.Spin[5]})
    draws = un.sample(p, **RUN)
    assert json.loads(draws.attrs["options"])["dtype"] == "float64" and un.diagnose(draws, p).passed


def test_starts_of_huge_negative_log_density_are_no_reason():
    """Far from the mass log p̃ is huge and its rounding harmless."""
    p = un.Density(lambda x: -0.5 * jnp.sum((x / 1e-3) ** 2), {"x": un.Real[3]})
    assert un.sample(p, "nuts", **RUN).posterior["x"].dtype == np.float32


def beta(a, b, lower=0.0):
    """On the interval from `lower` to `lower` + 1."""
    return un.Density(
        lambda x: jnp.sum((a - 1) * jnp.log(x - lower) + (b - 1) * jnp.log(lower + 1 - x)),
        {"x": un.Interval(lower, lower + 1)[2]},
    )


@pytest.mark.parametrize(
    ("p", "dtype", "lost"),
    [
        (beta(0.2, 0.2), "float32", True),
        (beta(1.0, 0.3), "float32", True),
        (beta(0.2, 2.0), "float32", False),  # the mass is at 0
        (beta(1.0, 1.0), "float32", False),
        (beta(0.3, 0.3), "float64", False),
        (beta(0.1, 0.1), "float64", True),
        (beta(0.6, 2.0, 100.0), "float32", True),  # the lower end rounds as well
        (beta(2.0, 2.0, 100.0), "float32", False),
        (beta(0.3, 2.0, -1.0), "float32", True),
        (beta(2.0, 0.3, -1.0), "float32", False),
    ],
)
def test_mass_that_rounds_onto_an_end_is_seen(p, dtype, lost):
    view, starts = Unconstrained(p.for_jit()), {"x": np.zeros((4, 2))}
    found = mass_at_ends(view.log_densities_in, view.supports, starts, np.dtype(dtype))
    assert (found is not None) == lost
    assert found is None or "of the mass of x[0]" in found.what


def test_the_share_of_the_mass_at_an_end_is_that_of_the_distribution():
    view, starts = Unconstrained(beta(0.2, 0.2).for_jit()), {"x": np.zeros((1, 2))}
    found = mass_at_ends(view.log_densities_in, view.supports, starts, np.dtype("float32"))
    exact = stats.beta(0.2, 0.2).cdf(4 * np.finfo(np.float32).eps)
    assert abs(float(found.what.split("%")[0]) / 100 / exact - 1) < 0.2  # a node's width


@pytest.mark.parametrize("dtype", [pytest.param(None, marks=pytest.mark.slow), "float32"])
def test_mass_at_an_upper_end_is_sampled_in_float64_or_an_error(dtype):
    p = un.Density(lambda x: -0.8 * (jnp.log(x) + jnp.log1p(-x)), {"x": un.Interval(0, 1)})
    draws = un.sample(p, "random_walk_mh", dtype=dtype, **RUN)
    severity = "note" if dtype is None else "error"
    assert draws.posterior["x"].dtype == (dtype or "float64")
    reported = [one for one in json.loads(draws.attrs["findings"]) if "onto an end" in one[0]]
    assert len(reported) == 1 and severity in reported[0]
    if dtype is None:
        assert 1 - draws.posterior["x"].values.max() < 1e-8

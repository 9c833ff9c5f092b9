"""Large batches of a density on CPU: jaxlib 0.10.2 fused dot products wrongly (jax-ml/jax issue
39103)."""

import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

import unnorm as un

# 42 trees: strength along the grain, and density (Williams 1959), as in every comparison of
# evidence since
STRENGTH = np.array(
    [
        3040,
        2470,
        3610,
        3480,
        3810,
        2330,
        1800,
        3110,
        3160,
        2310,
        4360,
        1880,
        3670,
        1740,
        2250,
        2650,
        4970,
        2620,
        2900,
        1670,
        2540,
        3840,
        3800,
        4600,
        1900,
        2530,
        2920,
        4990,
        1670,
        3310,
        3450,
        3600,
        2850,
        1590,
        3770,
        3850,
        2480,
        3570,
        2620,
        1890,
        3030,
        3030.0,
    ]
)
WEIGHT = np.array(
    [
        29.2,
        24.7,
        32.3,
        31.3,
        31.5,
        24.5,
        19.9,
        27.3,
        27.1,
        24.0,
        33.8,
        21.5,
        32.2,
        22.5,
        27.5,
        25.6,
        34.5,
        26.2,
        26.7,
        21.1,
        24.1,
        30.7,
        32.7,
        32.6,
        22.1,
        25.3,
        30.8,
        38.9,
        22.1,
        29.2,
        30.1,
        31.4,
        26.7,
        22.1,
        30.3,
        32.0,
        23.2,
        30.3,
        29.9,
        20.8,
        33.2,
        28.2,
    ]
)
WEIGHT -= WEIGHT.mean()
RATE = 2 * 300.0**2


def pine(alpha, beta, tau, *, y, x):
    e = y - alpha - beta * x
    like = 0.5 * len(STRENGTH) * jnp.log(tau / (2 * math.pi)) - 0.5 * tau * e @ e
    prior = 0.5 * jnp.log(0.06 * tau / (2 * math.pi)) - 0.03 * tau * (alpha - 3000) ** 2
    prior += 0.5 * jnp.log(6 * tau / (2 * math.pi)) - 3 * tau * (beta - 185) ** 2
    return like + prior + 3 * math.log(RATE) - gammaln(3) + 2 * jnp.log(tau) - RATE * tau


def exact_evidence():
    """The closed form of the normal-gamma prior, and what draws of the posterior need."""
    design, mean, precision = (
        np.stack([np.ones(42), WEIGHT], 1),
        np.array([3000.0, 185.0]),
        np.diag([0.06, 6.0]),
    )
    after = design.T @ design + precision
    centre = np.linalg.solve(after, design.T @ STRENGTH + precision @ mean)
    rest = STRENGTH @ STRENGTH + mean @ precision @ mean - centre @ after @ centre
    log_dets = np.linalg.slogdet(precision)[1] - np.linalg.slogdet(after)[1]
    value = -21 * math.log(2 * math.pi) + 0.5 * log_dets + 3 * math.log(RATE) - gammaln(3)
    return value + gammaln(24) - 24 * math.log(RATE + rest / 2), centre, after, rest


@pytest.mark.parametrize(("dtype", "count"), [("float64", 16_400), ("float32", 32_800)])
def test_matrix_vector_products_of_many_lanes(dtype, count):
    with jax.enable_x64(dtype == "float64"):
        rows = np.stack([np.arange(count), np.zeros(count), np.zeros(count)], 1).astype(dtype)
        found = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=dtype) @ row) ** 2)))(rows)
        np.testing.assert_allclose(np.asarray(found), rows[:, 0] ** 2, rtol=1e-6)


def test_also_where_jax_computed_before_the_import():
    code = (
        "import jax, jax.numpy as jnp, numpy as np; jnp.zeros(2) + 1\n"
        "import unnorm; unnorm.Density\n"
        "rows = jnp.asarray(np.arange(32_800)[:, None] * np.array([1, 0, 0]), 'float32')\n"
        "found = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)\n"
        "assert np.allclose(found, np.arange(32_800.) ** 2)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_evidence_of_a_regression_from_many_draws():
    value, centre, after, rest = exact_evidence()
    rng = np.random.default_rng(0)
    tau = rng.gamma(24, 1 / (RATE + rest / 2), size=2000)
    root = np.linalg.cholesky(np.linalg.inv(after))
    alpha, beta = (centre + (root @ rng.normal(size=(2, 2000))).T / np.sqrt(tau)[:, None]).T
    constants = {"y": (un.Constant["n"], STRENGTH), "x": (un.Constant["n"], WEIGHT)}
    p = un.Density(
        pine, {"alpha": un.Real, "beta": un.Real, "tau": un.Positive}, constants=constants
    )
    with jax.enable_x64(True):
        events = [jnp.asarray(np.tile(part[:2], 5000)) for part in (alpha, beta, tau)]
        lanes = jax.jit(jax.vmap(lambda *event: pine(*event, y=STRENGTH, x=WEIGHT)))(*events)
        alone = [
            float(pine(*event, y=STRENGTH, x=WEIGHT))
            for event in zip(alpha[:2], beta[:2], tau[:2], strict=True)
        ]
    np.testing.assert_allclose(
        np.asarray(lanes).reshape(-1, 2), np.tile(alone, (5000, 1)), rtol=1e-9
    )
    draws = {"alpha": alpha, "beta": beta, "tau": tau}
    z = un.log_z(p, un.estimators.ImportanceSampling(base=draws, draws=10_000), seed=0)
    assert z.verdict == "ok"
    assert abs(z.value - value) < 5 * z.standard_error + 1e-3

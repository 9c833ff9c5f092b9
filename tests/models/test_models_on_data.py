"""Families on the data that come with the package: both fits are minima of losses that are written
out here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import even, on_axes, sphere
from scipy.optimize import minimize

import unnorm as un
from unnorm import models


def standardised(columns):
    x = models.load("old_faithful")[columns].to_numpy(float)
    return (x - x.mean(0)) / x.std(0)


def wind():
    """Angles about the circle, in [−π, π)."""
    return (np.radians(models.load("milwaukee_wind").to_numpy(float)) + np.pi) % (2 * np.pi) - np.pi


def poles():
    latitude, longitude = np.radians(models.load("polar").to_numpy()).T
    return np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        1,
    )


def sine_model(theta, x):
    away = x - theta[:2]
    return theta[2:4] @ jnp.cos(away) + theta[4] * jnp.sin(away[0]) * jnp.sin(away[1])


def torus(theta, x):
    apart, total = x[0] - x[1], x[0] + x[1]
    pairs = [jnp.cos(apart), jnp.sin(apart), jnp.cos(total), jnp.sin(total)]
    return theta[:2] @ jnp.cos(x) + theta[2:4] @ jnp.sin(x) + theta[4:] @ jnp.stack(pairs)


def axial(theta, x):
    pairs = theta[0] * x[0] * x[1] + theta[1] * x[0] * x[2] + theta[2] * x[1] * x[2]
    return 2 * pairs + theta[3] * x[0] ** 2 + theta[4] * x[1] ** 2


def quartic(theta, x):
    return theta @ jnp.stack([x[0], x[0] ** 2, x[0] ** 3, -(x[0] ** 4)])


def secant(theta, x):
    return -jnp.sum(jnp.log(jnp.cosh(theta.reshape(2, 2) @ x)))


CENTRES = np.array([-1.5, -0.5, 0.5, 1.5])


def bumps(theta, x):
    return theta @ jnp.exp(-0.5 * (x[0] - CENTRES) ** 2 / 0.5**2) - 0.5 * x[0] ** 2 / 1.5**2


circles, line = (
    on_axes(even(-np.pi, np.pi, 96), even(-np.pi, np.pi, 96)),
    on_axes(even(-8, 8, 2000)),
)
CASES = {
    "bivariate_von_mises": (models.bivariate_von_mises, wind, sine_model, circles),
    "torus_graph": (models.torus_graph, wind, torus, circles),
    "bingham": (models.bingham(3), poles, axial, sphere),
    "quartic": (models.quartic, lambda: standardised(["eruptions"]), quartic, line),
    "independent_components": (
        models.independent_components.bind(weights=[[1.0, 0.2], [-0.2, 1.0]]),
        lambda: standardised(["eruptions", "waiting"]),
        secant,
        on_axes(even(-40, 40, 800), even(-40, 40, 800)),
    ),
    "kernel_exponential_family": (
        models.kernel_exponential_family(CENTRES[:, None], bandwidth=0.5, scale=1.5),
        lambda: standardised(["eruptions"]),
        bumps,
        line,
    ),
}


def likelihood(f, x, nodes):
    """Minus the mean log-likelihood, Z a sum over all events."""
    events, log_weights = nodes()
    events = events["x"]
    values = jax.vmap(f, (None, 0))

    def loss(theta):
        return jax.nn.logsumexp(values(theta, events) + log_weights) - values(theta, x).mean()

    return loss


def score(f, x, on_sphere):
    """mean ½ ‖∇f‖² + Δf, on the sphere by the tangential parts of both (Mardia, Kent and Laha,
    2016)."""

    def one(theta, x):
        slope, curvature = jax.grad(f, 1)(theta, x), jax.hessian(f, 1)(theta, x)
        if not on_sphere:
            return 0.5 * slope @ slope + jnp.trace(curvature)
        across = slope - (slope @ x) * x
        return (
            0.5 * across @ across
            + jnp.trace(curvature)
            - x @ curvature @ x
            - (len(x) - 1) * slope @ x
        )

    return lambda theta: jax.vmap(one, (None, 0))(theta, x).mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("objective", ["maximum_likelihood", "score_matching"])
def test_a_fit_to_data_is_the_minimum_of_the_loss_written_out(name, objective, x64):
    p, data, f, nodes = CASES[name]
    x = data()
    given = x[:, 0] if name == "quartic" else x
    fit = un.fit(p, given, objective, seed=0, progress=False)
    assert fit.converged
    estimate = fit.summary().estimate.to_numpy()
    loss = (
        score(f, x, name == "bingham") if objective == "score_matching" else likelihood(f, x, nodes)
    )
    start = estimate + 0.02 * np.random.default_rng(0).normal(size=estimate.size)
    value = jax.jit(jax.value_and_grad(loss))
    found = minimize(
        lambda theta: [np.asarray(part, float) for part in value(theta)],
        start,
        jac=True,
        options={"gtol": 1e-9},
    )
    assert np.max(np.abs(found.jac)) < 1e-6
    assert estimate == pytest.approx(found.x, abs=1e-4)

"""Case I: networks learn two-dimensional toys by each kind of objective; log Z of what was learned
is a grid's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import unnorm as un
from unnorm.models.toys import SAMPLERS as TOYS

o = un.objectives
ROWS, SMOOTH = 4000, 0.1
EIGHT = 2.0 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
OBJECTIVES = {
    "persistent CD": o.ContrastiveDivergence(
        k=5, persistent=True, chains=512, kernel=un.kernels.MALA(step_size=0.02), reinitialise=0.05
    ),
    "denoising": o.DenoisingScoreMatching(sigma=SMOOTH, corruptions=1),
    "sliced": o.SlicedScoreMatching(projections=1),
    "NCE": o.NCE(noise_ratio=5),
}
# The shape of every mode is asked for there; score matching on its own, not smoothed, overfits on
# the way to it.
ASK_MORE, LONG = (("persistent CD", "eight_gaussians"), ("denoising", "eight_gaussians")), 20_000
NETWORK = eqx.filter_jit(
    lambda key: eqx.nn.MLP(2, "scalar", 64, 3, activation=jax.nn.softplus, key=key)
)(jax.random.key(0))


@un.density
def energy(x: un.Real[2], *, network: un.PyTree = NETWORK):
    return network(x) - 0.1 * x @ x


IDENTITY = np.eye(2)


@un.density
def normal(
    x: un.Real[2], *, centre: un.Real[2] = 0.0, precision: un.PositiveDefinite[2] = IDENTITY
):
    return -0.5 * (x - centre) @ precision @ (x - centre)


AXIS = (np.arange(1200) + 0.5) / 100 - 6
CELL = 0.01**2
GRID = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2)


def on_grid(density) -> np.ndarray:
    return np.asarray(density(GRID), float)


def h_score(density, data) -> float:
    """Hyvärinen's score, mean of tr ∇² log p̃ + ½‖∇ log p̃‖²: lower is better, and Z is not
    asked."""

    def one(x):
        log_density = density.for_jit().log_density
        slope = jax.grad(lambda x: log_density({"x": x}))
        return jnp.trace(jax.jacfwd(slope)(x)) + 0.5 * jnp.sum(slope(x) ** 2)

    return float(jax.jit(jax.vmap(one))(jnp.asarray(data, jnp.float32)).mean())


@pytest.mark.slow
@pytest.mark.parametrize("toy", TOYS)
@pytest.mark.parametrize("what", OBJECTIVES)
def test_a_network_learns_a_toy_and_its_log_z_is_that_of_a_grid(what, toy):
    data, held_out = (
        TOYS[toy](np.random.default_rng(seed), ROWS).astype(np.float32) for seed in (0, 1)
    )
    steps = LONG if (what, toy) in ASK_MORE else 6000
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    fit = un.fit(
        energy, data, OBJECTIVES[what], optimizer=optimizer, steps=steps, seed=0, progress=False
    )
    values = on_grid(fit.density)
    log_z = float(np.logaddexp.reduce(values) + np.log(CELL))
    for found in (float(fit.log_z), float(un.log_z(fit.density, seed=0).value)):
        assert abs(found - log_z) < 0.05
    simple = un.fit(normal, data, "maximum_likelihood", seed=0, progress=False)
    assert h_score(fit.density, held_out) < h_score(simple.density, held_out)
    if what in ("persistent CD", "NCE"):  # these see the weights of separated modes
        gain = (
            float(np.mean(fit.density(held_out)))
            - log_z
            - simple.log_likelihood(held_out).value / ROWS
        )
        assert gain > 0.2
    if toy == "eight_gaussians":
        told_apart(values - log_z, smooth=SMOOTH if what == "denoising" else 0.0)


def told_apart(log_density: np.ndarray, smooth: float) -> None:
    """The conditional of each mode is its normal, whatever weight it got."""
    nearest = np.argmin(((GRID[:, None] - EIGHT) ** 2).sum(-1), 1)
    weights, spread = np.exp(log_density), np.hypot(0.2, smooth)
    for mode, centre in enumerate(EIGHT):
        mine = np.where(nearest == mode, weights, 0.0)
        mine /= mine.sum()
        mean = mine @ GRID
        assert np.all(np.abs(mean - centre) < 0.05)
        assert np.all(np.abs(np.sqrt(mine @ (GRID - mean) ** 2) / spread - 1) < 0.2)

"""Densities whose log Z is known: those of the known answers, and five with unequal separated modes
or heavy tails.

`TARGETS[name]()` is a `Target`: the density, its exact log Z, and the root mean square error asked
of `un.log_z` with its defaults (None where none is asked). `test_log_z_targets.py` verifies every
number by a second route.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

import unnorm as un


class Target(NamedTuple):
    """A density, its exact log Z in nats, and the rmse asked of the library's own choice."""

    density: un.Density
    log_z: float
    goal: float | None


# -- the known answers -----------------------------------------------------------------------------
CORRELATED = np.linalg.inv(0.9 ** np.abs(np.subtract.outer(np.arange(10), np.arange(10))))
CRITICAL = 0.5 * math.log(1 + math.sqrt(2))
LATTICES = {
    4: 15.5219154588,
    6: 34.1115410550,
    8: 60.1417807891,
    16: 238.642256636,
    32: 952.648079550,
}


@un.density
def gaussian(x: un.Real[10], *, precision: un.Constant[10, 10] = CORRELATED):
    return -0.5 * x @ precision @ x


@un.density
def funnel(v: un.Real, x: un.Real[9]):
    """Neal (2003), doi:10.1214/aos/1056562461."""
    return -(v**2) / 18 - 0.5 * jnp.sum(x**2 * jnp.exp(-v) + v)


def ring(x, side, radius, width=0.1):
    """Log of a shell about (side, 0): a normal density of the radius, whose integral over the plane
    is 2π radius."""
    distance = jnp.linalg.norm(x - jnp.array([side, 0.0]))
    return -0.5 * ((distance - radius) / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))


def two_shells(x):
    return jnp.logaddexp(ring(x, -3.5, 2.0), ring(x, 3.5, 2.0))


@un.density
def many_well(x: un.Real[16], y: un.Real[16]):
    """32 dimensions, 2^16 modes, in each pair one five times as heavy as the other."""
    return jnp.sum(0.5 * x + 6 * x**2 - x**4 - 0.5 * y**2)


@un.density
def lattice(x: un.Spin["side", "side"]):
    """The Ising model on a torus at its critical temperature (Kaufman, 1949,
    doi:10.1103/PhysRev.76.1232)."""
    return CRITICAL * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1)))


@un.density
def von_mises_fisher(x: un.Sphere[10]):
    return 50.0 * x[0]


@un.density
def conway_maxwell_poisson(x: un.Count, *, rate: un.Positive, dispersion: un.Positive):
    return x * jnp.log(rate) - dispersion * jax.scipy.special.gammaln(x + 1)


# -- a restricted Boltzmann machine on the digits (case D) -----------------------------------------
HIDDEN, EPOCHS, BATCH, RATE = 16, 200, 100, 0.1


machine = un.models.restricted_boltzmann_machine_marginal
joint_machine = un.models.restricted_boltzmann_machine


def digits():
    """The first 1,500 images to learn from, the last 297 to judge by."""
    pixels = un.models.load("digits").drop(columns="digit").to_numpy(float)
    return pixels[:1500], pixels[1500:]


@functools.cache
def learned(seed: int = 0) -> dict[str, np.ndarray]:
    """The weights after contrastive divergence (CD-1) by hand: 200 epochs, the rate falling from
    0.1 to 0."""
    rng, (train, _) = np.random.default_rng(seed), digits()
    share = (train.sum(0) + 0.5) / (len(train) + 1)
    weights, hidden = 0.01 * rng.normal(size=(HIDDEN, train.shape[1])), np.zeros(HIDDEN)
    visible, steps = np.log(share / (1 - share)), EPOCHS * len(train) // BATCH

    def chance(x):
        return 1 / (1 + np.exp(-x))

    for step in range(steps):
        rate, v = RATE * (1 - step / steps), train[rng.choice(len(train), BATCH, replace=False)]
        mean = chance(v @ weights.T + hidden)
        told = chance((rng.uniform(size=mean.shape) < mean) @ weights + visible)
        v_model = (rng.uniform(size=told.shape) < told).astype(float)
        mean_model = chance(v_model @ weights.T + hidden)
        weights = weights + rate * (mean.T @ v - mean_model.T @ v_model) / BATCH
        visible = visible + rate * (v - v_model).mean(0)
        hidden = hidden + rate * (mean - mean_model).mean(0)
    return {"weights": weights, "visible": visible, "hidden": hidden}


def log_z_of_machine(weights, visible, hidden) -> float:
    """log Σ_h exp(c'h) Π_i (1 + exp(b_i + h'w_i)), over all 2^K hidden states, a part at a time."""
    parts, count = [], 2 ** len(hidden)
    for index in np.array_split(np.arange(count), max(1, count // 4096)):
        on = (index[:, None] >> np.arange(len(hidden))) & 1
        parts.append(
            np.logaddexp.reduce(on @ hidden + np.logaddexp(0, visible + on @ weights).sum(1))
        )
    return float(np.logaddexp.reduce(parts))


# -- five of our own -------------------------------------------------------------------------------
SPIKE, SPIKE_WIDTH, SPIKE_MASS = np.array([0.8, -0.6]), 0.02, 0.9
APART, MASSES, WIDTHS = 8.0, (0.2, 0.8), (1.0, 0.5)
FREEDOM = 2.5
SCALE = np.diag([1.0, 0.5, 2.0, 1.0, 3.0, 0.2]) @ (
    0.7 ** np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
)
SCALE = SCALE @ np.diag([1.0, 0.5, 2.0, 1.0, 3.0, 0.2])
SHARP = np.linalg.inv(SCALE)
# Two pairs of neighbouring rows and of columns pull the two coordinates of y.
PULL = 0.45 * np.stack([np.outer([1, 1, 0], [1, 1, 1]), np.outer([1, 1, 1], [0, 1, -1])])
PRECISION = np.array([[1.0, 0.4], [0.4, 0.8]])


def spike(x):
    """Nine tenths of the mass in a spike of width 0.02, one tenth in a standard normal; up to
    (2π)^-1 normalized."""
    narrow = (
        math.log(SPIKE_MASS)
        - 2 * math.log(SPIKE_WIDTH)
        - 0.5 * jnp.sum((x - SPIKE) ** 2) / SPIKE_WIDTH**2
    )
    return jnp.logaddexp(narrow, math.log(1 - SPIKE_MASS) - 0.5 * x @ x)


def unequal_shells(x):
    """Shells of masses 1 and 4, and of radii 2 and 1."""
    first = ring(x, -3.5, 2.0) - math.log(2 * math.pi * 2)
    return jnp.logaddexp(first, ring(x, 3.5, 1.0) + math.log(4 / (2 * math.pi)))


def unequal_pair(x):
    """Masses .2 and .8, standard deviations 1 and .5, 8 apart along the diagonal; up to (2π)^-5/2
    normalized."""
    step = APART / (2 * math.sqrt(5))
    light = (
        math.log(MASSES[0])
        - 5 * math.log(WIDTHS[0])
        - 0.5 * jnp.sum((x + step) ** 2) / WIDTHS[0] ** 2
    )
    heavy = (
        math.log(MASSES[1])
        - 5 * math.log(WIDTHS[1])
        - 0.5 * jnp.sum((x - step) ** 2) / WIDTHS[1] ** 2
    )
    return jnp.logaddexp(light, heavy)


@un.density
def student(x: un.Real[6], *, precision: un.Constant[6, 6] = SHARP):
    """Student's t with 2.5 degrees of freedom."""
    return -0.5 * (FREEDOM + 6) * jnp.log1p(x @ precision @ x / FREEDOM)


@un.density
def spins_and_reals(
    s: un.Spin[3, 3],
    y: un.Real[2],
    *,
    pull: un.Constant[2, 3, 3] = PULL,
    precision: un.Constant[2, 2] = PRECISION,
):
    """Spins on a 3 by 3 grid whose free sums pull two real coordinates, so that these have several
    modes."""
    neighbours = jnp.sum(s[1:] * s[:-1]) + jnp.sum(s[:, 1:] * s[:, :-1])
    return 0.3 * neighbours + y @ jnp.tensordot(pull, s, 2) - 0.5 * y @ precision @ y


def log_z_of_student() -> float:
    gammas = gammaln(FREEDOM / 2) - gammaln((FREEDOM + 6) / 2)
    return float(gammas + 3 * math.log(FREEDOM * math.pi) + 0.5 * np.linalg.slogdet(SCALE)[1])


def log_z_of_spins_and_reals() -> float:
    """∫ dy = 2π |P|^-1/2 exp(½ m'P⁻¹m), m the pull of a state, summed over the 512 states."""
    s = 2.0 * ((np.arange(512)[:, None] >> np.arange(9)) & 1).reshape(-1, 3, 3) - 1
    neighbours = (s[:, 1:] * s[:, :-1]).sum((1, 2)) + (s[:, :, 1:] * s[:, :, :-1]).sum((1, 2))
    pulled = np.einsum("kij,sij->sk", PULL, s)
    quadratic = 0.5 * np.einsum("sk,kl,sl->s", pulled, np.linalg.inv(PRECISION), pulled)
    constant = math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(PRECISION)[1]
    return float(np.logaddexp.reduce(0.3 * neighbours + quadratic) + constant)


def _square(function) -> un.Density:
    return un.Density(function, {"x": un.Interval(-6.0, 6.0)[2]})


def _torus(side: int, goal: float | None) -> Target:
    return Target(lattice.with_dimensions(side=side), LATTICES[side], goal)


def _count(rate: float, dispersion: float, log_z: float) -> Target:
    return Target(conway_maxwell_poisson.bind(rate=rate, dispersion=dispersion), log_z, 0.05)


def _machine(density: un.Density, goal: float | None) -> Target:
    return Target(density.bind(**learned()), log_z_of_machine(**learned()), goal)


TARGETS = {
    "gaussian": lambda: Target(gaussian, 1.7160949013, 0.05),
    "funnel": lambda: Target(funnel, 10.2879976207, 0.1),
    "shells": lambda: Target(_square(two_shells), 3.2241714275, 0.05),
    "many well": lambda: Target(many_well, 164.695675, 0.1),
    "ising 4": lambda: _torus(4, None),
    "ising 6": lambda: _torus(6, 0.05),
    "ising 8": lambda: _torus(8, None),
    "ising 16": lambda: _torus(16, None),
    "ising 32": lambda: _torus(32, 0.2),
    "von Mises-Fisher": lambda: Target(von_mises_fisher, 40.5073235554, 0.05),
    "counts 3 0.5": lambda: _count(3.0, 0.5, 5.8470568196),
    "counts 10 2": lambda: _count(10.0, 2.0, 4.5050841181),
    "digits": lambda: _machine(machine, 0.05),
    "digits joint": lambda: _machine(joint_machine, None),
    "spike": lambda: Target(un.Density(spike, {"x": un.Real[2]}), math.log(2 * math.pi), None),
    "unequal shells": lambda: Target(_square(unequal_shells), math.log(5), None),
    "unequal pair": lambda: Target(
        un.Density(unequal_pair, {"x": un.Real[5]}), 2.5 * math.log(2 * math.pi), None
    ),
    "student": lambda: Target(student, log_z_of_student(), None),
    "spins and reals": lambda: Target(spins_and_reals, log_z_of_spins_and_reals(), None),
}
TARGETS = {
    name: functools.cache(make) for name, make in TARGETS.items()
}  # one density of each: nothing compiles twice

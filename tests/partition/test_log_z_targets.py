"""Every log Z of `log_z_targets.py` by a second route: a closed form, quadrature of the density
itself, enumeration."""

import math

import jax
import numpy as np
import pytest
from log_z_targets import (
    CORRELATED,
    CRITICAL,
    LATTICES,
    SCALE,
    TARGETS,
    digits,
    learned,
    log_z_of_machine,
    machine,
)
from scipy import special

from unnorm.integration.states import enumerate_states

pytestmark = pytest.mark.slow  # each compiles a density of its own


def area(size):
    """Of the unit sphere in R^size."""
    return 2 * math.pi ** (size / 2) / special.gamma(size / 2)


def values(density, *events):
    """log p̃ at many events, in double precision."""
    with jax.enable_x64(True):
        return np.asarray(density(*(np.asarray(event, float) for event in events)))


def on_square(density, low, high, step):
    """log ∫ p̃ by the sum over a square's grid, which for smooth densities is exact far beyond the
    step."""
    axis = np.arange(low + step / 2, high, step)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    return np.logaddexp.reduce(values(density, grid)) + 2 * math.log(step)


def _gaussian(density):
    return 5 * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(CORRELATED)[1]


def _funnel(density):
    """∫ dx = (2π)^4.5 at every v: the density's own value at x = 0, and the integral over v."""
    v = np.arange(-40, 40, 0.01)
    at_zero = values(density, v, np.zeros((len(v), 9)))
    return np.logaddexp.reduce(at_zero + 4.5 * (math.log(2 * math.pi) + v)) + math.log(0.01)


def _many_well(density):
    """A product of 16 equal pairs; on the diagonal the density itself is the 16th power of one
    pair."""
    axis = np.arange(-8, 8, 0.01)
    at_zero = np.zeros((len(axis), 16))
    ones = np.repeat(axis[:, None], 16, 1)
    parts = values(density, ones, at_zero), values(density, at_zero, ones)
    x, y = (np.logaddexp.reduce(part / 16) + math.log(0.01) for part in parts)
    return 16 * (x + y)


def _von_mises_fisher(density):
    cosine = special.roots_legendre(200)
    points = np.zeros((200, 10))
    points[:, 0], points[:, 1] = cosine[0], np.sqrt(1 - cosine[0] ** 2)
    logs = values(density, points) + 3.5 * np.log1p(-(cosine[0] ** 2)) + np.log(cosine[1])
    return np.logaddexp.reduce(logs) + math.log(area(9))


def _counts(density):
    return np.logaddexp.reduce(values(density, np.arange(2000.0)))


def _pair(density):
    """Rotationally symmetric about the diagonal: an integral over it and over the distance from
    it."""
    along, away = np.ones(5) / math.sqrt(5), np.array([1.0, -1.0, 0, 0, 0]) / math.sqrt(2)
    z, log_r = np.arange(-14, 14, 0.05), np.arange(-8, 4, 0.02)
    points = z[:, None, None] * along + np.exp(log_r)[:, None] * away
    logs = values(density, points.reshape(-1, 5)).reshape(len(z), len(log_r)) + 4 * log_r
    return np.logaddexp.reduce(logs.ravel()) + math.log(0.05 * 0.02 * area(4))


def _student(density):
    """Radial once the scale is divided out: an integral over the log of the radius."""
    log_r = np.arange(-12, 40, 0.02)
    points = np.exp(log_r)[:, None] * np.linalg.cholesky(SCALE)[:, 0]
    radial = np.logaddexp.reduce(values(density, points) + 6 * log_r) + math.log(0.02)
    return radial + math.log(area(6)) + 0.5 * np.linalg.slogdet(SCALE)[1]


def _spins_and_reals(density):
    """Every state of the spins times a grid of the reals."""
    axis = np.arange(-16, 16, 0.4)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    states = np.array(np.meshgrid(*[[-1.0, 1.0]] * 9)).reshape(9, -1).T.reshape(-1, 3, 3)
    parts = [
        np.logaddexp.reduce(values(density, np.broadcast_to(s, (len(grid), 3, 3)), grid))
        for s in states
    ]
    return np.logaddexp.reduce(parts) + 2 * math.log(0.4)


ROUTES = {
    "gaussian": _gaussian,
    "funnel": _funnel,
    "shells": lambda p: on_square(p, -6, 6, 0.02),
    "many well": _many_well,
    "von Mises-Fisher": _von_mises_fisher,
    "counts 3 0.5": _counts,
    "counts 10 2": _counts,
    "spike": lambda p: on_square(p, -8, 8, 0.016),
    "unequal shells": lambda p: on_square(p, -6, 6, 0.02),
    "unequal pair": _pair,
    "student": _student,
    "spins and reals": _spins_and_reals,
}


@pytest.mark.parametrize("name", ROUTES)
def test_a_second_route_gives_the_same_log_z(name):
    density, log_z, _ = TARGETS[name]()
    # The shells' number leaves out the box, beyond which 1.2e-8 of them lies.
    tolerance = {"many well": 1e-6, "shells": 2e-8, "unequal shells": 1e-8}.get(name, 1e-9)
    assert ROUTES[name](density) == pytest.approx(log_z, abs=tolerance)


def test_every_target_has_a_second_route():
    lattices = {f"ising {side}" for side in LATTICES}
    assert set(TARGETS) == set(ROUTES) | lattices | {"digits", "digits joint"}


def kaufman(side):
    """log Z of the square torus by Kaufman's four products, at the critical temperature."""
    double = 2 * CRITICAL
    gamma = np.arccosh(
        np.cosh(double) / np.tanh(double) - np.cos(np.pi * np.arange(2 * side) / side)
    )
    gamma[0] = double + np.log(np.tanh(CRITICAL))
    half = side / 2
    terms = []
    for start in (1, 0):
        g = gamma[start::2] * half
        for log_part in (np.log(2 * np.cosh(g)), np.log(np.abs(2 * np.sinh(g)) + 1e-300)):
            terms.append(log_part.sum())
    # At the critical point gamma_0 is 0 and its hyperbolic sine takes the fourth product with it.
    return -math.log(2) + half * side * math.log(2 * np.sinh(double)) + np.logaddexp.reduce(terms)


@pytest.mark.parametrize("side", LATTICES)
def test_the_lattices_by_kaufman(side):
    assert kaufman(side) == pytest.approx(LATTICES[side], abs=1e-9 * LATTICES[side])


@pytest.mark.parametrize("side", [4, 6, 8])
def test_the_lattices_by_a_transfer_matrix(side):
    rows = 2.0 * ((np.arange(2**side)[:, None] >> np.arange(side)) & 1) - 1
    within = CRITICAL * (rows * np.roll(rows, 1, 1)).sum(1)
    transfer = np.exp(CRITICAL * rows @ rows.T + 0.5 * (within[:, None] + within))
    assert math.log(np.trace(np.linalg.matrix_power(transfer, side))) == pytest.approx(
        LATTICES[side], abs=1e-9
    )


def test_the_declared_lattice_is_that_torus():
    density = TARGETS["ising 4"]().density
    with jax.enable_x64(True):
        states = {
            name: np.asarray(value, float)
            for name, value in enumerate_states(density.for_jit()).items()
        }
    assert np.logaddexp.reduce(values(density, states["x"])) == pytest.approx(LATTICES[4], abs=1e-9)


def test_the_machine_has_learned_the_digits_and_its_hidden_states_are_summed():
    """Ten of its pixels are enumerated; the joint density sums to the marginal one; case D asks for
    above -19.4."""
    weights, (_, test) = learned(), digits()
    few = {
        "weights": weights["weights"][:, :10],
        "visible": weights["visible"][:10],
        "hidden": weights["hidden"],
    }
    images = ((np.arange(1024)[:, None] >> np.arange(10)) & 1).astype(float)
    assert np.logaddexp.reduce(values(machine.bind(**few), images)) == pytest.approx(
        log_z_of_machine(**few), abs=1e-9
    )
    density, log_z, _ = TARGETS["digits"]()
    assert values(density, test).mean() - log_z > -19.4
    joint, image = TARGETS["digits joint"]().density, test[0]
    hidden = ((np.arange(2**16)[:, None] >> np.arange(16)) & 1).astype(float)
    summed = np.logaddexp.reduce(values(joint, np.broadcast_to(image, (len(hidden), 64)), hidden))
    assert summed == pytest.approx(float(values(density, image)), abs=1e-9)
    assert TARGETS["digits joint"]().log_z == log_z

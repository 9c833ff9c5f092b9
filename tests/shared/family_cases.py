"""Every family of un.models, small: a density at a truth, its formula in plain NumPy, and all of
its events.

The events come with weights, so that sums over them are sums over the states or integrals: exact
answers that use none of the library's own enumeration or quadrature.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

import unnorm as un
from unnorm import models
from unnorm.models.toys import SAMPLERS

ROWS = 500  # of the data drawn from a case


class Case(NamedTuple):
    """A family at a truth; `formula` takes arrays of events, `nodes` gives events by variable and
    their log weights."""

    density: un.Density
    formula: Callable
    nodes: Callable
    second: object = "score_matching"  # the objective beside maximum likelihood
    first: object = "maximum_likelihood"


def pairs(matrix, interaction):
    """Σ_{j<k} m_jk · interaction(j, k), a loop over pairs."""
    size = len(matrix)
    return sum(matrix[j][k] * interaction(j, k) for j in range(size) for k in range(j + 1, size))


# -- events and weights ----------------------------------------------------------------------------
def listed(name, states, size):
    events = np.array(list(itertools.product(states, repeat=size)), float)
    return lambda: ({name: events}, np.zeros(len(events)))


def graphs(size):
    places = list(itertools.combinations(range(size), 2))

    def nodes():
        events = np.zeros((2 ** len(places), size, size))
        for event, ties in zip(events, itertools.product([0, 1], repeat=len(places)), strict=True):
            for (i, j), tie in zip(places, ties, strict=True):
                event[i, j] = event[j, i] = tie
        return {"y": events}, np.zeros(len(events))

    return nodes


def two_layers(d, k):
    def nodes():
        both = np.array(list(itertools.product([0, 1], repeat=d + k)), float)
        return {"v": both[:, :d], "h": both[:, d:]}, np.zeros(len(both))

    return nodes


def on_axes(*axes, scalar=False):
    """The product of one-dimensional rules (points, weights)."""

    def nodes():
        points = np.stack(np.meshgrid(*(a[0] for a in axes), indexing="ij"), -1).reshape(
            -1, len(axes)
        )
        weights = (
            np.stack(np.meshgrid(*(np.log(a[1]) for a in axes), indexing="ij"), -1)
            .reshape(-1, len(axes))
            .sum(1)
        )
        return {"x": points[:, 0] if scalar else points}, weights

    return nodes


def even(low, high, count):
    """The trapezoid rule; of spectral accuracy where the integrand vanishes at the ends or is
    periodic."""
    step = (high - low) / count
    return low + step * (np.arange(count) + 0.5), np.full(count, step)


def gauss(low, high, count, root=False):
    """Gauss-Legendre; in the root of x, which tames what is singular at 0."""
    points, weights = np.polynomial.legendre.leggauss(count)
    points, weights = low + (high - low) * (points + 1) / 2, weights * (high - low) / 2
    return (points**2, 2 * points * weights) if root else (points, weights)


def sphere():
    height, across = gauss(-1, 1, 40)
    angle, around = even(-np.pi, np.pi, 80)
    z, a = np.meshgrid(height, angle, indexing="ij")
    weights = np.log(np.outer(across, around))
    radius = np.sqrt(1 - z**2)
    events = np.stack([radius * np.cos(a), radius * np.sin(a), z], -1).reshape(-1, 3)
    return {"x": events}, weights.ravel()


COUNTS = np.arange(60.0)
CIRCLE = even(-np.pi, np.pi, 24)
COUPLING = np.array([[0, 1.0, -0.7], [1.0, 0, 0.5], [-0.7, 0.5, 0]])
OTHER = np.array([[0, 0.3, 0.0], [0.3, 0, -0.4], [0.0, -0.4, 0]])
FIELD = np.array([-0.3, 0.2, 0.1])
PRECISION = np.array([[1.5, 0.4], [0.4, 0.8]])
WEIGHTS = np.array([[1.5, -1.0, 0.5], [-0.5, 1.2, 2.0]])
MIXING = np.array([[1.0, 0.4], [-0.3, 1.5]])
CENTRES, LIFTS = np.array([-1.0, 0.2, 1.3]), np.array([1.0, -0.5, 1.5])
# As its docstring has it, not as the code: β-model, stars and shared partners by loops.
DECAY = 0.5


def interacting(x):
    return x @ FIELD + pairs(COUPLING, lambda j, k: x[:, j] * x[:, k])


def potts(x):
    field = np.array([[0, 0.5, -0.2], [0, 0.1, 0.3], [0, -0.4, 0.2]])
    sites = sum(field[j][x[:, j].astype(int)] for j in range(3))
    return sites + pairs(COUPLING, lambda j, k: x[:, j] == x[:, k])


def torus(x):
    total = sum(FIELD[j] * np.cos(x[:, j]) + 0.5 * np.sin(x[:, j]) for j in range(3))
    total = total + pairs(COUPLING, lambda j, k: np.cos(x[:, j] - x[:, k]))
    total += pairs(OTHER, lambda j, k: np.sin(x[:, j] - x[:, k]))
    return total + pairs(-OTHER, lambda j, k: np.cos(x[:, j] + x[:, k])) + 0 * x[:, 0]


def alternating(count):
    return np.exp(DECAY) * (1 - (1 - np.exp(-DECAY)) ** count)


def graph_statistics(y, decay=alternating):
    """Edges, triangles, two-stars, gwdegree and gwesp of one graph, counted node by node."""
    size = len(y)
    ties = [(i, j) for i, j in itertools.combinations(range(size), 2) if y[i, j]]
    closed = [
        t
        for t in itertools.combinations(range(size), 3)
        if y[t[0], t[1]] and y[t[1], t[2]] and y[t[0], t[2]]
    ]
    degrees = [sum(i in tie for tie in ties) for i in range(size)]
    shared = [sum(bool(y[i, m] and y[j, m]) for m in range(size)) for i, j in ties]
    stars = sum(special.comb(degree, 2) for degree in degrees)
    return [len(ties), len(closed), stars, sum(map(decay, degrees)), sum(map(decay, shared))]


def random_graph(y):
    return np.array([graph_statistics(one) for one in y]) @ [-0.5, 0, 0, -0.3, 0.4]


def secant(x):
    return -np.log(np.cosh(x @ MIXING.T)).sum(1)


def bumps(x):
    heights = np.exp(-((x[:, :1] - CENTRES) ** 2) / (2 * 0.5**2)) @ LIFTS
    return heights - (x[:, 0] - CENTRES.mean()) ** 2 / (2 * 1.5**2)


def places_of(toy):
    if toy == "eight_gaussians":
        return [[2 * np.cos(a), 2 * np.sin(a)] for a in np.arange(8) * np.pi / 4]
    if toy == "two_moons":
        half = [(np.cos(a), np.sin(a)) for a in np.pi * (np.arange(100) + 0.5) / 100]
        return [*half, *((1 - c, 0.5 - s) for c, s in half)]
    turns = 3 * np.pi * np.sqrt((np.arange(200) + 0.5) / 200)
    return [[s * t / 4 * np.cos(t), s * t / 4 * np.sin(t)] for s in (-1, 1) for t in turns]


def blurred(toy, scale):
    places = np.array(places_of(toy))

    def formula(x):
        squares = ((x[:, None, :] - places) ** 2).sum(-1)
        return special.logsumexp(-squares / (2 * scale**2), axis=1)

    return formula


o, m = un.objectives, models
CASES = {
    "ising": lambda: Case(
        m.ising.bind(coupling=COUPLING, field=FIELD),
        interacting,
        listed("x", (0, 1), 3),
        "pseudo_likelihood",
    ),
    "potts": lambda: Case(
        m.potts(3).bind(coupling=COUPLING, field=[[0.5, -0.2], [0.1, 0.3], [-0.4, 0.2]]),
        potts,
        listed("x", (0, 1, 2), 3),
        "pseudo_likelihood",
    ),
    "boltzmann_machine": lambda: Case(
        m.boltzmann_machine.bind(coupling=COUPLING / 2, field=FIELD),
        lambda x: x @ FIELD + pairs(COUPLING / 2, lambda j, k: x[:, j] * x[:, k]),
        listed("x", (-1, 1), 3),
        "ratio_matching",
    ),
    "restricted_boltzmann_machine": lambda: Case(
        m.restricted_boltzmann_machine.bind(weights=WEIGHTS, visible=FIELD, hidden=[0.3, -0.6]),
        lambda v, h: v @ FIELD + h @ [0.3, -0.6] + np.einsum("nk,kd,nd->n", h, WEIGHTS, v),
        two_layers(3, 2),
        "pseudo_likelihood",
    ),
    # one hidden unit: two are not told apart by three pixels
    "restricted_boltzmann_machine_marginal": lambda: Case(
        m.restricted_boltzmann_machine_marginal.bind(
            weights=2 * WEIGHTS[:1], visible=FIELD, hidden=[-1.0]
        ),
        lambda v: v @ FIELD + np.log(1 + np.exp(-1.0 + v @ (2 * WEIGHTS[0]))),
        listed("v", (0, 1), 3),
        o.NCE(exact=True),
    ),
    "gaussian_graphical": lambda: Case(
        m.gaussian_graphical.bind(eta=[1.0, -0.5], precision=PRECISION),
        lambda x: x @ [1.0, -0.5] - 0.5 * np.einsum("nj,jk,nk->n", x, PRECISION, x),
        on_axes(even(-9, 9, 90), even(-9, 9, 90)),
    ),
    "truncated_gaussian": lambda: Case(
        m.truncated_gaussian.bind(eta=[1.0, -0.5], precision=PRECISION),
        lambda x: x @ [1.0, -0.5] - 0.5 * np.einsum("nj,jk,nk->n", x, PRECISION, x),
        on_axes(gauss(0, 3.5, 60, root=True), gauss(0, 3.5, 60, root=True)),
        o.NCE(noise_ratio=50),
    ),
    "non_negative_graphical": lambda: Case(
        m.non_negative_graphical(a=0.5, b=0.5).bind(
            eta=[1.0, 0.5], interaction=[[1.5, -0.4], [-0.4, 1.0]]
        ),
        lambda x: (
            2 * np.sqrt(x) @ [1.0, 0.5]
            - 3.0
            - 1.5 * x[:, 0]
            - x[:, 1]
            + 0.8 * np.sqrt(x[:, 0] * x[:, 1])
        ),
        on_axes(gauss(0, 12, 80, root=True), gauss(0, 12, 80, root=True)),
        o.ScoreMatching(h="log1p"),
    ),
    "conway_maxwell_poisson": lambda: Case(
        m.conway_maxwell_poisson.bind(log_rate=0.4, nu=0.8),
        lambda x: 0.4 * x - 0.8 * np.log(special.factorial(x)),
        lambda: ({"x": COUNTS}, np.zeros(len(COUNTS))),
    ),
    "multivariate_conway_maxwell_poisson": lambda: Case(
        m.multivariate_conway_maxwell_poisson.bind(
            log_rate=[0.2, 0.5], nu=[0.8, 1.2], coupling=[[0, 0.4], [0.4, 0]]
        ),
        lambda x: (
            x @ [0.2, 0.5] - np.log(special.factorial(x)) @ [0.8, 1.2] + 0.4 * np.sqrt(x.prod(1))
        ),
        on_axes((COUNTS, np.ones(60)), (COUNTS, np.ones(60))),
        "score_matching",
        "pseudo_likelihood",
    ),
    "von_mises": lambda: Case(
        m.von_mises.bind(eta=[1.0, -0.5]),
        lambda x: np.cos(x) - 0.5 * np.sin(x),
        on_axes(CIRCLE, scalar=True),
    ),
    "bivariate_von_mises": lambda: Case(
        m.bivariate_von_mises.bind(mean=[0.5, -1.0], concentration=[1.5, 1.0], coupling=0.8),
        lambda x: (
            1.5 * np.cos(x[:, 0] - 0.5)
            + np.cos(x[:, 1] + 1)
            + 0.8 * np.sin(x[:, 0] - 0.5) * np.sin(x[:, 1] + 1)
        ),
        on_axes(even(-np.pi, np.pi, 48), even(-np.pi, np.pi, 48)),
    ),
    "torus_graph": lambda: Case(
        m.torus_graph.bind(
            cosine=FIELD,
            sine=[0.5] * 3,
            cosine_difference=COUPLING,
            sine_difference=OTHER,
            cosine_sum=-OTHER,
        ),
        torus,
        on_axes(CIRCLE, CIRCLE, CIRCLE),
    ),
    "von_mises_fisher": lambda: Case(
        m.von_mises_fisher.bind(eta=[1.0, -0.5, 2.0]),
        lambda x: x[:, 0] - 0.5 * x[:, 1] + 2 * x[:, 2],
        sphere,
    ),
    "bingham": lambda: Case(
        m.bingham(3).bind(off_diagonal=OTHER, diagonal=[-2.0, 1.0]),
        lambda x: (
            -2 * x[:, 0] ** 2 + x[:, 1] ** 2 + 2 * pairs(OTHER, lambda j, k: x[:, j] * x[:, k])
        ),
        sphere,
    ),
    "exponential_random_graph": lambda: Case(
        m.exponential_random_graph("edges", "gwdegree", "gwesp", decay=DECAY)
        .with_dimensions(d=4)
        .bind(edges=-0.5, gwdegree=-0.3, gwesp=0.4),
        random_graph,
        graphs(4),
        "pseudo_likelihood",
    ),
    "quartic": lambda: Case(
        m.quartic.bind(a=0.3, b=1.5, c=-0.2, d=0.5),
        lambda x: np.polyval([-0.5, -0.2, 1.5, 0.3, 0], x),
        on_axes(even(-5, 5, 400), scalar=True),
    ),
    "exponential_family": lambda: Case(
        m.exponential_family(
            {"linear": lambda x: x, "square": lambda x: x**2, "cube": lambda x: x**3},
            un.Interval(-1, 1),
        ).bind(theta=[0.5, -1.0, 1.5]),
        lambda x: np.polyval([1.5, -1.0, 0.5, 0], x),
        on_axes(gauss(-1, 1, 40), scalar=True),
        o.NCE(noise_ratio=50),
    ),
    "independent_components": lambda: Case(
        m.independent_components.bind(weights=MIXING),
        secant,
        on_axes(even(-30, 30, 600), even(-30, 30, 600)),
    ),
    "kernel_exponential_family": lambda: Case(
        m.kernel_exponential_family(CENTRES, bandwidth=0.5, scale=1.5).bind(weights=LIFTS),
        bumps,
        on_axes(even(-12, 12, 400)),
    ),
    "eight_gaussians": lambda: Case(
        m.eight_gaussians.bind(scale=0.2),
        blurred("eight_gaussians", 0.2),
        on_axes(even(-3.5, 3.5, 80), even(-3.5, 3.5, 80)),
        "self_normalized",
        "nce",
    ),
    "two_moons": lambda: Case(
        m.two_moons.bind(scale=0.1),
        blurred("two_moons", 0.1),
        on_axes(even(-2, 3, 100), even(-1.5, 2, 70)),
        "score_matching",
        "nce",
    ),
    "two_spirals": lambda: Case(
        m.two_spirals.bind(scale=0.1),
        blurred("two_spirals", 0.1),
        on_axes(even(-3.2, 3.2, 128), even(-3.2, 3.2, 128)),
        "score_matching",
        "nce",
    ),
}
# These have no parameter to fit by its formula, or no formula.
WITHOUT = {
    "checkerboard",
    "fully_connected_energy",
    "convolutional_energy",
    "noise_conditional_energy",
}


@functools.cache
def case(name):
    return CASES[name]()


@functools.cache
def everything(name):
    """All events of a case, their formula, and log Z by the sum over them."""
    events, log_weights = case(name).nodes()
    values = case(name).formula(**events)
    return events, values + log_weights, special.logsumexp(values + log_weights)


def rows_of(name, seed=0, count=ROWS):
    """Data that follow the truth: events drawn with their probabilities, or the toy's own
    sampler."""
    if name in SAMPLERS:
        return {"x": SAMPLERS[name](np.random.default_rng(seed), count)}
    events, log_mass, log_z = everything(name)
    index = np.random.default_rng(seed).choice(len(log_mass), count, p=np.exp(log_mass - log_z))
    return {variable: value[index] for variable, value in events.items()}

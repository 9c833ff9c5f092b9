"""Score matching, a form for each support: known answers, exact population minima, the linear
solve, the traces."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within
from jax.flatten_util import ravel_pytree
from jax.scipy.special import gammaln
from scipy import special
from targets import ising

import unnorm as un
from unnorm.demo import truncated_gaussian
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.existence.finite_estimate import divergent_parameters
from unnorm.fitting.loss import Loss
from unnorm.fitting.objectives.registry import RatioMatching, ScoreMatching
from unnorm.fitting.objectives.score_matching.exact import FormState
from unnorm.fitting.solvers.least_squares import closed_form_minimum
from unnorm.fitting.solvers.minimize import minimize_newton
from unnorm.numerics.forward_laplacian import forward_laplacian
from unnorm.numerics.hessian_trace import TRACES


def fitted(p, data, objective="score_matching", **options):
    return un.fit(p, data, objective, progress=False, **({"seed": 0} | options))


# -- known answers ---------------------------------------------------------------------------------
@un.density
def fisher(x: un.Sphere["d"], *, eta: un.Real["d"] = 0.0):
    """Von Mises-Fisher, κ = |η|."""
    return eta @ x


@un.density
def counts(y: un.Count, *, log_rate: un.Real = 0.0, nu: un.Real = 1.0):
    """Conway-Maxwell-Poisson."""
    return log_rate * y - nu * gammaln(y + 1)


def poles():
    latitude, longitude = np.radians(un.models.load("polar").to_numpy()).T
    return np.column_stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )


@pytest.mark.slow
def test_case_f_on_the_sphere():
    x = poles()
    eta = fitted(fisher, x).density.parameters["eta"]
    assert np.linalg.norm(eta) == pytest.approx(4.73069, abs=1e-5)
    assert eta == pytest.approx(
        np.linalg.solve(np.eye(3) - x.T @ x / len(x), 2 * x.mean(0)), abs=1e-8
    )


@pytest.mark.slow
def test_case_f_by_maximum_likelihood():
    fit = un.fit(fisher, poles(), "maximum_likelihood", seed=0, progress=False)
    assert fit.converged
    assert np.linalg.norm(fit.density.parameters["eta"]) == pytest.approx(4.31832, abs=1e-5)
    assert fit.log_z.value == pytest.approx(4.693152, abs=1e-6)
    assert fit.log_likelihood(poles()).value == pytest.approx(-68.665, abs=1e-3)


@pytest.mark.slow
def test_log_z_of_a_fit_on_the_circle_is_bessels():
    angles = np.random.default_rng(0).vonmises(0.5, 1.0, 200)
    for objective in ("maximum_likelihood", "score_matching"):
        fit = un.fit(wrapped.fix(double=0.0), angles, objective, seed=0, progress=False)
        kappa = np.hypot(fit.density.parameters["cosine"], fit.density.parameters["sine"])
        assert fit.converged and fit.log_z.value == pytest.approx(
            np.log(2 * np.pi * special.i0(kappa)), abs=1e-8
        )


def test_case_b_of_counts():
    fit = fitted(counts, un.models.load("phd_pubs")["articles"].to_numpy())
    assert fit.converged
    assert fit.summary().estimate.to_numpy() == pytest.approx([-0.137, 0.3043], abs=1e-4)


# -- the population minimum is the truth -----------------------------------------------------------
@un.density
def dirichlet(x: un.Simplex[3], *, concentration: un.Real[3] = 3.0):
    return (concentration - 1) @ jnp.log(x)


@un.density
def tilted(x: un.Simplex[3], *, slope: un.Real = 0.5, bend: un.Real = 0.5, square: un.Real = 0.5):
    """Positive on the whole boundary."""
    return slope * x[0] + bend * x[0] * x[1] + square * x[2] ** 2


@un.density
def wrapped(x: un.Circle, *, cosine: un.Real = 0.3, sine: un.Real = 0.3, double: un.Real = 0.3):
    return cosine * jnp.cos(x) + sine * jnp.sin(x) + double * jnp.cos(2 * x)


@un.density
def bingham(x: un.Sphere[3], *, eta: un.Real[3] = 0.3, squares: un.Real[2] = 0.3):
    return eta @ x + squares @ x[:2] ** 2


@un.density
def two_counts(y: un.Count[2], *, rates: un.Real[2] = 0.1, together: un.Real = -0.1):
    return rates @ y + together * y[0] * y[1] - jnp.sum(gammaln(y + 1))


@un.density
def potts(x: un.Categorical(3)["d"], *, coupling: un.Real[3] = 0.1, field: un.Real["d", 2] = 0.1):
    same = sum(coupling @ (x[i] * x[j]) for i, j in ((0, 1), (1, 2)))
    return same + jnp.sum(field * x[:, :2])


@un.density
def spins(x: un.Spin["d"], *, coupling: un.Symmetric["d"] = 0.0, field: un.Real["d"] = 0.0):
    return field @ x + 0.5 * x @ coupling @ x


@un.density
def network(x: un.Graph["d"], *, edges: un.Real = 0.1, triangles: un.Real = 0.1):
    return edges * jnp.sum(x) / 2 + triangles * jnp.trace(x @ x @ x) / 6


@un.density
def beta(x: un.Interval(0, 1), *, powers: un.Real[2] = 1.0):
    return powers[0] * jnp.log(x) + powers[1] * jnp.log1p(-x)


@un.density
def line_and_bit(x: un.Real, b: un.Binary, *, pull: un.Real = 0.1, field: un.Real = 0.1):
    """A normal whose mean depends on a bit."""
    return -0.5 * x**2 + pull * x * b + field * b


def inner_simplex(m):
    """The midpoints of a triangular grid, through a map that gathers them at the edges (Duffy's
    square to triangle)."""
    nodes, weights = np.polynomial.legendre.leggauss(m)
    u, w = (1 + nodes) / 2, weights / 2
    u, w = u**3 * (10 - 15 * u + 6 * u**2), w * 30 * u**2 * (1 - u) ** 2
    a, b = np.meshgrid(u, u, indexing="ij")
    weight = np.outer(w, w) * (1 - a)
    return np.stack([a, (1 - a) * b, (1 - a) * (1 - b)], -1).reshape(-1, 3), weight.reshape(-1)


def sphere_grid(m):
    nodes, weights = np.polynomial.legendre.leggauss(m)
    angles = np.arange(2 * m) * np.pi / m
    ring = np.sqrt(1 - nodes**2)[:, None]
    height = np.broadcast_to(nodes[:, None], (m, 2 * m))
    points = np.stack([ring * np.cos(angles), ring * np.sin(angles), height], -1)
    return points.reshape(-1, 3), np.repeat(weights, 2 * m)


def uniform(points):
    return np.asarray(points, float), np.ones(len(points))


def two_halves(m):
    """[0, 1] in two parts, gathered at all ends: h has its kink in the middle."""
    nodes, weights = np.polynomial.legendre.leggauss(m)
    u = (1 + nodes) / 2
    half, weight = u**3 * (10 - 15 * u + 6 * u**2) / 2, weights * 7.5 * u**2 * (1 - u) ** 2
    return np.concatenate([half, 0.5 + half]), np.concatenate([weight, weight])


def graphs(d):
    rows, columns = np.triu_indices(d, 1)
    ties = np.array(list(itertools.product([0, 1], repeat=len(rows))))
    matrices = np.zeros((len(ties), d, d))
    matrices[:, rows, columns] = matrices[:, columns, rows] = ties
    return matrices


def real_and_bit():
    x = np.linspace(-10, 11, 4001)
    points = {"x": np.tile(x, 2), "b": np.repeat([0.0, 1.0], len(x))}
    return points, np.ones(2 * len(x))


SPINS = np.array([[0, 0.4, -0.7], [0.4, 0, 0.2], [-0.7, 0.2, 0]])
# name: density, its true parameters, (all points, their weights), options of the objective
POPULATIONS = {
    # weights without a kink, for the nodes to be exact
    "dirichlet": (
        dirichlet,
        {"concentration": [2.0, 3.0, 4.5]},
        lambda: inner_simplex(60),
        {"h": "log1p"},
    ),
    "dirichlet, linear": (
        dirichlet,
        {"concentration": [2.0, 3.0, 4.5]},
        lambda: inner_simplex(60),
        {"h": "linear"},
    ),
    "dirichlet, infinite": (
        dirichlet,
        {"concentration": [0.6, 1.5, 0.8]},
        lambda: inner_simplex(90),
        {"h": "square"},
    ),
    "simplex": (
        tilted,
        {"slope": 1.0, "bend": -2.0, "square": 1.5},
        lambda: inner_simplex(60),
        {"h": "log1p"},
    ),
    "interval": (beta, {"powers": [1.5, 2.5]}, lambda: two_halves(100), {"h": "linear"}),
    "circle": (
        wrapped,
        {"cosine": 1.0, "sine": -0.5, "double": 0.7},
        lambda: uniform(np.linspace(-np.pi, np.pi, 400, endpoint=False)),
        {},
    ),
    "sphere": (
        bingham,
        {"eta": [0.5, -1.0, 1.5], "squares": [1.0, -0.7]},
        lambda: sphere_grid(30),
        {},
    ),
    "counts": (counts, {"log_rate": 0.8, "nu": 0.7}, lambda: uniform(np.arange(80)), {}),
    "two counts": (
        two_counts,
        {"rates": [0.6, 0.2], "together": -0.3},
        lambda: uniform(list(itertools.product(range(30), repeat=2))),
        {},
    ),
    "categories": (
        potts,
        {"coupling": [0.5, -0.3, 0.8], "field": [[0.2, -0.4], [0.6, 0.1], [-0.5, 0.3]]},
        lambda: uniform(list(itertools.product(range(3), repeat=3))),
        {},
    ),
    "categories, concrete": (
        potts,
        {"coupling": [0.5, -0.3, 0.8], "field": [[0.2, -0.4], [0.6, 0.1], [-0.5, 0.3]]},
        lambda: uniform(list(itertools.product(range(3), repeat=3))),
        {"states": "concrete"},
    ),
    "spins, concrete": (
        spins,
        {"coupling": SPINS, "field": [0.3, -0.2, 0.1]},
        lambda: uniform(list(itertools.product([-1, 1], repeat=3))),
        {"states": "concrete"},
    ),
    "spins": (
        spins,
        {"coupling": SPINS, "field": [0.3, -0.2, 0.1]},
        lambda: uniform(list(itertools.product([-1, 1], repeat=3))),
        {},
    ),
    "graphs": (network, {"edges": -0.5, "triangles": 0.4}, lambda: uniform(graphs(4)), {}),
    "real and bit": (line_and_bit, {"pull": 1.2, "field": -0.6}, real_and_bit, {}),
}


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.slow
def test_the_population_minimum_is_the_truth(name, x64):
    """The gradient of E ρ in the parameters, by sums over all states or exact nodes, is 0 at the
    truth."""
    declared, truth, nodes, options = POPULATIONS[name]
    points, measure = nodes()
    points = points if isinstance(points, dict) else {next(iter(declared.variables)): points}
    objective = ScoreMatching(**options)
    p = declared.resolved({key: value.shape[1:] for key, value in points.items()}).bind(**truth)
    log_p = np.asarray(p(points), float)
    weights = measure * np.exp(log_p - log_p.max())
    weights /= weights.sum()
    density = jax.tree.map(jnp.asarray, p.for_jit())
    events = {key: jnp.asarray(value, float) for key, value in points.items()}
    state = objective.prepare(
        density, events, jax.random.key(0)
    )  # scales are some fixed numbers here
    start, unravel = ravel_pytree(density.free())

    def risk(vector):
        moved = density.at(unravel(vector))
        return weights @ jax.vmap(lambda event: objective.loss_i(moved, state, event, None))(events)

    gradient, curvature = (
        jax.jit(jax.grad(risk))(start),
        np.asarray(jax.jit(jax.hessian(risk))(start)),
    )
    # the distance to the minimum, in units of the parameters
    assert np.abs(np.linalg.solve(curvature, gradient)).max() < 1e-6
    assert np.linalg.eigvalsh(curvature).min() > 1e-4


@pytest.mark.slow
def test_data_on_the_boundary_of_the_simplex():
    rng = np.random.default_rng(0)
    data = rng.dirichlet([1.0, 1.0, 1.0], 300)
    data[:40, 0] = 0.0
    data[40:43] = np.eye(3)
    fit = fitted(tilted, data / data.sum(1, keepdims=True))
    assert fit.converged and np.isfinite(fit.summary()[["estimate", "standard_error"]]).all(
        axis=None
    )


def test_data_on_the_bounds_count_with_weight_0():
    p = un.Density(
        lambda x, *, slope: slope * x, {"x": un.Interval(0, 1)}, {"slope": (un.Real, 0.0)}
    )
    x = np.array([0.0, 0.1, 0.4, 0.5, 0.7, 0.9, 1.0])
    fit = fitted(p, x, ScoreMatching(h="linear"))
    distance, sign = np.minimum(x, 1 - x), np.where(x < 0.5, 1.0, -1.0)
    middle = (
        fit.density.parameters["slope"] * distance.sum()
    )  # a kink at the middle: its slope is either's
    assert (
        min(abs(middle + sign.sum()), abs(middle + sign.sum() + 1), abs(middle + sign.sum() + 2))
        < 1e-9
    )


@pytest.mark.parametrize("density", [ising, spins], ids=["binary", "spin"])
@pytest.mark.slow
def test_two_states_are_ratio_matching(density):
    low = density.variables["x"].states[0]
    data = np.where(np.random.default_rng(1).random((80, 3)) < 0.4, low, 1.0)
    ours, theirs = fitted(density, data), fitted(density, data, RatioMatching())
    assert ours.history[-1] == pytest.approx(theirs.history[-1], abs=1e-14)
    assert ours.summary().equals(theirs.summary())


# -- linear in the parameters ----------------------------------------------------------------------
@un.density
def normal(
    x: un.Real["d"], *, field: un.Real["d"] = 0.0, precision: un.Symmetric(diagonal=True)["d"] = 1.0
):
    return field @ x - 0.5 * x @ precision @ x


def both_ways(p, data, objective):
    """The linear solution and Newton's, as vectors."""
    with jax.enable_x64(True):
        data = np.asarray(data, float)
        density = jax.tree.map(jnp.asarray, p.resolved({"x": data.shape[1:]}).for_jit())
        events = {"x": jnp.asarray(data)}
        state = objective.prepare(density, events, jax.random.key(0))
        loss = Loss(objective, density, state, events)
        direct = closed_form_minimum(loss)
        return None if direct is None else direct.vector, minimize_newton(loss).vector


@pytest.mark.parametrize(
    ("p", "data", "h"),
    [
        pytest.param(
            normal, lambda: un.models.load("iris").iloc[:, :4], "min", marks=pytest.mark.slow
        ),
        (
            truncated_gaussian,
            lambda: un.models.load("ozone_wind") / un.models.load("ozone_wind").std(ddof=0),
            "min",
        ),
        (
            truncated_gaussian,
            lambda: un.models.load("ozone_wind") / un.models.load("ozone_wind").std(ddof=0),
            "linear",
        ),
        (fisher, poles, "min"),
        (wrapped, lambda: np.linspace(-3, 2, 30) ** 3 / 27, "min"),
        pytest.param(
            tilted,
            lambda: np.random.default_rng(0).dirichlet([1, 2, 1], 50),
            "min",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["iris", "case C", "case C, linear", "sphere", "circle", "simplex"],
)
def test_the_linear_solution_is_newtons(p, data, h):
    direct, iterated = both_ways(p, data(), ScoreMatching(h=h))
    assert np.abs(direct - iterated).max() < 1e-8


def test_a_gaussian_is_maximum_likelihood():
    data = un.models.load("iris").iloc[:, :4].to_numpy(float)
    fit = fitted(normal, data)
    assert len(fit.history) == 1 and fit.passed  # one solve
    found = fit.density.parameters
    assert np.abs(np.linalg.inv(found["precision"]) - np.cov(data.T, ddof=0)).max() < 1e-8
    assert np.abs(np.linalg.solve(found["precision"], found["field"]) - data.mean(0)).max() < 1e-8


@pytest.mark.parametrize(
    "function",
    [
        lambda x, *, a: -jnp.exp(a) * x**2,
        lambda x, *, a: -(x**2) + a**3 * x,
        lambda x, *, a: -(x**2) + jnp.abs(a) * x,
        lambda x, *, a: -(x**2) - jnp.sin(a) * x**2,
        lambda x, *, a: -(x**2) + jnp.maximum(a, 0.3) * x,
    ],
)
def test_what_is_not_linear_is_found_out(function):
    p = un.Density(function, {"x": un.Real}, {"a": (un.Real, 0.0)})
    assert both_ways(p, np.random.default_rng(0).normal(size=40), ScoreMatching())[0] is None


def test_a_score_that_is_bent_beyond_a_point_is_not_taken_for_a_gaussians():
    """Huber's: quadratic inside, linear outside, where few rows lie; the moments do not tell
    them."""
    p = un.Density(
        lambda x, *, a: -a * jnp.sum(jnp.where(jnp.abs(x) < 4, 0.5 * x**2, 4 * jnp.abs(x) - 8)),
        {"x": un.Real["d"]},
        {"a": (un.Real, 1.0)},
    )
    data = np.random.default_rng(0).normal(size=(3000, 2))
    data[::100] *= 5
    direct, iterated = both_ways(p, data, ScoreMatching())
    assert np.abs(direct - iterated).max() < 1e-8


@pytest.mark.slow
def test_many_parameters_are_solved_at_once():
    """A Gaussian graphical model of 30 variables and 465 parameters."""
    rng = np.random.default_rng(0)
    graph = np.eye(30) + 0.3 * (np.eye(30, k=1) + np.eye(30, k=-1))
    data = rng.multivariate_normal(np.zeros(30), np.linalg.inv(graph), 2000)
    p = un.Density(
        lambda x, *, precision: -0.5 * x @ precision @ x,
        {"x": un.Real["d"]},
        {"precision": (un.Symmetric(diagonal=True)["d"], 1.0)},
    )
    fit = fitted(p, data)
    assert fit.converged and len(fit.history) == 1
    assert (
        np.abs(fit.density.parameters["precision"] - np.linalg.inv(data.T @ data / len(data))).max()
        < 1e-8
    )


# -- second derivatives ----------------------------------------------------------------------------
def curved(x, w):
    hidden = jax.nn.softplus(jnp.tanh(x @ w) * jax.nn.relu(x[0] + 2.0))
    sorted_part = jnp.sum(jnp.sort(x) * jnp.arange(1.0, x.size + 1)) ** 2
    scanned = jax.lax.scan(lambda c, row: (c * jnp.cos(row) + row, None), x[1], x)[0]
    return (
        jax.nn.logsumexp(hidden)
        + x @ jnp.linalg.inv(jnp.eye(x.size) + jnp.outer(x, x)) @ x
        + sorted_part
        + scanned
    )


def test_the_forward_laplacian_is_the_hessians(x64):
    x, w = jnp.array([0.3, -1.0, 2.0, 0.5]), jax.random.normal(jax.random.key(0), (4, 6))
    directions, drift = (
        jax.random.normal(jax.random.key(1), (3, 4)),
        jax.random.normal(jax.random.key(2), (4,)),
    )
    found = jax.jit(lambda x: forward_laplacian(lambda x: curved(x, w), x, directions, drift))(x)
    value, gradient, hessian = jax.tree.map(
        np.asarray,
        jax.jit(lambda x: (curved(x, w), jax.grad(curved)(x, w), jax.hessian(curved)(x, w)))(x),
    )
    along, drift = np.asarray(directions), np.asarray(drift)
    assert found.value == pytest.approx(float(value))
    assert found.slopes == pytest.approx(along @ gradient)
    assert found.second == pytest.approx(np.sum((along @ hessian) * along) + drift @ gradient)


@pytest.mark.parametrize(
    "entrywise",
    [
        jnp.tanh,
        jax.nn.sigmoid,
        jnp.exp,
        jnp.exp2,
        jnp.expm1,
        jnp.log,
        jnp.log1p,
        jnp.sqrt,
        jax.lax.rsqrt,
        jnp.cbrt,
    ]
    + [jnp.square, lambda u: u**5, jnp.sin, jnp.cos, jnp.tan, jax.scipy.special.erf],
)
def test_entries_that_are_bent_alone(entrywise, x64):
    x, w = jnp.array([0.3, 1.0, 0.7]), jax.random.uniform(jax.random.key(0), (3, 4))

    def function(x):
        return jnp.sum(entrywise(x @ w) ** 3)

    found = jax.jit(lambda x: forward_laplacian(function, x, jnp.eye(3), jnp.ones(3)))(x)
    gradient, hessian = jax.tree.map(
        np.asarray, jax.jit(lambda x: (jax.grad(function)(x), jax.hessian(function)(x)))(x)
    )
    assert found.slopes == pytest.approx(gradient)
    assert found.second == pytest.approx(np.trace(hessian) + gradient.sum())


@pytest.mark.parametrize(
    "multiply",
    [
        lambda w, x: w @ x,
        lambda w, x: x @ w.T,
        lambda w, x: (w @ x[:, None])[:, 0],
    ],
)
@pytest.mark.slow
def test_rows_that_pass_through_a_large_matrix_together(multiply, x64):
    rows, w = (
        jax.random.normal(jax.random.key(0), (5, 3)),
        jax.random.normal(jax.random.key(1), (350, 3)) / 10,
    )

    def energy(w, x):
        return jnp.sum(jnp.sin(multiply(w, jnp.tanh(x))) ** 2)

    def by_forward_laplacian(w, x):
        found = forward_laplacian(lambda x: energy(w, x), x, jnp.eye(3), jnp.zeros(3))
        return found.second + sum(slope**2 for slope in found.slopes)

    def by_hessian(w, x):
        return jnp.trace(jax.hessian(energy, 1)(w, x)) + jnp.sum(jax.grad(energy, 1)(w, x) ** 2)

    def seen(
        loss,
        # the loss of one row and of all, its gradients by row and in the mean, a curvature, a row's
        # own w
    ):
        mean = lambda w: jax.vmap(loss, (None, 0))(w, rows).mean()  # noqa: E731
        return (
            loss(w, rows[0]),
            mean(w),
            jax.grad(mean)(w),
            jax.vmap(jax.grad(loss), (None, 0))(w, rows),
            jax.jvp(jax.grad(mean), (w,), (w,))[1],
            jax.vmap(loss)(jnp.stack([w] * 5) * rows[:, :1, None], rows),
        )

    for ours, hessians in zip(seen(by_forward_laplacian), seen(by_hessian), strict=True):
        assert ours == pytest.approx(np.asarray(hessians), rel=1e-9, abs=1e-9)


@pytest.mark.slow
def test_every_trace_has_the_same_loss_and_parameter_gradient(x64):
    p = un.Density(
        lambda x, *, w: -jnp.sum(x**2) - jax.nn.logsumexp(jnp.tanh(x @ w)),
        {"x": un.Real[11]},
        {"w": (un.Real[11, 5], 0.0)},
    ).bind(w=np.random.default_rng(0).normal(size=(11, 5)))
    density, event = jax.tree.map(jnp.asarray, p.for_jit()), {"x": jnp.linspace(-1.0, 2.0, 11)}
    state = ObjectiveState(shared=FormState({"x": None}))
    found = {}
    for trace in ("auto", *TRACES):
        objective = ScoreMatching(trace=trace)
        value, gradient = jax.value_and_grad(
            lambda free, o=objective: o.loss_i(density.at(free), state, event, None)
        )(density.free())
        found[trace] = np.append(gradient["w"], value)
    for trace in found:
        assert found[trace] == pytest.approx(found["jacobian"], abs=1e-10)


# -- known defects of others: a Gaussian's precision -----------------------------------------------
@pytest.mark.parametrize("d", [1, 3, 10])
@pytest.mark.parametrize(
    "objective",
    [
        ScoreMatching(),
        un.objectives.SlicedScoreMatching(),
        un.objectives.SlicedScoreMatching(variance_reduction=False),
        un.objectives.FiniteDifferenceScoreMatching(),
        un.objectives.DenoisingScoreMatching(sigma=0.3),
    ],
    ids=["exact", "sliced", "sliced squares", "differences", "denoising"],
)
@pytest.mark.slow
def test_the_precision_of_a_gaussian_is_found(objective, d):
    covariance = 0.5 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d))) * np.sqrt(
        np.outer(*[1 + np.arange(d)] * 2)
    )
    data = np.random.default_rng(d).multivariate_normal(np.zeros(d), covariance, 2000)
    smoothed = covariance + (
        0.09 if isinstance(objective, un.objectives.DenoisingScoreMatching) else 0
    ) * np.eye(d)
    p = un.Density(
        lambda x, *, precision: -0.5 * x @ precision @ x,
        {"x": un.Real["d"]},
        {"precision": (un.Symmetric(diagonal=True)["d"], 1.0)},
    )
    summary = fitted(p, data, objective).summary()
    assert_within(
        summary.estimate, np.linalg.inv(smoothed)[np.triu_indices(d)], summary.standard_error
    )
    assert np.all(summary.standard_error < 0.2)


def test_a_score_that_is_no_number_is_an_error():
    """√|x| at 0 is finite, and its derivative is not: the loss is no 0.1."""
    p = un.Density(
        lambda x, *, a: -a * jnp.sqrt(jnp.abs(x)) - x**2, {"x": un.Real}, {"a": (un.Real, 1.0)}
    )
    with pytest.raises(ValueError, match="loss of ScoreMatching is nan at the start"):
        fitted(p, np.array([0.5, 0.0, 1.0]))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e5, 0.1, 1e-3])
def test_units_of_the_data_do_not_matter(scale):
    """A normal in centre and precision is not linear; its loss is in units of 1/x²."""
    p = un.Density(
        lambda x, *, centre, precision: -0.5 * precision * (x - centre) ** 2,
        {"x": un.Real},
        {"centre": (un.Real, 0.0), "precision": (un.Positive, 1.0)},
    )
    data = scale * np.random.default_rng(0).normal(3.0, 1.0, size=300)
    fit = fitted(p, data)
    assert fit.converged, fit.findings
    assert fit.summary().estimate.to_numpy() == pytest.approx(
        [data.mean(), 1 / data.var()], rel=1e-8
    )


def test_where_the_loss_curves_down_nothing_is_said_of_limits():
    """Before its minimum, λ²s²/2 − λ in log λ falls on one side alone: that is no proof of a
    runaway."""
    p = un.Density(
        lambda x, *, centre, precision: -0.5 * precision * (x - centre) ** 2,
        {"x": un.Real},
        {"centre": (un.Real, 0.0), "precision": (un.Positive, 1.0)},
    )
    with jax.enable_x64(True):
        density, events = (
            jax.tree.map(jnp.asarray, p.for_jit()),
            {"x": jnp.array([2e-3, 3e-3, 4e-3])},
        )
        state = ScoreMatching().prepare(density, events, jax.random.key(0))
        assert not divergent_parameters(Loss(ScoreMatching(), density, state, events)).any()

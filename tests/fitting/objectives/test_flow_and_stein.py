"""Minimum probability flow and minimum kernel Stein discrepancy against their definitions, and
their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from targets import ising, pair_features

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.fitting.objectives.registry import ProbabilityFlow, SteinDiscrepancy

COUPLING, FIELD = (
    np.array([[0, 1.0, -0.7], [1.0, 0, 0.5], [-0.7, 0.5, 0]]),
    np.array([-0.3, 0.2, 0.1]),
)
TRUE = ising.bind(coupling=COUPLING, field=FIELD)
STATES = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
FEATURES = pair_features(STATES)
THETA = np.concatenate([COUPLING[np.triu_indices(3, 1)], FIELD])


def fitted(p, data, objective, **options):
    return un.fit(p, data, objective, **({"seed": 0, "progress": False} | options))


def losses(objective, p, events):
    with jax.enable_x64(True):
        density, events = cast((p.for_jit(), events), np.float64)
        state = objective.prepare(density, events, jax.random.key(0))
        return np.asarray(jax.jit(lambda p: objective.losses(p, state, events))(density))


# -- minimum probability flow ----------------------------------------------------------------------
def flow(theta):
    """Σ_j exp(½ (log p̃(x_j) − log p̃(x_i))) over the three flips of every state, by the table of
    states."""
    log_density = FEATURES @ theta
    flips = (STATES[:, None] != STATES[None]).sum(-1) == 1
    return (np.exp(0.5 * (log_density[None] - log_density[:, None])) * flips).sum(1)


def test_the_flow_is_that_of_its_definition():
    assert losses(ProbabilityFlow(), TRUE, {"x": STATES}) == pytest.approx(flow(THETA), rel=1e-12)


def test_the_number_of_neighbours():
    """At parameters of zero each neighbour counts one: other categories of an entry, ties of a
    graph."""
    potts = un.Density(
        lambda x, *, a: a * x.sum(), {"x": un.Categorical(3)[2]}, {"a": (un.Real, 0.0)}
    )
    graph = un.Density(lambda g, *, a: a * g.sum(), {"g": un.Graph[4]}, {"a": (un.Real, 0.0)})
    assert losses(ProbabilityFlow(), potts, {"x": np.array([[0.0, 2.0], [1.0, 1.0]])}).tolist() == [
        4.0,
        4.0,
    ]
    assert losses(ProbabilityFlow(), graph, {"g": np.zeros((1, 4, 4))}).tolist() == [6.0]


def test_the_truth_and_a_pseudo_true_value_are_found():
    """Weights make the sample the population: of the model itself, and of another law (by scipy on
    the table)."""
    own = np.exp(FEATURES @ THETA)
    found = fitted(ising, STATES, ProbabilityFlow(), weights=own)
    assert found.converged and found.summary().estimate.to_numpy() == pytest.approx(THETA, abs=1e-8)
    other = own * np.exp(1.5 * STATES.prod(1))
    truth = minimize(lambda theta: other @ flow(theta) / other.sum(), THETA, tol=1e-12).x
    found = fitted(ising, STATES, ProbabilityFlow(), weights=other).summary().estimate.to_numpy()
    assert found == pytest.approx(truth, abs=1e-5) and np.abs(found - THETA).max() > 0.1


def test_the_flow_is_convex_in_an_exponential_family(x64):
    """Its Hessian is positive definite far from the data's own parameters too."""
    density = cast(TRUE.for_jit(), np.float64)
    state = ProbabilityFlow().prepare(density, {}, jax.random.key(0))

    @jax.jit
    def curvature(theta):
        at = density.at({"coupling": theta[:3], "field": theta[3:]})
        return ProbabilityFlow().losses(at, state, {"x": jnp.asarray(STATES)}).mean()

    for theta in 3 * np.random.default_rng(0).normal(size=(5, 6)):
        assert (
            np.linalg.eigvalsh(np.asarray(jax.hessian(curvature)(jnp.asarray(theta)))).min() > 1e-6
        )


@pytest.mark.slow
def test_rochdale_near_maximum_likelihood(rochdale):
    fit = fitted(ising, un.models.load("rochdale"), "probability_flow")
    own, exact = fit.summary(), rochdale.summary()
    assert fit.passed
    assert np.all(np.abs(own.estimate - exact.estimate) < exact.standard_error)
    assert (own.standard_error / exact.standard_error).between(0.8, 1.2).all()


@pytest.mark.slow
@pytest.mark.parametrize("more", [0.0, 1.5])
def test_the_intervals_of_the_flow_cover(more):
    """200 data sets from the model, and from a law with an interaction of three, about its
    pseudo-true value."""
    weights = np.exp(FEATURES @ THETA + more * STATES.prod(1))
    truth = fitted(ising, STATES, ProbabilityFlow(), weights=weights).summary().estimate
    rng, covered = np.random.default_rng(0), []
    for _ in range(200):
        data = STATES[rng.choice(8, 600, p=weights / weights.sum())]
        table = fitted(ising, data, ProbabilityFlow()).summary()
        covered.append((table.lower <= truth) & (truth <= table.upper))
    share = np.mean(covered, 0)
    assert 0.93 < share.mean() < 0.97 and np.all(share > 0.89)


# -- minimum kernel Stein discrepancy --------------------------------------------------------------
@un.density
def gaussian(
    x: un.Real["d"], *, m: un.Real["d"] = 0.0, precision: un.Symmetric(diagonal=True)["d"] = 1.0
):
    return m @ x - 0.5 * x @ precision @ x


@un.density
def located(x: un.Real, *, m: un.Real = 0.0):
    return m * x - 0.5 * x**2


def kernel(x, y):
    return (1 + jnp.sum((x - y) ** 2)) ** -0.5


def stein_pairs(points, score):
    """u(z_i, z_j) of all pairs by automatic differentiation of the kernel."""

    def u(x, y):
        mixed = jnp.trace(jax.jacfwd(jax.grad(kernel, 1), 0)(x, y))
        return (score(x) @ score(y) * kernel(x, y) + score(x) @ jax.grad(kernel, 1)(x, y)
                + score(y) @ jax.grad(kernel, 0)(x, y) + mixed)  # fmt: skip

    return np.asarray(jax.jit(jax.vmap(lambda x: jax.vmap(lambda y: u(x, y))(points)))(points))


def test_the_discrepancy_is_that_of_its_definition(x64):
    data = np.random.default_rng(0).normal(size=(12, 2)) * [1.0, 30.0]
    p, scale = gaussian.bind(m=[0.3, -0.1], precision=[[1.2, 0.01], [0.01, 0.002]]), data.std(0)
    precision = np.array([[1.2, 0.01], [0.01, 0.002]])
    pairs = stein_pairs(
        jnp.asarray(data / scale),
        lambda z: scale * (np.array([0.3, -0.1]) - precision @ (z * scale)),
    )
    expected = (pairs.sum(1) - np.diag(pairs)) / 11
    assert losses(SteinDiscrepancy(), p, {"x": data}) == pytest.approx(expected, rel=1e-9)


def located_by_hand(data):
    """m = Σ_{i≠j} (z_i k_ij + ∇_j k terms) / Σ k_ij: the loss is quadratic in m; and its projected
    standard error."""
    x, s = data, data.std()
    gap = (x[:, None] - x[None]) / s
    k = (1 + gap**2) ** -0.5 * (1 - np.eye(len(x)))
    # u = s² (m − x_i)(m − x_j) k + s (m − x_i) g_ij − s (m − x_j) g_ij + ..., g_ij = gap k³: linear
    # terms in m cancel
    m = (k @ x).sum() / k.sum()
    psi = 2 * (s**2 * (k * (2 * m - x[:, None] - x[None])).sum(1)) / (len(x) - 1)
    h = 2 * s**2 * k.sum() / len(x) / (len(x) - 1)
    return m, psi.std() / h / np.sqrt(len(x))


@pytest.mark.slow
def test_the_estimate_and_its_error_by_hand():
    data = 0.5 + 1.3 * np.random.default_rng(1).standard_t(4, size=60)
    fit = fitted(located, data, SteinDiscrepancy())
    m, error = located_by_hand(data)
    assert fit.passed and fit.summary().estimate["m"] == pytest.approx(m, rel=1e-9)
    assert fit.summary().standard_error["m"] == pytest.approx(error, rel=1e-6)


@pytest.mark.slow
def test_the_errors_of_a_u_statistic_are_those_of_simulation():
    """300 data sets of 300 rows from a Gaussian: reported against simulated spread."""
    factor, rng = np.linalg.cholesky([[1.0, 0.4], [0.4, 0.8]]), np.random.default_rng(0)
    estimates, errors = [], []
    for _ in range(300):
        table = fitted(gaussian, rng.normal(size=(300, 2)) @ factor.T, SteinDiscrepancy()).summary()
        estimates.append(table.estimate)
        errors.append(table.standard_error)
    ratio = np.mean(errors, 0) / np.std(estimates, 0, ddof=1)
    assert np.all((ratio > 0.9) & (ratio < 1.1)), ratio


def test_what_the_discrepancy_does_not_serve():
    positive = un.Density(lambda x, *, r: -r * x, {"x": un.Positive}, {"r": (un.Positive, 1.0)})
    with pytest.raises(
        ValueError,
        match=r"no boundary terms, and x is Positive; expected Real; use .*ScoreMatching",
    ):
        fitted(positive, [1.0, 2.0], SteinDiscrepancy())
    with pytest.raises(
        ValueError, match=r"x is Binary\['d'\]; expected Real; use un.objectives.PseudoLikelihood"
    ):
        fitted(ising, STATES, SteinDiscrepancy())
    with pytest.raises(ValueError, match=r"takes no sampling weights or clusters"):
        fitted(located, [1.0, 2.0], SteinDiscrepancy(), weights=[0.5, 1.5])
    with pytest.raises(ValueError, match=r"never changes; SteinDiscrepancy expected some spread"):
        fitted(located, [1.0, 1.0], SteinDiscrepancy())
    with pytest.raises(ValueError, match=r"data has 5001 rows, .* expected at most 5000"):
        fitted(located, np.arange(5001.0), SteinDiscrepancy())
    count = un.Density(lambda x, *, a: -a * x, {"x": un.Count}, {"a": (un.Positive, 1.0)})
    with pytest.raises(
        ValueError, match=r"ProbabilityFlow needs entries with finitely many states, and x is Count"
    ):
        fitted(count, [1, 2], ProbabilityFlow())

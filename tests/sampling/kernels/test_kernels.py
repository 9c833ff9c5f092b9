"""Every kernel against exact answers, its tolerance its own Monte Carlo error."""

import itertools

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within
from targets import CONTINUOUS, enumerated, error_of_mean, ising, spins

import unnorm as un
from unnorm.core.method import method
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.base import metropolis, tree_where
from unnorm.sampling.kernels.random_walk import RandomWalkMH, RandomWalkState
from unnorm.sampling.kernels.registry import KERNELS

COUPLING = np.array(
    [[0, 1.2, -0.7, 0], [1.2, 0, 0.4, -1.0], [-0.7, 0.4, 0, 0.8], [0, -1.0, 0.8, 0]]
)
FIELD = np.array([0.3, -0.5, 0.2, -0.1])
EXACT = {
    name: KERNELS[name]() for name in ("random_walk_mh", "mala", "hmc", "nuts", "barker", "slice")
}


def check_moments(values, mean, variance, relative=0.15):
    """Means and variances within 4 Monte Carlo errors, which must themselves be small."""
    spread, error = np.sqrt(variance), error_of_mean(values)
    assert np.all(error < relative * spread)
    assert_within(values.mean((0, 1)), mean, error)
    squares = (values - mean) ** 2
    assert_within(squares.mean((0, 1)), variance, error_of_mean(squares))


@pytest.mark.parametrize(
    "target", [pytest.param(t, marks=[pytest.mark.slow] * (t != "banana")) for t in CONTINUOUS]
)
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.slow
def test_exact_kernels_recover_moments(name, target):
    known = CONTINUOUS[target]
    draws = un.sample(known.density, EXACT[name], draws=5000, warmup=1000, seed=3, progress=False)
    check_moments(draws.posterior["x"].values.astype(float), known.mean, known.variance)


@pytest.mark.parametrize("step_size", [0.1, 0.6])
def test_ula_recovers_its_own_biased_variance(step_size):
    precision = np.array([0.5, 1.0, 2.0])
    p = un.Density(lambda x: -0.5 * jnp.sum(precision * x**2), {"x": un.Real[3]})
    draws = un.sample(p, un.kernels.ULA(step_size=step_size), draws=20_000, seed=1, progress=False)
    check_moments(
        draws.posterior["x"].values, np.zeros(3), 1 / (precision * (1 - step_size * precision / 2))
    )
    assert "stationary" in draws.attrs["biased"] or "variance" in draws.attrs["biased"]
    assert not un.diagnose(draws).passed


@pytest.mark.parametrize("model", [ising, spins], ids=["binary", "spin"])
def test_gibbs_recovers_all_first_and_second_moments(model):
    p = model.bind(coupling=COUPLING, field=FIELD)
    states, probabilities = enumerated(p)
    draws = (
        un.sample(p, "gibbs", draws=10_000, warmup=100, seed=2, progress=False)
        .posterior["x"]
        .values.astype(float)
    )
    products = draws[..., :, None] * draws[..., None, :]
    exact = np.einsum("s,si,sj->ij", probabilities, states, states)
    upper = np.triu_indices(4, 1)
    assert_within(draws.mean((0, 1)), probabilities @ states, error_of_mean(draws))
    assert_within(
        products.mean((0, 1))[upper], exact[upper], error_of_mean(products[..., upper[0], upper[1]])
    )


def test_from_blackjax_takes_any_of_its_samplers():
    known = CONTINUOUS["gaussian"]
    kernel = un.kernels.FromBlackJAX(lambda logdensity: blackjax.barker_proposal(logdensity, 0.8))
    draws = un.sample(known.density, kernel, draws=5000, seed=0, progress=False)
    check_moments(draws.posterior["x"].values, known.mean, known.variance)
    assert draws.sample_stats["acceptance_rate"].mean() > 0.2


@method
class ReversedRatio(RandomWalkMH):
    """A deliberately wrong kernel: the Metropolis ratio upside down."""

    def build(self, target, tuning):
        def init(position, key=None):
            return RandomWalkState(position, target.log_density(position))

        def step(noise, state):
            walk, log_uniform = noise
            proposal = init(
                jax.tree.map(lambda x, z: x + tuning["step_size"] * z, state.position, walk)
            )
            info = metropolis(
                state.logdensity - proposal.logdensity + 0.0, log_uniform, proposal.logdensity
            )
            return tree_where(info.is_accepted, proposal, state), info

        return blackjax.base.SamplingAlgorithm(init, step)


@method
class MissingJacobian(RandomWalkMH):
    """A deliberately wrong kernel: the log-density in unconstrained coordinates without log |det
    J|."""

    def build(self, target, tuning):
        return super().build(target.without_jacobian(), tuning)


@pytest.mark.parametrize(
    "kernel",
    [ReversedRatio(step_size=0.3), MissingJacobian(step_size=1.5)],
    ids=lambda k: type(k).__name__,
)
def test_the_tests_catch_wrong_kernels(kernel):
    known = CONTINUOUS["bounded"]
    draws = (
        un.sample(known.density, kernel, draws=5000, seed=0, progress=False)
        .posterior["x"]
        .values.astype(float)
    )
    with pytest.raises(AssertionError):
        check_moments(draws, known.mean, known.variance, relative=np.inf)


def test_target_has_the_density_of_the_unconstrained_coordinates():
    p = CONTINUOUS["bounded"].density
    target, u = Unconstrained(p.for_jit()), np.linspace(-12, 12, 20_001)
    density = np.exp(np.asarray(jax.vmap(lambda v: target.log_density({"x": v}))(u), float))
    assert np.trapezoid(density, u) == pytest.approx(1 / 12, rel=1e-5)  # B(2, 3)


def test_kernels_of_equal_options_are_different_structures():
    """JAX compares dataclass structures without their class: one kernel's compiled step would serve
    another."""
    structures = [
        jax.tree.structure(KERNELS[name](step_size=0.3))
        for name in ("random_walk_mh", "ula", "mala")
    ]
    assert len({*map(str, structures)}) == 3
    assert all(one != other for one, other in itertools.combinations(structures, 2))


def test_gibbs_finds_out_which_sites_interact():
    from unnorm.interactions.coloring import find_colouring

    def colours(function, support):
        found = find_colouring(Unconstrained(un.Density(function, {"x": support}).for_jit()))
        return found and (found.count, found.linear)

    assert colours(
        lambda x: 0.4 * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1))), un.Spin[6, 6]
    ) == (2, True)
    assert colours(lambda x: x[0] * x[1] * x[2] + x.sum(), un.Binary[8]) == (3, True)
    assert colours(lambda x: jnp.sum(x[:-1] * x[1:]) - 0.3 * jnp.sum(x**4), un.Binary[8]) == (
        2,
        False,
    )  # not linear
    assert colours(lambda x: x.sum() ** 2, un.Binary[8]) is None  # all interact
    # A function of comparisons has no gradient: the joint moves see the interaction, and nothing is
    # coloured.
    assert colours(lambda x: jnp.where((x[0] == 1) & (x[5] == 1), 2.0, 0.0), un.Binary[8]) is None


@pytest.mark.parametrize("scan", ["systematic", pytest.param("random", marks=pytest.mark.slow)])
def test_colours_that_need_trials_are_exact_too(scan):
    p = un.Density(
        lambda x: jnp.sum(x[:-1] * x[1:]) - 0.3 * jnp.sum((x + 0.5) ** 3), {"x": un.Binary[5]}
    )
    states, probabilities = enumerated(p)
    draws = un.sample(
        p, un.kernels.Gibbs(scan=scan), draws=5000, warmup=100, seed=2, progress=False
    )
    x = draws.posterior["x"].values.astype(float)
    assert_within(x.mean((0, 1)), probabilities @ states, error_of_mean(x))

"""Contrastive divergence in full: exact fixed points and errors by enumeration, options, the health
of its chains.

Case A and C of the known answers; `test_fit_simulated.py` holds persistent chains and MALA at k =
10.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_site import OneSite
from targets import CASE_C, enumerated, ising, pair_features

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.demo import truncated_gaussian
from unnorm.fitting.chain_kernels import prepare_kernel
from unnorm.fitting.objectives.contrastive_divergence import covariance
from unnorm.fitting.objectives.registry import ContrastiveDivergence

NORMAL = un.Density(
    lambda x, *, precision: -0.5 * precision * x**2,
    {"x": un.Real},
    {"precision": (un.Positive, 1.0)},
)
ROWS = np.random.default_rng(0).normal(size=400)


def fitted(objective, p=NORMAL, data=ROWS, **options):
    return un.fit(p, data, objective, seed=0, progress=False, **options)


def told(fit, *words):
    return any(all(word in f.what + f.advice for word in words) for f in fit.findings)


# -- case A: what CD-k with systematic Gibbs is, by sums over all 2^8 states -----------------------
def redrawn(site, states, values, log_density):
    """E[values(x') | x], x' after one site was redrawn from its conditional."""
    bit = 1 << (states.shape[1] - 1 - site)
    low, high = (np.arange(len(states)) & ~bit), (np.arange(len(states)) | bit)
    share = jax.nn.sigmoid(log_density[high] - log_density[low])[:, None]
    return (1 - share) * values[low] + share * values[high]


def after_sweep(states, values, log_density):
    """After a sweep of Gibbs in column order: the last site that is redrawn is averaged first."""
    for site in reversed(range(states.shape[1])):
        values = redrawn(site, states, values, log_density)
    return values


def after_one_site(states, values, log_density):
    """After one site was redrawn, chosen at random."""
    sites = range(states.shape[1])
    return sum(redrawn(site, states, values, log_density) for site in sites) / len(sites)


def fixed_points(shares, states, start, after=after_sweep, k=1):
    """The roots of Σ share ψ for many samples (samples, parameters), by Newton's method; NaN where
    there is none."""

    def slope(free, share):
        reached = features
        for _ in range(k):
            reached = after(states, reached, features @ free)
        return share @ (features - reached)

    @jax.jit
    def solve(shares):
        def one(share):  # not all samples at once, for the memory of their Jacobians
            def step(_, free):
                return free - jnp.linalg.solve(jax.jacfwd(slope)(free, share), slope(free, share))

            found = jax.lax.fori_loop(0, 15, step, start)
            return found, jnp.abs(slope(found, share)).max()

        return jax.lax.map(one, shares)

    with jax.enable_x64(True):
        features, start = jnp.asarray(pair_features(states)), jnp.asarray(start)
        found, off = solve(jnp.asarray(shares))
        return np.where((np.asarray(off) < 1e-9)[:, None], found, np.nan)


def weights_at(states, free):
    weights = np.exp(pair_features(states) @ free)
    return weights / weights.sum()


@pytest.mark.slow
@pytest.mark.parametrize(("k", "most"), [(1, 0.0476), (2, 0.0084), (5, 0.0005)])
def test_rochdale_lies_as_near_to_maximum_likelihood_as_the_exact_fixed_points(k, most, rochdale):
    data, truth = un.models.load("rochdale").to_numpy(float), rochdale.summary()
    states, _ = enumerated(rochdale.density)
    shares = (states[:, None] == data).all(-1).mean(1)
    model_based = np.sqrt(np.diagonal(rochdale.model_based_covariance))
    (exact,) = fixed_points(shares[None], states, truth.estimate.to_numpy(), k=k)
    assert np.max(np.abs(exact - truth.estimate) / model_based) == pytest.approx(most, abs=6e-5)
    fit = fitted(ContrastiveDivergence(k=k), ising, un.models.load("rochdale"))
    noise = fit.monte_carlo_error
    assert fit.passed and np.all(noise < 0.06 * truth.standard_error), fit.findings
    assert np.all(np.abs(fit.summary().estimate - truth.estimate) <= most * model_based + 4 * noise)
    assert np.all(np.abs(fit.summary().estimate - exact) <= 4 * noise)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "after"), [(OneSite(), after_one_site), (un.kernels.Gibbs(), after_sweep)]
)
def test_the_covariance_of_cd_1_is_the_spread_of_its_fits_and_the_usual_ones_are_not(
    kernel, after, rochdale
):
    """Exact CD-1 fits of 300 samples from the model: no noise of chains blurs their spread."""
    n, rng, density = 665, np.random.default_rng(0), rochdale.density
    truth, (states, _) = rochdale.summary().estimate.to_numpy(), enumerated(density)
    features, weights = pair_features(states), weights_at(states, truth)
    fits = fixed_points(rng.multinomial(n, weights, size=300) / n, states, truth, after)
    fits = fits[~np.isnan(fits).any(1)]
    assert len(fits) > 280  # an empty cell of a pair's table has no fit
    spread = (
        np.diff(np.quantile(fits, [0.1587, 0.8413], axis=0), axis=0)[0] / 2
    )  # the few far fits left out

    rows = np.repeat(states, np.round(10 * n * weights).astype(int), 0)
    objective = ContrastiveDivergence(k=1, kernel=kernel)
    with jax.enable_x64(True):
        bare, events = cast(density.for_jit(), jnp.float64), {"x": jnp.asarray(rows, float)}
        state = objective.prepare(bare, events, jax.random.key(0))
        found = covariance.covariance(objective, bare, state, events, jax.random.key(1))
        once = np.asarray(after(states, features, jnp.asarray(features @ truth)))
    ratio = np.sqrt(np.diagonal(found.total) * len(rows) / n) / spread
    print("implemented", np.quantile(ratio, [0, 0.5, 1]))
    assert np.median(ratio) == pytest.approx(1, abs=0.06) and np.all(np.abs(ratio - 1) < 0.25)

    psi, centred = features - once, features - weights @ features
    second = (
        features.T * weights
    ) @ features  # of the negatives too, for a step leaves the density invariant
    curvature, fisher, meat = (
        (psi.T * weights) @ centred,
        (centred.T * weights) @ centred,
        (psi.T * weights) @ psi,
    )

    def errors(bread, meat):
        return (
            np.sqrt(np.diagonal(np.linalg.solve(bread, np.linalg.solve(bread, meat).T)) / n)
            / spread
        )

    in_place, one_negative = (
        errors(fisher, meat),
        errors(curvature, meat + second - (once.T * weights) @ once),
    )
    inverse = np.sqrt(np.diagonal(np.linalg.inv(curvature)) / n) / spread
    for name, wrong in {
        "Fisher": in_place,
        "inverse": inverse,
        "one negative": one_negative,
    }.items():
        print(name, np.quantile(wrong, [0, 0.5, 1]))
    assert np.median(errors(curvature, meat)) == pytest.approx(1, abs=0.06)
    assert np.all(one_negative > 1.2)
    if (
        after is after_one_site
    ):  # a whole sweep of these 8 sites is nearly an independent draw: there they are right
        assert np.all(in_place < 0.4) and np.all(inverse > 1.6)


# -- kernels ---------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_kernel_sees_interactions_that_the_start_switches_off():
    chain = un.Density(
        lambda x, *, coupling: coupling * jnp.sum(x[1:] * x[:-1]),
        {"x": un.Spin[9]},
        {"coupling": (un.Real, 0.0)},
    )
    with jax.enable_x64(True):
        kernel = prepare_kernel(un.kernels.Gibbs(), cast(chain.for_jit(), jnp.float64))
    assert kernel.colouring.count == 2  # every other site, not all of them at once


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["gibbs_with_gradients", "discrete_langevin", "block_gibbs"])
def test_discrete_kernels_serve(kernel):
    pair = un.Density(
        lambda v, h, *, coupling: coupling * v.sum() * h.sum(),
        {"v": un.Binary[2], "h": un.Binary[2]},
        {"coupling": (un.Real, 0.0)},
    )
    rng = np.random.default_rng(0)
    data = {"v": rng.integers(0, 2, (300, 2)), "h": rng.integers(0, 2, (300, 2))}
    exact = fitted("maximum_likelihood", pair, data).summary()
    fit = fitted(ContrastiveDivergence(k=3, persistent=True, kernel=kernel), pair, data)
    assert fit.passed, fit.findings
    assert (
        abs(fit.summary().estimate["coupling"] - exact.estimate["coupling"])
        <= 4 * fit.monte_carlo_error["coupling"]
    )


# -- kernels that do not serve, and what is said ---------------------------------------------------
@pytest.mark.slow
def test_cd_1_with_mala_lies_far_from_maximum_likelihood_and_is_flagged(ozone):
    fit = fitted(ContrastiveDivergence(k=1, kernel=un.kernels.MALA()), truncated_gaussian, ozone)
    off = np.abs(fit.summary().estimate - CASE_C.estimate) / CASE_C.standard_error
    print("CD-1 MALA", off.max())
    assert off.max() > 1 and not fit.passed
    assert told(fit, "fixed point of CD-1 with MALA lies about", "its steps hardly move")


@pytest.mark.slow
def test_a_large_step_of_ula_biases_persistent_chains_and_is_flagged():
    """1 / (p (1 − εp/2)) is the data's mean square."""
    fit = fitted(ContrastiveDivergence(persistent=True, kernel=un.kernels.ULA(step_size=0.4)))
    square = np.mean(ROWS**2)
    settled = (1 - np.sqrt(1 - 2 * 0.4 / square)) / 0.4
    error = np.sqrt(2 / len(ROWS)) / square
    estimate = fit.summary().estimate["precision"]
    assert abs(estimate - settled) < 0.25 * error < 0.1 * abs(settled - 1 / square)
    assert not fit.passed and told(fit, "does not leave the density invariant", "exact kernel")


# -- chains that start anew, noise -----------------------------------------------------------------
def test_noise_is_annealed_geometrically_and_the_target_says_it():
    objective = ContrastiveDivergence(noise=(0.8, 0.2))
    found = [float(objective._deviation(jnp.asarray(share))) for share in (0.0, 0.5, 1.0, 2.0)]
    assert found == pytest.approx([0.8, 0.4, 0.2, 0.2], rel=1e-6)
    assert "smoothed by normal noise of standard deviation 0.2" in objective.target
    assert (
        "a share of 0.05 of the chains"
        in ContrastiveDivergence(persistent=True, reinitialise=0.05).target
    )


@pytest.mark.slow
def test_noise_fits_the_smoothed_data():
    fit = fitted(ContrastiveDivergence(k=5, noise=0.5))
    truth = 1 / (np.mean(ROWS**2) + 0.25)
    assert abs(fit.summary().estimate["precision"] - truth) < 0.25 * truth * np.sqrt(2 / len(ROWS))
    assert fit.covariance is None and told(fit, "noise was added to the data", "bootstrap")
    assert told(fit, "noise was added") and "smoothed" in fit.target


@pytest.mark.slow
def test_a_few_chains_that_start_anew_hardly_move_the_fit():
    fit = fitted(ContrastiveDivergence(k=5, persistent=True, reinitialise=0.05))
    truth = 1 / np.mean(ROWS**2)
    assert abs(fit.summary().estimate["precision"] - truth) < 0.25 * truth * np.sqrt(2 / len(ROWS))
    assert fit.covariance is None and told(fit, "some chains restart", "bootstrap")


# -- health ----------------------------------------------------------------------------------------
@pytest.mark.slow
def test_chains_that_do_not_mix_are_said():
    fit = fitted(
        ContrastiveDivergence(
            persistent=True, chains=50, kernel=un.kernels.RandomWalkMH(step_size=0.02)
        ),
        steps=400,
    )
    assert not fit.passed and told(fit, "persistent chains do not mix", "R-hat", "reinitialise")


def test_an_energy_that_is_nan_is_a_sentence():
    p = un.Density(
        lambda x, *, precision: -0.5 * precision * x**2 + 0 * jnp.sqrt(6 - jnp.abs(x)),
        {"x": un.Real},
        {"precision": (un.Positive, 0.1)},
    )
    with pytest.raises(
        ValueError,
        match=r"The log-density of <lambda> is NaN at points that ULA reached .* correct the",
    ):
        fitted(ContrastiveDivergence(k=20, kernel=un.kernels.ULA(step_size=1.0)), p, steps=400)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reinitialise": 0.1}, ["reinitialise is 0.1", "persistent=True"]),
        (
            {"reinitialise": 1.5, "persistent": True},
            ["reinitialise is 1.5", "at least 0 and below 1"],
        ),
        (
            {"reinitialise": "a", "persistent": True},
            ["reinitialise is 'a'", "at least 0 and below 1"],
        ),
        ({"noise": -1.0}, ["noise is -1.0", "positive"]),
        ({"noise": (1.0, 0.5, 0.1)}, ["noise is (1.0, 0.5, 0.1)", "(start, end)"]),
        ({"kernel": "gibbs"}, ["Gibbs cannot move x", "HMC"]),
    ],
)
def test_bad_options_are_one_sentence(options, words):
    with pytest.raises(ValueError) as error:
        fitted(ContrastiveDivergence(**options))
    assert all(word in str(error.value) for word in words), error.value


def test_noise_is_for_continuous_variables():
    p = un.Density(lambda x, *, field: field * x, {"x": un.Binary}, {"field": (un.Real, 0.0)})
    with pytest.raises(
        ValueError, match="noise was given and x is Binary; expected continuous variables"
    ):
        fitted(ContrastiveDivergence(noise=0.1), p, [0, 1, 1])

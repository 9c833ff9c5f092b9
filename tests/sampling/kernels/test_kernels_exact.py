"""Every kernel of the registry against exact moments, on every target that it serves."""

import functools

import numpy as np
import pytest
from exact_targets import TARGETS, kernels, serves
from helpers import assert_within
from targets import error_of_mean

import unnorm as un
from unnorm.integration.states import enumerate_states

KERNELS = kernels()
CASES = [
    (name, target)
    for name, kernel in KERNELS.items()
    for target in TARGETS
    if name != "independent_mh"
    or target in ("gaussian", "beta", "gamma", "dirichlet", "von Mises", "counts", "binary")
]
QUICK = {
    "random_walk_mh": "counts",
    "random_walk_mh covariance": "tilted",
    "independent_mh": "gamma",
    "mala": "dirichlet",
    "barker": "banana",
    "hmc dense": "gaussian",
    "nuts": "von Mises-Fisher",
    "mclmc adjusted": "tilted",
    "slice": "von Mises",
    "elliptical_slice": "tilted",
    "gibbs": "potts",
    "gibbs random": "graph",
    "block_gibbs": "rbm",
    "gibbs_with_gradients": "potts",
    "discrete_langevin": "spins",
    "blockwise": "mixed",
    "replica_exchange mala": "ordered",
    "replica_exchange gibbs": "ring",
}
SEEDS = 20
THIN = {"discrete_langevin": 10, "gibbs_with_gradients": 10}  # a step of these moves little


@functools.cache
def exact_of(target):
    """One density object for all seeds, so that they share their compiled programs."""
    return TARGETS[target]()


def estimates(name, target, seed, draws=2000):
    """The means of the features and their own Monte Carlo errors, or None where the kernel does not
    serve."""
    exact = exact_of(target)
    kernel = serves(name, KERNELS[name], exact)
    if kernel is None:
        return None
    try:
        run = {
            "draws": draws,
            "warmup": 500,
            "thin": THIN.get(name, 2),
            "seed": seed,
            "progress": False,
        }
        if kernel.ensemble:
            run |= {"chains": 64, "draws": draws // 8}
        tree = un.sample(exact.density, kernel, **run)
    except ValueError as refusal:
        assert "expected" in str(refusal) and "use un.kernels" in str(refusal)
        return None
    features = exact.features(
        *(tree.posterior[v].values.astype(float) for v in exact.density.variables)
    )
    # A feature without spread (the square of a spin) has no error and is exact.
    moving = features.std((0, 1)) > 0
    assert np.allclose(features.mean((0, 1))[~moving], exact.means[~moving], atol=1e-6)
    features = features[..., moving]
    return features.mean((0, 1)), error_of_mean(features), features.std((0, 1)), exact.means[moving]


# Variants, kernels made of kernels, and those that other files try, are left to `make test-all`:
# ten seconds each.
ELSEWHERE = (
    "blockwise",
    "gibbs",
    "block_gibbs",
    "mclmc",
    "elliptical_slice",
    "nuts",
    "slice",
    "chees",
    "meads",
)
PLAIN = [name for name in KERNELS if " " not in name and name not in ELSEWHERE]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in PLAIN)) for n in KERNELS]
)
def test_a_kernel_recovers_exact_moments(name):
    target = QUICK.get(name, "gaussian")
    found, error, spread, means = estimates(name, target, seed=3)
    assert np.all(error < 0.15 * spread)
    assert_within(found, means, error)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target"), CASES)
def test_moments_over_twenty_seeds(name, target):
    """The pooled means lie within 4 of their own errors, and hardly any single seed lies outside
    its own 4."""
    runs = [estimates(name, target, seed) for seed in range(SEEDS)]
    if runs[0] is None:
        pytest.skip(f"{name} does not serve {target}")
    found, error, spread, means = (np.stack(part) for part in zip(*runs, strict=True))  # noqa: RUF059
    assert_within(found.mean(0), means[0], np.sqrt((error**2).sum(0)) / SEEDS)
    beyond = np.abs(found - means) > 4 * error
    assert beyond.sum() <= max(1, 0.01 * beyond.size)


DISCRETE = [
    (n, t)
    for n, t in CASES
    if t in ("binary", "spins", "ring", "potts", "graph", "rbm") and n != "blockwise"
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target"), DISCRETE)
def test_total_variation_is_that_of_independent_draws(name, target):
    """Thinned to near independence, the distance to the exact law is no larger than that of as many
    iid draws."""
    exact = exact_of(target)
    kernel = serves(name, KERNELS[name], exact)
    if kernel is None:
        pytest.skip(f"{name} does not serve {target}")
    p, distances, independent = exact.density, [], []
    states = enumerate_states(p)
    log_density = np.asarray(p(states), float)
    law = np.exp(log_density - log_density.max())
    law /= law.sum()
    place = {
        tuple(row): i
        for i, row in enumerate(rows(p, {n: np.asarray(v) for n, v in states.items()}))
    }
    for seed in range(SEEDS):
        try:
            tree = un.sample(p, kernel, draws=500, warmup=200, thin=40, seed=seed, progress=False)
        except ValueError as refusal:
            pytest.skip(str(refusal))
        events = {n: tree.posterior[n].values.reshape(-1, *p.shapes()[n]) for n in p.variables}
        codes = np.array([place[tuple(row)] for row in rows(p, events)])
        distances.append(distance(np.bincount(codes, minlength=len(law)) / len(codes), law))
        drawn = np.random.default_rng(seed).multinomial(len(codes), law) / len(codes)
        independent.append(distance(drawn, law))
    error = np.hypot(np.std(distances, ddof=1), np.std(independent, ddof=1)) / np.sqrt(SEEDS)
    # Draws 40 steps apart are nearly independent: a tenth is left for what correlation remains.
    assert np.mean(distances) <= 1.1 * np.mean(independent) + 4 * error


def rows(p, events):
    flat = [
        np.rint(np.asarray(events[n])).astype(int).reshape(len(events[n]), -1) for n in p.variables
    ]
    return np.concatenate(flat, 1).tolist()


def distance(one, other):
    return 0.5 * np.abs(one - other).sum()

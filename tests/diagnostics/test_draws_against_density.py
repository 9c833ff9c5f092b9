"""`diagnose` with the density: sick draws of every kind of support, copies of chains, modes that no
chain visited."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.core.findings import FindingCode, Unreliable
from unnorm.diagnostics.against_density.discrete_identities import discrete_check


def iid(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def codes(check, severity="error"):
    return [finding.code for finding in check.findings if finding.severity == severity]


WIDE = un.Density(lambda x: -(x**2) / 8, {"x": un.Real})
POISSON = un.Density(
    lambda k, *, rate: k * jnp.log(rate) - jax.scipy.special.gammaln(k + 1),
    {"k": un.Count},
    {"rate": un.Positive},
)


# -- draws of another density ----------------------------------------------------------------------
def test_draws_of_half_the_spread_fail_and_strict_raises():
    draws = {"x": iid(4, 1000)}
    assert FindingCode.STEIN_MISMATCH in codes(un.diagnose(draws, WIDE))
    with pytest.raises(Unreliable, match="Stein's identity fails in x"):
        un.diagnose(draws, WIDE, strict=True)
    assert un.diagnose({"x": 2 * iid(4, 1000)}, WIDE).passed


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_counts_of_another_rate_fail(scale):
    """Also of large counts, whose neighbours have nearly the same probability."""
    p, rng = POISSON.bind(rate=4.0 * scale), np.random.default_rng(0)
    assert un.diagnose({"k": rng.poisson(4 * scale, (4, 3000))}, p).passed
    off = 5 * scale if scale == 1 else 4 * scale + 0.2 * np.sqrt(4 * scale)
    assert FindingCode.STEIN_MISMATCH in codes(un.diagnose({"k": rng.poisson(off, (4, 3000))}, p))


def test_counts_of_the_right_mean_and_another_spread_fail():
    rng = np.random.default_rng(0)
    overdispersed = rng.poisson(rng.gamma(8.0, 0.5, (4, 3000)))  # mean 4, variance 6
    assert FindingCode.STEIN_MISMATCH in codes(
        un.diagnose({"k": overdispersed}, POISSON.bind(rate=4.0))
    )


PAIR = np.array([[0.0, 1.5], [1.5, 0.0]])
FINITE = {
    "binary": (lambda x, *, b: b * x[0] * x[1] - 0.5 * x.sum(), un.Binary[2]),
    "spin": (lambda x, *, b: 0.5 * b * x[0] * x[1] + 0.2 * x.sum(), un.Spin[2]),
    "categorical": (
        lambda x, *, b: b * x[0] @ x[1] + x[0] @ jnp.array([0.1, 0.5, -0.3]),
        un.Categorical(3)[2],
    ),
    "graph": (lambda x, *, b: 0.4 * b * jnp.trace(x @ x @ x) - 0.6 * x.sum(), un.Graph[3]),
}


def exact_draws(p, seed, shape=(4, 2000)):
    """Independent draws, by enumeration."""
    from unnorm.integration.states import enumerate_states

    states = {name: np.asarray(value) for name, value in enumerate_states(p).items()}
    logs = np.asarray(p(states), float)
    weights = np.exp(logs - logs.max())
    index = np.random.default_rng(seed).choice(len(weights), shape, p=weights / weights.sum())
    return {name: value[index] for name, value in states.items()}


@pytest.mark.parametrize("kind", FINITE)
def test_finite_states_are_held_against_their_conditional_probabilities(kind):
    function, support = FINITE[kind]
    p = un.Density(function, {"x": support}, {"b": un.Real})
    draws = exact_draws(p.bind(b=1.5), seed=0)
    assert un.diagnose(draws, p.bind(b=1.5)).passed
    assert FindingCode.STEIN_MISMATCH in codes(un.diagnose(draws, p.bind(b=0.5)))


def codes_of_stein(check):
    return [finding for finding in check.findings if finding.code is FindingCode.STEIN_MISMATCH]


def test_the_discrete_check_is_honest_about_its_errors():
    """Over seeds its z-scores have the spread 1, and no true draws fail."""
    p = un.Density(FINITE["spin"][0], {"x": un.Spin[2]}, {"b": un.Real}).bind(b=1.5)
    scores = []
    for seed in range(60):
        check = discrete_check(p, exact_draws(p, seed, (4, 250)), {"x": ["x[0]", "x[1]"]})
        assert not check.mismatches
        scores.append(
            np.stack([check.location / check.location_error, check.spread / check.spread_error])
        )
    assert (abs(np.std(scores, axis=(0, 2)) - 1) < 0.25).all()


def test_a_rare_state_that_was_not_seen_is_no_mismatch():
    p = un.Density(lambda x: -9.0 * x, {"x": un.Binary})  # a probability of 1e-4
    assert not codes_of_stein(un.diagnose({"x": np.zeros((4, 1000), int)}, p))


def test_mixed_draws_are_held_against_both_kinds_of_identity():
    p = un.Density(lambda x, s: -0.5 * (x - s) ** 2 + 0.8 * s, {"x": un.Real, "s": un.Spin})
    rng = np.random.default_rng(0)
    s = np.where(rng.uniform(size=(4, 1000)) < 1 / (1 + np.exp(-1.6)), 1, -1)
    assert not codes_of_stein(un.diagnose({"x": s + rng.normal(size=s.shape), "s": s}, p))
    fair = rng.choice([-1, 1], (4, 1000))
    found = codes_of_stein(un.diagnose({"x": fair + rng.normal(size=s.shape), "s": fair}, p))
    assert [" in s " in finding.what for finding in found] == [True]


# -- walls -----------------------------------------------------------------------------------------
WALL = un.Density(lambda x: jnp.where(x > 0, -0.5 * x**2, -jnp.inf), {"x": un.Real})


def test_right_draws_beside_a_wall_pass_and_wrong_ones_do_not():
    """At a wall Stein's identity does not hold; an identity of symmetric moves does."""
    half = abs(iid(4, 2000))
    check = un.diagnose({"x": half}, WALL)
    assert check.passed and "a wall or a jump" in codes_of_stein(check)[0].what
    assert not un.diagnose({"x": 1.3 * half}, WALL).passed


# -- copies of chains ------------------------------------------------------------------------------
def equal(x):
    return FindingCode.EQUAL_CHAINS in codes(un.diagnose({"x": x}))


def test_copies_of_chains_fail():
    x = iid(4, 500)
    assert not equal(x)
    assert equal(np.repeat(x[:1], 4, 0))
    part, moved = x.copy(), x.copy()
    part[1, 200:300] = x[0, 200:300]
    moved[2] = np.roll(x[3], 57)
    assert equal(part) and equal(moved) and equal(x.astype(np.float32)[[0, 1, 2, 0]])


def test_copies_of_discrete_chains_fail_and_chance_agreement_does_not():
    rng = np.random.default_rng(0)
    binary, rare = rng.integers(0, 2, (4, 2000)), (rng.uniform(size=(4, 2000)) < 0.01).astype(int)
    assert not equal(binary) and not equal(rare)
    assert equal(binary[[0, 1, 0, 2]])
    part = binary.copy()
    part[3, 500:700] = binary[1, 500:700]
    assert equal(part)


def test_draws_that_rounding_puts_on_a_bound_are_no_copies():
    x = np.clip(iid(4, 1000), -0.5, 0.5)  # half of the draws lie on a bound
    assert not equal(x)


def test_chains_from_one_start_that_wait_there_are_no_copies():
    x = iid(4, 500)
    x[:, :30] = 0.5
    assert not equal(x)


# -- modes -----------------------------------------------------------------------------------------
def pair(size):
    def function(x, *, apart, share):
        return jnp.logaddexp(
            jnp.log(1 - share) - 0.5 * x @ x, jnp.log(share) - 0.5 * (x - apart) @ (x - apart)
        )

    return un.Density(
        function, {"x": un.Real[size]}, {"apart": un.Real, "share": un.Interval(0, 1)}
    )


def unvisited(p, x):
    return [
        finding
        for finding in un.diagnose({"x": x}, p).findings
        if finding.code is FindingCode.OTHER_MODES
    ]


@pytest.mark.parametrize("size", [1, 5])
def test_a_mode_that_no_chain_visited_fails(size):
    p, x = pair(size), iid(4, 500, size)
    for apart in (8.0, 100.0, 1000.0):
        for share in (0.5, 0.1):
            found = unvisited(p.bind(apart=apart, share=share), x)
            assert len(found) == 1 and found[0].severity == "error", (apart, share)
            assert (
                f"{apart:.4g}"[:2] in found[0].what
                and f"about {share:.0%} of the mass" in found[0].what
            )
    assert not unvisited(p.bind(apart=8.0, share=1e-4), x)


def test_modes_that_were_visited_pass():
    both = iid(4, 1000, 1) + 8.0 * np.random.default_rng(1).integers(0, 2, (4, 1000, 1))
    assert not unvisited(pair(1).bind(apart=8.0, share=0.5), both)
    bananas = iid(4, 1000, 2)
    bananas[..., 1] += bananas[..., 0] ** 2
    p = un.Density(lambda x: -0.5 * x[0] ** 2 - 0.5 * (x[1] - x[0] ** 2) ** 2, {"x": un.Real[2]})
    assert not unvisited(p, bananas)


def test_modes_on_a_circle_are_told_apart_across_its_cut():
    """One at 3 and one opposite, at 3 − π; the draws of the first straddle the cut at π."""
    p = un.Density(
        lambda x, *, k: k * jnp.cos(2 * (x - 3.0)) + jnp.cos(x - 3.0),
        {"x": un.Circle},
        {"k": un.Real},
    )
    one = np.random.default_rng(0).vonmises(3.0, 100.0, (4, 500))
    assert len(unvisited(p.bind(k=25.0), one)) == 1  # another of mass exp(-2) of the first
    assert not unvisited(p.bind(k=0.0), np.random.default_rng(0).vonmises(3.0, 1.0, (4, 500)))


@pytest.mark.parametrize("support", ["positive", "sphere"])
def test_one_mode_in_bounded_or_lifted_coordinates_is_not_two(support):
    rng = np.random.default_rng(0)
    if support == "positive":
        p, x = (
            un.Density(lambda x: 2.0 * jnp.log(x) - x, {"x": un.Positive}),
            rng.gamma(3.0, 1.0, (4, 1000)),
        )
    else:
        from scipy.stats import vonmises_fisher

        p = un.Density(lambda x: 5.0 * x[0], {"x": un.Sphere[3]})
        x = vonmises_fisher([1.0, 0, 0], 5.0, seed=0).rvs(4000).reshape(4, 1000, 3)
    assert un.diagnose({"x": x}, p).passed

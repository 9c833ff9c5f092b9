"""Pseudo-likelihood over every discrete support and over blocks, and whether an estimate exists at
all."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln
from targets import PUBLICATIONS, enumerated, ising, spins

import unnorm as un
from unnorm.fitting.objectives.registry import MaximumLikelihood, PseudoLikelihood
from unnorm.interactions.count_states import tail_beyond

RANDOM = np.random.default_rng(0)


def fitted(p, data, objective="pseudo_likelihood", **options):
    return un.fit(p, data, objective, **({"seed": 0, "progress": False} | options))


def same(one, other, tolerance=1e-8):
    assert one.passed and other.passed
    assert one.summary().estimate.to_numpy() == pytest.approx(
        other.summary().estimate.to_numpy(), abs=tolerance
    )


def drawn(p, rows, seed=0):
    states, weights = enumerated(p)
    return states[np.random.default_rng(seed).choice(len(states), rows, p=weights)]


def symmetric(size, scale, seed=0):
    half = np.triu(np.random.default_rng(seed).normal(scale=scale, size=(size, size)), 1)
    return half + half.T


# -- counts: case B --------------------------------------------------------------------------------


@un.density
def conway_maxwell_poisson(x: un.Count, *, log_lambda: un.Real = 0.0, nu: un.Real = 1.0):
    return x * log_lambda - nu * gammaln(x + 1)


@functools.cache
def publications():
    return fitted(conway_maxwell_poisson, PUBLICATIONS)


def test_one_count_is_the_likelihood_of_case_b():
    """Estimates, errors and log-likelihood of the doctoral publications (`vcdExtra::PhdPubs`)."""
    fit = publications()
    assert fit.passed and len(PUBLICATIONS) == 915
    assert fit.summary().estimate.to_numpy() == pytest.approx([-0.24735, 0.18704], abs=1e-5)
    assert fit.summary().standard_error.to_numpy() == pytest.approx([0.06131, 0.05844], abs=1e-5)
    assert np.sqrt(np.diagonal(fit._covariance.inverse_curvature)) == pytest.approx(
        [0.04858, 0.04138], abs=1e-5
    )
    assert -915 * fit.history[-1] == pytest.approx(-1613.4779, abs=1e-4)


@pytest.mark.slow
def test_a_start_at_which_the_sum_has_no_end_is_no_harm():
    """ν = 0 and λ = 1 weigh every count alike; the sum is looked at again where the fit comes
    out."""
    same(fitted(conway_maxwell_poisson.bind(nu=0.0), PUBLICATIONS), publications(), 1e-7)


def test_a_sum_that_never_ends_is_refused():
    """The tail of 1 / (1 + x)^a holds more than 1e-12 beyond any count that can be reached."""
    zeta = un.Density(lambda x, *, a: -a * jnp.log1p(x), {"x": un.Count}, {"a": (un.Real, 2.0)})
    with pytest.raises(
        ValueError, match=r"conditionals of .* beyond a count of .*; restrict the parameters"
    ):
        fitted(zeta, [0, 0, 0, 1, 1, 2, 5, 9])


@pytest.mark.parametrize(("power", "truth"), [(3.0, None), (None, 0.5)])
def test_the_tail_beyond_a_table(x64, power, truth):
    """Powers of the count are followed exactly to first order; a geometric tail is overestimated,
    never missed."""
    x = np.arange(1, 2**16 + 1.0)
    mass = x**-power if power else truth**x
    mass /= mass.sum()
    for count in (64, 256):
        found, exact = float(tail_beyond(jnp.asarray(mass[:count]))), mass[count:].sum()
        assert 0.99 * exact <= found and (power is None or found < 1.1 * exact)


# -- other supports --------------------------------------------------------------------------------
@pytest.mark.slow
def test_categories_and_bits_together():
    """Both conditionals written out, and minimised by SciPy."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    p = un.Density(
        lambda z, x, *, weight, field: jnp.append(weight, 0.0) @ z + field * x + x * z[2],
        {"z": un.Categorical(3), "x": un.Binary},
        {"weight": (un.Real[2], 0.0), "field": (un.Real, 0.0)},
    )
    z, x = RANDOM.integers(0, 3, 60), RANDOM.integers(0, 2, 60)

    def loss(v):
        weight = np.append(v[:2], 0.0)
        of_z = weight + x[:, None] * (np.arange(3) == 2)
        of_x = v[2] + (z == 2)
        return -np.mean(
            of_z[np.arange(60), z] - logsumexp(of_z, axis=1) + x * of_x - np.logaddexp(0, of_x)
        )

    fit = fitted(p, {"z": z, "x": x})
    exact = minimize(loss, np.zeros(3), tol=1e-12).x
    assert fit.passed and fit.history[-1] == pytest.approx(loss(exact), abs=1e-12)
    assert fit.summary().estimate.to_numpy() == pytest.approx(exact, abs=1e-5)


@pytest.mark.slow
def test_counts_and_bits_together():
    """x | b Poisson with log-mean a + c b, and b | x with the log-odds h + c x: two regressions
    that share c."""
    from scipy.optimize import minimize

    p = un.Density(
        lambda x, b, *, a, h, c: a * x - gammaln(x + 1) + h * b + c * x * b,
        {"x": un.Count, "b": un.Binary},
        {name: (un.Real, 0.0) for name in "ahc"},
    )
    b = RANDOM.integers(0, 2, 80)
    x = RANDOM.poisson(np.exp(0.3 + 0.5 * b))

    def loss(v):
        a, h, c = v
        odds = h + c * x
        return np.mean(np.exp(a + c * b) - x * (a + c * b) + np.logaddexp(0, odds) - b * odds)

    fit = fitted(p, {"x": x, "b": b})
    assert fit.passed
    assert fit.summary().estimate.to_numpy() == pytest.approx(
        minimize(loss, np.zeros(3), tol=1e-12).x, abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["pseudo_likelihood", "ratio_matching"])
def test_the_ties_of_a_graph_are_its_entries(objective):
    """A graph of four nodes is six bits: the same conditionals as a vector of its ties."""
    rows, columns = np.triu_indices(4, 1)

    def of_ties(t, *, edges, stars):
        y = jnp.zeros((4, 4)).at[rows, columns].set(t)
        return of_graph(y + y.T, edges=edges, stars=stars)

    def of_graph(y, *, edges, stars):
        degrees = y.sum(0)
        return edges * y.sum() / 2 + stars * jnp.sum(degrees * (degrees - 1)) / 2

    parameters = {"edges": (un.Real, 0.0), "stars": (un.Real, 0.0)}
    ties = (RANDOM.random((40, 6)) < 0.4).astype(float)
    graphs = np.zeros((40, 4, 4))
    graphs[:, rows, columns] = graphs[:, columns, rows] = ties
    one = fitted(un.Density(of_ties, {"t": un.Binary[6]}, parameters), ties, objective)
    same(one, fitted(un.Density(of_graph, {"y": un.Graph[4]}, parameters), graphs, objective))


# -- blocks ----------------------------------------------------------------------------------------
FOUR = ising.bind(coupling=symmetric(4, 0.8), field=np.array([0.2, -0.3, 0.1, 0.0]))


@functools.cache
def four(blocks=None):
    return fitted(FOUR, drawn(FOUR, 400), PseudoLikelihood(blocks=blocks))


@pytest.mark.slow
def test_single_entries_are_the_plain_form():
    same(four(((3,), (1,), (0,), (2,))), four())


@pytest.mark.slow
def test_one_block_of_everything_is_maximum_likelihood():
    exact = fitted(FOUR, drawn(FOUR, 400), MaximumLikelihood())
    same(four(((2, 0, 3, 1),)), exact)
    assert four(((2, 0, 3, 1),)).covariance.to_numpy() == pytest.approx(
        exact.covariance.to_numpy(), abs=1e-10
    )


@pytest.mark.slow
def test_blocks_whose_rest_is_saturated_are_maximum_likelihood():
    """Each conditional's equation is the likelihood's where the fit has the margin of the rest
    right.

    Pairwise moments are all that a pair has, so that two complementary pairs give maximum
    likelihood; three bits have one moment more, and the plain form another estimate.
    """
    exact = fitted(FOUR, drawn(FOUR, 400), MaximumLikelihood())
    same(four(((0, 1), (2, 3))), exact)
    assert 1e-4 < np.abs(four().summary().estimate - exact.summary().estimate).max() < 0.1


def test_blocks_across_variables_are_numbered_in_declared_order():
    """(z, a): entry 0 is z's, though a stands first in the alphabet; a block of everything is the
    likelihood."""
    p = un.Density(
        lambda z, a, *, weight, field, pull: weight * z[1] + field * a + pull * a * z[2],
        {"z": un.Categorical(3), "a": un.Spin},
        {name: (un.Real, 0.0) for name in ("weight", "field", "pull")},
    )
    data = {"z": RANDOM.integers(0, 3, 50), "a": 2 * RANDOM.integers(0, 2, 50) - 1}
    same(fitted(p, data, PseudoLikelihood(blocks=((0, 1),))), fitted(p, data, MaximumLikelihood()))


@pytest.mark.slow
def test_many_joint_states_are_summed_in_parts():
    """2^11 states in one block, more than are held at once."""
    p = un.Density(lambda x, *, f: f * x.sum(), {"x": un.Binary[11]}, {"f": (un.Real, 0.0)})
    data = (RANDOM.random((5, 11)) < 0.3).astype(float)
    fit = fitted(p, data, PseudoLikelihood(blocks=(tuple(range(11)),)))
    assert fit.summary().estimate["f"] == pytest.approx(
        np.log(data.mean() / (1 - data.mean())), abs=1e-8
    )


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ((), "expected a tuple of tuples"),
        (3, "expected a tuple of tuples"),
        (((0, 1), ()), "expected a tuple of tuples"),
        ((0, 1), "expected a tuple of tuples"),
        (((0, 4),), "holds the entry 4; expected integers from 0 to 3"),
        (((0, 1.5),), "holds the entry 1.5"),
        (((0, True),), "holds the entry True"),
        (((0, 1, 0),), "an entry twice"),
    ],
)
def test_blocks_that_are_none(blocks, words):
    with pytest.raises(ValueError, match=words) as caught:
        fitted(FOUR, np.eye(4), PseudoLikelihood(blocks=blocks))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_blocks_with_too_many_states_and_counts_with_others_are_refused():
    with pytest.raises(
        ValueError, match=r"131,072 joint states; expected at most 65,536; split it"
    ):
        fitted(ising, np.eye(17), PseudoLikelihood(blocks=(tuple(range(17)),)))
    counts = un.Density(
        lambda x, *, a: a * x.sum() - gammaln(x + 1).sum(),
        {"x": un.Count["d"]},
        {"a": (un.Real, 0.0)},
    )
    with pytest.raises(ValueError, match="count x; expected counts in blocks of their own"):
        fitted(counts, np.ones((3, 2)), PseudoLikelihood(blocks=((0, 1),)))


# -- its standard errors: case A -------------------------------------------------------------------
@pytest.mark.slow
def test_naive_errors_of_rochdale_are_too_small_and_the_sandwich_is_not(rochdale):
    """H⁻¹/n alone is .66 to .73 of maximum likelihood's error; Godambe's form .94 to 1.14 of it."""
    fit = fitted(ising, un.models.load("rochdale"))
    exact = np.sqrt(np.diagonal(rochdale.model_based_covariance))
    naive = np.sqrt(np.diagonal(fit._covariance.inverse_curvature)) / exact
    godambe = fit.summary().standard_error / exact
    assert (naive.min(), naive.max()) == pytest.approx((0.66, 0.73), abs=0.01)
    assert (godambe.min(), godambe.max()) == pytest.approx((0.94, 1.14), abs=0.01)


# -- existence -------------------------------------------------------------------------------------
def households(seed, rows=200):
    """Some rows of Rochdale, redrawn."""
    data = un.models.load("rochdale")
    return data.iloc[np.random.default_rng(seed).integers(len(data), size=rows)]


def told(fit, *words):
    return any(all(word in str(finding) for word in words) for finding in fit.findings)


@pytest.mark.parametrize(
    "objective", [PseudoLikelihood(), MaximumLikelihood()], ids=lambda o: type(o).__name__
)
@pytest.mark.parametrize(
    ("seed", "runs_away"),
    [
        (0, {"coupling[Econ,Asian]": -np.inf}),  # never 1 together
        (1, {"coupling[Educ,Asian]": -np.inf, "coupling[HusbEduc,Asian]": -np.inf}),
        (
            3,
            {"coupling[HusbEmp,Educ]": np.inf, "field[Educ]": -np.inf},
        ),  # Educ never without HusbEmp
    ],
)
@pytest.mark.slow
def test_an_empty_cell_is_found_and_said(seed, runs_away, objective):
    data = households(seed)
    assert ((data.Econ == 1) & (data.Asian == 1)).any() == (seed != 0)
    fit = fitted(ising, data, objective)
    summary = fit.summary()
    infinite = summary.estimate[~np.isfinite(summary.estimate)]
    assert dict(zip(infinite.index.flat, infinite, strict=True)) == runs_away
    assert not fit.converged and not fit.passed
    assert told(
        fit, "[error] there is no finite estimate", *(f"{name} diverges to" for name in runs_away)
    )
    assert summary.standard_error[infinite.index].isna().all()
    # The others stand as they are in the limit.
    others = summary.drop(index=infinite.index)
    assert others.estimate.abs().max() < 6 and others.standard_error.max() < 4


@pytest.mark.parametrize(
    "objective", [PseudoLikelihood(), MaximumLikelihood()], ids=lambda o: type(o).__name__
)
def test_rochdale_itself_is_no_alarm(objective):
    fit = fitted(ising, un.models.load("rochdale"), objective)
    assert fit.converged and not told(fit, "diverges") and np.isfinite(fit.summary()).all(axis=None)


@pytest.mark.slow
def test_rare_is_not_never():
    """One household in which the pair is seen is enough for a finite estimate, however large its
    error."""
    data = np.array([[1, 0]] * 30 + [[0, 1]] * 30 + [[0, 0]] * 30 + [[1, 1]])
    for objective in (PseudoLikelihood(), MaximumLikelihood()):
        assert fitted(ising, data, objective).passed
        assert told(fitted(ising, data[:-1], objective), "coupling[0,1] diverges to -inf")


@pytest.mark.slow
def test_a_flat_direction_is_not_said_to_run_away():
    """Two parameters of which only the sum is seen: not identified, and no estimate is infinite."""
    p = un.Density(
        lambda x, *, a, b: (a + b) * x, {"x": un.Binary}, {"a": (un.Real, 0.0), "b": (un.Real, 0.0)}
    )
    fit = fitted(p, [0, 1, 1])
    assert told(fit, "a and b are collinear") and not told(fit, "diverges")


def test_a_scale_far_from_its_start_is_no_alarm():
    data = 1e5 * np.random.default_rng(0).normal(size=200)
    p = un.Density(
        lambda x, *, mean, rate: -0.5 * rate * (x - mean) ** 2,
        {"x": un.Real},
        {"mean": (un.Real, 0.0), "rate": (un.Positive, 1.0)},
    )
    fit = fitted(p, data, MaximumLikelihood())
    assert fit.passed and fit.summary().estimate["rate"] == pytest.approx(1 / data.var(), rel=1e-4)


def test_spins_that_always_agree_run_away():
    data = np.array([[1, 1], [-1, -1], [1, 1], [-1, -1], [-1, -1]])
    assert told(fitted(spins, data), "coupling[0,1] diverges to inf")


# -- one row ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("objective", [un.objectives.NCE(), un.objectives.ScoreMatching()])
def test_objectives_that_compare_rows_refuse_one(objective):
    p = un.Density(
        lambda x, *, f: -0.5 * jnp.sum((x - f) ** 2), {"x": un.Real["d"]}, {"f": (un.Real, 0.0)}
    )
    with pytest.raises(
        ValueError, match=r"data has 1 row; .* expects at least 2.*un.objectives.PseudoLikelihood"
    ):
        fitted(p, np.ones((1, 9)), objective)

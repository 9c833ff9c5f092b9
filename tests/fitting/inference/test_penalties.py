"""Penalties, priors, the path and the posterior, against closed forms and subgradient
conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from helpers import assert_within
from targets import error_of_mean, ising, pair_features

import unnorm as un
from unnorm.fitting.objectives.registry import (
    OBJECTIVES,
    ContrastiveDivergence,
    MaximumLikelihood,
    PseudoLikelihood,
)


@un.density
def normal(x: un.Real["d"], *, m: un.Real["d"] = 0.0):
    """Score matching's loss is ½ |m − x|² up to a constant: every penalised estimate has a closed
    form."""
    return m @ x - 0.5 * x @ x


@un.density
def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
    return -rate * x


MEANS = np.array([2.0, -1.0, 0.3, -0.2])
ROWS = MEANS + np.random.default_rng(0).normal(size=(50, 4))
TIMES = np.random.default_rng(1).exponential(size=40) / 2
BITS = (np.random.default_rng(2).uniform(size=(300, 3)) < [0.3, 0.5, 0.6]).astype(float)
BITS[:, 1] = np.where(np.random.default_rng(3).uniform(size=300) < 0.4, BITS[:, 0], BITS[:, 1])


def fitted(p, data, objective="score_matching", **options):
    return un.fit(p, data, objective, **({"seed": 0, "progress": False} | options))


def shrunk(x, by):
    return np.sign(x) * np.maximum(np.abs(x) - by, 0)


# -- the lasso -------------------------------------------------------------------------------------
def test_the_lasso_of_a_mean_is_the_mean_moved_towards_zero():
    fit = fitted(normal, ROWS, penalty={"m": un.L1(0.5)})
    expected = shrunk(ROWS.mean(0), 0.5)
    assert fit.passed and (expected == 0).sum() == 2
    assert fit.summary().estimate.to_numpy() == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(fit.summary().estimate.to_numpy() == 0.0, expected == 0.0)  # exactly
    assert fit.covariance is None and fit.summary().standard_error.isna().all()
    assert any("lasso" in f.what and "no standard errors" in f.what for f in fit.findings)
    assert "left 2 of 4 penalised entries at zero" in str(fit) and "L1 on m" in fit.target


def test_each_entry_may_have_its_own_strength():
    strengths = np.array([0.0, 3.0, 0.1, 0.5])
    fit = fitted(normal, ROWS, penalty={"m": un.L1(strengths)})
    assert fit.summary().estimate.to_numpy() == pytest.approx(
        shrunk(ROWS.mean(0), strengths), abs=1e-12
    )


STATES = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)


def moments(theta):
    """E[x_i x_j] and E[x] of `ising` on three bits, from its couplings and fields."""
    weights = np.exp(pair_features(STATES) @ theta)
    return weights @ pair_features(STATES) / weights.sum()


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [un.L1(0.03), un.L2(0.3)])
def test_a_penalised_likelihood_meets_its_own_condition_each_entry_once(penalty):
    """∂loss = E_θ[x_i x_j] − mean x_i x_j, by enumeration: against λ sign θ (or within λ at zero),
    or against λ θ."""
    fit = fitted(ising, BITS, "maximum_likelihood", penalty={"coupling": penalty})
    theta, strength = fit.summary().estimate.to_numpy(), float(penalty.strength)
    slopes = moments(theta) - pair_features(BITS).mean(0)
    assert slopes[3:] == pytest.approx(0, abs=1e-9)  # the fields are free
    if isinstance(penalty, un.L2):
        assert slopes[:3] == pytest.approx(-strength * theta[:3], abs=1e-9)
        return
    zero = theta[:3] == 0
    assert 0 < zero.sum() < 3 and np.all(np.abs(slopes[:3][zero]) <= strength)
    assert slopes[:3][~zero] == pytest.approx(-strength * np.sign(theta[:3][~zero]), abs=1e-9)


@pytest.mark.slow
def test_a_matrix_of_strengths_is_read_by_its_listed_entries():
    one = np.zeros((3, 3))
    one[0, 1] = one[1, 0] = 100.0
    by_matrix = fitted(ising, BITS, "maximum_likelihood", penalty={"coupling": un.L1(one)})
    by_entry = fitted(ising, BITS, "maximum_likelihood", penalty={"coupling": un.L1([100.0, 0, 0])})
    estimates = by_matrix.summary().estimate.to_numpy()
    assert estimates.tolist() == by_entry.summary().estimate.tolist()
    assert estimates[0] == 0 and np.all(estimates[1:3] != 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", ["score_matching", un.objectives.SlicedScoreMatching(projections=1)]
)
def test_the_lasso_of_many_parameters(objective):
    """More than the limit of Newton's method: by the Hessian of a quadratic loss, and by proximal
    gradient steps."""
    wide = np.random.default_rng(5).normal(size=(20, 400)) + 0.3
    fit = fitted(normal, wide, objective, penalty={"m": un.L1(0.2)})
    assert fit.converged and any(
        "lasso" in f.what and "no standard errors" in f.what for f in fit.findings
    )
    assert fit.summary().estimate.to_numpy() == pytest.approx(shrunk(wide.mean(0), 0.2), abs=1e-7)
    assert np.array_equal(fit.summary().estimate.to_numpy() == 0, shrunk(wide.mean(0), 0.2) == 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [ContrastiveDivergence(persistent=True), ContrastiveDivergence(k=5)],
    ids=["pcd", "cd"],
)
@pytest.mark.parametrize("strength", [0.02, 0.005])
def test_the_lasso_by_contrastive_divergence_is_that_of_the_likelihood(objective, strength):
    """Rochdale: within a quarter of a standard error; the zeros too, but for entries that are next
    to nothing."""
    data, penalty = un.models.load("rochdale"), {"coupling": un.L1(strength)}
    errors = fitted(ising, data.to_numpy(), "maximum_likelihood").summary().standard_error
    exact = fitted(ising, data.to_numpy(), "maximum_likelihood", penalty=penalty).summary().estimate
    fit = fitted(ising, data.to_numpy(), objective, penalty=penalty)
    estimate = fit.summary().estimate
    assert fit.converged and fit.summary().standard_error.isna().all()
    assert any("the lasso left" in f.what for f in fit.findings)
    assert np.all(np.abs(estimate - exact) < 0.25 * errors)
    assert (exact == 0).sum() > 5
    assert np.all((np.abs(estimate - exact) < 0.05 * errors)[(exact == 0) | (estimate == 0)])


@pytest.mark.slow
def test_a_strong_lasso_leaves_nothing_to_contrastive_divergence():
    fit = fitted(ising, BITS, "contrastive_divergence", penalty={"coupling": un.L1(1.0)})
    assert fit.converged and np.all(fit.density.parameters["coupling"] == 0)
    share = BITS.mean(0)  # the fields are log odds, with the errors of log odds
    away = np.abs(fit.density.parameters["field"] - np.log(share / (1 - share)))
    assert np.all(away < 0.25 / np.sqrt(len(BITS) * share * (1 - share)))


def jackknife_errors(share):
    """Of a mean shrunk to this share, by few rows: √((n − 1)/n Σ d²), d = (x − x̄) / (n / share
    − 1), which without a penalty is s / √n.
    """
    rows = len(ROWS)
    return np.sqrt(rows - 1) * ROWS.std(0) / (rows / share - 1)


# -- the ridge -------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_ridge_of_a_mean_and_its_standard_error():
    fit = fitted(normal, ROWS, penalty={"m": un.L2([0.0, 1.0, 3.0, 0.5])})
    share = 1 / (1 + np.array([0.0, 1.0, 3.0, 0.5]))
    assert fit.summary().estimate.to_numpy() == pytest.approx(share * ROWS.mean(0), abs=1e-12)
    errors = jackknife_errors(share)
    assert fit.summary().standard_error.to_numpy() == pytest.approx(errors, rel=1e-8)
    assert any("do not count its bias" in f.what for f in fit.findings) and fit.passed


@pytest.mark.slow
def test_a_parameter_with_a_bound_is_penalised_by_its_value():
    """mean x − 1/r + λ r = 0."""
    fit = fitted(exponential, TIMES, "maximum_likelihood", penalty={"rate": un.L2(0.4)})
    mean = TIMES.mean()
    assert fit.summary().estimate["rate"] == pytest.approx(
        (-mean + np.sqrt(mean**2 + 1.6)) / 0.8, rel=1e-8
    )
    assert fit.model_based_covariance is None


OWN_WAYS = {
    "contrastive_divergence",
    "adversarial",
    "evidence_lower_bound",
    "flow_contrastive",
}  # not brought to a minimum of one loss


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - OWN_WAYS))
def test_the_ridge_is_in_every_loss(name):
    """At the fit the loss without the penalty has the slope −λ θ, each entry once."""
    from unnorm.declaration.density import cast
    from unnorm.fitting.data.read import read_data
    from unnorm.fitting.loss import Loss

    discrete = name in ("pseudo_likelihood", "ratio_matching", "probability_flow")
    p, data = (ising, BITS) if discrete else (normal, ROWS[:, :2])
    parameter, options = (
        ("coupling" if discrete else "m"),
        {"sigma": 0.1} if name.startswith("denoising") else {},
    )
    objective = OBJECTIVES[name](**options)
    fit = fitted(p, data, objective, penalty={parameter: un.L2(0.2)})
    assert fit.converged
    fresh, events = read_data(p, data)
    with jax.enable_x64(True):
        given, density, events = cast((objective, fit.density.for_jit(), events), np.float64)
        state = given.prepare(fresh.for_jit(), events, jax.random.key(0))
        if "log_z" in state.nuisance:
            state = state._replace(nuisance={"log_z": jnp.asarray(fit.log_z.value)})
        loss = Loss(given, density, state, events)
        slope = loss.free_at(jax.grad(loss.mean)(loss.vector))[parameter]
        assert np.asarray(slope) == pytest.approx(
            -0.2 * np.asarray(density.free()[parameter]), abs=1e-7
        )


@pytest.mark.slow
def test_contrastive_divergence_comes_to_the_penalised_likelihood():
    def one(objective, **options):
        return fitted(ising, BITS, objective, penalty={"coupling": un.L2(0.3)}, **options)

    exact, chains = one("maximum_likelihood"), one(ContrastiveDivergence(persistent=True))
    assert chains.passed and "L2 on coupling" in chains.target
    assert_within(chains.summary().estimate, exact.summary().estimate, chains.monte_carlo_error)
    assert chains.monte_carlo_error.max() < 0.02
    assert chains.summary().standard_error.to_numpy() == pytest.approx(
        exact.summary().standard_error, rel=0.1
    )


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [un.L1(0.03), un.L2(0.3)])
def test_monte_carlo_likelihood_comes_to_the_penalised_likelihood(penalty):
    exact = fitted(ising, BITS, "maximum_likelihood", penalty={"coupling": penalty})
    drawn = fitted(ising, BITS, MaximumLikelihood(draws=20_000), penalty={"coupling": penalty})
    assert drawn.converged
    own, other = (fit.summary().estimate.to_numpy() for fit in (drawn, exact))
    if isinstance(penalty, un.L2):
        assert_within(own, other, drawn.monte_carlo_error)
    else:
        assert np.array_equal(own == 0, other == 0) and own == pytest.approx(other, abs=0.05)


@pytest.mark.slow
def test_a_network_is_trained_with_weight_decay():
    """A network of one layer, linear in its weights: least squares with a ridge."""
    p = un.Density(
        lambda x, *, net: net["w"] @ x - 0.5 * x @ x,
        {"x": un.Real[2]},
        {"net": (un.PyTree, {"w": np.zeros(2)})},
    )
    options = {"optimizer": optax.adam(1e-2), "steps": 4000, "dtype": np.float64}
    fit = fitted(p, ROWS[:, :2], penalty={"net": un.L2(0.5)}, **options)
    weights = np.asarray(fit.density.parameters["net"]["w"])
    assert fit.converged and weights == pytest.approx(ROWS[:, :2].mean(0) / 1.5, abs=0.02)


@pytest.mark.slow
def test_the_bootstrap_is_of_the_penalised_fit():
    fit = fitted(normal, ROWS, penalty={"m": un.L2(2.0)})
    spread = fit.bootstrap(200, seed=1)
    errors = fit.summary().standard_error
    assert np.all(np.abs(spread.summary().standard_error / errors - 1) < 4 / np.sqrt(2 * 200))
    lasso = fitted(normal, ROWS, penalty={"m": un.L1(0.5)}).bootstrap(50, seed=1)
    assert (lasso.estimates == 0).to_numpy().any() and not lasso.infinite


# -- priors ----------------------------------------------------------------------------------------
def test_a_gamma_prior_on_a_rate_gives_the_mode_and_laplaces_error():
    prior = {"rate": dist.Gamma(3.0, 2.0)}
    fit = fitted(exponential, TIMES, "maximum_likelihood", prior=prior)
    shape, rate = 3 + len(TIMES) - 1, 2 + TIMES.sum()
    assert fit.summary().estimate["rate"] == pytest.approx(shape / rate, rel=1e-8)
    assert fit.summary().standard_error["rate"] == pytest.approx(np.sqrt(shape) / rate, rel=1e-6)
    assert "MAP" in fit.target and "(MAP)" in repr(fit) and fit.passed
    assert any("Laplace" in f.what for f in fit.findings)


@pytest.mark.slow
def test_a_prior_of_one_number_holds_for_each_listed_entry_once():
    """A normal prior of variance 1/(n λ) is the ridge of strength λ."""
    strength = 0.3
    prior = {"coupling": dist.Normal(0.0, (len(BITS) * strength) ** -0.5)}
    one = fitted(ising, BITS, "maximum_likelihood", prior=prior)
    other = fitted(ising, BITS, "maximum_likelihood", penalty={"coupling": un.L2(strength)})
    assert one.summary().estimate.to_numpy() == pytest.approx(
        other.summary().estimate.to_numpy(), abs=1e-9
    )


@pytest.mark.slow
def test_a_loss_that_is_no_likelihood_keeps_the_sandwich():
    fit = fitted(normal, ROWS, prior={"m": dist.Normal(jnp.zeros(4), 50**-0.5).to_event(1)})
    assert fit.summary().estimate.to_numpy() == pytest.approx(ROWS.mean(0) / 2, abs=1e-7)
    assert fit.summary().standard_error.to_numpy() == pytest.approx(jackknife_errors(0.5), rel=1e-6)
    assert (
        any("sandwich" in f.what for f in fit.findings) and fit.objective == "score_matching (MAP)"
    )


# -- the path --------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_path_of_a_mean():
    found = un.path(normal, ROWS, "score_matching", penalty={"m": un.L1}, seed=0, progress=False)
    mean, strengths = ROWS.mean(0), found.coefficients.index.to_numpy()
    assert found.passed and len(strengths) == 30
    assert strengths[0] == pytest.approx(np.abs(mean).max(), rel=1e-9)
    assert strengths[-1] == pytest.approx(0.01 * strengths[0])
    assert (found.coefficients.iloc[0] == 0).all() and found.coefficients.columns[0] == "m[0]"
    assert found.coefficients.to_numpy() == pytest.approx(
        shrunk(mean, strengths[:, None]), abs=1e-10
    )
    # ρ = −d + ½ |m − x|², and the extended BIC by hand
    losses = np.array(
        [-4 + 0.5 * ((ROWS - m) ** 2).sum(1).mean() for m in found.coefficients.to_numpy()]
    )
    df = (found.coefficients != 0).sum(axis=1).to_numpy()
    bic = 100 * losses + df * np.log(50) + 2 * df * np.log(4)
    assert found.losses.to_numpy() == pytest.approx(
        losses
    ) and found.extended_bic.to_numpy() == pytest.approx(bic)
    best = strengths[np.argmin(bic)]
    assert found.best.summary().estimate.to_numpy() == pytest.approx(shrunk(mean, best), abs=1e-10)
    assert repr(found).startswith(
        "Path of normal by score_matching: 30 strengths"
    ) and "extended_bic" in str(found)


@pytest.mark.slow
def test_the_path_takes_a_grid_and_a_penalty_that_stays():
    penalty = {"m": un.L1([0.1, 1.0, 0.4])}
    found = un.path(normal, ROWS, "score_matching", penalty=penalty, seed=0, progress=False)
    assert found.coefficients.index.tolist() == [1.0, 0.4, 0.1]


@pytest.mark.slow
def test_the_path_of_a_graph_meets_its_condition_all_along():
    """Rochdale by pseudo-likelihood, whose slopes are found here without the library."""
    data = un.models.load("rochdale")
    found = un.path(
        ising, data, "pseudo_likelihood", penalty={"coupling": un.L1()}, seed=0, progress=False
    )
    x, places = data.to_numpy(float), np.triu_indices(8, 1)
    assert found.passed and found.best is not None and (found.coefficients.iloc[0, :28] == 0).all()
    for strength, row in found.coefficients.iloc[::5].iterrows():
        theta, coupling = row.to_numpy(), np.zeros((8, 8))
        coupling[places] = theta[:28]
        residual = 1 / (1 + np.exp(-(x @ (coupling + coupling.T) + theta[28:]))) - x
        slopes = (residual.T @ x + x.T @ residual)[places] / len(x)
        zero = theta[:28] == 0
        assert residual.mean(0) == pytest.approx(0, abs=1e-9)
        assert np.all(np.abs(slopes[zero]) <= strength * (1 + 1e-9))
        assert slopes[~zero] == pytest.approx(-strength * np.sign(theta[:28][~zero]), abs=1e-8)


@pytest.mark.slow
def test_a_path_without_a_likelihood_says_so():
    found = un.path(
        normal,
        ROWS,
        un.objectives.SlicedScoreMatching(),
        penalty={"m": un.L1([1.0, 0.1])},
        seed=0,
        progress=False,
    )
    assert found.best is None and found.extended_bic.isna().all()
    assert any("no extended BIC" in f.what for f in found.findings) and "best" not in repr(found)


# -- the posterior ---------------------------------------------------------------------------------
def gamma_posterior():
    return un.posterior(exponential, TIMES, prior={"rate": dist.Gamma(3.0, 2.0)})


@pytest.mark.slow
def test_the_posterior_of_a_rate_is_gamma(x64):
    shape, rate, at = 3 + len(TIMES), 2 + TIMES.sum(), np.array([0.8, 1.2, 1.7, 2.5])
    found = np.asarray(gamma_posterior()(at))
    assert np.ptp(found - ((shape - 1) * np.log(at) - rate * at)) < 1e-3


@pytest.mark.slow
def test_nuts_draws_the_conjugate_posterior():
    posterior = gamma_posterior()
    assert list(posterior.variables) == ["rate"] and posterior.supports == {}
    draws = un.sample(
        posterior, un.kernels.NUTS(), draws=1000, warmup=500, chains=4, seed=0, progress=False
    )
    shape, rate = 3 + len(TIMES), 2 + TIMES.sum()
    values = draws.posterior["rate"].to_numpy()
    assert_within(values.mean(), shape / rate, error_of_mean(values))
    squares = (values - shape / rate) ** 2
    assert_within(squares.mean(), shape / rate**2, error_of_mean(squares))
    assert error_of_mean(values) < 0.02


def test_a_discrete_posterior_by_hand(x64):
    """Two fields of independent bits: Σ x θ − n log(1 + e^θ), and a normal prior of each."""
    p = un.Density(
        lambda x, *, field: field @ x, {"x": un.Binary["d"]}, {"field": (un.Real["d"], 0.0)}
    )
    posterior = un.posterior(p, BITS[:, :2], prior={"field": dist.Normal(0.0, 2.0)})
    assert posterior.shapes() == {"field": (2,)}
    at = np.array([[0.0, 0.0], [0.5, -1.0], [2.0, 0.3]])
    expected = (at * BITS[:, :2].sum(0) - len(BITS) * np.log1p(np.exp(at)) - at**2 / 8).sum(1)
    assert np.asarray(posterior(at)) - posterior(at[0]) == pytest.approx(
        expected - expected[0], abs=1e-8
    )


# -- what is refused -------------------------------------------------------------------------------
REFUSED = {
    "a bare penalty": (
        {"penalty": un.L1(0.1)},
        r"penalty is L1\(strength=0.1\); expected a dict by parameter",
    ),
    "an unknown name": (
        {"penalty": {"mm": un.L1(0.1)}},
        r"penalty was given 'mm', .*did you mean 'm'\?",
    ),
    "no penalty": ({"penalty": {"m": 0.1}}, r"The penalty on m is 0.1; expected un.L1 or un.L2"),
    "no strength": (
        {"penalty": {"m": un.L1()}},
        r"The strength of L1 on m is None; expected finite nonnegative numbers",
    ),
    "a negative one": (
        {"penalty": {"m": un.L2(-1.0)}},
        r"The strength of L2 on m is -1.0; expected finite nonnegative numbers",
    ),
    "another shape": (
        {"penalty": {"m": un.L2([1.0, 2.0])}},
        r"has the shape \(2,\); expected one number",
    ),
    "trained": (
        {"penalty": {"m": un.L1(0.1)}, "steps": 10},
        r"is L1 and ScoreMatching is trained by steps here",
    ),
    "no distribution": (
        {"prior": {"m": 1.0}},
        r"The prior of m is 1.0; expected a NumPyro distribution",
    ),
    "another event": (
        {"prior": {"m": dist.Normal(jnp.zeros(3), 1.0)}},
        r"shape \(3,\) and m has \(4,\); expected",
    ),
    "outside": (
        {"prior": {"m": dist.Gamma(1.0, 1.0)}, "start": {"m": [-1.0] * 4}},
        r"log-prior of m is .*start",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_penalty_or_prior_is_said(what):
    options, sentence = REFUSED[what]
    with pytest.raises(ValueError, match=sentence):
        fitted(normal, ROWS, **options)


def test_where_the_lasso_does_not_serve():
    with pytest.raises(
        ValueError, match=r"L1 and rate is Positive; expected a parameter without bounds"
    ):
        fitted(exponential, TIMES, "maximum_likelihood", penalty={"rate": un.L1(0.1)})
    with pytest.raises(ValueError, match=r"L1 and ContrastiveDivergence is trained by steps here"):
        fitted(
            ising,
            BITS,
            "contrastive_divergence",
            penalty={"coupling": un.L1(0.1)},
            optimizer=optax.adam(0.1),
        )
    with pytest.raises(
        ValueError, match=r"ContrastiveDivergence, which draws samples, was given to un.path"
    ):
        un.path(
            ising, BITS, "contrastive_divergence", penalty={"coupling": un.L1()}, progress=False
        )
    with pytest.raises(ValueError, match=r"holds no un.L1 without a strength or with an array"):
        un.path(normal, ROWS, penalty={"m": un.L2(0.1)}, progress=False)


def test_what_has_no_posterior_is_said():
    prior = {"coupling": dist.Normal(0, 1), "field": dist.Normal(0, 1)}
    with pytest.raises(ValueError, match=r"Parameter coupling is Symmetric.* cannot be sampled"):
        un.posterior(ising, BITS, prior=prior)
    with pytest.raises(ValueError, match=r"Parameter rate has no prior"):
        un.posterior(exponential, TIMES, prior={})
    with pytest.raises(ValueError, match=r"needs Z\(θ\) exactly, and normal has no exact log Z"):
        un.posterior(normal, ROWS, prior={"m": dist.Normal(0, 1)})


@pytest.mark.slow
def test_a_lasso_on_pseudo_likelihood_of_one_lattice_has_no_errors():
    """One row: no parametric bootstrap is run for errors that a lasso has not."""
    p = un.Density(
        lambda x, *, a: a * (x[1:] * x[:-1]).sum(), {"x": un.Spin[30]}, {"a": (un.Real, 0.0)}
    )
    chain = np.sign(np.random.default_rng(0).normal(size=(1, 30)) + 0.3)
    fit = fitted(p, chain, PseudoLikelihood(), penalty={"a": un.L1(100.0)})
    assert fit.summary().estimate["a"] == 0.0 and fit.covariance is None and fit.passed


# -- after the path --------------------------------------------------------------------------------
def test_a_refit_is_the_fit_of_the_kept_entries_without_shrinkage():
    strengths = [1.5, 0.5, 0.1]
    found = un.path(
        normal, ROWS, "score_matching", penalty={"m": un.L1(strengths)}, seed=0, progress=False
    )
    table = found.refit(0.5).summary()
    kept = np.abs(ROWS.mean(0)) > 0.5
    assert table.estimate.to_numpy() == pytest.approx(np.where(kept, ROWS.mean(0), 0), abs=1e-9)
    errors = np.where(kept, ROWS.std(0) / np.sqrt(len(ROWS)), 0)
    assert table.standard_error.to_numpy() == pytest.approx(errors, abs=1e-9)
    refitted = found.refit()
    assert refitted.converged and any("held at the zeros" in f.what for f in refitted.findings)
    with pytest.raises(
        ValueError, match=r"strength is 0\.3, which is not on the path; the nearest"
    ):
        found.refit(0.3)


def test_gamma_is_that_of_the_extended_bic():
    options = {"penalty": {"m": un.L1([1.5, 0.5, 0.1])}, "seed": 0, "progress": False}
    paths = [un.path(normal, ROWS, "score_matching", gamma=g, **options) for g in (0, 1.0)]
    df = np.array([1, 2, 3])
    assert (paths[0].coefficients != 0).sum(axis=1).tolist() == df.tolist()
    difference = paths[1].extended_bic - paths[0].extended_bic
    assert difference.to_numpy() == pytest.approx(4 * df * np.log(4))
    with pytest.raises(ValueError, match="gamma is 2; it must be between 0 and 1"):
        un.path(normal, ROWS, "score_matching", gamma=2, **options)

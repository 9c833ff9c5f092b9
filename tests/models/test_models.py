"""The families of un.models: each is its formula, is sampled, fitted and normalized; the known
answers."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from family_cases import CASES, WITHOUT, case, everything, graph_statistics, rows_of
from helpers import assert_within
from jax.flatten_util import ravel_pytree
from scipy import special, stats
from targets import CASE_C, error_of_mean

import unnorm as un
from unnorm import models
from unnorm.models.toys import SAMPLERS


def fitted(p, data, objective="maximum_likelihood", **options):
    return un.fit(p, data, objective, progress=False, **({"seed": 0} | options))


@jax.jit
def features(p, events):
    """∇ log p̃ in the unconstrained parameters, event by event: the sufficient statistics of an
    exponential family."""
    at = p.free()
    return jax.vmap(
        lambda e: ravel_pytree(jax.grad(lambda free: p.at(free).log_density(e))(at))[0]
    )(events)


# -- the list --------------------------------------------------------------------------------------
def test_every_family_has_a_case_and_a_name():
    assert set(models.FAMILIES) == set(CASES) | WITHOUT
    for name, family in models.FAMILIES.items():
        assert getattr(models, name) is family
        assert isinstance(family, un.Density) or callable(family)
        built = family if isinstance(family, un.Density) else None
        assert built is None or built.name == name
    for name in CASES:
        assert case(name).density.name == name


@pytest.mark.parametrize("name", models.FAMILIES)
def test_a_family_says_what_it_is_for(name):
    text = models.FAMILIES[name].__doc__
    summary = " ".join(text.split("\n\n")[0].split())
    assert ": " in summary and summary.endswith(".")
    assert "log p̃" in text and "References:" in text
    if not isinstance(models.FAMILIES[name], un.Density):
        return  # pytest runs the examples of functions by itself
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert example.examples and doctest.DocTestRunner(verbose=False).run(example).failed == 0


@pytest.mark.parametrize("name", CASES)
def test_a_family_is_its_formula(name, x64):
    events = everything(name)[0]
    some = np.random.default_rng(1).integers(len(next(iter(events.values()))), size=20)
    some = {variable: value[some] for variable, value in events.items()}
    assert np.asarray(case(name).density(some)) == pytest.approx(
        case(name).formula(**some), abs=1e-9
    )


# -- sampled, fitted, normalized -------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_family_is_normalized(name):
    """log Z as the library finds it by itself is the sum over all events."""
    p, exact = case(name).density, everything(name)[2]
    z = un.log_z(p, seed=0, progress=False)
    if z.standard_error < 1e-4:
        assert z.value == pytest.approx(exact, abs=1e-5)
    else:
        assert_within(z.value, exact, z.standard_error)
        assert z.standard_error < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_family_is_fitted_by_two_objectives_and_sampled(name):
    p, data = case(name).density, rows_of(name)
    fit = fitted(p, data, case(name).first)
    other = fitted(p, data, case(name).second)
    assert fit.converged and other.converged
    table, second = fit.summary(), other.summary()
    assert_within(
        second.estimate, table.estimate, np.hypot(second.standard_error, table.standard_error)
    )
    draws = un.sample(fit.density, draws=1000, warmup=500, chains=4, seed=0, progress=False)
    drawn = {v: np.asarray(draws.posterior[v].values, float) for v in p.variables}
    with jax.enable_x64(True):
        bare = fit.density.for_jit()
        assert np.isfinite(np.asarray(fit.density(drawn))).all()
        of_data = np.asarray(features(bare, data)).mean(0)
        if case(name).first != "maximum_likelihood":
            return
        # Maximum likelihood: the model's means are the data's, exactly over all events and in the
        # draws.
        events, log_weights = case(name).nodes()
        log_mass = np.asarray(fit.density(events)) + log_weights
        mass = np.exp(log_mass - special.logsumexp(log_mass))
        assert mass @ np.asarray(features(bare, events)) == pytest.approx(of_data, abs=1e-5)
        flat = {v: x.reshape(-1, *x.shape[2:]) for v, x in drawn.items()}
        means = np.asarray(features(bare, flat)).reshape(4, 1000, -1)
    assert_within(means.mean((0, 1)), of_data, error_of_mean(means))


# -- known answers ---------------------------------------------------------------------------------
EDGES = [
    f"coupling[{edge}]"
    for edge in ("Econ,HusbEmp", "Econ,Child", "Econ,Asian", "Age,Child", "Educ,HusbEduc")
]


@pytest.mark.slow
def test_case_a_rochdale_by_three_families():
    """Ising, spins and two categories are one model in other coordinates: one maximum of the
    likelihood."""
    data = models.load("rochdale")
    by_ising = fitted(models.ising, data)
    assert by_ising.summary().estimate[EDGES].to_numpy() == pytest.approx(
        [1.3341, -1.4887, -2.1744, -2.9745, 1.0298], abs=1e-4
    )
    assert by_ising.log_z.value == pytest.approx(5.474312, abs=1e-6)
    for p, coded in ((models.boltzmann_machine, 2 * data - 1), (models.potts(2), data)):
        fit = fitted(p, coded)
        assert fit.log_likelihood(coded).value == pytest.approx(-2593.4945, abs=1e-4)
        # A log odds ratio is 4 times a coupling of spins, and twice one of agreement.
        odds = fit.summary().estimate[EDGES].to_numpy() * (
            4 if p is models.boltzmann_machine else 2
        )
        assert odds == pytest.approx(by_ising.summary().estimate[EDGES].to_numpy(), abs=1e-4)
    local = fitted(models.ising, data, "pseudo_likelihood").summary().estimate[EDGES].to_numpy()
    assert local == pytest.approx([1.3266, -1.4894, -2.1820, -2.9752, 1.0333], abs=1e-4)


@pytest.mark.slow
def test_case_b_publications():
    """The likelihood, and ordinal score matching; two counts without a coupling are each alone."""
    counts = models.load("phd_pubs")["articles"].to_numpy()
    fit = fitted(models.conway_maxwell_poisson, counts)
    alone = [-0.24735, 0.18704]
    assert fit.summary().estimate.to_numpy() == pytest.approx(alone, abs=1e-5)
    assert fit.log_likelihood(counts).value == pytest.approx(-1613.4779, abs=1e-4)
    scored = fitted(models.conway_maxwell_poisson, counts, "score_matching")
    assert scored.summary().estimate.to_numpy() == pytest.approx([-0.137, 0.3043], abs=1e-4)
    both = np.stack([counts, np.random.default_rng(0).permutation(counts)], 1)
    apart = fitted(
        models.multivariate_conway_maxwell_poisson.fix(coupling=0.0), both, "pseudo_likelihood"
    )
    assert apart.summary().estimate.to_numpy() == pytest.approx(np.repeat(alone, 2), abs=1e-4)


@pytest.mark.slow
def test_case_c_by_score_matching(ozone):
    """And the a-b model with a = b = 1 is the same one."""
    h = un.objectives.ScoreMatching(h="min")
    for p in (models.truncated_gaussian, models.non_negative_graphical()):
        estimate = fitted(p, ozone, h).summary().estimate.to_numpy()
        assert estimate == pytest.approx([3.2846, 5.5565, 0.8973, 0.9913, 1.5535], abs=1e-4)


@pytest.mark.slow
def test_case_c_by_maximum_likelihood(ozone):
    fit = fitted(models.truncated_gaussian, ozone)
    assert fit.summary().estimate.to_numpy() == pytest.approx(CASE_C.estimate.to_numpy(), abs=1e-4)
    assert fit.log_z.value == pytest.approx(11.05335, abs=1e-4)


@pytest.mark.slow
def test_case_e_florentine_marriages():
    graph = models.load("florentine").to_numpy()[None]
    p = models.exponential_random_graph("edges", "triangles")
    local = fitted(p, graph, "pseudo_likelihood").summary().estimate.to_numpy()
    assert local == pytest.approx([-1.70094, 0.22085], abs=1e-5)
    estimate = (
        fitted(p, graph, un.objectives.MaximumLikelihood(draws=10_000))
        .summary()
        .estimate.to_numpy()
    )
    assert np.all(np.abs(estimate - [-1.674, 0.156]) < [0.02, 0.03])


@pytest.mark.slow
def test_case_f_pole_positions():
    latitude, longitude = np.radians(models.load("polar").to_numpy()).T
    x = np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        1,
    )
    fit = fitted(models.von_mises_fisher, x)
    assert np.linalg.norm(fit.density.parameters["eta"]) == pytest.approx(4.31832, abs=1e-5)
    assert fit.log_z.value == pytest.approx(4.693152, abs=1e-6)
    scored = fitted(models.von_mises_fisher, x, "score_matching")
    assert np.linalg.norm(scored.density.parameters["eta"]) == pytest.approx(4.73069, abs=1e-5)
    # Longitudes alone, on the circle: I_1(κ) / I_0(κ) is the mean resultant length.
    circular = fitted(models.von_mises, np.angle(np.exp(1j * longitude)))
    kappa = np.linalg.norm(circular.density.parameters["eta"])
    assert special.i1(kappa) / special.i0(kappa) == pytest.approx(
        abs(np.exp(1j * longitude).mean()), abs=1e-6
    )


@pytest.mark.slow
def test_case_h_iris_by_its_precision():
    """Score matching is maximum likelihood: the inverse of the covariance."""
    x = models.load("iris").iloc[:, :4].to_numpy()
    fit = fitted(models.gaussian_graphical, x, "score_matching")
    precision = np.linalg.inv(np.cov(x.T, ddof=0))
    assert fit.density.parameters["precision"] == pytest.approx(precision, rel=1e-7)
    assert fit.density.parameters["eta"] == pytest.approx(precision @ x.mean(0), rel=1e-7)


@pytest.mark.slow
def test_a_gamma_distribution_of_ozone_is_scipys(ozone):
    """By its statistics, and as the a-b model with a = 1/2 and b = 0."""
    x = ozone["Ozone"].to_numpy()
    shape, _, scale = stats.gamma.fit(x, floc=0)
    gamma = models.exponential_family({"log": jnp.log, "linear": lambda x: -x}, un.Positive)
    fit = fitted(gamma, x, start={"theta": [1.0, 1.0]})
    assert list(fit.summary().index.flat) == ["theta[log]", "theta[linear]"]
    assert fit.summary().estimate.to_numpy() == pytest.approx([shape - 1, 1 / scale], rel=1e-3)
    mean_log = special.digamma(fit.density.parameters["theta"][0] + 1) - np.log(
        fit.density.parameters["theta"][1]
    )
    assert mean_log == pytest.approx(np.log(x).mean(), abs=1e-6)
    same = fitted(models.non_negative_graphical(a=0.5, b=0), x[:, None])
    assert same.summary().estimate.to_numpy() == pytest.approx(
        fit.summary().estimate.to_numpy(), abs=1e-5
    )


CLOSED_FORMS = {
    "gaussian_graphical": lambda: (
        np.log(2 * np.pi)
        - 0.5 * np.log(np.linalg.det([[1.5, 0.4], [0.4, 0.8]]))
        + 0.5 * np.array([1.0, -0.5]) @ np.linalg.solve([[1.5, 0.4], [0.4, 0.8]], [1.0, -0.5])
    ),
    "von_mises": lambda: np.log(2 * np.pi * special.i0(np.hypot(1.0, 0.5))),
    "von_mises_fisher": lambda: np.log(4 * np.pi * np.sinh(np.sqrt(5.25)) / np.sqrt(5.25)),
    "bivariate_von_mises": lambda: np.log(4 * np.pi**2 * _sine_series(1.5, 1.0, 0.8)),
    "independent_components": lambda: (
        2 * np.log(np.pi) - np.log(np.linalg.det([[1.0, 0.4], [-0.3, 1.5]]))
    ),
    "eight_gaussians": lambda: np.log(8 * 2 * np.pi * 0.2**2),
    "two_moons": lambda: np.log(200 * 2 * np.pi * 0.1**2),
    "two_spirals": lambda: np.log(400 * 2 * np.pi * 0.1**2),
}


def _sine_series(one, other, coupling):
    m = np.arange(30)
    terms = special.comb(2 * m, m) * (coupling**2 / (4 * one * other)) ** m
    return np.sum(terms * special.iv(m, one) * special.iv(m, other))


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms_of_log_z_are_sums_over_all_events(name):
    """The formulas of the docstrings against the formula of the density, neither the library's
    own."""
    assert everything(name)[2] == pytest.approx(CLOSED_FORMS[name](), abs=1e-8)


@pytest.mark.slow
def test_closed_forms_at_other_values():
    assert un.log_z(models.quartic.bind(d=0.3), progress=False).value == pytest.approx(
        np.log(2 * special.gamma(1.25) * 0.3**-0.25), abs=1e-7
    )
    watson = un.log_z(models.bingham(3).bind(diagonal=[-2.0, -2.0]), progress=False)
    assert watson.value == pytest.approx(
        np.log(4 * np.pi * special.hyp1f1(0.5, 1.5, 2.0)) - 2.0, abs=1e-6
    )
    joint = models.restricted_boltzmann_machine.bind(
        weights=[[1.0, -2.0, 0.5]], visible=[0.1, 0.2, 0.3], hidden=[0.7]
    )
    values = {name: value for name, value in joint.parameters.items()}
    marginal = models.restricted_boltzmann_machine_marginal.bind(**values)
    z = [un.log_z(p, "exact", progress=False).value for p in (joint, marginal)]
    assert z[0] == pytest.approx(z[1], abs=1e-12)


def test_a_whole_power_has_derivatives_at_zero():
    """As 1.0 too, which a traced power has not."""
    p = (
        models.non_negative_graphical(a=1.0, b=1.0)
        .bind(eta=[0.5, 0.0], interaction=[[2.0, 0.5], [0.5, 1.0]])
        .for_jit()
    )
    x = jnp.array([0.0, 1.0])
    assert jax.hessian(lambda x: p.log_density({"x": x}))(x) == pytest.approx(
        -np.array([[2.0, 0.5], [0.5, 1.0]])
    )
    assert models.non_negative_graphical(a=0.5).bind(eta=[0.5], interaction=[[2.0]])(
        [4.0]
    ) == pytest.approx(1.5 - 8)


# -- graphs ----------------------------------------------------------------------------------------
def test_statistics_of_a_graph_are_counted_node_by_node(x64):
    y = models.load("florentine").to_numpy(float)
    names = ("edges", "triangles", "two_stars", "gwdegree", "gwesp")
    for name, expected in zip(names, graph_statistics(y), strict=True):
        p = models.exponential_random_graph(name, decay=0.5)
        assert float(p.bind(**{name: 2.0})(y)) == pytest.approx(2 * expected, abs=1e-9)
    weights = np.linspace(-1, 1, 16)
    by_node = models.exponential_random_graph("degree").bind(degree=weights)
    assert float(by_node(y)) == pytest.approx(weights @ y.sum(1), abs=1e-9)


def test_one_declaration_is_one_structure():
    """Two builds share every compiled program: their functions are equal."""
    for one, other in (
        (
            models.exponential_random_graph("gwesp"),
            models.exponential_random_graph("gwesp", decay=1.0),
        ),
        (models.potts(3), models.potts(3)),
        (
            models.convolutional_energy(4, 4, channels=2),
            models.convolutional_energy(4, 4, channels=2, seed=1),
        ),
    ):
        assert jax.tree.structure(one) == jax.tree.structure(other)


# -- toys ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_toys_sampler_follows_its_density(name):
    """Means of moments and waves, against sums over a grid."""
    if name == "checkerboard":
        axis = (np.arange(400) + 0.5) / 100 - 2
        points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        log_mass = np.asarray(models.checkerboard(points), float)
        assert np.log(np.exp(log_mass).sum() * 0.01**2) == pytest.approx(np.log(8), abs=1e-9)
    else:
        points, log_mass, _ = everything(name)
        points = points["x"]
    mass = np.exp(log_mass - special.logsumexp(log_mass))

    def waves(x):
        phases = [k * x[..., 0] + m * x[..., 1] for k in range(4) for m in (-2, 1, 3)]
        return np.concatenate([np.sin(phases), np.cos(phases)])

    drawn = waves(SAMPLERS[name](np.random.default_rng(0), 20_000))
    assert_within(drawn.mean(-1), waves(points) @ mass, drawn.std(-1) / np.sqrt(20_000) + 2e-4)
    assert np.isfinite(
        np.asarray(models.FAMILIES[name](SAMPLERS[name](np.random.default_rng(1), 500)))
    ).all()


@pytest.mark.slow
def test_a_checkerboard_is_normalized_and_crossed():
    z = un.log_z(models.checkerboard, un.estimators.ImportanceSampling(), seed=0, progress=False)
    assert_within(z.value, np.log(8), z.standard_error)
    everywhere = un.kernels.IndependentMH(dist.Uniform(-2.0, 2.0).expand([2]).to_event(1))
    draws = un.sample(models.checkerboard, everywhere, draws=500, seed=0, progress=False)
    x = draws.posterior["x"].values
    assert np.isfinite(np.asarray(models.checkerboard(x))).all()
    assert all(
        len(np.unique(np.floor(chain), axis=0)) == 8 for chain in x
    )  # every chain in every square


# -- networks --------------------------------------------------------------------------------------
# The default rate of training, 2,000 steps long, leaves these small networks unconverged.
TRAINING = {"steps": 3000, "optimizer": optax.adam(optax.cosine_decay_schedule(1e-2, 3000))}


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [un.objectives.NCE(noise_ratio=2), un.objectives.DenoisingScoreMatching(sigma=0.1)],
    ids=["nce", "dsm"],
)
def test_a_network_learns_the_moons(objective):
    """Its log-likelihood by a grid rises above that of the Gaussian it starts near; its draws are
    finite."""
    train, test = (
        SAMPLERS["two_moons"](np.random.default_rng(seed), 2000).astype(np.float32)
        for seed in (0, 1)
    )
    p = models.fully_connected_energy(2, width=32, depth=2)
    fit = fitted(p, train, objective, **TRAINING)
    assert fit.converged
    axis = (np.arange(300) + 0.5) / 30 - 5
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)

    def log_likelihood(q):
        log_z = special.logsumexp(np.asarray(q(grid), float)) - 2 * np.log(30)
        return float(np.mean(np.asarray(q(test), float))) - log_z

    gaussian = stats.multivariate_normal(train.mean(0), np.cov(train.T)).logpdf(test).mean()
    assert log_likelihood(p) < gaussian < log_likelihood(fit.density) - 0.1
    draws = un.sample(fit.density, draws=200, warmup=200, seed=0, progress=False)
    assert np.isfinite(draws.posterior["x"].values).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", [un.objectives.NCE(noise_ratio=2), un.objectives.PseudoLikelihood()], ids=str
)
def test_a_convolutional_energy_learns_stripes(objective):
    """3 × 3 images of one row or one column: Z by enumeration."""
    rng = np.random.default_rng(0)
    images = np.zeros((600, 3, 3), np.float32)
    for image, place, upright in zip(
        images, rng.integers(3, size=600), rng.uniform(size=600) < 0.5, strict=True
    ):
        image[(slice(None), place) if upright else place] = 1.0
    flip = rng.uniform(size=images.shape) < 0.05
    images = np.where(flip, 1 - images, images)
    p = models.convolutional_energy(3, 3, support=un.Binary, channels=8, depth=1)
    fit = fitted(p, images, objective, **TRAINING)
    assert fit.converged
    share = images.mean(0)
    independent = (images * np.log(share) + (1 - images) * np.log1p(-share)).sum((1, 2)).mean()
    log_z = un.log_z(fit.density, "exact", progress=False).value
    assert float(np.asarray(fit.density(images), float).mean()) - log_z > independent + 0.5
    draws = un.sample(fit.density, draws=50, warmup=50, seed=0, progress=False)
    assert set(np.unique(draws.posterior["x"].values)) <= {0, 1}


# -- bad input -------------------------------------------------------------------------------------
BAD = {
    "categories": (lambda: models.potts(1), "Categorical was given 1"),
    "power": (lambda: models.non_negative_graphical(a=0), "a is 0, .* positive"),
    "linear power": (lambda: models.non_negative_graphical(b=-1), "b is -1, .* nonnegative"),
    "space": (lambda: models.bingham(1), "d is 1, .* at least 2"),
    "statistic": (
        lambda: models.exponential_random_graph("edge"),
        "'edge', which is no statistic; did you mean",
    ),
    "statistic twice": (lambda: models.exponential_random_graph("edges", "edges"), "'edges' twice"),
    "collinear": (
        lambda: models.exponential_random_graph("edges", "degree"),
        "both 'edges' and 'degree'",
    ),
    "decay": (
        lambda: models.exponential_random_graph("gwesp", decay=0),
        "decay is 0; it must be positive",
    ),
    "no statistics": (lambda: models.exponential_family({}), "statistics is {}; expected a dict"),
    "a list": (
        lambda: models.exponential_family([jnp.log]),
        "expected a dict of at least one name and function",
    ),
    "centres": (
        lambda: models.kernel_exponential_family([[np.nan]], 1.0),
        "1 entries that are not finite",
    ),
    "bandwidth": (
        lambda: models.kernel_exponential_family([0.0, 1.0], 0.0),
        "bandwidth is 0.0; it must be",
    ),
    "one centre": (
        lambda: models.kernel_exponential_family([0.0], 1.0),
        "scale is 0.0; it must be",
    ),
    "size": (
        lambda: models.fully_connected_energy(2.5),
        "size is 2.5; it must be a positive integer",
    ),
    "confinement": (
        lambda: models.convolutional_energy(3, 3, confinement=0),
        "confinement is 0; .* Z is infinite",
    ),
    "scale": (
        lambda: models.noise_conditional_energy(3, scale=-1.0),
        "scale is -1.0; .* Z is infinite",
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_one_sentence(wrong):
    call, words = BAD[wrong]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)

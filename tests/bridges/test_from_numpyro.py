"""A NumPyro model becomes a Density whose value is the model's joint log-density."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from helpers import counting
from scipy import stats

import unnorm as un

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])  # Rubin (1981)
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def by_hand(mu, tau, theta, y=Y, sigma=SIGMA):
    return (
        stats.norm(0, 5).logpdf(mu)
        + stats.halfcauchy(scale=5).logpdf(tau)
        + stats.norm(mu, tau).logpdf(theta).sum()
        + stats.norm(theta, sigma).logpdf(y).sum()
    )


def test_eight_schools_is_the_joint_density_with_its_constants(x64):
    p = un.from_numpyro(eight_schools, SIGMA, y=Y)
    assert p.variables == {"mu": un.Real, "tau": un.Positive, "theta": un.Real["school"]}
    assert (
        p.dimensions == {"school": 8} and p.parameters == {} and set(p.constants) == {"sigma", "y"}
    )
    assert repr(p) == "Density eight_schools(mu: Real, tau: Positive, theta: Real['school'])"
    theta = np.linspace(-3, 9, 8)
    assert float(p(1.5, 2.5, theta)) == pytest.approx(by_hand(1.5, 2.5, theta), rel=1e-12)
    assert float(p(1.5, -2.5, theta)) == -np.inf
    many = p(mu=np.array([0.0, 1.0]), tau=2.0, theta=theta)
    np.testing.assert_allclose(
        many, [by_hand(0.0, 2.0, theta), by_hand(1.0, 2.0, theta)], rtol=1e-12
    )
    other = {"y": Y + 1, "sigma": SIGMA * 2}
    assert float(p(1.5, 2.5, theta, **other)) == pytest.approx(
        by_hand(1.5, 2.5, theta, **other), rel=1e-12
    )
    assert all(np.isfinite(part).all() for part in p.score(1.5, 2.5, theta).values())


def test_the_algebra_works_on_it():
    p = un.from_numpyro(eight_schools, SIGMA, y=Y)
    given = p.given(theta=np.zeros(8), mu=0.0)
    assert float(given(2.0)) == pytest.approx(by_hand(0.0, 2.0, np.zeros(8)), rel=1e-5)
    assert float((p**0.5)(0.0, 2.0, np.zeros(8))) == pytest.approx(
        by_hand(0.0, 2.0, np.zeros(8)) / 2, rel=1e-5
    )
    with pytest.raises(ValueError, match=r"did you mean|Known: none"):
        p.bind(tau=1.0)


def test_new_data_never_retrace():
    @counting
    def model(y, sigma):
        numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal()), sigma), obs=y)

    jitted = jax.jit(lambda p, mu: jax.value_and_grad(lambda m: p.log_density({"mu": m}))(mu))
    jitted(un.from_numpyro(model, Y, 1.0).for_jit(), 0.0)
    declaring = model.traces
    for i in range(3):
        p = un.from_numpyro(
            model, Y + i, sigma=2.0 + i
        )  # runs the model twice, and compiles nothing
        value, gradient = jitted(p.for_jit(), 0.5)
        expected = stats.norm.logpdf(0.5) + stats.norm(0.5, 2.0 + i).logpdf(Y + i).sum()
        assert float(value) == pytest.approx(expected, rel=1e-5) and np.isfinite(gradient)
    assert model.traces == declaring + 3 * 2


def test_log_z_is_the_log_marginal_likelihood(x64):
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(1.0, 2.0))
        numpyro.sample("y", dist.Normal(mu, 1.5).expand(y.shape).to_event(1), obs=y)

    y = np.array([0.5, 2.0, -1.0])
    p = un.from_numpyro(model, y)
    grid = np.linspace(-20, 20, 4001)
    log_z = np.log(np.exp(np.asarray(p(grid))).sum() * (grid[1] - grid[0]))
    closed = stats.multivariate_normal(np.ones(3), 1.5**2 * np.eye(3) + 4.0).logpdf(y)
    assert log_z == pytest.approx(closed, abs=1e-10)


def test_every_support_that_is_known():
    def model():
        numpyro.sample("real", dist.Normal().expand([3]).to_event(1))
        numpyro.sample("positive", dist.Gamma(2.0))
        numpyro.sample("interval", dist.Uniform(-1, 2))
        numpyro.sample("unit", dist.Beta(2.0, 3.0))
        numpyro.sample("simplex", dist.Dirichlet(jnp.ones(3)))
        numpyro.sample("truncated", dist.TruncatedNormal(0.0, 1.0, low=0.0))
        ordered = dist.TransformedDistribution(
            dist.Normal().expand([2]), dist.transforms.OrderedTransform()
        )
        with numpyro.plate("row", 2):
            numpyro.sample("ordered", ordered)
            with numpyro.plate("column", 4):
                numpyro.sample("matrix", dist.HalfNormal(2.0))

    p = un.from_numpyro(model)
    assert p.variables == {
        "real": un.Real[3],
        "positive": un.Positive,
        "interval": un.Interval(-1, 2),
        "unit": un.Interval(0, 1),
        "simplex": un.Simplex[3],
        "truncated": un.Positive,
        "ordered": un.Ordered["row", 2],
        "matrix": un.Positive["column", "row"],
    }
    event = {
        "real": np.zeros(3),
        "positive": 1.0,
        "interval": 0.0,
        "unit": 0.5,
        "simplex": np.array([0.2, 0.3, 0.5]),
        "truncated": 1.0,
        "ordered": np.array([[0.0, 1.0], [1.0, 3.0]]),
        "matrix": np.ones((4, 2)),
    }
    expected = (
        3 * stats.norm.logpdf(0)
        + stats.gamma(2).logpdf(1)
        - np.log(3)
        + stats.beta(2, 3).logpdf(0.5)
        + np.log(2)
        + stats.halfnorm.logpdf(1)
        + stats.norm.logpdf([0, 0, 1, np.log(2)]).sum()
        - np.log(2)
        + 8 * stats.halfnorm(scale=2).logpdf(1)
    )
    assert float(p(event)) == pytest.approx(expected, rel=1e-5)


def test_names_that_clash_are_handled():
    def model(mu, school):
        with numpyro.plate("effect", len(school)):
            numpyro.sample("effect_", dist.Normal(mu, 1.0), obs=school)
        with numpyro.plate("mu", 2):  # a plate with a site's name: its axis is a plain size
            numpyro.sample("scale", dist.HalfNormal())
        numpyro.sample("mu_", dist.Normal(0, 1))
        numpyro.sample("school", dist.Normal(0, 1))

    p = un.from_numpyro(model, 1.0, np.ones(3))
    assert set(p.constants) == {"mu", "school_argument"} and p.dimensions == {"mu": 2}
    value = p(scale=np.ones(2), mu_=0.0, school=0.0)
    expected = 5 * stats.norm.logpdf(0) + 2 * stats.halfnorm.logpdf(1)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def one_site(name, distribution):
    def model():
        numpyro.sample(name, distribution)

    return model


def dependent():
    width = numpyro.sample("width", dist.HalfNormal())
    numpyro.sample("x", dist.Uniform(0.0, width))


def param():
    numpyro.sample("x", dist.Normal(numpyro.param("loc", 0.0), 1.0))


def subsampled():
    with numpyro.plate("row", 10, subsample_size=2):
        numpyro.sample("x", dist.Normal())


def observed():
    numpyro.sample("x", dist.Normal(), obs=0.0)


def random_key():
    numpyro.sample("x", dist.Normal())
    numpyro.prng_key()


def scoped():
    with numpyro.handlers.scope(prefix="a"):
        numpyro.sample("x", dist.Normal())


def meeting():
    b = numpyro.sample("b", dist.Normal())
    with numpyro.plate("n", 3):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.factor("f", b * (z[1:] * z[:-1]).sum())


def neighbours():
    b = numpyro.sample("b", dist.Normal())
    with numpyro.plate("n", 3):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
        numpyro.factor("f", b * z * jnp.roll(z, 1))


def many_states():
    numpyro.sample("x", dist.Normal())
    for i in range(11):
        numpyro.sample(f"z{i}", dist.Bernoulli(0.5))


REFUSED = {
    "discrete alone": (one_site("z", dist.Bernoulli(0.5)), "no continuous latent sites"),
    "count": (one_site("z", dist.Poisson(2.0)), "^Site z is Poisson, .* without a finite list"),
    "dependent bounds": (dependent, "^Site x has bounds that depend on other sites"),
    "point mass": (one_site("z", dist.Delta(1.0)), "^Site z is Delta, a point mass"),
    "no log-density": (
        one_site("v", dist.ProjectedNormal(jnp.ones(4))),
        "^Site v is ProjectedNormal, whose log_prob NumPyro does not implement",
    ),
    "no bijection": (
        one_site("z", dist.ImproperUniform(dist.constraints.complex, (), ())),
        "^Site z has the support Complex.*no bijection",
    ),
    "random": (random_key, r"calls numpyro.prng_key\(\), so that its density is random"),
    "scope": (scoped, "^Site a/x has '/' in its name"),
    "elements in one factor": (
        meeting,
        "elements of the discrete site z occur together in one factor",
    ),
    "elements side by side": (neighbours, "site.* z cannot be summed out element by element"),
    "many states": (many_states, "have 2,048 combinations of states; expected at most 1,024"),
    "chain": (one_site("chain", dist.Normal()), "^The name 'chain' is reserved"),
    "draw": (one_site("draw", dist.Normal()), "^The name 'draw' is reserved"),
    "param": (param, "^Site loc is a numpyro.param"),
    "subsample": (subsampled, "^Plate row draws a subsample of 2 out of 10"),
    "observed": (observed, "no continuous latent sites"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(name):
    model, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence) as error:
        un.from_numpyro(model)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_what_is_no_model_or_no_array_is_refused():
    with pytest.raises(TypeError, match="expected a NumPyro model"):
        un.from_numpyro(3)
    with pytest.raises(ValueError, match="given a Series for the model; expected arrays"):
        un.from_numpyro(eight_schools, SIGMA, y=pd.Series(Y))

"""Ten NumPyro models through the bridge: the moments of NUTS here against NumPyro's own."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer import MCMC, NUTS
from numpyro.infer.reparam import LocScaleReparam
from scipy import stats

import unnorm as un
from unnorm.statistics.mcmc import effective_sample_size

RNG = np.random.default_rng(1)
Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])  # Rubin (1981)
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
GRID = np.linspace(-2, 2, 12)
NOISE = RNG.normal(size=40)


def eight_schools(center):
    def model(sigma, y):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        # away from 0, where the centred form has no tractable geometry
        tau = numpyro.sample("tau", dist.LogNormal(2.0, 0.3))
        with numpyro.plate("school", len(sigma)):
            with handlers.reparam(config={} if center else {"theta": LocScaleReparam(0)}):
                theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("y", dist.Normal(theta, sigma), obs=y)

    return model


def horseshoe(x, y):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("column", x.shape[1]):
        local = numpyro.sample("local", dist.HalfCauchy(1.0))
        z = numpyro.sample("z", dist.Normal())
        slope = numpyro.deterministic("slope", z * local * scale)
    numpyro.sample("y", dist.Normal(x @ slope, 0.5), obs=y)


def mixture(y):
    weight = numpyro.sample("weight", dist.Beta(2, 2))
    mean = numpyro.sample("mean", dist.Normal(jnp.array([-2.0, 2.0]), 0.5).to_event(1))
    with numpyro.plate("row", len(y)):
        parts = dist.Normal(mean, 1.0)
        numpyro.sample(
            "y", dist.MixtureSameFamily(dist.Categorical(jnp.stack([weight, 1 - weight])), parts),
            obs=y,
        )  # fmt: skip


def ar1(y):
    phi = numpyro.sample("phi", dist.Uniform(-1, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))

    def step(before, now):
        numpyro.sample("y", dist.Normal(phi * before, sigma), obs=now)
        return now, None

    scan(step, y[0], y[1:])


def funnel():
    v = numpyro.sample("v", dist.Normal(0, 1))
    numpyro.sample("x", dist.Normal(0, jnp.exp(v / 2)).expand([4]).to_event(1))


def ordinal(x, y):
    slope = numpyro.sample("slope", dist.Normal(0, 2))
    cut = dist.TransformedDistribution(
        dist.Normal(0, 2).expand([3]).to_event(1), dist.transforms.OrderedTransform()
    )
    cutpoints = numpyro.sample("cutpoints", cut)
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.OrderedLogistic(slope * x, cutpoints), obs=y)


def gaussian_process(x, y):
    length = numpyro.sample("length", dist.InverseGamma(4.0, 4.0))
    amplitude = numpyro.sample("amplitude", dist.HalfNormal(1.0))
    squared = (x[:, None] - x[None]) ** 2
    kernel = amplitude**2 * jnp.exp(-0.5 * squared / length**2) + 0.1 * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), kernel), obs=y)


def hierarchical_logistic(group, x, y):
    mean = numpyro.sample("mean", dist.Normal(0, 1))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    with numpyro.plate("group", 4):
        z = numpyro.sample("z", dist.Normal())
    slope = numpyro.deterministic("slope", mean + spread * z)
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Bernoulli(logits=slope[group] * x), obs=y)


def everything(y, mask):
    """Mask, scale, factor, and a discrete latent site."""
    mean = numpyro.sample("mean", dist.Normal(0, 3))
    gap = numpyro.sample("gap", dist.HalfNormal(3.0))
    numpyro.factor("soft", -0.1 * mean**2)
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Bernoulli(0.4))
        with handlers.scale(scale=0.5), handlers.mask(mask=mask):
            numpyro.sample("y", dist.Normal(mean + gap * z, 1.0), obs=y)


def everything_by_hand(y, mask):
    """The same with the sum over z written out, for NumPyro's NUTS."""
    mean = numpyro.sample("mean", dist.Normal(0, 3))
    gap = numpyro.sample("gap", dist.HalfNormal(3.0))
    logs = [
        np.log(weight) + 0.5 * dist.Normal(mean + gap * z, 1.0).log_prob(y) * mask
        for z, weight in ((0, 0.6), (1, 0.4))
    ]
    numpyro.factor("y", jnp.sum(jnp.logaddexp(*logs)) - 0.1 * mean**2)


X = RNG.normal(size=(40, 3))
BINARY = (RNG.uniform(size=40) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)
TWO = np.where(NOISE > 0, 2.0, -2.0) + RNG.normal(size=40)
SERIES = np.cumsum(NOISE) * 0.3
MODELS = {
    "eight schools": (eight_schools(True), (SIGMA, Y)),
    "eight schools, not centred": (eight_schools(False), (SIGMA, Y)),
    "horseshoe": (horseshoe, (X, X[:, 0] + 0.5 * NOISE)),
    "mixture": (mixture, (TWO,)),
    "AR(1)": (ar1, (SERIES,)),
    "funnel": (funnel, ()),
    "ordinal regression": (ordinal, (X[:, 0], np.digitize(X[:, 0] + NOISE, [-1.0, 0.0, 1.0]))),
    "Gaussian process": (gaussian_process, (GRID, np.sin(2 * GRID) + 0.3 * NOISE[:12])),
    "hierarchical logistic": (hierarchical_logistic, (np.arange(40) % 4, X[:, 0], BINARY)),
    "mask, scale, factor, discrete": (everything, (TWO, np.arange(40) % 5 > 0)),
}
BY_HAND = {"mask, scale, factor, discrete": everything_by_hand}


def summary(values):
    """Mean and its Monte Carlo error of every entry of draws (chain, draw, ...)."""
    flat = np.asarray(values, float).reshape(*values.shape[:2], -1)
    ess = np.array([effective_sample_size(column, "mean") for column in np.moveaxis(flat, -1, 0)])
    return flat.mean((0, 1)), flat.std((0, 1)) / np.sqrt(ess)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_moments_are_numpyros(name):
    model, arguments = MODELS[name]
    p = un.from_numpyro(model, *arguments)
    ours = un.sample(p, "nuts", draws=1000, warmup=1000, seed=0, progress=False).posterior
    mcmc = MCMC(NUTS(BY_HAND.get(name, model)), num_warmup=1000, num_samples=1000, num_chains=4,
                chain_method="vectorized", progress_bar=False)  # fmt: skip
    mcmc.run(jax.random.key(0), *arguments)
    theirs = mcmc.get_samples(group_by_chain=True)
    assert set(p.variables) <= set(theirs)
    for site in {*p.variables, *p.deterministics()} & set(theirs):
        (mean, error), (other, other_error) = summary(ours[site].values), summary(theirs[site])
        assert np.all(abs(mean - other) < 4 * np.hypot(error, other_error)), site


@pytest.mark.slow
def test_the_evidence_of_eight_schools_is_that_of_a_grid():
    p = un.from_numpyro(eight_schools(False), SIGMA, Y)
    tau = np.exp(np.linspace(0.0, 4.0, 2001))
    logs = [
        stats.multivariate_normal(
            np.zeros(8), np.diag(SIGMA**2 + scale**2) + 25.0
        ).logpdf(Y) + stats.norm(2.0, 0.3).logpdf(np.log(scale))
        for scale in tau
    ]  # fmt: skip
    exact = np.log(np.trapezoid(np.exp(logs), np.log(tau)))
    found = un.log_z(p, seed=0, progress=False)
    assert found.passed and abs(found.value - exact) < 4 * found.standard_error

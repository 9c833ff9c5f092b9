"""Evidence from draws that other programs saved."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import MCMC, NUTS

import unnorm as un
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.saved_draws import chains_of_draws

# Strength, density and density adjusted for resin of 42 specimens (Williams 1959, Regression
# Analysis, Wiley).
RADIATA_PINE = np.array([
    3040, 29.2, 25.4, 2470, 24.7, 22.2, 3610, 32.3, 32.2, 3480, 31.3, 31.0, 3810, 31.5, 30.9,
    2330, 24.5, 23.9, 1800, 19.9, 19.2, 3110, 27.3, 27.2, 3670, 32.3, 29.0, 2310, 24.0, 23.9,
    4360, 33.8, 33.2, 1880, 21.5, 21.0, 3670, 32.2, 29.0, 1740, 22.5, 22.0, 2250, 27.5, 23.8,
    2650, 25.6, 25.3, 4970, 34.5, 34.2, 2620, 26.2, 25.7, 2900, 26.7, 26.4, 1670, 21.1, 20.0,
    2540, 24.1, 23.9, 3840, 30.7, 30.7, 3800, 32.7, 32.6, 4600, 32.6, 32.5, 1900, 22.1, 20.8,
    2530, 25.3, 23.1, 2920, 30.8, 29.8, 4990, 38.9, 38.1, 1670, 22.1, 21.3, 3310, 29.2, 28.5,
    3450, 30.1, 29.2, 3600, 31.4, 31.4, 2850, 26.7, 25.9, 1590, 22.1, 21.4, 3770, 30.3, 29.8,
    3850, 32.0, 30.6, 2480, 23.2, 22.6, 3570, 30.3, 30.3, 2620, 29.9, 23.8, 1890, 20.8, 18.4,
    3030, 33.2, 29.4, 3030, 28.2, 28.2,
]).reshape(42, 3)  # fmt: skip
EVIDENCE = {1: -310.12829, 2: -301.70460}  # closed form


def radiata(x, y):
    tau = numpyro.sample("tau", dist.Gamma(3.0, 2.0 * 300.0**2))
    alpha = numpyro.sample("alpha", dist.Normal(3000.0, (0.06 * tau) ** -0.5))
    beta = numpyro.sample("beta", dist.Normal(185.0, (6.0 * tau) ** -0.5))
    with numpyro.plate("specimen", len(y)):
        numpyro.sample("y", dist.Normal(alpha + beta * x, tau**-0.5), obs=y)


def radiata_model(number):
    strength, x = RADIATA_PINE[:, 0], RADIATA_PINE[:, number]
    return x - x.mean(), strength


@pytest.mark.slow
@pytest.mark.parametrize("number", EVIDENCE)
def test_radiata_pine(number):
    x, y = radiata_model(number)
    p = un.from_numpyro(radiata, x, y)
    direct = un.log_z(p, seed=0, progress=False)
    assert direct.passed and abs(direct.value - EVIDENCE[number]) < 0.05
    with jax.enable_x64(True):
        mcmc = MCMC(NUTS(radiata), num_warmup=1000, num_samples=1000, num_chains=4,
                    chain_method="vectorized", progress_bar=False)  # fmt: skip
        mcmc.run(jax.random.key(1), x, y)
        draws = jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))
    for given in (mcmc, draws):
        found = un.log_z(p, "bridge", draws=given, seed=0, progress=False)
        assert found.passed and abs(found.value - EVIDENCE[number]) < 0.05
        assert abs(found.value - EVIDENCE[number]) < 4 * found.standard_error


# -- a density with a closed form ------------------------------------------------------------------
P = un.Density(
    lambda rate, x, *, c: 2 * jnp.log(rate) - rate - 0.5 * c * jnp.sum(x**2),
    {"rate": un.Positive, "x": un.Real["k"]},
    constants={"c": 4.0},
).with_dimensions(k=2)
LOG_Z = np.log(2.0) + np.log(2 * np.pi / 4.0)


def independent_draws(seed=0, chains=4, draws=500):
    rng = np.random.default_rng(seed)
    shape = (chains, draws)
    return {"rate": rng.gamma(3.0, size=shape), "x": 0.5 * rng.normal(size=(*shape, 2))}


class CmdStan:
    """What CmdStanMCMC offers."""

    def __init__(self, draws, table):
        self.chains, self.draws, self.table = len(draws["rate"]), draws, table
        if not table:
            self.stan_variables = lambda: {
                name: value.reshape(-1, *value.shape[2:]) for name, value in draws.items()
            }

    def draws_pd(self):
        rate, x = self.draws["rate"], self.draws["x"]
        columns = {"chain__": np.repeat(np.arange(1.0, self.chains + 1), rate.shape[1])}
        columns |= {"lp__": 0 * rate.ravel(), "rate": rate.ravel()}
        columns |= {f"x[{i + 1}]": x[..., i].ravel() for i in range(2)}
        return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def from_dict():
    return un.log_z(P, "bridge", draws=independent_draws(), seed=0, progress=False)


def test_draws_in_a_dict_give_the_evidence(from_dict):
    assert from_dict.passed and abs(from_dict.value - LOG_Z) < 4 * from_dict.standard_error < 0.1


def test_the_estimator_takes_the_draws_too(from_dict):
    estimator = un.estimators.Bridge(draws=independent_draws())
    assert un.log_z(P, estimator, seed=0, progress=False).value == from_dict.value


def test_every_container_holds_the_same_chains():
    import arviz_base

    draws = independent_draws(draws=20)
    containers = {
        "tree": arviz_base.from_dict({"posterior": draws}),
        "dataset": arviz_base.from_dict({"posterior": draws}).posterior.to_dataset(),
        "variables": CmdStan(draws, table=False),
        "table": CmdStan(draws, table=True),
    }
    view = Unconstrained(P.for_jit())
    expected = chains_of_draws(view, draws)
    assert expected.draws.shape == (4, 20, 3)
    np.testing.assert_allclose(expected.draws[..., 0], np.log(draws["rate"]), atol=1e-6)
    for name, given in containers.items():
        found = chains_of_draws(view, given)
        np.testing.assert_array_equal(found.draws, expected.draws, err_msg=name)
        np.testing.assert_array_equal(found.log_target, expected.log_target, err_msg=name)


def test_draws_of_another_density_do_not_pass():
    draws = independent_draws()
    other = draws | {"x": 1.3 * draws["x"]}
    found = un.log_z(P, "bridge", draws=other, seed=0, progress=False)
    assert not found.passed
    apart = draws | {"x": draws["x"] + np.array([0.0, 0.0, 0.0, 1.0])[:, None, None]}
    assert not un.log_z(P, "bridge", draws=apart, seed=0, progress=False).passed


def test_wrong_draws_are_refused_in_a_sentence():
    draws = independent_draws(draws=20)
    cases = {
        "has the variable x too": {"rate": draws["rate"]},
        r"draws of x have the shape \(4, 20\)": draws | {"x": draws["x"][..., 0]},
        "draws of rate holds -1.0": draws | {"rate": draws["rate"] * 0 - 1},
        "have the leading shapes": draws | {"x": draws["x"][:2]},
        "expected at least 16": {name: value[:1, :10] for name, value in draws.items()},
        "draws is 3.5 in Bridge": 3.5,
    }
    for sentence, given in cases.items():
        with pytest.raises(ValueError, match=sentence):
            un.log_z(P, "bridge", draws=given, progress=False)
    with pytest.raises(TypeError, match="draws is 'posterior'; expected the result of"):
        un.log_z(P, "bridge", draws="posterior", progress=False)
    with pytest.raises(ValueError, match="given draws for the estimator SMC"):
        un.log_z(P, "smc", draws=draws, progress=False)

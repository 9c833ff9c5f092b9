"""Interactions and periods that few looks miss; bases that do not cover; unreliable constants."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import unnorm as un
from unnorm.core.findings import ERROR, FindingCode

NORMAL = un.Density(lambda x: -(x**2) / 2, {"x": un.Real})


def test_an_interaction_of_three_sites_is_not_called_pairs():
    """One state of 125 shows it; the truth by a transfer matrix is 34.9134712."""
    from unnorm.interactions.pairwise import StructureError, pairwise_form

    p = un.Density(
        lambda x: 0.3 * jnp.sum(x[:-1] * x[1:]) + 6.0 * x[2, 3] * x[11, 2] * x[17, 1],
        {"x": un.Categorical(5)[20]},
    )
    with pytest.raises(StructureError, match="not a sum over single sites and pairs"):
        pairwise_form(p.on_chart().for_jit())


def test_a_period_that_divides_the_stride_is_seen():
    period = 27
    p = un.Density(
        lambda y: (
            -0.5 * ((y - 1e12) / 1e6) ** 2 + 0.3 * jnp.cos(2 * jnp.pi * jnp.mod(y, period) / period)
        ),
        {"y": un.Count},
    )
    assert not un.log_z(p, seed=0, progress=False).passed


@pytest.mark.parametrize("base", [dist.Uniform(-1.0, 1.0), dist.HalfNormal(1.0)])
def test_a_base_that_does_not_cover_the_density_is_refused(base):
    with pytest.raises(ValueError, match=r"which has no mass at x = .* widen it"):
        un.log_z(NORMAL, un.estimators.SMC(base={"x": base}), seed=0, progress=False)


def test_an_unreliable_constant_normalizes_nothing():
    p = un.Density(lambda x: -3.0 * jnp.log1p(jnp.sum(x**4)), {"x": un.Real[4]})
    z = un.log_z(p, un.estimators.SMC(particles=300, temperatures=30), seed=1, progress=False)
    assert z.verdict == "unreliable"
    with pytest.raises(ValueError, match="expected a reliable estimate"):
        p.normalized(z)


def test_a_random_callback_is_refused():
    def noise(x):
        shape = jax.ShapeDtypeStruct((), x.dtype)
        return jax.pure_callback(
            lambda v: np.random.normal(size=np.shape(v)[:-1]).astype(v.dtype),
            shape, x, vmap_method="expand_dims",
        )  # fmt: skip

    p = un.Density(lambda x: 3 * noise(x), {"x": un.Binary[3]})
    with pytest.raises(ValueError, match="two calls of it differ"):
        un.log_z(p, seed=0, progress=False)


BONUS = {
    "bonus of nine": lambda x: jnp.where((x[:9] > 0).all(), 8.0, 0.0),
    "penalty of six": lambda x: jnp.where((x[:6] > 0).all(), -4.0, 0.0) + 0.5 * x.sum(),
}


@pytest.mark.parametrize("name", BONUS)
def test_sites_that_a_comparison_ties_are_not_updated_together(name):
    """Draws of the default sampler against all 1,024 states; what does not mix is said."""
    p = un.Density(BONUS[name], {"x": un.Spin[10]})
    draws = un.sample(p, draws=1000, seed=0, progress=False)
    states = 2.0 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1) - 1
    mass = np.exp(np.asarray(jax.vmap(BONUS[name])(jnp.asarray(states))))
    truth = mass / mass.sum() @ states
    close = np.abs(draws.posterior["x"].values.mean((0, 1)) - truth).max() < 0.1
    assert close or not un.diagnose(draws, p).passed


def test_findings_of_rounding_have_a_code():
    z = un.log_z(
        un.Density(lambda x: jnp.sum(x[1:] * x[:-1]) + 1e6, {"x": un.Spin[12]}),
        dtype=np.float32, seed=0, progress=False,
    )  # fmt: skip
    assert [f.code for f in z.findings if f.severity == ERROR] == [FindingCode.PRECISION]

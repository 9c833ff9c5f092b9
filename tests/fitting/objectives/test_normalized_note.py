"""Whether a density seems to be normalized is a note: the fit is that with log Z either way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.fitting.objectives.likelihood.normalized import normalized_note
from unnorm.fitting.row_normalizers import plan_for_log_z

RNG = np.random.default_rng(0)
GROUP = RNG.integers(0, 2, 150)
SCORES = 2.5 * GROUP + RNG.normal(size=150)
AT = {"a": 0.4, "b": 0.7}


def mixture(excess=lambda z, a, b: 0.0):
    """A latent label and a normal score given it; `excess` is added to the log-density."""
    return un.Density(
        lambda y, z, *, a, b: (
            jax.nn.log_sigmoid((2 * z - 1) * a) + norm.logpdf(y, b * z, 1.0) + excess(z, a, b)
        ),
        {"y": un.Real, "z": un.Binary},
        {"a": (un.Real, AT["a"]), "b": (un.Real, AT["b"])},
    )


def logistic(excess=lambda c, b: 0.0):
    """A binary response given a covariate."""
    return un.Density(
        lambda y, *, c, b: jax.nn.log_sigmoid((2 * y - 1) * b * c) + excess(c, b),
        {"y": un.Binary},
        {"b": (un.Real, 0.5)},
        covariates={"c": un.Covariate},
    )


def note(p, **events):
    with jax.enable_x64(True):
        density, events = cast((p.for_jit(), events), jnp.float64)
        return normalized_note(density, plan_for_log_z(density, events), events)


def test_sums_of_log_densities_are_noticed():
    (found,) = note(mixture(), y=SCORES)
    assert found.severity == "note" and "declare log_z=0.0" in found.advice
    assert note(logistic(), y=GROUP, c=SCORES)


@pytest.mark.parametrize(
    "excess",
    [
        lambda z, a, b: 1e-6,
        lambda z, a, b: 0.1 * (b - AT["b"]),  # normalized at the estimate alone
        lambda z, a, b: (a - AT["a"]) ** 2,
        lambda z, a, b: 0.3 * z,  # a factor of the latent variable
    ],
)
def test_near_misses_are_not(excess):
    assert note(mixture(excess), y=SCORES) == []


def test_a_factor_of_the_covariate_is_not_either():
    assert note(logistic(lambda c, b: 1e-3 * (c > 4)), y=GROUP, c=SCORES) == []
    assert 0 < (SCORES > 4).sum() < 20  # of few rows


def test_nothing_is_said_where_all_is_observed_or_log_z_is_declared():
    assert note(mixture(), y=SCORES, z=GROUP) == []
    p = un.Density(
        lambda y, z, *, a: norm.logpdf(y, a * z, 1.0) - jnp.log(2.0),
        {"y": un.Real, "z": un.Binary},
        {"a": (un.Real, 0.5)},
        log_z=0.0,
    )
    assert note(p, y=SCORES) == []


@pytest.mark.slow
def test_the_fit_is_that_with_log_z_whether_it_is_noticed_or_not():
    """A factor exp(a²) is divided out by log Z; without log Z, a would run off."""
    plain, tilted = (
        un.fit(mixture(excess), {"y": SCORES}, "maximum_likelihood", seed=0, progress=False)
        for excess in (lambda z, a, b: 0.0, lambda z, a, b: a**2)
    )
    np.testing.assert_allclose(tilted._estimates, plain._estimates, rtol=1e-6)
    said = [
        any("seems to be normalized" in f.what for f in one.findings) for one in (plain, tilted)
    ]
    assert said == [True, False]

"""Tails, poles, holes and bounds that a rule cannot integrate: right within its error, or said."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import betaln

import unnorm as un
from unnorm.core.findings import ERROR, FindingCode


def log_z(function, support=un.Positive, **options):
    return un.log_z(un.Density(function, {"x": support}), seed=0, progress=False, **options)


def codes(z):
    return [finding.code for finding in z.findings if finding.severity == ERROR]


# -- tails that fall by powers of the logarithm ----------------------------------------------------
SLOW = {  # by u = log x: 1 / (1 + u²), and u^-1.5 from 1 on
    "log-Cauchy": (lambda x: -jnp.log(x) - jnp.log1p(jnp.log(x) ** 2), np.log(np.pi)),
    "power of the log": (
        lambda x: -jnp.log(x + np.e) - 1.5 * jnp.log(jnp.log(x + np.e)),
        np.log(2),
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_tail_is_unreliable_and_within_its_error(name):
    function, truth = SLOW[name]
    z = log_z(function)
    assert FindingCode.MASS_NOT_SEEN in codes(z)
    assert abs(z.value - truth) < 2 * z.standard_error


def test_an_improper_tail_is_not_passed():
    assert not log_z(lambda x: -jnp.log(x + np.e) - jnp.log(jnp.log(x + np.e))).passed


@pytest.mark.parametrize(("a", "b"), [(3.0, 0.01), (3.0, 0.001)])
def test_a_beta_near_its_bound_is_no_infinity(a, b):
    z = log_z(lambda x: (a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x), un.Interval(0, 1))
    assert abs(z.value - betaln(a, b)) < 4 * z.standard_error < 0.1


def test_a_plateau_near_a_bound_is_integrated():
    z = log_z(lambda x: -jnp.log(x), un.Interval(1e-6, 1e6))
    assert z.passed and z.value == pytest.approx(np.log(12 * np.log(10)), abs=1e-8)


# -- places without a value ------------------------------------------------------------------------
def test_a_pole_between_finite_values_is_no_infinity():
    z = log_z(lambda x: -0.5 * jnp.log(jnp.abs(x)) - x**2 / 2, un.Real)  # Z = 2^(1/4) Γ(1/4)
    assert codes(z) == [FindingCode.NOT_FINITE] and np.isnan(z.value)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_narrow_strip_without_a_value_is_named(value):
    z = log_z(lambda x: jnp.where((x > 0.3) & (x < 0.33), value, -(x**2) / 2), un.Real)
    assert codes(z) == [FindingCode.NOT_FINITE]
    assert "x = 0.3" in next(f.what for f in z.findings if f.severity == ERROR)


def test_nan_where_there_is_no_mass_does_no_harm():
    z = log_z(lambda x: -0.5 * (x - 20) ** 2 + 0 * jnp.log(x), un.Real)
    assert z.passed and z.value == pytest.approx(0.5 * np.log(2 * np.pi), abs=1e-8)


def test_bounds_that_hide_the_mass_in_rounding():
    assert codes(log_z(lambda x: -(x**2) / 2, un.Interval(-1e300, 1e300))) == [
        FindingCode.PRECISION
    ]
    z = log_z(lambda x: -(x**2) / 2, un.Interval(-1e6, 1e6))
    assert z.passed and z.value == pytest.approx(0.5 * np.log(2 * np.pi), abs=1e-6)


# -- large offsets ---------------------------------------------------------------------------------
def test_an_offset_that_swallows_log_z():
    z = log_z(lambda x: -(x**2) / 2 + 1e16, un.Real)
    assert codes(z) == [FindingCode.PRECISION] and z.standard_error > 1
    z = log_z(lambda x: -(x**2) / 2 + 1e8, un.Real)
    assert z.passed and z.value - 1e8 == pytest.approx(0.5 * np.log(2 * np.pi), abs=1e-6)

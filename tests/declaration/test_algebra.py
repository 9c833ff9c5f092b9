"""Products, powers, conditioning and truncation: each result is a Density again."""

import pickle

import declared_with_future as future
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import counting

import unnorm as un


@un.density
def prior(theta: un.Real["d"], *, scale: un.Positive = 2.0, shift=1.0):
    return -(((theta - shift) / scale) ** 2).sum()


@un.density
def likelihood(
    theta: un.Real["d"],
    y: un.Real["d"],
    *,
    scale: un.Positive = 2.0,
    slope: un.Real = 1.0,
    shift=5.0,
):
    return -(((y - slope * theta - shift) / scale) ** 2).sum()


THETA, Y = np.array([0.5, -1.0]), np.array([1.0, 2.0])


def refused(match, function, *args, error=ValueError, **kwargs):
    with pytest.raises(error, match=match) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and message.endswith("."), message


# -- products --------------------------------------------------------------------------------------
def test_a_product_adds_the_logs():
    p = prior * likelihood
    assert isinstance(p, un.Density) and [factor.name for factor in p.factors] == [
        "prior",
        "likelihood",
    ]
    assert p.variables == {"theta": un.Real["d"], "y": un.Real["d"]} and set(p.parameters) == {
        "scale",
        "slope",
    }
    assert (
        repr(p)
        == "Density prior * likelihood(theta: Real['d'], y: Real['d']; scale: Positive, slope: "
        "Real)"
    )
    assert float(p(THETA, Y)) == pytest.approx(float(prior(THETA)) + float(likelihood(THETA, Y)))
    many = p(np.stack([THETA, Y]), Y)
    np.testing.assert_allclose(
        many, prior(np.stack([THETA, Y])) + likelihood(np.stack([THETA, Y]), Y), rtol=1e-6
    )
    assert p.score(THETA, Y)["y"].shape == (2,)


def test_shared_parameters_are_one():
    p = (prior * likelihood).with_dimensions(d=2).bind(scale=4.0)
    assert [factor.parameters["scale"] for factor in p.factors] == [4.0, 4.0] and p.bound == {
        "scale"
    }
    np.testing.assert_allclose(p(THETA, Y), (prior * likelihood)(THETA, Y, scale=4.0), rtol=1e-6)
    np.testing.assert_allclose(p.at(p.free())(THETA, Y), p(THETA, Y), rtol=1e-6)
    gradient = jax.grad(lambda free: p.at(free)(THETA, Y))(p.free())
    one = jax.grad(lambda free: p.factors[0].at(free)(THETA))(p.factors[0].free())
    other = jax.grad(lambda free: p.factors[1].at(free)(THETA, Y))(p.factors[1].free())
    assert float(gradient["scale"]) == pytest.approx(float(one["scale"] + other["scale"]), rel=1e-5)


def test_a_bound_value_goes_before_a_default():
    for p in (prior.bind(scale=3.0) * likelihood, likelihood * prior.bind(scale=3.0)):
        assert p.parameters["scale"] == 3.0 and p.bound == {"scale"}
        assert all(factor.parameters["scale"] == 3.0 for factor in p.factors)
    # Each factor binds one parameter: neither default stands against the other's bound value.
    p = likelihood.bind(slope=2.0) * likelihood.bind(scale=3.0)
    assert p.parameters == {"scale": 3.0, "slope": 2.0} and p.bound == {"scale", "slope"}
    nested = (prior * likelihood) * prior
    assert nested.bound == frozenset()  # sharing a default is no binding


def test_contradictions_are_refused():
    refused(
        "^Parameter scale has different values in two factors",
        lambda: prior.bind(scale=1.0) * likelihood.bind(scale=2.0),
    )
    positive = un.truncate(prior, theta=un.Positive)
    refused(
        r"^theta is the variable Real\['d'\] in one factor and the variable Positive",
        lambda: prior * positive,
    )
    pair, triple = prior.with_dimensions(d=2), likelihood.with_dimensions(d=3)
    refused("^Dimension 'd' is 2 in one factor and 3", lambda: pair * triple)
    one, other = prior.with_dimensions(d=["a", "b"]), likelihood.with_dimensions(d=["a", "c"])
    refused("^Dimension 'd' has different labels", lambda: one * other)
    as_parameter = un.Density(lambda z, *, theta: z, {"z": un.Real}, {"theta": (un.Real["d"], 0.0)})
    refused("^theta is the variable .* and the parameter", lambda: prior * as_parameter)
    dimension = un.Density(lambda z: z.sum(), {"z": un.Real["theta"]})
    refused("^Variable theta has the name of a dimension", lambda: prior * dimension)
    refused(
        "^A density was multiplied by 2; .* write p [*][*] beta", lambda: prior * 2, error=TypeError
    )


def test_constants_stay_private():
    p = prior * likelihood
    assert p.constants == {"0.shift": 1.0, "1.shift": 5.0}
    # A constant of one factor has the name of a parameter, or of a variable, of another.
    q = un.Density(
        lambda theta, *, shift: shift * theta.sum(),
        {"theta": un.Real["d"]},
        {"shift": (un.Real, 7.0)},
    )
    product = prior * q
    assert product.parameters["shift"] == 7.0 and product.bind(shift=8.0).parameters["shift"] == 8.0
    assert float(product.with_dimensions(d=2).free()["shift"]) == 7.0
    v = un.Density(lambda shift: -(shift**2).sum(), {"shift": un.Real["d"]})
    assert float((prior * v)(THETA, [1.0, 1.0])) == pytest.approx(float(prior(THETA)) - 2)


def test_dimensions_are_shared_across_factors():
    p = prior * likelihood
    assert p.dimensions == {"d": None}
    sized = prior.with_dimensions(d=["a", "b"]) * likelihood
    assert sized.shapes() == {"theta": (2,), "y": (2,)} and sized.labels == {"d": ("a", "b")}
    assert sized.factors[1].labels == {"d": ("a", "b")}
    assert p.with_dimensions(d=3).shapes()["y"] == (3,) == p.resolved({"theta": (3,)}).shapes()["y"]
    refused("Dimension 'd' of theta is open", p.shapes)
    refused("is 3 in one factor and 2 in another|its dimension 'd' is", p, np.ones(3), np.ones(2))
    matrix = un.Density(
        lambda y, *, k: y @ k @ y, {"y": un.Real["d"]}, {"k": (un.Symmetric["d"], 0.0)}
    )
    np.testing.assert_array_equal((sized * matrix).parameters["k"], np.zeros((2, 2)))


def test_nesting():
    p = (prior * likelihood) * prior
    assert float(p(THETA, Y)) == pytest.approx(
        2 * float(prior(THETA)) + float(likelihood(THETA, Y)), rel=1e-6
    )
    q = (prior * likelihood) ** 2 * prior**-1
    assert float(q(THETA, Y)) == pytest.approx(
        float(prior(THETA)) + 2 * float(likelihood(THETA, Y)), rel=1e-6
    )
    assert p.bind(scale=3.0).factors[0].factors[1].parameters["scale"] == 3.0
    assert ((prior * likelihood) ** 2).name == "(prior * likelihood)**2"
    assert (prior * prior**2).name == "prior * (prior**2)"


# -- values of products ----------------------------------------------------------------------------
def test_given_on_products():
    p = prior * likelihood
    posterior = p.given(y=Y)
    assert list(posterior.variables) == ["theta"] and posterior.dimensions == {"d": 2}
    assert float(posterior(THETA)) == pytest.approx(float(p(THETA, Y)), rel=1e-6)
    rest = p.given(theta=THETA)  # the prior is a constant now
    assert len(rest.factors) == 1 and float(rest(Y)) == pytest.approx(
        float(likelihood(THETA, Y)), rel=1e-6
    )
    refused("passed every variable", p.given, theta=THETA, y=Y)
    refused("^given was given 'z', which is no variable", p.given, z=1.0)


def test_fix_and_rename_on_products():
    p = prior * likelihood
    fixed = p.fix(scale=3.0)
    assert list(fixed.parameters) == ["slope"]
    assert float(fixed(THETA, Y)) == pytest.approx(float(p(THETA, Y, scale=3.0)), rel=1e-6)
    named = p.rename(theta="effect", slope="gradient")
    assert list(named.variables) == ["effect", "y"] and set(named.parameters) == {
        "scale",
        "gradient",
    }
    assert float(named(y=Y, effect=THETA)) == pytest.approx(float(p(THETA, Y)), rel=1e-6)
    swapped = p.rename(theta="y", y="theta")
    assert float(swapped(y=THETA, theta=Y)) == pytest.approx(float(p(THETA, Y)), rel=1e-6)
    refused("^rename would give the name 'theta' to two arguments", p.rename, y="theta")
    refused("^Variable d has the name of a dimension", p.rename, y="d")
    refused(
        "^bind was given 'scal', which is no parameter .*did you mean 'scale'", p.bind, scal=1.0
    )
    refused("^with_dimensions was given 'e', which is no dimension", p.with_dimensions, e=2)


def test_renaming_before_a_product_makes_two_variables():
    p = prior * prior.rename(theta="phi", scale="other")
    assert list(p.variables) == ["theta", "phi"] and set(p.parameters) == {"scale", "other"}
    assert float(p(THETA, Y, other=1.0)) == pytest.approx(
        float(prior(THETA)) + float(prior(Y, scale=1.0)), rel=1e-6
    )


# -- powers ----------------------------------------------------------------------------------------
def walled(x):
    return jnp.where(x < 2, jnp.log(x), -jnp.inf)


def test_powers():
    p = un.Density(walled, {"x": un.Positive})
    x = np.array([1.0, 1.5, 3.0, -1.0])
    for beta in (0.0, 0.3, 2.0):
        with np.errstate(invalid="ignore"):
            expected = np.where((x > 0) & (x < 2), beta * np.log(x), -np.inf)
        np.testing.assert_allclose((p**beta)(x), expected, rtol=1e-6)
        np.testing.assert_allclose(((p**beta) * p**0)(x), expected, rtol=1e-6)
    for wrong in (np.nan, np.inf, "a", np.ones(2), None, 1j):
        refused(
            "^The power of a density is .*; it must be one finite number",
            lambda wrong=wrong: p**wrong,
        )


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_gradient_of_a_power_is_finite_everywhere(beta):
    p = un.Density(walled, {"x": un.Positive})
    x = jnp.array([1.0, 3.0, -1.0])
    in_x = jax.vmap(jax.grad(lambda x: (p**beta)(x)))(x)
    np.testing.assert_allclose(in_x, [beta, 0.0, 0.0], atol=1e-6)
    in_beta = jax.vmap(jax.grad(lambda b, x: (p**b)(x)), (None, 0))(beta, x)
    np.testing.assert_allclose(in_beta, [0.0, 0.0, 0.0], atol=1e-6)
    scaled = (
        un.Density(lambda x, *, a: a * jnp.log(x), {"x": un.Positive}, {"a": (un.Positive, 1.0)})
        ** beta
    )
    in_a = jax.grad(lambda free, x: scaled.at(free)(x))
    gradient = jax.vmap(in_a, (None, 0))(scaled.free(), jnp.array([np.e, -1.0]))["a"]
    np.testing.assert_allclose(gradient, [beta, 0.0], atol=1e-6)


def test_new_powers_and_values_never_retrace():
    @counting
    def function(x, *, scale):
        return -((x / scale) ** 2)

    base = un.Density(function, {"x": un.Real}, {"scale": (un.Positive, 1.0)})
    for beta in (0.0, 0.25, 1.0):
        p = (base.bind(scale=1.0 + beta) ** beta) * base.bind(scale=1.0 + beta)
        assert float(p(2.0)) == pytest.approx((1 + beta) * -((2 / (1 + beta)) ** 2), rel=1e-6)
    assert function.traces == 2  # once for each factor
    jitted = jax.jit(lambda p, beta: (p**beta)(2.0))
    jitted(base, 0.1)
    traces = function.traces
    values = [float(jitted(base.bind(scale=s), b)) for s, b in [(1.0, 0.5), (2.0, 0.0)]]
    assert (
        values == [-2.0, 0.0] and function.traces <= traces + 1
    )  # bound or not is a part of the structure
    traces = function.traces
    jitted(base.bind(scale=3.0), 0.75)
    assert function.traces == traces


def test_products_pass_through_transformations():
    p = (prior * likelihood) ** 0.5
    assert isinstance(jax.jit(lambda p: jax.tree.map(lambda leaf: 2 * leaf, p))(p), un.Density)
    powers = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(
        jax.vmap(lambda beta: (prior**beta)(THETA))(powers), float(prior(THETA)) * powers, rtol=1e-6
    )
    gradient = jax.grad(lambda scale: (prior * likelihood)(THETA, Y, scale=scale))(2.0)
    value = float(prior(THETA)) + float(likelihood(THETA, Y))
    assert float(gradient) == pytest.approx(-value, rel=1e-5)  # d/ds of -r/s² at s = 2 is 2r/s³
    treedef = jax.tree.structure(p)
    assert jax.tree.unflatten(treedef, [None] * treedef.num_leaves).variables == p.variables


def test_products_pickle():
    p = (future.annotated.bind(field=np.array([1.0, 2.0])) * future.product) ** 0.5
    back = pickle.loads(pickle.dumps(p))
    assert jax.tree.structure(back) == jax.tree.structure(p)
    assert float(back([1, 0], [0, 1])) == float(p([1, 0], [0, 1])) != 0.0
    local = un.Density(lambda x: x, {"x": un.Real})
    with pytest.raises(TypeError, match="cannot be pickled, because a lambda"):
        pickle.dumps(local * local)


# -- truncation ------------------------------------------------------------------------------------
def test_truncate():
    p = un.truncate(prior, theta=un.Interval(0, 1))
    assert p.variables == {"theta": un.Interval(0, 1)["d"]} and prior.variables == {
        "theta": un.Real["d"]
    }
    np.testing.assert_allclose(
        p([[0.0, 1.0], [0.5, 1.5]]), [float(prior([0.0, 1.0])), -np.inf], rtol=1e-6
    )
    both = un.truncate(prior * likelihood, theta=un.Positive)
    assert [factor.variables["theta"] for factor in both.factors] == [un.Positive["d"]] * 2
    assert both.variables["y"] == un.Real["d"] and float(both(-THETA, Y)) == -np.inf
    np.testing.assert_array_equal((p**0)([[0.5, 0.5], [0.5, 1.5]]), [0.0, -np.inf])
    refused("^truncate was given 'x', which is no variable", un.truncate, prior, x=un.Positive)
    for wrong in (
        un.Real,
        un.Simplex["d"],
        un.Ordered["d"],
        un.Binary,
        un.PositiveDefinite["d"],
        un.PyTree,
        3,
    ):
        refused(
            "expected a Real variable and un.Positive or un.Interval",
            un.truncate,
            prior,
            theta=wrong,
        )
    refused(
        "^truncate was asked for theta from Positive", un.truncate, both, theta=un.Interval(0, 1)
    )

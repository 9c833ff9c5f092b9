"""What a NumPyro model may hold: its supports, deterministic and discrete sites, its warnings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer.reparam import LocScaleReparam
from numpyro.infer.util import log_density, potential_energy

import unnorm as un
from unnorm.declaration.unconstrained import Unconstrained

Y = np.array([28.0, 8.0, -3.0, 7.0])
SIGMA = np.array([15.0, 10.0, 16.0, 11.0])


def test_every_constraint_with_a_bijection_has_numpyros_density_in_both_coordinates(x64):
    constraints = dist.constraints

    def model():
        numpyro.sample("above", dist.Pareto(2.0, 1.0))
        numpyro.sample("below", dist.TruncatedNormal(0.0, 1.0, high=1.0))
        numpyro.sample("box", dist.Uniform(0.0, jnp.array([1.0, 2.0])).to_event(1))
        numpyro.sample("zero_sum", dist.ZeroSumNormal(1.0, (4,)))
        with numpyro.plate("group", 2):
            numpyro.sample(
                "ordered", dist.ImproperUniform(constraints.positive_ordered_vector, (2,), (3,))
            )
            numpyro.sample("factor", dist.LKJCholesky(3, 2.0))
        numpyro.sample("correlation", dist.LKJ(3, 2.0))
        numpyro.sample("covariance", dist.Wishart(5.0, jnp.eye(2)))
        numpyro.sample("rate", dist.ImproperUniform(constraints.softplus_positive, (), ()))

    p = un.from_numpyro(model)
    assert repr(p.variables["above"]) == "GreaterThan(lower_bound=2.0)"
    assert repr(p.variables["factor"]) == "CorrCholesky()['group', 3, 3]"
    assert p.dimensions == {"group": 2}
    view = Unconstrained(p.for_jit())
    rng = np.random.default_rng(0)
    position = {name: jnp.asarray(rng.normal(size=s)) for name, s in view.free_shapes.items()}
    event = jax.jit(view.constrain)(position)
    by_numpyro, free_by_numpyro = jax.jit(
        lambda event, position: (
            log_density(model, (), {}, event)[0], -potential_energy(model, (), {}, position)
        )
    )(event, position)  # fmt: skip
    assert float(p(event)) == pytest.approx(float(by_numpyro), rel=1e-12)
    ours, back = jax.jit(lambda at, event: (view.log_density(at), view.unconstrain(event)))(
        position, event
    )
    assert float(ours) == pytest.approx(float(free_by_numpyro), rel=1e-12)
    for name, free in position.items():
        np.testing.assert_allclose(back[name], free, atol=1e-8)
    assert float(p(event | {"above": 1.0})) == -np.inf
    assert float(p(event | {"correlation": 2 * jnp.eye(3)})) == -np.inf
    assert float(p(event | {"zero_sum": event["zero_sum"] + 1})) == -np.inf


def test_angles_and_directions_are_normalized():
    def angle():
        numpyro.sample("angle", dist.VonMises(0.5, 2.0))

    def direction():
        numpyro.sample("direction", dist.ProjectedNormal(jnp.array([1.0, 0.5])))

    p, q = un.from_numpyro(angle), un.from_numpyro(direction)
    assert p.variables == {"angle": un.Circle} and q.variables == {"direction": un.Sphere[2]}
    for density in (p, q):
        found = un.log_z(density, seed=0, progress=False)
        assert abs(found.value) <= 4 * found.standard_error + 1e-9 < 1e-4


def eight_schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        with handlers.reparam(config={"theta": LocScaleReparam(0)}):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("obs", dist.Normal(theta, sigma), obs=y)
    numpyro.deterministic("best", jnp.argmax(theta))


def test_deterministic_sites_are_in_the_draws_with_the_names_of_plates(tmp_path):
    p = un.from_numpyro(eight_schools, SIGMA, Y).with_dimensions(school=["A", "B", "C", "D"])
    options = {"draws": 40, "warmup": 40, "chains": 2, "seed": 0, "progress": False}
    draws = un.sample(p, "random_walk_mh", store=tmp_path / "run", **options)
    posterior = draws.posterior
    assert posterior["theta"].dims == ("chain", "draw", "school")
    assert list(posterior["theta"].coords["school"].values) == ["A", "B", "C", "D"]
    expected = posterior["mu"] + posterior["tau"] * posterior["theta_decentered"]
    np.testing.assert_allclose(posterior["theta"], expected.transpose(..., "school"), rtol=1e-5)
    np.testing.assert_array_equal(posterior["best"], posterior["theta"].argmax("school"))
    again = un.sample(p, "random_walk_mh", store=tmp_path / "run", **options)
    assert again.posterior["theta"].equals(posterior["theta"])
    found = un.diagnose(draws, p)
    assert not any("has no variable" in finding.what for finding in found.findings)
    given = un.sample(p.given(mu=1.0) ** 0.5, "random_walk_mh", **options).posterior
    expected = 1.0 + given["tau"] * given["theta_decentered"]
    np.testing.assert_allclose(given["theta"], expected.transpose(..., "school"), rtol=1e-5)


# -- discrete sites --------------------------------------------------------------------------------
def by_enumeration(model, args, event, spaces):
    """log of the sum of the joint density over all assignments: {site: (states, shape)}."""
    elements = [states for states, shape in spaces.values() for _ in range(int(np.prod(shape)))]

    def one(assignment):
        values, start = dict(event), 0
        for name, (_, shape) in spaces.items():
            size = int(np.prod(shape))
            values[name] = assignment[start : start + size].reshape(shape)
            start += size
        return log_density(model, args, {}, values)[0]

    assignments = jnp.asarray(list(itertools.product(*elements)))
    return float(jax.jit(lambda rows: jax.nn.logsumexp(jax.vmap(one)(rows)))(assignments))


def mixture(y):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(2)))
    with numpyro.plate("component", 2):
        mean = numpyro.sample("mean", dist.Normal(0, 3))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weights))
        numpyro.deterministic("own_mean", mean[z])
        numpyro.sample("y", dist.Normal(mean[z], 1.0), obs=y)
    numpyro.deterministic("gap", mean[1] - mean[0])


def nested(y):
    a = numpyro.sample("a", dist.Normal())
    top = numpyro.sample("top", dist.DiscreteUniform(0, 2))
    with numpyro.plate("group", 2, dim=-2):
        middle = numpyro.sample("middle", dist.Bernoulli(logits=a + top))
        with numpyro.plate("unit", 2, dim=-1):
            z = numpyro.sample("z", dist.Binomial(2, jax.nn.sigmoid(a * middle - 0.3)))
            with handlers.scale(scale=0.7), handlers.mask(mask=np.array([[1, 1], [1, 0]]) > 0):
                numpyro.sample("y", dist.Normal(z * a + top, 1.0), obs=y)
    numpyro.factor("f", jnp.where(top == 1, 0.5, -0.2) * a)


def test_discrete_sites_are_summed_out(x64):
    y = np.array([0.3, -1.2])
    with pytest.warns(UserWarning, match="own_mean depends on z, which is summed out"):
        p = un.from_numpyro(mixture, y)
    assert p.variables == {"weights": un.Simplex[2], "mean": un.Real["component"]}
    assert p.deterministic_axes() == {"gap": ()}
    event = {"weights": jnp.array([0.3, 0.7]), "mean": jnp.array([-1.0, 2.0])}
    expected = by_enumeration(mixture, (y,), event, {"z": ([0, 1], (2,))})
    assert float(p(event)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_nested_discrete_sites_are_summed_out(x64):
    y = np.array([[0.3, -1.2], [2.0, 0.1]])
    spaces = {"top": ([0, 1, 2], ()), "middle": ([0, 1], (2, 1)), "z": ([0, 1, 2], (2, 2))}
    p = un.from_numpyro(nested, y)
    expected = by_enumeration(nested, (y,), {"a": 0.4}, spaces)
    assert float(p(a=0.4)) == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(float(p.score(a=0.4)))


# -- warnings --------------------------------------------------------------------------------------
def test_missing_data_is_named():
    with pytest.warns(UserWarning, match="^y is None, so that obs is a variable"):
        un.from_numpyro(eight_schools, SIGMA)


def test_no_warning_where_all_is_well(recwarn):
    def model(y, mask=None):
        b = numpyro.sample("b", dist.Normal())
        numpyro.factor("soft", -((b - 1) ** 2))
        numpyro.sample("y", dist.Normal(b, 1.0), obs=y)

    un.from_numpyro(model, Y)
    un.from_numpyro(eight_schools, SIGMA, y=Y)
    assert not recwarn.list


def test_a_factor_in_which_a_parameter_meets_data_is_named():
    def by_argument(y):
        rate = numpyro.sample("rate", dist.HalfNormal())
        numpyro.factor("likelihood", -rate * (y**2).sum())

    def by_closure():
        rate = numpyro.sample("rate", dist.HalfNormal())
        numpyro.factor("likelihood", -rate * (Y**2).sum())

    sentence = "^Factor likelihood depends on rate and on data: .* normalizing constant may depend"
    with pytest.warns(UserWarning, match=sentence):
        un.from_numpyro(by_argument, Y)
    with pytest.warns(UserWarning, match=sentence):
        un.from_numpyro(by_closure)


def test_factors_of_float32_arrays_are_looked_at():
    """The comparison is in float64, the model's own array is not."""
    mask, y = jnp.arange(len(Y)) > 0, jnp.asarray(Y, jnp.float32)

    def model():
        rate = numpyro.sample("rate", dist.HalfNormal())
        numpyro.factor("likelihood", -rate * jnp.where(mask, y**2, 0.0).sum())

    with pytest.warns(UserWarning, match="^Factor likelihood depends on rate and on data"):
        un.from_numpyro(model)

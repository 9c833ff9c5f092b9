"""Any JAX function, Stan (a stand-in for BridgeStan's model), PyMC, and the way to NumPyro."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import log_density

import unnorm as un
from unnorm.bridges import pymc as pymc_bridge
from unnorm.bridges import stan as stan_bridge

LOG_Z = np.log(2.0) + np.log(2 * np.pi / 4.0)


def by_dict(at):
    return 2 * jnp.log(at["rate"]) - at["rate"] - 2 * jnp.sum(at["x"] ** 2)


def by_name(x, rate, scale=1.0):
    return 2 * jnp.log(rate) - rate - 2 * scale * jnp.sum(x**2)


SUPPORTS = {"rate": un.Positive, "x": un.Real[2]}


@pytest.mark.parametrize("function", [by_dict, by_name, lambda **at: by_dict(at)])
def test_a_function_of_a_dict_or_of_keywords(function):
    p = un.from_callable(function, SUPPORTS)
    assert p.variables == SUPPORTS
    assert float(p(rate=1.0, x=[1.0, 0.5])) == pytest.approx(-3.5)
    assert un.from_callable(function, SUPPORTS).function == p.function
    alone = un.from_callable(lambda at: -(at["x"] ** 2), {"x": un.Real})
    assert float(alone(2.0)) == -4.0


def test_a_function_of_something_else_is_refused():
    cases = [
        (ValueError, r"takes x, rate, and supports names x; expected", by_name, {"x": un.Real}),
        (ValueError, r"takes a, b, and supports names x", lambda a, b: a, {"x": un.Real}),
        (TypeError, r"given 3; expected a function", 3, SUPPORTS),
        (TypeError, r"supports is \[\]; expected a dict", by_dict, []),
        (ValueError, r"Variable x was declared with 3", by_dict, {"x": 3}),
    ]
    for kind, sentence, function, supports in cases:
        with pytest.raises(kind, match=sentence):
            un.from_callable(function, supports)


# -- to NumPyro ------------------------------------------------------------------------------------
def test_numpyro_has_the_density_of_every_support(x64):
    p = un.Density(
        lambda rate, share, angle, axis, parts, *, k: (
            k * jnp.log(rate) - rate + share + jnp.cos(angle) + axis[0] + jnp.sum(parts**2)
        ),
        {"rate": un.Positive, "share": un.Interval(-1, 2), "angle": un.Circle, "axis": un.Sphere[3],
         "parts": un.Simplex[2, 3]},
        {"k": (un.Real, 2.0)},
    )  # fmt: skip
    model = p.to_numpyro()
    free = {"axis_free": jnp.array([0.3, -0.2])}
    event = {"rate": 1.5, "share": 0.5, "angle": 1.0, "parts": np.array([[0.2, 0.3, 0.5]] * 2)}
    value, trace = log_density(model, (), {}, event | free)
    axis = trace["axis"]["value"]
    chart = p.variables["axis"].chart
    expected = float(p(event | {"axis": axis})) + float(chart.log_det(free["axis_free"]))
    assert float(value) == pytest.approx(expected, rel=1e-12)
    assert float(jnp.sum(axis**2)) == pytest.approx(1.0)


def test_what_numpyro_cannot_sample_is_refused():
    with pytest.raises(ValueError, match=r"^Variable s is Spin, discrete"):
        un.Density(lambda s: s, {"s": un.Spin}).to_numpyro()
    with pytest.raises(ValueError, match="has the covariate z"):
        un.Density(
            lambda x, *, z: x * z, {"x": un.Real}, covariates={"z": un.Covariate}
        ).to_numpyro()


@pytest.mark.slow
def test_numpyros_nuts_finds_the_moments():
    p = un.Density(by_name, SUPPORTS)
    mcmc = MCMC(NUTS(p.to_numpyro()), num_warmup=500, num_samples=2000, num_chains=2,
                chain_method="sequential", progress_bar=False)  # fmt: skip
    mcmc.run(jax.random.key(0))
    draws = mcmc.get_samples(group_by_chain=True)
    for value, mean, deviation in ((draws["rate"], 3.0, 3.0**0.5), (draws["x"][..., 0], 0.0, 0.5)):
        ess = float(numpyro.diagnostics.effective_sample_size(np.asarray(value)))
        assert abs(float(value.mean()) - mean) < 4 * deviation / ess**0.5


# -- Stan ------------------------------------------------------------------------------------------
class StanModel:
    """What BridgeStan's model offers, for `real<lower=0> rate; vector[2] x;` and the transformed
    parameter `matrix[2, 2] m`.
    """

    def name(self):
        return "stand_in"

    def param_unc_num(self):
        return 3

    def param_unc_names(self):
        return ["rate", "x.1", "x.2"]

    def param_names(self, *, include_tp=False, include_gq=False):
        transformed = ["m.1.1", "m.2.1", "m.1.2", "m.2.2"] if include_tp else []
        return ["rate", "x.1", "x.2", *transformed]

    def param_constrain(self, row, *, include_tp=False):
        theta = np.array([np.exp(row[0]), *row[1:]])
        return np.concatenate([theta, [1.0, 2.0, row[1], row[2]]]) if include_tp else theta

    def param_unconstrain(self, theta):
        return np.array([np.log(theta[0]), *theta[1:]])

    def log_density(self, row, *, propto, jacobian):
        assert not propto and jacobian
        if row[0] > 50:
            raise RuntimeError("rejected")
        return 3 * row[0] - np.exp(row[0]) - 2 * np.sum(row[1:] ** 2)

    def log_density_gradient(self, row, **options):
        gradient = np.array([3 - np.exp(row[0]), *(-4 * row[1:])])
        return self.log_density(row, **options), gradient

    def log_density_hessian(self, row, **options):
        return *self.log_density_gradient(row, **options), np.diag([-np.exp(row[0]), -4.0, -4.0])


def test_a_stan_model_is_evaluated_and_differentiated_by_callbacks(x64):
    p = un.from_stan(StanModel())
    assert repr(p) == "Density stand_in(unconstrained: Real['coordinate'])"
    assert p.labels == {"coordinate": ("rate", "x.1", "x.2")}
    at = np.array([0.3, 1.0, -0.5])
    assert float(p(at)) == pytest.approx(0.9 - np.exp(0.3) - 2.5)
    np.testing.assert_allclose(p.score(at), [3 - np.exp(0.3), -4.0, 2.0])
    np.testing.assert_allclose(p.score(np.stack([at, 2 * at]))[1, 1:], [-8.0, 4.0])
    hessian = jax.hessian(lambda u: p.log_density({"unconstrained": u}))(jnp.asarray(at))
    np.testing.assert_allclose(hessian, np.diag([-np.exp(0.3), -4.0, -4.0]))
    assert float(p([60.0, 0.0, 0.0])) == -np.inf
    carried = p.deterministics()
    np.testing.assert_allclose(carried["m"](jnp.asarray(at)), [[1.0, 1.0], [2.0, -0.5]])
    assert p.deterministic_axes() == {"rate": (), "x": (2,), "m": (2, 2)}


def test_complex_parameters_alternate_and_tuples_keep_their_names():
    names = ["w.1.real", "w.1.imag", "w.2.real", "w.2.imag", "t:1", "m.1.1", "m.2.1"]
    assert stan_bridge._places(names) == {
        "w.real": ([0, 2], (2,)),
        "w.imag": ([1, 3], (2,)),
        "t:1": ([4], ()),
        "m": ([5, 6], (2, 1)),
    }


def test_draws_of_a_unit_vector_do_not_determine_its_coordinates():
    class UnitVector(StanModel):
        def param_constrain(self, row, *, include_tp=False):
            return row / np.linalg.norm(row)

        def param_unconstrain(self, theta):
            return theta

    draws = {"rate": np.full((1, 2), 0.6), "x": np.full((1, 2, 2), [0.0, 0.8])}
    function = stan_bridge.StanFunction(StanModel())
    np.testing.assert_allclose(
        function.events_of(draws)["unconstrained"], np.full((1, 2, 3), [np.log(0.6), 0.0, 0.8])
    )
    with pytest.raises(ValueError, match="of a Stan model with a unit_vector"):
        stan_bridge.StanFunction(UnitVector()).events_of(draws)


@pytest.mark.slow
def test_evidence_from_saved_draws_of_a_stan_model():
    rng = np.random.default_rng(0)
    draws = {"rate": rng.gamma(3.0, size=(4, 250)), "x": 0.5 * rng.normal(size=(4, 250, 2))}
    found = un.log_z(un.from_stan(StanModel()), "bridge", draws=draws, seed=0, progress=False)
    assert found.passed and abs(found.value - LOG_Z) < 4 * found.standard_error < 0.1


def test_missing_extras_and_other_objects_are_named(monkeypatch):
    with pytest.raises(TypeError, match="from_stan was given 3; expected the path"):
        un.from_stan(3)
    for bridge in (stan_bridge, pymc_bridge):
        monkeypatch.setattr(bridge.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs BridgeStan, .*pip install 'unnorm\[stan\]'"):
        un.from_stan("model.stan", {})
    with pytest.raises(ImportError, match=r"needs PyMC, .*pip install 'unnorm\[pymc\]'"):
        un.from_pymc(object())


# -- PyMC ------------------------------------------------------------------------------------------
@pytest.mark.skipif(importlib.util.find_spec("pymc") is None, reason="PyMC is not installed")
def test_a_pymc_model_has_pymcs_log_density():
    import pymc as pm

    with pm.Model(coords={"school": ["A", "B"]}) as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfNormal("tau", 5.0)
        theta = pm.Normal("theta", mu, tau, dims="school")
        pm.Deterministic("twice", 2 * theta, dims="school")
        pm.Normal("y", theta, [15.0, 10.0], observed=[28.0, 8.0])
    double = jax.config.jax_enable_x64
    p = un.from_pymc(model)
    assert jax.config.jax_enable_x64 == double
    assert p.labels == {"school": ("A", "B")}
    event = {"mu": 0.5, "tau_log__": 0.3, "theta": np.array([1.0, 2.0])}
    assert float(p(event)) == pytest.approx(float(model.compile_logp()(event)), rel=1e-5)
    assert p.deterministic_axes() == {"tau": (), "twice": ("school",)}
    found = p.function.events_of({"tau": np.exp([[0.3]])})
    np.testing.assert_allclose(found["tau_log__"], [[0.3]])
    with pytest.raises(TypeError, match="from_pymc was given 3; expected a"):
        un.from_pymc(3)

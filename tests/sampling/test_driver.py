"""The driver of `un.sample`: what it returns, what it compiles, how it refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import counting
from targets import CONTINUOUS, gaussian, ising

import unnorm as un
from unnorm.sampling.kernels.registry import KERNELS

QUICK = {"draws": 40, "warmup": 40, "chains": 2, "seed": 0, "progress": False}


def test_the_result_is_arviz_ready():
    import arviz_stats

    p = gaussian.with_dimensions(d=["a", "b", "c"])
    draws = un.sample(p, "nuts", draws=200, warmup=200, seed=1, progress=False)
    assert draws.posterior["x"].dims == ("chain", "draw", "d")
    assert list(draws.posterior["d"].values) == ["a", "b", "c"]
    assert {"lp", "acceptance_rate", "diverging", "energy", "n_steps", "tree_depth"} <= set(
        draws.sample_stats
    )
    assert set(arviz_stats.summary(draws, kind="diagnostics", round_to="none").index) == {
        "x[a]",
        "x[b]",
        "x[c]",
    }
    assert draws.attrs["seed"] == 1 and json.loads(draws.attrs["tuning"])["step_size"] > 0
    assert json.loads(draws.attrs["versions"])["blackjax"]


def test_draws_of_discrete_variables_hold_codes():
    draws = un.sample(ising.with_dimensions(d=3), **QUICK)
    assert draws.posterior["x"].dtype.kind == "i"
    assert draws.attrs["kernel"] == "gibbs"


@pytest.mark.parametrize(
    "name",
    [
        "random_walk_mh",
        "ula",
        "mala",
        "barker",
        "hmc",
        "nuts",
        pytest.param("mclmc", marks=pytest.mark.slow),
    ],
)
def test_new_values_a_new_key_and_a_new_step_compile_nothing(name):
    @counting
    def function(x, *, centre):
        return -0.5 * jnp.sum((x - centre) ** 2)

    p = un.Density(function, {"x": un.Real["d"]}, {"centre": un.Real["d"]})
    kernel = KERNELS[name](step_size=0.3)
    un.sample(p.bind(centre=np.zeros(2)), kernel, **QUICK)
    before = function.traces
    un.sample(p.bind(centre=np.ones(2)), KERNELS[name](step_size=0.4), **QUICK | {"seed": 1})
    assert before > 0 and function.traces == before


def test_the_same_seed_gives_the_same_draws():
    one, two = (un.sample(CONTINUOUS["bounded"].density, "mala", **QUICK) for _ in range(2))
    assert np.array_equal(one.posterior["x"], two.posterior["x"])
    assert not np.array_equal(one.posterior["x"][0], one.posterior["x"][1])


def test_more_draws_go_on_from_fewer():
    few, many = (un.sample(gaussian, "mala", **QUICK | {"draws": n}) for n in (40, 80))
    assert np.array_equal(few.posterior["x"], many.posterior["x"][:, :40])


def test_thinning_keeps_every_so_manieth_step():
    draws = un.sample(gaussian, "mala", **QUICK | {"draws": 30, "thin": 4})
    assert draws.posterior["x"].shape == (2, 30, 3)


def test_float64_is_used_where_asked_for_and_the_process_is_left_alone():
    draws = un.sample(gaussian, "nuts", dtype="float64", **QUICK)
    assert draws.posterior["x"].dtype == np.float64
    assert jnp.zeros(1).dtype == jnp.float32
    assert un.sample(gaussian, "nuts", **QUICK).posterior["x"].dtype == np.float32


@pytest.mark.parametrize(("name", "rate"), [("random_walk_mh", 0.234), ("mala", 0.574)])
def test_the_step_size_is_adapted_to_the_optimal_acceptance_rate(name, rate):
    draws = un.sample(gaussian, name, draws=2000, warmup=1000, seed=0, progress=False)
    assert float(draws.sample_stats["acceptance_rate"].mean()) == pytest.approx(rate, abs=0.05)


def test_a_given_step_size_and_mass_matrix_stay():
    kernel = un.kernels.HMC(step_size=0.2, inverse_mass_matrix=np.array([1.0, 2.0, 3.0]))
    tuning = json.loads(un.sample(gaussian, kernel, **QUICK).attrs["tuning"])
    assert tuning["step_size"] == pytest.approx(0.2) and tuning["inverse_mass_matrix"] == [
        1.0,
        2.0,
        3.0,
    ]


def test_the_mass_matrix_learns_the_scales():
    p = un.Density(
        lambda x: -0.5 * jnp.sum((x / jnp.array([0.01, 1.0, 100.0])) ** 2), {"x": un.Real[3]}
    )
    draws = un.sample(p, "nuts", draws=1000, warmup=1000, seed=0, progress=False)
    mass = np.array(json.loads(draws.attrs["tuning"])["inverse_mass_matrix"])
    assert np.all(np.abs(np.log(mass / np.array([1e-4, 1.0, 1e4]))) < 0.5)
    assert un.diagnose(draws).passed


def test_starts_are_used_and_those_on_a_bound_moved_inside():
    p = CONTINUOUS["bounded"].density
    draws = un.sample(
        p,
        un.kernels.RandomWalkMH(step_size=1e-4),
        start={"x": np.array([0.0, 0.25])},
        **QUICK | {"warmup": 0},
    )
    assert draws.posterior["x"][:, 0].values == pytest.approx([0.0, 0.25], abs=1e-3)


def test_a_density_at_its_declared_starts_is_a_finding():
    findings = json.loads(un.sample(gaussian, "mala", **QUICK).attrs["findings"])
    assert any("declared starts" in what for what, *_ in findings)
    bound = gaussian.bind(**gaussian.parameters)
    assert not any(
        "declared" in what
        for what, *_ in json.loads(un.sample(bound, "mala", **QUICK).attrs["findings"])
    )


def plain(function, support=un.Real, **parameters):
    return un.Density(function, {"x": support}, parameters)


BAD = {
    "non-scalar": (plain(lambda x: -(x**2), un.Real[3]), {}, "returned the shape (3,)"),
    "open dimension": (ising, {}, "Dimension 'd' of x is open"),
    "missing parameter": (
        plain(lambda x, *, a: -a * x**2, a=un.Positive),
        {},
        "Parameter a has no value",
    ),
    "NaN everywhere": (
        plain(lambda x: jnp.log(-1.0 - x**2)),
        {},
        "is nan at the start of chain 0, x =",
    ),
    "infinite gradient": (
        plain(lambda x: -jnp.sqrt(jnp.abs(x))),
        {"kernel": "mala", "start": {"x": 0.0}},
        "The gradient of <lambda> in x is not finite at the start",
    ),
    "+inf at the start": (
        plain(lambda x: 1 / jnp.abs(x)),
        {"start": {"x": 0.0}},
        "is inf at the start of chain 0",
    ),
    "+inf on the way": (
        plain(lambda x: jnp.where(x > 2, jnp.inf, -0.5 * x**2)),
        {"kernel": "random_walk_mh", "draws": 500},
        "was +inf at",
    ),
    "unknown kernel": (gaussian, {"kernel": "nutz"}, "did you mean 'nuts'?"),
    "not a kernel": (gaussian, {"kernel": 3}, "expected a name, or an object"),
    "wrong support": (
        ising.with_dimensions(d=2),
        {"kernel": "mala"},
        "MALA cannot move x, which is Binary['d']; use Gibbs",
    ),
    "gibbs on reals": (gaussian, {"kernel": "gibbs"}, "Gibbs cannot move x"),
    "no draws": (gaussian, {"draws": 0}, "draws is 0; expected an integer of at least 1"),
    "no chains": (gaussian, {"chains": 0}, "chains is 0"),
    "chains beyond 32 bits": (
        gaussian,
        {"chains": 10**12},
        "chains is 1000000000000; expected an integer",
    ),
    "draws beyond 32 bits": (
        gaussian,
        {"draws": 10**18},
        "draws is 1000000000000000000; expected an integer",
    ),
    "thin beyond 32 bits": (
        gaussian,
        {"thin": 10**15},
        "thin is 1000000000000000; expected an integer",
    ),
    "warmup beyond 32 bits": (
        gaussian,
        {"warmup": 10**15},
        "warmup is 1000000000000000; expected an integer",
    ),
    "chains beyond memory": (
        gaussian,
        {"chains": 2**31 - 1, "keep": "last"},
        "chains asks for 192 GiB",
    ),
    "draws beyond memory": (gaussian, {"draws": 2**31 - 1}, "draws asks for 48 GiB"),
    "thin beyond memory": (gaussian, {"thin": 2**31 - 1}, "thin asks for 24 GiB"),
    "fractional warmup": (gaussian, {"warmup": 2.5}, "warmup is 2.5"),
    "start of a wrong shape": (
        gaussian,
        {"start": {"x": np.ones(4)}},
        "start of x has the shape (4,)",
    ),
    "start outside": (CONTINUOUS["bounded"].density, {"start": {"x": 1.5}}, "start of x holds 1.5"),
    "start with NaN": (
        gaussian,
        {"start": {"x": [np.nan, 0, 0]}},
        "start of x holds nan at index (0,)",
    ),
    "start of nothing": (gaussian, {"start": {"y": 0.0}}, "which is no variable"),
    "step function": (
        plain(lambda x: -jnp.abs(jnp.round(x))),
        {"kernel": "hmc"},
        "zero at every start",
    ),
    "NumPy in the density": (
        plain(lambda x: -np.square(np.asarray(x))),
        {},
        "cannot be traced by JAX",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, monkeypatch):
    monkeypatch.setattr("unnorm.sampling.defaults.machine_memory", lambda: 8.0 * 2**30)
    p, options, words = BAD[case]
    options = QUICK | options
    with pytest.raises(ValueError) as caught:
        un.sample(p, options.pop("kernel", None), **options)
    message = str(caught.value)
    assert words in message
    assert message.endswith(".") and "\n" not in message and "Traceback" not in message


def test_a_density_that_cannot_be_differentiated_is_named():
    def function(x):
        return jax.pure_callback(
            lambda v: np.asarray(-0.5 * v**2, np.float32),
            jax.ShapeDtypeStruct((), np.float32),
            x,
            vmap_method="sequential",
        )

    with pytest.raises(ValueError, match=r"cannot be differentiated .* NUTS needs its gradient"):
        un.sample(plain(function), "nuts", **QUICK)


def test_nan_proposals_are_counted_and_fail_the_diagnosis():
    p = plain(lambda x: jnp.where(x > 1, jnp.nan, -0.5 * x**2))
    draws = un.sample(
        p, un.kernels.RandomWalkMH(step_size=1.0), start={"x": 0.0}, **QUICK | {"draws": 2000}
    )
    assert draws.sample_stats["nan_proposal"].values.any()
    check = un.diagnose(draws)
    assert not check.passed and any("NaN" in finding.what for finding in check.findings)


def test_a_legitimate_wall_is_no_finding():
    p = plain(lambda x: jnp.where(x > 1, -jnp.inf, -0.5 * x**2))
    draws = un.sample(p, "random_walk_mh", start={"x": 0.0}, draws=3000, seed=0, progress=False)
    assert not draws.sample_stats["nan_proposal"].values.any()
    assert un.diagnose(draws).passed


def test_strict_raises_where_the_draws_do_not_pass():
    with pytest.raises(RuntimeError, match="draws"):
        un.sample(gaussian, "random_walk_mh", strict=True, **QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("support", "kernel"), [(un.Spin[5], "gibbs"), (un.Real[5], "random_walk_mh")]
)
def test_arrays_of_numpy_serve_both_precisions(support, kernel):
    """JAX had kept the float64 form of an array that a function was first probed with, and refused
    it in float32."""
    fields = np.random.default_rng(0).normal(size=5)
    p = un.Density(lambda x: jnp.sum(fields * x) - jnp.sum(x * x), {"x": support})
    un.sample(p, draws=20, chains=2, seed=0, progress=False)
    assert np.isfinite(un.log_z(p, un.estimators.SMC(100, 5, 50), seed=0, progress=False).value)
    draws = un.sample(p, kernel, draws=20, chains=2, warmup=10, seed=0, progress=False).posterior[
        "x"
    ]
    assert np.isfinite(draws).all()

"""The declaration: signatures, dimensions, values, the pytree contract and evaluation."""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Annotated

import declared_with_future as future
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import counting

import unnorm as un

TESTS = Path(__file__).parents[1] / "shared"


@un.density
def ising(x: un.Binary["d"], *, coupling: un.Symmetric["d"] = 0.0, field: un.Real["d"] = 0.0):
    """Pairwise binary graphical model (Besag, 1974)."""
    return field @ x + 0.5 * x @ coupling @ x


@un.density
def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
    return -rate * x


def schools(y=(1.0, 2.0, 3.0)):
    @un.density
    def schools(
        mu: un.Real,
        tau: un.Positive,
        theta: un.Real["school"],
        *,
        y: un.Constant["school"] = y,
        sigma: un.Constant["school"] = 2.0,
    ):
        return -(((y - theta) / sigma) ** 2).sum() - ((theta - mu) ** 2).sum() / tau - tau

    return schools


def refused(match, function, *args, error=ValueError, **kwargs):
    """Call, and hold that it raises one line that matches and ends as a sentence does."""
    with pytest.raises(error, match=match) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and message.endswith("."), message


def leaves(density):
    return jax.tree.leaves(density)


# -- the signature ---------------------------------------------------------------------------------
def test_who_is_who():
    p = schools()
    assert list(p.variables) == ["mu", "tau", "theta"] and p.variables["theta"] == un.Real["school"]
    assert (
        p.parameters == {} and set(p.constants) == {"y", "sigma"} and p.dimensions == {"school": 3}
    )
    np.testing.assert_array_equal(p.constants["sigma"], [2.0, 2.0, 2.0])
    assert set(ising.parameters) == {"coupling", "field"} and ising.dimensions == {"d": None}
    assert repr(exponential) == "Density exponential(x: Positive; rate: Positive)"
    assert (
        ising.name == "ising"
        and ising.__doc__.startswith("Pairwise")
        and "up to a constant" in un.Density.__doc__
    )


def test_the_plain_form_is_the_same():
    p = un.Density(
        lambda x, *, rate, shift, weight: -rate * (x - shift).sum() * weight,
        {"x": un.Positive["d"]},
        {"rate": (un.Positive, 2.0)},
        {"shift": (un.Constant["d"], [0.0, 1.0])},
        {"weight": un.Covariate},
    )
    assert (
        p.dimensions == {"d": 2}
        and list(p.covariates) == ["weight"]
        and p.parameters["rate"] == 2.0
    )
    assert float(p([1.0, 3.0], weight=2.0)) == pytest.approx(-2 * 3 * 2)
    np.testing.assert_allclose(p(np.ones((4, 2)), weight=np.arange(4.0)), -2 * np.arange(4.0))


def test_the_order_of_a_dict_does_not_exchange_variables():
    p = un.Density(lambda x, y: x - 3 * y, {"y": un.Real, "x": un.Real})
    assert list(p.variables) == ["x", "y"] and float(p(x=1.0, y=2.0)) == -5.0
    renamed = un.Density(lambda u, v: u - 3 * v, {"y": un.Real, "x": un.Real})
    assert float(renamed(x=1.0, y=2.0)) == -1.0
    refused(
        r"declared in the order \(y, x\), and its positional arguments are \(x, z\)",
        un.Density,
        lambda x, z: x - z,
        {"y": un.Real, "x": un.Real},
    )


def test_the_decorator_takes_brackets_and_defaults_may_be_missing():
    @un.density()
    def p(x: un.Real, *, scale: un.Positive, degree=2):
        return -scale * x**degree

    assert p.parameters == {"scale": None} and p.constants == {"degree": 2}
    refused("Parameter scale has no value; expected one; bind it by p.bind", p, 1.0)
    assert float(p.bind(scale=3.0)(2.0)) == -12 == float(p(2.0, scale=3.0))


def test_string_annotations_are_resolved():
    assert future.annotated.variables == {"x": un.Binary["d"]} and future.annotated.supports == {
        "field": un.Real["d"]
    }
    assert future.schools.dimensions == {"school": 3} and future.schools.supports == {
        "tau": un.Positive
    }
    assert future.local_import().supports == {"scale": un.Positive}
    assert future.enclosed(un.Positive).variables == {"x": un.Positive}
    assert future.by_someone_else().variables == {"x": un.Binary["d"]}
    refused(
        "annotations of inner use the name 'Reel', which cannot be resolved", future.unresolvable
    )


def test_annotated_is_accepted():
    @un.density
    def p(
        x: Annotated[jax.Array, un.Binary[" d"]],
        *,
        y: Annotated[jax.Array, un.Constant["d"]] = np.ones(3),  # noqa: B008
    ):
        return x @ y

    assert p.shapes() == {"x": (3,)} and list(p.constants) == ["y"]


def declare(text):
    space = {"un": un, "np": np}
    exec(text, space)
    return un.density(space["f"])


REFUSED = {
    "def f(x): return x": "^Variable x was declared with no annotation; expected a support",
    "def f(x: float): return x": "^Variable x was declared with <class 'float'>; expected a "
    "support",
    "def f(x: un.Real = 0.0): return x": "^Variable x of f has a default; a variable must",
    "def f(*x: un.Real): return x": "^Argument x of f collects arguments",
    "def f(x: un.Real, **k): return x": "^Argument k of f collects arguments",
    "def f(*, a: un.Real = 0.0): return a": "^Density f has no variables",
    "def f(x: un.Symmetric['d']): return x": "^Variable x was declared as .* is a "
    "support of parameters only",
    "def f(x: un.Real, *, a: un.Binary = 1.0): return x": "^Parameter a was declared as .* "
    "is a support of variables only",
    "def f(x: un.Real, *, a: float = 1.0): return x": "^Parameter a was declared with <class "
    "'float'>",
    "def f(x: un.Real, *, y: un.Constant['d']): return x": "^Constant y of f has no value",
    "def f(x: un.Real['x']): return x": "^Variable x has the name of a dimension",
    "def f(x: un.Real['d'], d: un.Real): return x": "^Variable d has the name of a dimension",
    "def f(chain: un.Real): return chain": "^The name 'chain' is reserved",
    "def f(x: un.Real['draw']): return x": "^The name 'draw' is reserved",
    "def f(x: un.Simplex): return x": r"^Variable x was declared as Simplex without a dimension; "
    r".* Simplex\['d'\]",
    "def f(x: un.Ordered): return x": "without a dimension",
    "def f(x: un.Real, *, a: un.PositiveDefinite = 1.0): return x": "^Parameter a was .* without "
    "a dimension",
    "def f(x: un.Real, *, a: un.Positive = -1.0): return x": "A start of -1.0 was given for "
    "Positive",
    "def f(x: un.Real, *, a: un.Positive['d'] = np.array([1., -1.])): return x": r"^a holds -1\.0 at index \(1,\)",  # noqa: E501
    "def f(x: un.Real, *, a: un.Interval(0, 1) = 2.0): return x": r"^a holds 2\.0, outside "
    r"Interval\(0, 1\)",
    "def f(x: un.Real, *, a: un.Interval(0, 1)['d'] = 2.0): return x": r"^a holds 2\.0 at index "
    r"\(0,\)",
    "def f(x: un.Real, *, a: un.Symmetric['d'] = 1.0): return x": r"^a holds \[\[1\. 0\.\] \[0\. "
    r"1\.\]\], outside",
    "def f(x: un.Real, *, a: un.Real = 'one'): return x": "^a was given one; expected numbers "
    "for Real",
    "def f(x: un.Real, *, a: un.Real['d'] = [[1., 2.], [3.]]): return x": "^a was not given "
    "an array of numbers",
    "def f(x: un.Real, *, a: un.Real = None): return x": "^a was not given an array of numbers",
    "def f(x: un.Real, *, y=np.array(['a', 'b'])): return x": "^y holds an array of dtype <U1; "
    "expected numbers; code",
    "def f(x: un.Real, *, y=[['a'], ['b']]): return x": "^y holds an array of dtype <U1",
    "def f(x: un.Real['d'], *, y: un.Constant['d'] = np.ones(3), z: un.Constant['d'] = "
    "np.ones(2)): return x": r"^z has the shape \(2,\), so that its dimension 'd' is 2; expected 3",
    "def f(x: un.Real, *, y: un.Constant['d'] = np.ones((2, 2))): return x": r"^y has the shape \(2, 2\); expected",  # noqa: E501
    "def f(x: un.Real, *, a: un.Real[3] = np.ones(2)): return x": "so that its axis 0 is 2; "
    "expected 3",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_declaration_refuses(text):
    refused(REFUSED[text], declare, text)


def test_what_the_plain_form_refuses():
    refused("expected a function of one event", un.Density, 3, {"x": un.Real}, error=TypeError)
    refused("expected a function of one event", un.density, 3, error=TypeError)
    refused(
        "^Covariate k was declared with Real",
        un.Density,
        abs,
        {"x": un.Real},
        covariates={"k": un.Real},
    )
    refused(
        "^Parameter a was declared with 3 values",
        un.Density,
        abs,
        {"x": un.Real},
        {"a": (un.Real, 1.0, 2.0)},
    )
    refused("The name 'x' is used twice", un.Density, abs, {"x": un.Real}, {"x": un.Real})
    refused("has no variables", un.Density, abs)


def test_an_open_dimension_is_asked_for():
    refused(
        r"Dimension 'd' of x is open; expected a size; set it by p.with_dimensions\(d=...\)",
        ising.shapes,
    )
    refused("Dimension 'd' of x is open", ising.free)
    assert ising.with_dimensions(d=8).shapes() == {"x": (8,)}
    assert ising.bind(field=np.zeros(4)).dimensions == {"d": 4}
    assert ising.resolved({"x": (5,)}).dimensions == {"d": 5}
    labelled = ising.with_dimensions(d=["a", "b"])
    assert labelled.labels == {"d": ("a", "b")} and labelled.parameters["coupling"].shape == (2, 2)
    assert ising.with_dimensions(d=pd.Index([1, 2])).labels == {"d": ("1", "2")}
    refused("is 2 by values bound before, and 3 was given", labelled.with_dimensions, d=3)
    refused("no dimension of the density; did you mean 'd'", ising.with_dimensions, dd=3)
    for wrong in ("abc", 2.5, True, 0, []):
        refused(
            "Dimension 'd' was given .*; it must be a positive integer",
            ising.with_dimensions,
            d=wrong,
        )
    other = np.zeros((3, 3))
    refused(
        r"coupling .* \(3, 3\), so that its dimension 'd' is 3; expected 2",
        labelled.bind,
        coupling=other,
    )


# -- values ----------------------------------------------------------------------------------------
def test_bind_fix_and_given():
    coupling = np.array([[0.0, 1.0], [1.0, 0.0]])
    bound = ising.bind(coupling=coupling)
    assert (
        bound.bound == {"coupling"}
        and ising.bound == frozenset()
        and ising.parameters["coupling"] == 0.0
    )
    np.testing.assert_array_equal(bound.parameters["field"], np.zeros(2))
    fixed = bound.fix(field=0.5)
    assert list(fixed.supports) == ["coupling"] and fixed.constants["field"].tolist() == [0.5, 0.5]
    assert float(fixed([1, 1])) == pytest.approx(2.0) == float(bound([1, 1], field=0.5))
    assert exponential.fix(rate=0.0).constants["rate"] == 0.0  # a constant may stand on the bound

    rest = schools().given(theta=np.zeros(3), mu=0.0)
    assert list(rest.variables) == ["tau"] and rest.given is not None
    assert float(rest(2.0)) == pytest.approx(float(schools()(0.0, 2.0, np.zeros(3))))
    pair = un.Density(lambda x, y: -x * y, {"x": un.Positive, "y": un.Positive})
    assert float(pair.given(x=0.0)(3.0)) == 0.0


def test_what_values_refuse():
    refused(
        "^bind was given 'feild', which is no parameter .*; did you mean 'field'",
        ising.bind,
        feild=1.0,
    )
    refused(
        "^coupling holds .* outside Symmetric",
        ising.bind,
        coupling=np.array([[0.0, 1.0], [2.0, 0.0]]),
    )
    refused(r"^coupling has the shape \(2, 3\), so that", ising.bind, coupling=np.zeros((2, 3)))
    refused(r"^coupling has the shape \(3,\); expected 2 axes", ising.bind, coupling=np.zeros(3))
    refused("^rate holds nan; expected", exponential.fix, rate=np.nan)
    refused("A start of -1.0 was given for Positive", exponential.bind, rate=-1.0)
    refused("given.. was passed every variable", exponential.given, x=1.0)
    refused(r"^theta has the shape \(\); expected 1 axis", schools().given, theta=0.0)
    refused("^tau holds -1.0, outside Positive", schools().given, tau=-1.0)


def test_rename():
    p = schools().rename(theta="effect", y="scores")
    assert list(p.variables) == ["mu", "tau", "effect"] and "scores" in p.constants
    assert float(p(0.0, 1.0, effect=np.ones(3))) == float(schools()(0.0, 1.0, np.ones(3)))
    swapped = schools().rename(mu="tau", tau="mu")
    assert float(swapped(0.5, 2.0, np.ones(3))) == float(schools()(0.5, 2.0, np.ones(3)))
    assert exponential.bind(rate=2.0).rename(rate="speed").bound == {"speed"}
    refused("The name 'tau' is used twice", schools().rename, mu="tau")
    refused("Variable school has the name of a dimension", schools().rename, mu="school")
    refused("The name 'chain' is reserved", exponential.rename, x="chain")
    refused("no name of the density", exponential.rename, y="z")


def test_defaults():
    @un.density
    def p(
        x: un.Real["d"], *, precision: un.PositiveDefinite["d"] = 2.0, share: un.Simplex["d"] = 1.0
    ):
        return -0.5 * x @ precision @ x + share @ x

    p = p.with_dimensions(d=3)
    np.testing.assert_array_equal(p.parameters["precision"], 2.0 * np.eye(3))
    np.testing.assert_allclose(p.parameters["share"], np.full(3, 1 / 3))


def test_a_start_on_the_bound_is_moved_inward_and_said():
    for value, d in [(0.0, None), (np.array([0.0, 0.5]), 2)]:
        with pytest.warns(
            UserWarning, match=r"^a starts on the boundary of Interval\(0, 1\)\['d'\] and was moved"
        ):
            p = un.Density(
                lambda x, a: x, {"x": un.Real}, {"a": (un.Interval(0, 1)["d"], value)}
            ).with_dimensions(d=2)
        assert d is None or p.parameters["a"][1] == 0.5
        assert (p.parameters["a"] > 0).all() and np.isfinite(p.free()["a"]).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            p.fix(a=0.0).rename(x="y")  # said once, and only of starts


def test_the_callers_array_stays_the_callers():
    data, codes = np.ones(3), np.arange(3)
    p = un.Density(
        lambda x, *, data, codes: x * data.sum(),
        {"x": un.Real},
        constants={"data": data, "codes": codes},
    )
    data[:], codes[:] = 5.0, 7
    assert p.constants["data"].tolist() == [1.0, 1.0, 1.0] and p.constants["codes"].tolist() == [
        0,
        1,
        2,
    ]
    with pytest.raises(ValueError, match="read-only"):
        p.constants["data"][0] = 2.0


# -- the pytree ------------------------------------------------------------------------------------
def held(**constants):
    return un.Density(lambda x, **k: x, {"x": un.Real}, constants=constants)


def test_floats_are_leaves_and_the_rest_is_static():
    p = held(
        groups=[np.ones(1, "float32"), np.ones(2, "float32")],
        single=np.ones(2, "float32"),
        double=np.ones(2),
        number=1.5,
        jax=jnp.ones(2),
        whole=3,
        flag=True,
        word="mean",
        codes=np.arange(3),
        function=np.sin,
        nested={"a": 1.0, "b": 2},
        series=pd.Series([1.0, 2.0]),
        nothing=None,
    )
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves(p))
    assert sorted((leaf.dtype.name, leaf.shape) for leaf in leaves(p)) == sorted(
        [("float32", shape) for shape in [(1,), (2,), (2,), (2,)]]
        + [("float64", s) for s in [(2,), (), (), (2,)]]
    )
    assert p.constants["codes"].tolist() == [0, 1, 2] and p.constants["word"] == "mean"
    assert p.constants["nothing"] is None
    assert p.constants["function"] is np.sin and p.constants["nested"]["b"] == 2


def test_static_parts_compare_by_content():
    def structure(p):
        return jax.tree.structure(p)

    function = un.Density(
        lambda x, **k: x, {"x": un.Real}, constants={"k": np.arange(3), "n": 2}
    )._structure.function

    def with_(**constants):
        return structure(un.Density(function, {"x": un.Real}, constants=constants))

    assert with_(k=np.arange(3), n=2) == with_(k=np.arange(3), n=2)
    assert hash(with_(k=np.arange(3), n=2)) == hash(with_(k=np.arange(3), n=2))
    assert with_(k=np.arange(3), n=2) != with_(k=np.arange(1, 4), n=2) and with_(k=1) != with_(k=2)
    assert with_(k=np.ones(3)) == with_(k=np.zeros(3))


def test_unflattening_never_validates():
    treedef = jax.tree.structure(exponential)
    for nonsense in (None, "x", object(), -1.0):
        assert isinstance(jax.tree.unflatten(treedef, [nonsense] * treedef.num_leaves), un.Density)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, ising.bind(field=np.ones(2)))
    np.testing.assert_array_equal(doubled.parameters["field"], [2.0, 2.0])


def test_it_passes_through_jit_vmap_and_grad():
    p = exponential.bind(rate=2.0)
    assert float(jax.jit(lambda p, x: p(x))(p, 3.0)) == -6
    many = jax.tree.map(lambda leaf: jnp.asarray([1.0, 2.0]), p)
    np.testing.assert_allclose(jax.vmap(lambda p: p(3.0))(many), [-3.0, -6.0])
    gradient = jax.grad(lambda p: p(3.0))(jax.tree.map(jnp.asarray, p))
    assert isinstance(gradient, un.Density) and gradient.parameters["rate"] == -3.0


def test_new_values_never_retrace():
    @counting
    def function(x, *, coupling, y):
        return x @ coupling @ x + y.sum()

    p = un.Density(
        function, {"x": un.Real["d"]}, {"coupling": un.Symmetric["d"]}, {"y": np.zeros(4)}
    )
    for i in range(3):
        q = p.bind(coupling=np.full((2, 2), i) * (1 - np.eye(2)))
        q(np.ones(2) * i)
        q(np.ones(2), y=np.full(4, i + 0.5), coupling=np.zeros((2, 2)))
        q.rename(x="x").with_dimensions(d=["a", "b"])(np.ones(2))
        p(np.ones(2), coupling=np.zeros((2, 2)))
    assert function.traces == 1
    jitted = jax.jit(lambda p, x: p.log_density({"x": x}))
    traces = function.traces
    for i in range(3):
        jitted(p.bind(coupling=np.zeros((2, 2))).for_jit(), np.ones(2) + i)
    assert function.traces == traces + 1


def test_declaring_runs_no_jax_operation():
    code = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
import numpy as np, unnorm as un
import declared_with_future, jax
@un.density
def p(x: un.Real["d"], *, k: un.PositiveDefinite["d"] = 2.0, s: un.Symmetric["d"] = np.zeros((3, 3)),
      w: un.Simplex["d"] = 1.0, o: un.Ordered["d"] = 0.0, i: un.Interval(0, 1) = 0.5, y: un.Constant["d"] = 1.0):
    return -0.5 * x @ k @ x
q = p.bind(k=np.eye(3)).fix(i=0.25).rename(x="z").with_dimensions(d=list("abc"))
(q * p.rename(x="z")) ** 0.5
un.truncate(q, z=un.Positive)
try:
    jax.devices()
except RuntimeError:
    print("no backend was there", q.shapes())
"""  # noqa: E501
    assert "no backend was there {'z': (3,)}" in fresh(code, JAX_PLATFORMS="nonexistent")


def fresh(code, **environment):
    """Run code in a new interpreter."""
    environment = (
        os.environ
        | {"PYTHONPATH": os.pathsep.join([str(TESTS.parents[1]), str(TESTS)])}
        | environment
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_identity_freezing_and_copies():
    p, q = exponential.bind(rate=1.0), exponential.bind(rate=1.0)
    assert p == p and p != q and len({p, q}) == 2
    for change in (lambda: setattr(p, "rate", 2.0), lambda: setattr(p, "_held", {})):
        refused("^Density is frozen", change, error=AttributeError)
    local = un.Density(lambda x: x, {"x": un.Real})
    assert copy.copy(local) is local and copy.deepcopy({"p": local})["p"] is local


# -- pickling --------------------------------------------------------------------------------------
def test_a_module_level_density_pickles():
    p = future.schools.bind(tau=3.0).with_dimensions(school=["a", "b", "c"])
    back = pickle.loads(pickle.dumps(p))
    assert (
        jax.tree.structure(back) == jax.tree.structure(p)
        and back.bound == {"tau"}
        and back.labels == p.labels
    )
    assert float(back(np.ones(3))) == float(p(np.ones(3)))
    assert pickle.loads(pickle.dumps(future.Holder.held)).name == "held"


def test_it_pickles_into_another_process(tmp_path):
    file = tmp_path / "p.pickle"
    file.write_bytes(pickle.dumps(future.annotated.bind(field=np.array([1.0, 2.0]))))
    code = f"import pickle; p = pickle.load(open({str(file)!r}, 'rb')); print(float(p([1, 1])), p.dimensions)"  # noqa: E501
    assert fresh(code).strip() == "3.0 {'d': 2}"


def test_what_cannot_be_pickled_says_so(monkeypatch):
    local = un.Density(lambda x: x, {"x": un.Real})
    refused(
        "<lambda> cannot be pickled, because a lambda or local function",
        pickle.dumps,
        local,
        error=TypeError,
    )
    refused("cannot be pickled", pickle.dumps, schools(), error=TypeError)
    monkeypatch.setattr(future, "annotated", future.product)
    p = future.product.factors[0]
    refused(
        "declared_with_future.annotated is now another object", pickle.dumps, p, error=TypeError
    )


# -- evaluation ------------------------------------------------------------------------------------
def test_one_event_and_many():
    p = ising.bind(coupling=np.array([[0.0, 1.0], [1.0, 0.0]]), field=[0.5, 0.0])
    events = np.array([[0, 0], [1, 0], [1, 1]])
    np.testing.assert_allclose(p(events), [0.0, 0.5, 1.5])
    np.testing.assert_allclose(p(events.reshape(3, 1, 2)), [[0.0], [0.5], [1.5]])
    assert (
        p(events[0]).shape == ()
        and p(np.zeros((0, 2))).shape == (0,)
        and p({"x": events}).shape == (3,)
    )
    np.testing.assert_allclose(p(x=events), p(events))


def test_variables_broadcast_against_each_other():
    p = schools()
    theta = np.arange(12.0).reshape(4, 3)
    expected = [float(p(0.5, 2.0, row)) for row in theta]
    np.testing.assert_allclose(p(0.5, 2.0, theta), expected, rtol=1e-6)
    found = p(np.array([0.5, 1.0])[:, None], 2.0, theta)
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    np.testing.assert_allclose(p({"mu": 0.5, "tau": 2.0}, theta=theta), expected, rtol=1e-6)


def test_what_a_call_refuses():
    p = schools()
    refused("^schools was called without theta; expected a value", p, 0.0, 1.0)
    refused(
        "^schools was called with 4 positional values, and it has 3 variables",
        p,
        0.0,
        1.0,
        np.ones(3),
        1.0,
    )
    refused("^schools was given mu twice", p, 0.0, 1.0, np.ones(3), mu=0.0)
    refused(
        "^schools was given 'sigm', .*; did you mean 'sigma'", p, 0.0, 1.0, np.ones(3), sigm=1.0
    )
    refused(r"theta has the shape \(\); expected at least 1 axis", p, 0.0, 1.0, 2.0)
    refused("its dimension 'school' is 4; expected 3", p, 0.0, 1.0, np.ones(4))
    refused("A start of -1.0|rate holds", exponential, 1.0, rate=-1.0)
    vector = un.Density(lambda x: x, {"x": un.Real["d"]})
    refused(r"returned the shape \(2,\) for one event; expected a scalar; sum", vector, np.ones(2))
    refused(
        "returned None for one event; expected a scalar; return",
        un.Density(lambda x: None, {"x": un.Real}),
        1.0,
    )


def test_outside_the_support_it_is_minus_infinity():
    p = un.Density(
        lambda x, *, a: a * jnp.log(x).sum(), {"x": un.Positive[2]}, {"a": (un.Positive, 1.0)}
    )
    events = [[1.0, 1.0], [1.0, -1.0], [np.nan, 1.0], [np.inf, 1.0]]
    np.testing.assert_array_equal(p(events), [0, -np.inf, -np.inf, -np.inf])
    assert float(un.Density(lambda x: x, {"x": un.Real})(np.inf)) == -np.inf
    gradient = jax.grad(lambda free: p.at(free)([1.0, -1.0]))(p.free())
    assert float(gradient["a"]) == 0.0  # and not the NaN of the function out there
    half = un.Density(lambda x: 2, {"x": un.Binary["d"]})
    np.testing.assert_array_equal(half([[0, 1], [0.5, 1]]), [2.0, -np.inf])
    simplex = un.Density(lambda x: jnp.log(x).sum(), {"x": un.Simplex[2]})
    assert float(simplex([0.5, 0.6])) == -np.inf


def test_parameters_by_keyword_under_jit_and_grad():
    assert (
        float(exponential(2.0, rate=3.0))
        == -6
        == float(jax.jit(lambda r: exponential(2.0, rate=r))(3.0))
    )
    assert float(jax.jit(lambda r: exponential(2.0, rate=r))(3)) == -6
    assert float(jax.grad(lambda r: exponential(2.0, rate=r))(3.0)) == -2
    p = ising.with_dimensions(d=2)
    gradient = jax.grad(lambda f: p(np.array([1.0, 0.0]), field=f))(jnp.zeros(2))
    np.testing.assert_allclose(gradient, [1.0, 0.0])
    refused(
        "field was given one traced number; .*pass the array in full",
        jax.jit(lambda f: p([1, 0], field=f)),
        1.0,
    )


def test_score():
    p = schools()
    score = p.score(0.5, 2.0, np.ones(3))
    assert set(score) == {"mu", "tau", "theta"} and score["theta"].shape == (3,)
    np.testing.assert_allclose(exponential.score(np.ones(4), rate=2.0), np.full(4, -2.0))
    refused("Variable x is discrete, so that ising has no score", ising.score, [0, 1])


def test_free_and_at_are_inverse(x64):
    p = ising.bind(coupling=np.array([[0.0, 0.7], [0.7, 0.0]]))
    free = p.free()
    assert free["coupling"].tolist() == [0.7] and all(
        isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(free)
    )
    moved = p.at(jax.tree.map(lambda leaf: leaf + 1, free))
    np.testing.assert_allclose(moved.parameters["coupling"], [[0, 1.7], [1.7, 0]])
    refused("^at was given 'nothing', which is no parameter", p.at, {"nothing": 1.0})


def test_a_network_as_a_parameter():
    network = eqx.nn.MLP(2, "scalar", 4, 1, key=jax.random.key(0))

    @un.density
    def p(x: un.Real["d"], *, net: un.PyTree = network, scale: un.Positive = 1.0):
        return net(x) - scale * (x**2).sum()

    free = p.with_dimensions(d=2).free()
    assert len(free["net"]) == 4 and all(isinstance(leaf, jax.Array) for leaf in free["net"])
    assert float(p(np.ones(2))) == pytest.approx(float(network(jnp.ones(2)) - 2), abs=1e-6)
    p = p.with_dimensions(d=2)
    gradient = jax.jit(jax.grad(lambda free, p: p.at(free)(np.ones(2))))(free, p)
    assert [leaf.shape for leaf in gradient["net"]] == [leaf.shape for leaf in free["net"]]
    assert any(np.abs(leaf).max() > 0 for leaf in gradient["net"]) and np.isfinite(
        gradient["scale"]
    )
    assert isinstance(p.at(free).parameters["net"], eqx.nn.MLP)


def test_both_precisions():
    assert exponential(np.float64(1.0)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert exponential(np.float64(1.0)).dtype == jnp.float64
        assert float(exponential(0.1, rate=0.1)) == pytest.approx(-0.01, abs=1e-16)

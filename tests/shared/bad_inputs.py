"""A table of bad inputs to every public function, by name: calls that must end in one sentence of
ours.

The options of methods and the arguments of verbs are taken from their declared types, so that a new
method or verb has its rows here for nothing.
"""

import dataclasses
import inspect
import typing

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import xarray as xr

import unnorm as un
from unnorm.core.trace_errors import is_ours
from unnorm.fitting.objectives.registry import OBJECTIVES
from unnorm.partition.estimators.registry import ESTIMATORS
from unnorm.sampling.kernels.registry import KERNELS

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(30, 2))
Y, Z = RANDOM.normal(size=30), RANDOM.normal(size=30)


@un.density
def plane(x: un.Real["d"], *, m: un.Real["d"] = 0.0):
    return -0.5 * jnp.sum((x - m) ** 2)


@un.density
def line(x: un.Real, *, m: un.Real = 0.0):
    return -0.5 * (x - m) ** 2


@un.density
def regression(y: un.Real, *, z: un.Covariate, slope: un.Real = 0.0):
    return -0.5 * (y - slope * z) ** 2


@un.density
def bits(x: un.Binary["d"], *, field: un.Real["d"] = 0.0):
    return field @ x


def verdict(call):
    """ "sentence", "answer", or what is wrong with how the call ended."""
    try:
        call()
    except Exception as error:
        text = str(error)
        if (
            isinstance(error, TypeError)
            and "missing" in text
            and "argument" in text
            and "\n" not in text
        ):
            return "sentence"  # Python's own, of a class that was made without what it needs
        if not is_ours(error):
            return f"raw {type(error).__name__}: {text[:200]}"
        if "\n" in text or not text.endswith((".", "?")) or len(text) > 1000:
            return f"no sentence: {text[:300]!r}"
        return "sentence"
    return "answer"


# -- options of methods ----------------------------------------------------------------------------
NUMBERS = (
    np.nan,
    np.inf,
    -np.inf,
    -1,
    -0.5,
    "a",
    "",
    1j,
    [1.0, "b"],
    [],
    {},
    object(),
    b"1",
    np.array(["1"]),
)
WHOLE = (2.5, 0.1, [3, 4], np.float64(1.5))
BAD_BY_TYPE = {
    int: (*NUMBERS, *WHOLE, True),
    float: (*NUMBERS, [3.0, 4.0], True),
    bool: (1, 0, "yes", [], np.nan),
    str: ("nonsense", "", 1, [], np.nan),
}
REQUIRED = {
    "AnnealedLangevin": {"sigma": (0.1, 1.0, 3)},
    "DenoisingScoreMatching": {"sigma": 1.0},
    "IndependentMH": {"proposal": dist.Normal(0.0, 1.0)},
    "ReplicaExchange": {"inner": "nuts"},
}
METHODS = {**KERNELS, **OBJECTIVES, **ESTIMATORS, "L1": un.L1}


def kinds_of(annotation):
    return typing.get_args(annotation) or (annotation,)


def options_of_methods():
    for name, cls in METHODS.items():
        if not dataclasses.is_dataclass(cls):
            continue
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            kinds = kinds_of(hints[field.name])
            known = next((kind for kind in BAD_BY_TYPE if kind in kinds), None)
            if known is None or not set(kinds) <= {*BAD_BY_TYPE, type(None)}:
                continue
            bad = BAD_BY_TYPE[known] if type(None) in kinds else (*BAD_BY_TYPE[known], None)
            for value in bad:
                options = REQUIRED.get(cls.__name__, {}) | {field.name: value}
                yield (
                    f"{name}({field.name}={value!r})",
                    lambda cls=cls, options=options: cls(**options),
                )


def other_options():
    kernels, objectives, estimators = un.kernels, un.objectives, un.estimators
    yield from {
        "a matrix of words": lambda: kernels.NUTS(inverse_mass_matrix="a"),
        "a matrix with NaN": lambda: kernels.HMC(inverse_mass_matrix=[1.0, np.nan]),
        "a covariance with infinity": lambda: kernels.RandomWalkMH(covariance=np.inf),
        "an unknown inner kernel": lambda: kernels.ReplicaExchange("nutz"),
        "no inner kernel": lambda: kernels.ReplicaExchange(3),
        "no blocks": lambda: kernels.Blockwise(),
        "a block of nothing": lambda: kernels.Blockwise(x=3),
        "no noise level": lambda: objectives.DenoisingScoreMatching(),
        "negative noise levels": lambda: objectives.DenoisingScoreMatching(sigma=[1.0, -1.0]),
        "an empty list of levels": lambda: objectives.DenoisingScoreMatching(sigma=[]),
        "a step of words": lambda: objectives.FiniteDifferenceScoreMatching(step="small"),
        "a scale of zero": lambda: objectives.ConditionalNCE(scale=0.0),
        "an unknown weight": lambda: un.fit(
            line, Y, objectives.ScoreMatching(h="mni"), progress=False
        ),
        "noise of words": lambda: un.fit(line, Y, objectives.NCE(noise="normal"), progress=False),
        "discrete noise": lambda: un.fit(
            line, Y, objectives.NCE(noise=dist.Poisson(1.0)), progress=False
        ),
        "a base of words": lambda: un.log_z(line, estimators.AIS(base="wide"), progress=False),
        "a base of numbers": lambda: un.log_z(line, estimators.SMC(base=3.0), progress=False),
    }.items()


# -- arguments of verbs ----------------------------------------------------------------------------
VERBS = {
    "sample": (un.sample, (line,), {"progress": False}),
    "log_z": (un.log_z, (line,), {"progress": False}),
    "fit": (un.fit, (line, Y, "score_matching"), {"progress": False}),
    "path": (un.path, (line, Y, "score_matching"), {"penalty": {"m": un.L1()}, "progress": False}),
    "compare": (un.compare, ({}, Y), {}),
    "diagnose": (un.diagnose, ({"x": np.zeros((4, 10))},), {}),
    "resume": (un.resume, ("/nowhere", line), {}),
}
BAD_ARGUMENTS = {
    "seed": (2**63, 2**31, -1, 1.5, "one", np.nan, [1], True, np.uint64(2**63)),
    "dtype": ("nonsense", "int32", np.int64, complex, "float16", 7, "", object()),
    "start": (3j, "here", {"nothing": 1.0}, {"m": "a"}, {"m": np.nan}, {"m": [1.0, 2.0]}),
    "objective": ("score_maching", 3, object()),
    "kernel": ("mela", 3, object()),
    "estimator": ("smcc", 3, object()),
    "keep": ("some", None, 3),
    "track": ({"x": abs}, {"norm": 3}),
    "over": ({}, {"m": []}, {"q": [1.0]}, {"m": ["a"]}, [1.0], {"m": [1.0, 1.0]}, {"m": [np.nan]}),
    "penalty": ({"q": un.L1(0.1)}, {"m": 0.1}, un.L1(0.1), {"m": un.L1(-1.0)}, {"m": un.L2("a")}),
    "prior": ({"q": dist.Normal(0, 1)}, {"m": 3}, dist.Normal(0, 1), {"m": dist.Poisson(1.0)}),
    "weights": ([1.0], "w", -np.ones(30), np.full(30, np.nan)),
    "frequency_weights": (
        [1],
        "w",
        np.full(30, 1.5),
        -np.ones(30),
        np.zeros(30),
        np.ones((30, 2)),
        3,
    ),
    "sampling_weights": (
        [1],
        "w",
        -np.ones(30),
        np.zeros(30),
        ["a"] * 30,
        np.full(30, np.inf),
        np.ones(30) + 1j,
    ),
    "cluster": ([1], "g", [None] * 30, np.full(30, np.nan), 3),
    "optimizer": ("adam", 3),
    "callback": ("print", 3),
    "held_out": ("a", [np.nan], X),
}
WILL_DO = {("sample", "start"), ("resume", "start")}  # of a variable, and given below


def arguments_of_verbs():
    for name, (function, given, options) in VERBS.items():
        hints = typing.get_type_hints(function)
        for argument in list(inspect.signature(function).parameters)[len(given) :]:
            kinds = kinds_of(hints.get(argument, typing.Any))
            known = next((kind for kind in BAD_BY_TYPE if kind in kinds), None)
            simple = known is not None and set(kinds) <= {*BAD_BY_TYPE, type(None)}
            bad = BAD_ARGUMENTS.get(argument, BAD_BY_TYPE[known] if simple else ())
            for value in bad:
                if (name, argument) in WILL_DO or (argument == "keep" and name != "sample"):
                    continue
                call = options | {argument: value}
                yield (
                    f"{name}({argument}={value!r})",
                    lambda f=function, g=given, c=call: f(*g, **c),
                )
        yield f"{name} without arguments", function
        yield f"{name}(nonsense=1)", lambda f=function, g=given, o=options: f(*g, **o, nonsense=1)
    for value in (None, 3, "line", lambda x: x, X, un.Real):
        for name, function in (
            ("sample", un.sample),
            ("log_z", un.log_z),
            ("fit", lambda p: un.fit(p, Y)),
            ("path", lambda p: un.path(p, Y, penalty={"m": un.L1()})),
            ("posterior", lambda p: un.posterior(p, Y, prior={"m": dist.Normal(0, 1)})),
            ("resume", lambda p: un.resume("/nowhere", p)),
            ("load", lambda p: un.load("/nowhere", p)),
            ("truncate", lambda p: un.truncate(p, x=un.Interval(0, 1))),
        ):
            yield f"{name} of {value!r}", lambda f=function, v=value: f(v)


def runs():
    start = lambda value, p=line: lambda: un.sample(p, start=value, progress=False)  # noqa: E731
    yield from {
        "too many draws": lambda: un.sample(line, draws=10**18, progress=False),
        "draws beyond memory": lambda: un.sample(
            line, draws=2**31 - 1, chains=1000, progress=False
        ),
        "too many chains": lambda: un.sample(line, chains=10**12, progress=False),
        "chains beyond memory": lambda: un.sample(
            line, chains=2**31 - 1, keep="last", progress=False
        ),
        "too much thinning": lambda: un.sample(line, thin=10**15, progress=False),
        "a start of words": start("here"),
        "a start outside": start({"x": -2.0}, un.truncate(line, x=un.Positive)),
        "a start of another shape": start({"x": [1.0, 2.0, 3.0]}, plane.with_dimensions(d=2)),
        "a start of another variable": start({"y": 1.0}),
        "a start with NaN": start({"x": np.nan}),
        "a masked start": start({"x": np.ma.masked}),
        "an open dimension": lambda: un.sample(plane, progress=False),
        "an open dimension, log_z": lambda: un.log_z(plane, progress=False),
        "a covariate": lambda: un.sample(regression, progress=False),
        "a covariate, log_z": lambda: un.log_z(regression, progress=False),
        "a kernel for others": lambda: un.sample(bits.with_dimensions(d=3), "nuts", progress=False),
        "a kernel for bits": lambda: un.sample(line, "gibbs", progress=False),
        "an estimator for others": lambda: un.log_z(
            bits.with_dimensions(d=3), "bridge", progress=False
        ),
        "no store": lambda: un.resume("/nowhere", line),
        "no fit": lambda: un.load("/nowhere/fit.npz", line),
        "devices": lambda: un.use_devices(0),
        "devices of words": lambda: un.use_devices("two"),
        "no model": lambda: un.from_numpyro(3),
        "no fits": lambda: un.compare({}, Y),
        "fits of numbers": lambda: un.compare({"a": 1, "b": 2}, Y),
        "one fit": lambda: un.compare({"a": 1}, Y),
        "a simulation of nothing": lambda: un.simulate(3),
    }.items()


# -- declarations ----------------------------------------------------------------------------------
def declarations():
    half = lambda x, **_: -0.5 * x**2  # noqa: E731
    declared = lambda **given: lambda: un.Density(half, **given)  # noqa: E731
    real = {"x": un.Real}
    yield from {
        "no function": lambda: un.Density(3, real),
        "no variable": lambda: un.Density(half),
        "no variables": declared(variables={}),
        "a variable of a type": declared(variables={"x": float}),
        "a variable of a word": declared(variables={"x": "Real"}),
        "a variable without an axis": declared(variables={"x": un.Simplex}),
        "a variable that is learned alone": declared(variables={"x": un.Symmetric["d"]}),
        "a parameter of a type": declared(variables=real, parameters={"a": int}),
        "a parameter with three things": declared(
            variables=real, parameters={"a": (un.Real, 1.0, 2.0)}
        ),
        "a discrete parameter": declared(variables=real, parameters={"a": un.Binary}),
        "a start outside": declared(variables=real, parameters={"a": (un.Positive, -1.0)}),
        "a start of words": declared(variables=real, parameters={"a": (un.Real, "one")}),
        "a start of NaN": declared(variables=real, parameters={"a": (un.Real, np.nan)}),
        "a complex start": declared(variables=real, parameters={"a": (un.Real, 1j)}),
        "a start of dates": declared(
            variables=real, parameters={"a": (un.Real, np.datetime64("2020"))}
        ),
        "a start of None": declared(variables=real, parameters={"a": (un.Real, None)}),
        "a ragged start": declared(
            variables=real, parameters={"a": (un.Real["d"], [[1.0], [1.0, 2.0]])}
        ),
        "a constant of words": declared(variables=real, constants={"c": np.array(["a"])}),
        "a masked constant": declared(
            variables=real, constants={"c": np.ma.masked_array([1.0, 2.0], [0, 1])}
        ),
        "a constant of another shape": declared(
            variables=real, constants={"c": (un.Constant["d", "k"], [1.0])}
        ),
        "a covariate of a support": declared(variables=real, covariates={"z": un.Real}),
        "one name twice": declared(variables=real, parameters={"x": un.Real}),
        "the name of the draws' axis": declared(variables={"chain": un.Real}),
        "the name of a dimension": declared(variables={"d": un.Real["d"]}),
        "a closed form of words": declared(variables=real, log_z="0"),
        "a closed form of NaN": declared(variables=real, log_z=np.nan),
        "a closed form of the variable": declared(variables=real, log_z=lambda x: x),
        "an empty interval": lambda: un.Interval(1.0, 1.0),
        "an interval of words": lambda: un.Interval("a", "b"),
        "an interval of NaN": lambda: un.Interval(np.nan, 1.0),
        "an infinite interval": lambda: un.Interval(0.0, np.inf),
        "no categories": lambda: un.Categorical(0),
        "categories of words": lambda: un.Categorical("three"),
        "an axis of zero": lambda: un.Real[0],
        "an axis of a fraction": lambda: un.Real[1.5],
        "an axis of None": lambda: un.Real[None],
        "an axis of True": lambda: un.Real[True],
        "an unknown dimension": lambda: plane.with_dimensions(e=2),
        "a dimension of zero": lambda: plane.with_dimensions(d=0),
        "a negative dimension": lambda: plane.with_dimensions(d=-3),
        "a dimension of a fraction": lambda: plane.with_dimensions(d=2.5),
        "a dimension of a word": lambda: plane.with_dimensions(d="abc"),
        "a dimension of None": lambda: plane.with_dimensions(d=None),
        "labels twice": lambda: plane.with_dimensions(d=["a", "a"]),
        "a broken label": lambda: plane.with_dimensions(d=["a", "\ud800"]),
        "no labels": lambda: plane.with_dimensions(d=[]),
        "an unknown parameter": lambda: plane.bind(q=1.0),
        "a parameter outside": lambda: line.bind(m=np.inf),
        "a parameter of words": lambda: line.bind(m="a"),
        "a parameter of another rank": lambda: line.bind(m=[1.0, 2.0]),
        "a complex parameter": lambda: line.bind(m=1j),
        "a missing parameter": lambda: plane.bind(m=[1.0, None]),
        "a dict as a parameter": lambda: line.bind(m={"a": 1.0}),
        "fixing what is unknown": lambda: plane.fix(q=1.0),
        "given what is unknown": lambda: plane.given(q=1.0),
        "given everything": lambda: line.given(x=1.0),
        "given a covariate of words": lambda: regression.given(z="a"),
        "given a missing covariate": lambda: regression.given(z=np.nan),
        "renaming what is unknown": lambda: line.rename(q="y"),
        "renaming onto another": lambda: regression.rename(y="z"),
        "a call without a value": lambda: line(),
        "a call with too many": lambda: line(1.0, 2.0, 3.0),
        "a call with an unknown one": lambda: line(1.0, q=1.0),
        "a call with words": lambda: line("a"),
        "a call with None": lambda: line(None),
        "a call with complex numbers": lambda: line(1j),
        "a call of another size": lambda: plane.bind(m=np.zeros(3))(np.zeros(2)),
        "a call of a lower rank": lambda: plane(1.0),
        "the score of bits": lambda: bits.score([0.0, 1.0]),
        "a power of words": lambda: line ** "a",
        "a power of a list": lambda: line ** [1.0, 2.0],
        "truncating what is unknown": lambda: un.truncate(line, y=un.Interval(0, 1)),
        "truncating to nothing": lambda: un.truncate(line, x=3),
        "a product of other supports": lambda: line * un.Density(half, {"x": un.Positive}),
        "a covariate, normalized": lambda: regression.normalized(),
        "normalized by words": lambda: line.normalized("one"),
        "normalized by NaN": lambda: line.normalized(np.nan),
        "free without a value": lambda: un.Density(half, real, {"a": un.Real}).free(),
        "at what is unknown": lambda: line.at({"q": 1.0}),
        "a data set that is not there": lambda: un.models.load("nothing"),
    }.items()


# -- data ------------------------------------------------------------------------------------------
HOLE = np.arange(30) == 7
BAD_PLANES = {
    "words": np.char.mod("%.2f", X),
    "dates": X.astype("datetime64[D]"),
    "complex": X + 1j,
    "NaN": np.where(HOLE[:, None], np.nan, X),
    "infinite": np.where(HOLE[:, None], np.inf, X),
    "masked": np.ma.masked_array(X, X > 1),
    "a scalar": 1.0,
    "one event": X[0],
    "too many axes": X[None],
    "no rows": X[:0],
    "None": None,
    "a word": "x",
    "ragged": [[1.0, 2.0], [1.0]],
    "objects": np.array([[object(), 1.0]] * 30),
    "a missing object": np.array([[None, 1.0]] * 30),
    "a set": {1.0, 2.0},
    "an unknown name": {"q": X},
    "nothing": {},
    "a function": abs,
    "no batch": iter([]),
    "a batch of words": iter(["a"]),
    "other dimensions": xr.DataArray(X, dims=("a", "b")),
    "equal columns": pd.DataFrame(X, columns=["a", "a"]),
    "a column of words": pd.DataFrame({"a": Y, "b": "u"}),
    "a missing Int64": pd.DataFrame({"a": Y, "b": pd.array([None, *range(29)], "Int64")}),
    "a Series": pd.Series(Y),
    "a column of dates": pd.DataFrame({"a": Y, "b": pd.Timestamp("2020")}),
    "a timedelta": X.astype("timedelta64[D]"),
    "large integers": np.full((30, 2), 2**63 + 1, np.uint64),
    "records": np.zeros(30, [("a", float)]),
    "no columns": pd.DataFrame(index=range(30)),
    "True": True,
    "bytes": b"abc",
    "a key": jax.random.key(0),
}
BAD_TABLES = {
    "an array": Y,
    "no covariate": {"y": Y},
    "no variable": {"z": Z},
    "other lengths": {"y": Y, "z": Z[:3]},
    "a covariate with NaN": {"y": Y, "z": np.where(HOLE, np.nan, Z)},
    "a covariate of words": {"y": Y, "z": ["a"] * 30},
    "a masked covariate": {"y": Y, "z": np.ma.masked_array(Z, HOLE)},
    "a covariate of two": {"y": Y, "z": X},
    "another column": pd.DataFrame({"y": Y, "q": Z}),
    "a missing column": pd.DataFrame({"y": Y}),
    "too many": {"y": Y, "z": Z, "q": Y},
    "another index": {"y": pd.Series(Y), "z": pd.Series(Z)[::-1]},
    "None": {"y": Y, "z": None},
    "a complex one": {"y": Y, "z": Z * 1j},
}
BAD_BITS = {
    "two": 2 * np.ones((30, 2)),
    "a half": np.full((30, 2), 0.5),
    "negative": -np.ones((30, 2)),
}


def data():
    doors = {
        "fit": lambda p, given: un.fit(p, given, "score_matching", seed=0, progress=False),
        "path": lambda p, given: un.path(
            p,
            given,
            "score_matching",
            penalty={next(iter(p.supports)): un.L1([0.1])},
            progress=False,
        ),
        "posterior": lambda p, given: un.posterior(
            p, given, prior={n: dist.Normal(0, 1) for n in p.supports}
        ),
        "several": lambda p, given: un.fit(
            [p, p], [given, given], "score_matching", progress=False
        ),
    }
    for door, call in doors.items():
        for p, table in ((plane, BAD_PLANES), (regression, BAD_TABLES), (bits, BAD_BITS)):
            for name, given in table.items():
                if hasattr(given, "__next__") and door != "fit":
                    continue
                yield f"{door}: {name}", lambda call=call, p=p, given=given: call(p, given)


def draws():
    values = RANDOM.normal(size=(4, 20))
    tables = {
        "a number": 3,
        "None": None,
        "an array": values,
        "a word": "draws",
        "nothing": {},
        "one chain": {"x": Y},
        "words": {"x": np.full((4, 20), "a")},
        "masked": {"x": np.ma.masked_array(values, values > 1)},
        "other lengths": {"x": values, "y": values[:, :3]},
        "complex": {"x": values * 1j},
        "no draws": {"x": values[:, :0]},
        "objects": {"x": np.full((4, 20), None)},
        "other dimensions": xr.Dataset({"x": (("a", "b"), values)}),
    }
    for name, given in tables.items():
        yield f"diagnose: {name}", lambda given=given: un.diagnose(given)
    yield "diagnose: a density of others", lambda: un.diagnose({"q": values}, line)
    yield "diagnose: no density", lambda: un.diagnose({"x": values}, 3)
    for name in ("masked", "words", "complex", "objects", "no draws", "nothing", "a word"):
        estimator = un.estimators.ImportanceSampling(base=tables[name])
        yield f"base: {name}", lambda estimator=estimator: un.log_z(line, estimator, progress=False)


# -- functions that JAX cannot follow --------------------------------------------------------------
class Net(eqx.Module):
    layer: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self):
        self.layer, self.dropout = eqx.nn.Linear(2, 1, key=jax.random.key(0)), eqx.nn.Dropout(0.5)

    def __call__(self, x):
        return self.dropout(self.layer(x))[0]


FUNCTIONS = {
    "NumPy": lambda x: -float(np.exp(x)),
    "if": lambda x: -x if x > 0 else x,
    "a word": lambda x: "one",
    "None": lambda x: None,
    "a vector": lambda x: jnp.ones(2) * x,
    "complex": lambda x: 1j * x,
    "shapes": lambda x: jnp.ones(2) @ jnp.ones(3),
    "its own error": lambda x: {}["a"],
    "too many arguments": lambda x, y: x,
    "an index": lambda x: [1.0, 2.0][x],
    "while_loop": lambda x: jax.lax.while_loop(lambda v: v > -3, lambda v: v - 1.0, -(x**2)),
    "a callback": lambda x: jax.pure_callback(
        lambda v: np.float32(-(v**2)), jax.ShapeDtypeStruct((), np.float32), x
    ),
}


def functions():
    for name, function in FUNCTIONS.items():
        p = un.Density(function, {"x": un.Real})
        learned = un.Density(
            lambda x, *, m, f=function: f(x) * m, {"x": un.Real}, {"m": (un.Real, 1.0)}
        )
        yield f"log_z: {name}", lambda p=p: un.log_z(p, progress=False)
        yield f"sample: {name}", lambda p=p: un.sample(p, progress=False)
        yield f"score: {name}", lambda p=p: p.score(1.0)
        yield (
            f"fit: {name}",
            lambda p=learned: un.fit(p, Y, "score_matching", seed=0, progress=False),
        )
        if name not in ("while_loop", "a callback"):
            discrete = un.Density(function, {"x": un.Binary})
            yield f"call: {name}", lambda p=p: p(1.0)
            yield f"sum: {name}", lambda p=discrete: un.log_z(p, progress=False)
            yield f"Gibbs: {name}", lambda p=discrete: un.sample(p, progress=False)
    networks = {"dropout": Net(), "batch norm": eqx.nn.BatchNorm(2, axis_name="b", mode="ema")}
    for name, network in networks.items():
        p = un.Density(
            lambda x, *, net: jnp.sum(net(x)) - x @ x,
            {"x": un.Real[2]},
            {"net": (un.PyTree, network)},
        )
        yield f"call: {name}", lambda p=p: p([1.0, 2.0])
        yield f"log_z: {name}", lambda p=p: un.log_z(p, progress=False)
        yield f"fit: {name}", lambda p=p: un.fit(p, X, "score_matching", seed=0, progress=False)


GROUPS = [
    options_of_methods,
    other_options,
    arguments_of_verbs,
    runs,
    declarations,
    data,
    draws,
    functions,
]


def table():
    """Every row: a group, a name and a call."""
    return [(group.__name__, name, call) for group in GROUPS for name, call in group()]

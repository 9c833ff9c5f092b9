"""What a fit refuses, in one sentence, before anything long is compiled; and what it says where it
did not work."""

import inspect

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from targets import ising

import unnorm as un
from unnorm.fitting.objectives.registry import (
    NCE,
    ContrastiveDivergence,
    MaximumLikelihood,
    ScoreMatching,
)

RANDOM = np.random.default_rng(0)
POSITIVE = RANDOM.exponential(size=(30, 2))
REALS, BITS = RANDOM.normal(size=(30, 3)), RANDOM.integers(0, 2, (30, 3))
LENGTHS = POSITIVE[:, 0]


@un.density
def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
    return -rate * x


@un.density
def rectangle(x: un.Positive["d"], *, rate: un.Positive["d"] = 1.0):
    return -rate @ x


@un.density
def normal(x: un.Real["d"], *, mean: un.Real["d"] = 0.0):
    return -0.5 * jnp.sum((x - mean) ** 2)


@un.density
def two(x: un.Real, y: un.Positive, *, shift: un.Real = 0.0):
    return -0.5 * (x - shift) ** 2 - y


@un.density
def ordered(x: un.Ordered["d"], *, mean: un.Real = 0.0):
    return -0.5 * jnp.sum((x - mean) ** 2)


@un.density
def regression(y: un.Real, *, z: un.Covariate, slope: un.Real = 0.0):
    return -0.5 * (y - slope * z) ** 2


@un.density
def nothing_free(x: un.Real["d"]):
    return -0.5 * jnp.sum(x**2)


@un.density
def no_start(x: un.Real, *, shift: un.Real):
    return -0.5 * (x - shift) ** 2


def changed(value, at=3):
    """The lengths with one entry replaced."""
    return np.where(np.arange(len(LENGTHS)) == at, value, LENGTHS)


def declared(function, start=1.0):
    return un.Density(function, {"x": un.Positive}, {"rate": (un.Real, start)})


# name: density, data, objective, other options, words that the message must hold
BAD = {
    "outside the support": (
        exponential,
        changed(-1.0),
        ScoreMatching(),
        {},
        ["x holds -1.0 at row 3, outside Positive", "not negative", "declare another support"],
    ),
    "bits outside": (
        ising,
        2 * BITS,
        MaximumLikelihood(),
        {},
        ["x[0] holds 2.0 at row 0", "Binary", "expected 0 or 1"],
    ),
    "NaN": (
        exponential,
        changed(np.nan),
        ScoreMatching(),
        {},
        ["x is missing throughout row 3", "drop the row"],
    ),
    "infinite": (exponential, changed(np.inf), ScoreMatching(), {}, ["x holds inf at row 3"]),
    "a column of another name": (
        exponential,
        pd.DataFrame({"y": LENGTHS}),
        ScoreMatching(),
        {},
        ["data has the columns y", "expected x", "rename the column"],
    ),
    "one scalar event": (
        exponential,
        1.5,
        ScoreMatching(),
        {},
        ["is one event of x", "data[None]"],
    ),
    "one vector event": (
        rectangle,
        POSITIVE[0],
        ScoreMatching(),
        {},
        ["x with the shape (2,) is one event", "data[None]", "declare x: Positive"],
    ),
    "one row, score matching": (
        exponential,
        LENGTHS[:1],
        ScoreMatching(),
        {},
        ["data has 1 row", "at least 2", "pass more rows", "un.objectives.PseudoLikelihood"],
    ),
    "a column without spread": (
        rectangle,
        POSITIVE * [1, 0],
        ScoreMatching(),
        {},
        ["x has a column that never changes", "pass more rows"],
    ),
    "one row, CD": (
        exponential,
        LENGTHS[:1],
        ContrastiveDivergence(),
        {},
        ["1 row", "at least 2", "persistent"],
    ),
    "one row, NCE": (
        normal,
        REALS[:1],
        NCE(),
        {},
        ["data has 1 row; NCE expects at least 2", "un.objectives.PseudoLikelihood"],
    ),
    "equal rows, NCE": (
        normal,
        REALS[[0, 0]],
        NCE(),
        {},
        ["default noise cannot be fitted to 2 rows of x", "noise="],
    ),
    "no rows": (
        exponential,
        LENGTHS[:0],
        ScoreMatching(),
        {},
        ["data has no rows", "at least one"],
    ),
    "too many axes": (
        rectangle,
        POSITIVE[None],
        ScoreMatching(),
        {},
        ["x has the shape (1, 30, 2)", "2 axes", "reshape"],
    ),
    "wrong size": (
        normal.bind(mean=np.zeros(3)),
        POSITIVE,
        ScoreMatching(),
        {},
        ["x has the shape (2,)", "'d'", "expected 3"],
    ),
    "ragged": (
        rectangle,
        [[1.0, 2.0], [1.0]],
        ScoreMatching(),
        {},
        ["x has rows of different lengths"],
    ),
    "strings": (
        exponential,
        np.array(["a", "b"]),
        ScoreMatching(),
        {},
        ["x has dtype <U1", "expected numbers"],
    ),
    "unknown objective": (
        exponential,
        LENGTHS,
        "score_maching",
        {},
        ["did you mean 'score_matching'?", "nce"],
    ),
    "no objective": (
        exponential,
        LENGTHS,
        3,
        {},
        ["objective is 3", "expected a name, or an object"],
    ),
    "missing variable": (
        two,
        {"x": LENGTHS},
        ScoreMatching(),
        {},
        ["no values for y", "found x", "expected x, y"],
    ),
    "missing column": (
        two,
        pd.DataFrame({"x": LENGTHS, "z": 1.0}),
        ScoreMatching(),
        {},
        ["for y", "found x, z"],
    ),
    "unknown variable": (
        two,
        {"x": LENGTHS, "y": LENGTHS, "xx": LENGTHS},
        ScoreMatching(),
        {},
        ["'xx'", "mean 'x'"],
    ),
    "array for two": (two, LENGTHS, ScoreMatching(), {}, ["ndarray", "x, y", "a DataFrame"]),
    "unequal rows": (
        two,
        {"x": LENGTHS, "y": LENGTHS[:3]},
        ScoreMatching(),
        {},
        ["'x': 30, 'y': 3", "align"],
    ),
    "different labels": (
        rectangle.with_dimensions(d=["a", "b"]),
        pd.DataFrame(POSITIVE, columns=["b", "a"]),
        ScoreMatching(),
        {},
        ["labels b, a along 'd'", "expected a, b"],
    ),
    "unknown start": (
        exponential,
        LENGTHS,
        ScoreMatching(),
        {"start": {"rat": 1.0}},
        ["start was given 'rat'", "did you mean 'rate'?"],
    ),
    "start outside": (
        exponential,
        LENGTHS,
        ScoreMatching(),
        {"start": {"rate": -1.0}},
        ["start of rate holds -1.0", "Positive"],
    ),
    "start without names": (
        exponential,
        LENGTHS,
        ScoreMatching(),
        {"start": 2.0},
        ["start is 2.0", "dict", "rate"],
    ),
    "no start": (no_start, LENGTHS, ScoreMatching(), {}, ["shift has no value", "bind"]),
    "nothing free": (
        nothing_free,
        REALS,
        MaximumLikelihood(),
        {},
        ["nothing_free has no parameters to fit"],
    ),
    "Z out of reach": (
        normal,
        RANDOM.normal(size=(9, 4)),
        MaximumLikelihood(),
        {},
        [
            "MaximumLikelihood needs an exact",
            "three continuous dimensions",
            "NCE, ScoreMatching or ContrastiveDivergence",
        ],
    ),
    "too many states": (
        ising,
        np.eye(21),
        MaximumLikelihood(),
        {},
        ["2^20 states", "un.objectives.NCE"],
    ),
    "shape of the noise": (
        rectangle,
        POSITIVE,
        NCE(noise=dist.Exponential(1.0)),
        {},
        ["noise for x has the shape ()", "expected (2,)", ".expand"],
    ),
    "noise of nothing": (
        exponential,
        LENGTHS,
        NCE(noise={"y": dist.Exponential(1.0)}),
        {},
        ["noise was given for y", "expected x"],
    ),
    "noise is no distribution": (
        exponential,
        LENGTHS,
        NCE(noise="normal"),
        {},
        ["noise for x is 'normal'", "numpyro.distributions"],
    ),
    "narrow noise": (
        exponential,
        LENGTHS,
        NCE(noise=dist.Uniform(0.0, 1e-3)),
        {},
        ["noise has the log-density -inf", "at data row 0", "wider"],
    ),
    "no noise ratio": (
        exponential,
        LENGTHS,
        lambda: NCE(noise_ratio=2.5),
        {},
        ["noise_ratio is 2.5", "integer"],
    ),
    "NCE with covariates": (
        regression,
        {"y": LENGTHS, "z": LENGTHS},
        NCE(),
        {},
        ["covariate z", "ScoreMatching"],
    ),
    "score matching of ordered vectors": (
        ordered,
        np.sort(REALS),
        ScoreMatching(),
        {},
        ["no form for x", "Ordered", "un.objectives.NCE", "MaximumLikelihood"],
    ),
    "trace of score matching": (
        normal,
        REALS,
        lambda: ScoreMatching(trace="jacobean"),
        {},
        ["trace is 'jacobean'", "mean 'jacobian'?"],
    ),
    "column without change": (
        rectangle,
        POSITIVE * [1, 0],
        ScoreMatching(),
        {},
        ["x has a column that never changes", "drop it"],
    ),
    "weight of score matching": (
        exponential,
        LENGTHS,
        ScoreMatching(h="mni"),
        {},
        ["h is 'mni'", "mean 'min'?"],
    ),
    "kernel for reals": (
        ising,
        BITS,
        ContrastiveDivergence(kernel=un.kernels.MALA()),
        {},
        ["MALA cannot move x", "Binary", "use Gibbs"],
    ),
    "kernel for bits": (
        normal,
        REALS,
        ContrastiveDivergence(kernel="gibbs"),
        {},
        ["Gibbs cannot move x", "MALA"],
    ),
    "no kernel": (normal, REALS, ContrastiveDivergence(kernel=3), {}, ["kernel is 3", "build"]),
    "no steps of the kernel": (
        normal,
        REALS,
        lambda: ContrastiveDivergence(k=0),
        {},
        ["k is 0", "at least 1"],
    ),
    "no chains": (
        normal,
        REALS,
        lambda: ContrastiveDivergence(persistent=True, chains=0),
        {},
        ["chains is 0", "at least 2"],
    ),
    "no steps": (
        normal,
        REALS,
        ContrastiveDivergence(),
        {"steps": 0},
        ["steps is 0", "at least 1"],
    ),
    "no batch": (
        normal,
        REALS,
        ContrastiveDivergence(),
        {"batch_size": 1},
        ["batch_size is 1", "at least 2"],
    ),
    "no seed": (normal, REALS, NCE(), {"seed": "one"}, ["seed is 'one'", "integer"]),
    "no float": (normal, REALS, NCE(), {"dtype": "int32"}, ["dtype is 'int32'", "float64"]),
    "no density": (lambda x: x, REALS, NCE(), {}, ["expected a density", "un.density"]),
    "non-scalar": (
        un.Density(lambda x, *, a: a * x, {"x": un.Real[3]}, {"a": (un.Real, 1.0)}),
        REALS,
        NCE(),
        {},
        ["returned the shape (3,)", "expected a scalar"],
    ),
    "NaN at the start": (
        declared(lambda x, *, rate: -x * jnp.log(rate), -1.0),
        LENGTHS,
        ContrastiveDivergence(),
        {},
        ["is nan at the start of the fit at data row 0, x =", "start="],
    ),
    "-inf at a row": (
        declared(lambda x, *, rate: jnp.log(x) - rate * x),
        changed(0.0),
        ScoreMatching(),
        {},
        ["is -inf at the start of the fit at data row 3, x = 0."],
    ),
    "infinite gradient": (
        declared(lambda x, *, rate: -x * jnp.sqrt(rate), 0.0),
        LENGTHS,
        ContrastiveDivergence(),
        {},
        ["gradient", "in the parameter rate is not finite", "start={'rate'"],
    ),
    "NumPy inside": (
        declared(lambda x, *, rate: -float(rate) * x),
        LENGTHS,
        MaximumLikelihood(),
        {},
        ["cannot be traced by JAX", "jax.numpy"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    p, data, objective, options, words = BAD[case]
    with pytest.raises(ValueError) as caught:
        objective = (
            objective() if inspect.isfunction(objective) else objective
        )  # some are refused when made
        un.fit(p, data, objective, **({"seed": 0, "progress": False} | options))
    message = str(caught.value)
    assert not [word for word in words if word not in message], message
    assert message.endswith(".") and "\n" not in message and "Traceback" not in message


def test_an_unknown_kernel_is_named_when_the_objective_is_made():
    with pytest.raises(ValueError, match=r"kernel 'mela' is not known; did you mean 'mala'?"):
        ContrastiveDivergence(kernel="mela")


# -- what cannot be seen at the door ---------------------------------------------------------------
def told(fit, *words):
    return any(all(word in str(finding) for word in words) for finding in fit.findings)


def test_one_row_has_the_standard_errors_of_the_information_and_says_so():
    row = np.array([[1.0, -2.0, 0.5]])
    fit = un.fit(normal, row, MaximumLikelihood(), seed=0, progress=False)
    assert fit.summary().estimate.to_numpy() == pytest.approx(row[0])
    assert fit.summary()["standard_error"].to_numpy() == pytest.approx(
        np.ones(3), rel=1e-4
    )  # precision 1
    assert told(fit, "one row of data has no spread", "as far as the model is true")


def test_an_estimate_that_runs_away_is_not_converged():
    """Every event has the first bit: its field has no finite estimate."""
    data = np.array([[1, 0], [1, 1], [1, 1], [1, 0], [1, 1]])
    fit = un.fit(ising, data, MaximumLikelihood(), seed=0, progress=False)
    assert not fit.converged and not fit.passed
    assert told(fit, "no finite estimate", "field[0] diverges to inf")
    assert fit.summary().estimate["field[0]"] == np.inf and np.isnan(
        fit.summary().standard_error["field[0]"]
    )
    with pytest.raises(RuntimeError, match="diverges"):
        un.fit(ising, data, MaximumLikelihood(), seed=0, progress=False, strict=True)


@pytest.mark.parametrize(
    "objective",
    [
        ScoreMatching(),
        MaximumLikelihood(),
        pytest.param(NCE(noise_ratio=20), marks=pytest.mark.slow),
    ],
)
def test_a_fit_that_cannot_be_normalized_says_so(objective):
    """Heavy tails pull the quartic term below zero, where the log-density rises without end."""
    data = np.random.default_rng(0).standard_t(2, size=300)

    @un.density
    def quartic(x: un.Real, *, fourth: un.Real = 1.0, second: un.Real = 1.0):
        return -fourth * x**4 - second * x**2

    fit = un.fit(quartic, data, objective, seed=0, progress=False)
    assert fit.summary().estimate["fourth"] < 0
    assert not fit.converged and not fit.passed
    assert told(
        fit, "[error] quartic cannot be normalized at the estimate", "restrict the parameters"
    )
    assert fit.log_z is None or isinstance(objective, NCE)

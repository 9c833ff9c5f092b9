"""What a store says of its run: anything that decides a bit, so that another run is refused by
name."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from stored_runs import line, run
from targets import gaussian

import unnorm as un
from unnorm.sampling.output.fingerprints import UNKNOWN, describe_value


def proposal(scale, family=dist.Normal):
    return un.kernels.IndependentMH(family(0.0, scale))


SCALE = 1.0


def scaled(x):
    return SCALE * x


OTHER_RUNS = {
    "variable": ({}, {"p": line.rename(x="y")}, "variable"),
    "support": ({}, {"p": un.truncate(line, x=un.Interval(-9, 9))}, "variable x is Real"),
    "tracked": (
        {"track": {"f": lambda x: x}},
        {"track": {"f": lambda x: x + 1}},
        "tracked function f",
    ),
    "closure": (
        {"track": {"f": (lambda k: lambda x: k * x)(1.0)}},
        {"track": {"f": (lambda k: lambda x: k * x)(2.0)}},
        "tracked function f",
    ),
    "family": (
        {"kernel": proposal(2.0)},
        {"kernel": proposal(2.0, dist.Cauchy)},
        "kernel proposal is Normal(loc=0.0, scale=2",
    ),
    "scale": (
        {"kernel": proposal(2.0)},
        {"kernel": proposal(3.0)},
        "kernel proposal is Normal(loc=0.0, scale=2.0",
    ),
    "start": ({"start": {"x": 0.5}}, {"start": {"x": 0.75}}, "start is"),
    "kind of start": ({}, {"start": "pathfinder"}, "start is None"),
}


@pytest.mark.parametrize("case", OTHER_RUNS)
def test_a_run_that_differs_in_anything_is_refused(case, tmp_path):
    first, second, words = OTHER_RUNS[case]
    run(store=tmp_path / "run.d", **first)
    with pytest.raises(un.StoreError, match=re.escape(words)):
        run(store=tmp_path / "run.d", **second)
    assert run(store=tmp_path / "run.d", **first).attrs["incomplete"] == 0  # the same one goes on


@un.density
def spread(x: un.Real, *, scale: un.Positive = 1.0):
    return -0.5 * (x / scale) ** 2


POINTS = np.random.default_rng(0).normal(size=64)
FIT = {"steps": 50, "batch_size": 16, "seed": 0, "progress": False}
OTHER_FITS = {
    "rate": ({"optimizer": optax.adam(1e-3)}, {"optimizer": optax.adam(1e-2)}, "optimizer"),
    "schedule": (
        {"optimizer": optax.adam(optax.cosine_decay_schedule(1e-3, 50))},
        {"optimizer": optax.adam(optax.cosine_decay_schedule(1e-3, 60))},
        "optimizer",
    ),
    "held out": ({"held_out": POINTS}, {"held_out": POINTS + 1}, "held_out"),
    "prior": (
        {"prior": {"scale": dist.Gamma(2.0, 1.0)}},
        {"prior": {"scale": dist.LogNormal(2.0, 1.0)}},
        "prior",
    ),
    "prior's number": (
        {"prior": {"scale": dist.Gamma(2.0, 1.0)}},
        {"prior": {"scale": dist.Gamma(3.0, 1.0)}},
        "prior",
    ),
    "penalty": ({"penalty": {"scale": un.L2(0.1)}}, {"penalty": {"scale": un.L2(0.2)}}, "penalty"),
    "start": ({}, {"start": {"scale": 2.0}}, "parameter or constant scale is 1.0"),
    "objective": ({}, {"objective": "nce"}, "objective"),
}


QUICK = ("rate", "prior")  # each optimizer compiles a training of its own


def fit(objective="score_matching", **options):
    return un.fit(spread, POINTS, objective, **FIT | options)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c not in QUICK)) for c in OTHER_FITS]
)
def test_a_fit_that_differs_in_anything_is_refused(case, tmp_path):
    first, second, words = OTHER_FITS[case]
    fit(store=tmp_path / "fit.d", **first)
    with pytest.raises(un.StoreError, match=re.escape(words)):
        fit(store=tmp_path / "fit.d", **second)


@pytest.mark.slow
def test_other_weights_are_refused(tmp_path):
    weights = np.linspace(0.5, 1.5, 64)
    fit(store=tmp_path / "fit.d", weights=weights)
    with pytest.raises(un.StoreError, match="weights"):
        fit(store=tmp_path / "fit.d", weights=weights[::-1].copy())


def test_what_cannot_be_compared_is_not_stored(tmp_path):
    class Odd:
        __slots__ = ()

        def __call__(self, logdensity):
            raise AssertionError

    with pytest.raises(un.StoreError, match="something that cannot be compared"):
        run(kernel=un.kernels.FromBlackJAX(Odd()), store=tmp_path / "run.d")
    assert not (tmp_path / "run.d").exists()


THINGS = """
import numpy as np, numpyro.distributions as d, optax, unnorm as un
from unnorm.sampling.output.fingerprints import describe_value
names = {"a", "b", "c", "d", "e"}
mixture = d.MixtureSameFamily(d.Categorical(probs=np.ones(2) / 2), d.Normal(0, np.ones(2)))
things = [optax.adam(optax.cosine_decay_schedule(1e-3, 5)), mixture, lambda x: x in names, un.Interval(0, 1)]
said = str([describe_value(one) for one in things])
"""  # noqa: E501


def test_descriptions_are_those_of_every_process():
    """What a hash is made of must not hold addresses, nor the order of a set."""
    here = {}
    exec(compile(THINGS, "things", "exec"), here)
    done = subprocess.run(
        [sys.executable, "-c", f"{THINGS}\nprint(said)"],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == here["said"] and UNKNOWN not in here["said"], done.stderr


def test_another_number_of_processes_is_refused(tmp_path):
    (tmp_path / "two.d" / "process-0-of-2").mkdir(parents=True)
    with pytest.raises(un.StoreError, match="run of 2 processes, and 1 was given"):
        run(store=tmp_path / "two.d")
    with pytest.raises(un.StoreError, match="run of 2 processes, and 1 was given"):
        un.resume(tmp_path / "two.d", line)
    from unnorm.sampling.engine.multihost import Hosts

    four = Hosts()
    four.count, four.own = 4, 3
    with pytest.raises(un.StoreError, match="run of 2 processes, and 4 was given"):
        four.own_folder(tmp_path / "two.d")


def test_an_older_format_is_named(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"format": 1, "options": {"seed": 1}}))
    for call in (lambda: run(store=tmp_path), lambda: un.resume(tmp_path, line)):
        with pytest.raises(
            un.StoreError, match="is of format 1, and this version of unnorm reads format 2"
        ):
            call()


def test_what_the_other_tests_sample_can_be_described():
    assert UNKNOWN not in describe_value(gaussian)

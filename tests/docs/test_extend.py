"""The files of docs/extend run as they stand, are short, and give the right answers."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import unnorm as un
from unnorm.fitting.objectives.registry import OBJECTIVES
from unnorm.models import FAMILIES
from unnorm.partition.estimators.registry import ESTIMATORS
from unnorm.sampling.base import KERNELS

EXTEND = Path(__file__).resolve().parents[2] / "docs" / "extend"
FILES = sorted(path.name for path in EXTEND.glob("*.py"))
REGISTRIES = (KERNELS, OBJECTIVES, ESTIMATORS, FAMILIES)


@pytest.fixture
def defined():
    """What a file defines; the registries are then as before."""
    before = [dict(registry) for registry in REGISTRIES]
    yield lambda name: runpy.run_path(str(EXTEND / f"{name}.py"))
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


def test_there_is_one_of_each_kind_and_all_are_short():
    assert FILES == [  # noqa: SIM300
        f"{kind}.py" for kind in ("estimator", "kernel", "model_family", "objective", "support")
    ]
    assert max(len((EXTEND / file).read_text().splitlines()) for file in FILES) < 80


def test_a_kernel(defined):
    defined("kernel")
    normal = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[2]})
    draws = un.sample(normal, "hit_and_run", draws=5000, chains=8, seed=0, progress=False)
    assert un.diagnose(draws, normal).passed


def test_an_objective(defined):
    """One field over independent entries: the minimum is where the score's mean slope is zero."""
    defined("objective")
    p = un.Density(
        lambda x, *, field: field * x.sum(), {"x": un.Binary["d"]}, {"field": (un.Real, 0.0)}
    )
    data = np.array([[1, 0], [1, 1], [1, 1], [0, 1]])
    fit = un.fit(p, data, "spherical_score", seed=0, progress=False)
    assert float(fit.density.parameters["field"]) == pytest.approx(np.log(6 / 2), abs=1e-5)


def test_an_estimator(defined):
    defined("estimator")
    bump = un.Density(lambda x: -x @ x, {"x": un.Interval(-1, 1)[2]})
    z = un.log_z(bump, "uniform_sampling", seed=0, progress=False)
    truth = 2 * np.log(np.sqrt(np.pi) * special.erf(1))
    assert z.verdict == "ok" and abs(z.value - truth) < 4 * z.standard_error < 0.02
    needle = un.Density(lambda x: -1e6 * x @ x, {"x": un.Interval(-1, 1)[2]})
    assert not un.log_z(needle, "uniform_sampling", seed=0, progress=False).passed
    with pytest.raises(ValueError, match="must be on an Interval"):
        un.log_z(un.Density(lambda x: -x @ x, {"x": un.Real[2]}), "uniform_sampling")


def test_a_support(defined):
    below = defined("support")["Below"]
    p = un.Density(lambda x, *, rate: rate * x, {"x": below()}, {"rate": (un.Positive, 1.0)})
    data = -np.random.default_rng(0).exponential(0.5, 1000)
    fit = un.fit(p, data, "maximum_likelihood", seed=0, progress=False)
    assert float(fit.density.parameters["rate"]) == pytest.approx(-1 / data.mean(), rel=1e-4)
    with pytest.raises(ValueError, match="expected numbers of at most 0"):
        un.fit(p, np.array([-1.0, 2.0]), "maximum_likelihood", progress=False)


def test_a_model_family(defined):
    family = defined("model_family")["zero_inflated_counts"]
    z = un.log_z(family.bind(log_rate=np.log(2.0), extra_zeros=1.0), progress=False)
    assert z.value == pytest.approx(np.log(np.exp(2.0) + np.exp(1.0) - 1), abs=1e-6)

"""Kernels that many chains tune together: exact once tuned, and chosen where chains are many."""

import json

import numpy as np
import pytest
from helpers import assert_within
from targets import CONTINUOUS, error_of_mean

import unnorm as un
from unnorm.sampling.defaults import select_kernel
from unnorm.sampling.kernels.ensemble.meads import largest_eigenvalue

RUN = {"seed": 0, "progress": False}
KINDS = {"chees": un.kernels.ChEES(), "meads": un.kernels.MEADS()}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("target", ["gaussian", pytest.param("banana", marks=pytest.mark.slow)])
def test_ensemble_kernels_recover_moments(name, target):
    known = CONTINUOUS[target]
    draws = un.sample(known.density, KINDS[name], draws=400, warmup=400, chains=64, **RUN)
    values = draws.posterior["x"].values.astype(float)
    for found, exact in ((values, known.mean), ((values - known.mean) ** 2, known.variance)):
        error = error_of_mean(found)
        assert np.all(error < 0.1 * np.maximum(known.variance, 1))
        assert_within(found.mean((0, 1)), exact, error)


def test_few_chains_are_a_finding_and_one_is_refused_by_meads():
    p = CONTINUOUS["gaussian"].density
    draws = un.sample(p, "chees", draws=10, warmup=20, chains=2, **RUN)
    findings = json.loads(draws.attrs["findings"])
    assert any(code == "too_few_chains" and "at least 16" in what for what, _, _, code in findings)
    with pytest.raises(ValueError, match="chains is 1; MEADS must have at least 2"):
        un.sample(p, "meads", draws=10, warmup=20, chains=1, **RUN)


def test_the_largest_eigenvalue_is_that_of_the_covariance():
    variances = np.r_[100.0, np.ones(9)]
    rows = np.random.default_rng(0).normal(size=(4000, 10)) * np.sqrt(variances)
    exact = (variances**2).sum() / variances.sum()
    assert float(largest_eigenvalue(rows)) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(
    ("size", "chains", "name"), [(3, 4, "NUTS"), (3, 64, "ChEES"), (1000, 4, "MCLMC")]
)
def test_the_default_follows_chains_and_dimensions(size, chains, name):
    findings = []
    p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[size]})
    kernel = select_kernel(p, None, findings, chains)
    assert type(kernel).__name__ == name and kernel.exact
    assert name in findings[0].what and findings[0].code == "chosen_method"

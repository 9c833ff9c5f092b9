"""Percentiles of a few bootstrap replicates."""

import numpy as np

import unnorm as un


def test_too_few_replicates_are_a_warning():
    p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
    data = np.random.default_rng(0).exponential(size=50)
    fit = un.fit(p, data, "maximum_likelihood", seed=0, progress=False)
    (found,) = fit.bootstrap(2).findings
    assert "2 replicates, too few" in found.what and found.severity == "warning"
    assert not fit.bootstrap(40).findings

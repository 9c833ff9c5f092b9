"""Fits with given numbers, made without running one: for tables, figures and reports."""

import numpy as np

import unnorm as un
from unnorm.fitting.inference.sandwich import Covariance
from unnorm.fitting.results.fit import Fit


def matrix_fit(estimates, errors=None, labels=None, **options):
    """A fit of a symmetric matrix with these free entries, without running one."""
    size = int((1 + np.sqrt(1 + 8 * len(estimates))) / 2)
    names = labels or [f"v{i}" for i in range(size)]
    p = un.Density(
        lambda x, *, coupling: x @ coupling @ x,
        {"x": un.Binary["d"]},
        {"coupling": (un.Symmetric["d"], 0.0)},
    ).with_dimensions(d=names)
    full = np.zeros((size, size))
    full[np.triu_indices(size, 1)] = np.nan_to_num(estimates, posinf=9.0, neginf=-9.0)
    covariance = None
    if errors is not None:
        with np.errstate(all="ignore"):
            total = np.diag(np.square(errors))
            covariance = Covariance(total, 0 * total, total)
    given = {"converged": True, "findings": []} | options
    return Fit(
        p.bind(coupling=full + full.T), "nce", "a fixed point", log_z=None,
        history=np.linspace(2, 1, 9), seed=0, rows=50, _estimates=np.asarray(estimates, float),
        _covariance=covariance, **given,
    )  # fmt: skip

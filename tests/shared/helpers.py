"""What several test files use: comparing an estimate with its truth, and counting traces."""

import functools

import numpy as np


def assert_within(estimate, truth, mcse, k=4):
    """Hold |estimate - truth| <= k * mcse for every entry, the Monte Carlo error being the
    estimate's own."""
    estimate, truth, mcse = np.broadcast_arrays(
        *(np.asarray(value, float) for value in (estimate, truth, mcse))
    )
    distance = np.abs(estimate - truth)
    # Written with `not`, so that a NaN anywhere is a failure.
    bad = ~(distance <= k * mcse) | ~np.isfinite(mcse)
    if not bad.any():
        return
    ratio = np.where(mcse > 0, distance / np.where(mcse > 0, mcse, 1.0), np.inf)
    lines = [
        f"  {index}: estimate {estimate[index]:.6g}, truth {truth[index]:.6g}, off by "
        f"{distance[index]:.3g} = "
        f"{ratio[index]:.3g} Monte Carlo errors of {mcse[index]:.3g}"
        for index in map(tuple, np.argwhere(bad)[:10].tolist())
    ]
    raise AssertionError(
        f"{bad.sum()} of {bad.size} entries lie beyond {k} Monte Carlo errors:\n" + "\n".join(lines)
    )


def counting(function):
    """Wrap a function so that `.traces` counts how often its Python body ran."""

    @functools.wraps(function)
    def counted(*args, **kwargs):
        counted.traces += 1
        return function(*args, **kwargs)

    counted.traces = 0
    return counted

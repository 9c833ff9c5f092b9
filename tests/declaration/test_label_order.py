"""Labels in another order, or of other entries, are refused by every verb that takes labelled
values."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import unnorm as un


def log_density(x, *, m, z):
    return -0.5 * ((x - m - z) ** 2).sum()


P = un.Density(
    log_density,
    {"x": un.Real["d"]},
    {"m": (un.Real["d"], 0.0)},
    covariates={"z": un.Covariate["d"]},
).with_dimensions(d=["a", "b"])
Q = P.given(z=np.zeros(2)).bind(m=np.array([1.0, 5.0]))
SERIES = pd.Series([5.0, 1.0], index=["b", "a"])
FRAME = pd.DataFrame({"b": [5.0, 5.5], "a": [1.0, 1.5]})
DRAWS = xr.DataTree.from_dict(
    {
        "posterior": xr.Dataset(
            {"x": (("chain", "draw", "d"), np.zeros((2, 10, 2)))}, {"d": ["b", "a"]}
        )
    }
)
SAMPLE = {"draws": 2, "warmup": 0, "chains": 1, "seed": 0, "progress": False}


@pytest.mark.parametrize(
    "call",
    [
        lambda: P.bind(m=SERIES),
        lambda: P.given(z=SERIES),
        lambda: Q(FRAME),
        lambda: Q(x=SERIES),
        lambda: Q.score({"x": FRAME}),
        lambda: un.sample(Q, start={"x": SERIES}, **SAMPLE),
        lambda: un.sample(Q, start=SERIES, **SAMPLE),
        lambda: un.fit(Q, FRAME, seed=0, progress=False),
        lambda: un.log_z(P.bind(m=np.zeros(2)), over={"z": FRAME}, seed=0, progress=False),
        lambda: un.log_z(Q, "bridge", draws=DRAWS, seed=0, progress=False),
        lambda: un.log_z(Q, un.estimators.AIS(base=DRAWS), seed=0, progress=False),
        lambda: un.diagnose(DRAWS, Q),
    ],
)
def test_labels_in_another_order_are_refused(call):
    with pytest.raises(ValueError, match="labels b, a along 'd'; expected a, b"):
        call()


def test_the_same_labels_and_plain_arrays_are_taken():
    frame = FRAME[["a", "b"]]
    np.testing.assert_array_equal(Q(frame), Q(frame.to_numpy()))
    assert float(Q(x=SERIES[["a", "b"]])) == 0.0

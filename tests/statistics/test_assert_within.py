"""The comparison that the stochastic tests rest on does fail when it should."""

import numpy as np
import pytest
from helpers import assert_within


def test_close_estimates_pass():
    assert_within([1.0, 2.1], [1.0, 2.0], 0.05)
    assert_within(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "estimate, mcse", [(1.5, 0.1), (np.nan, 0.1), (1.0, np.nan), (1.0, np.inf), (1.1, 0.0)]
)
def test_far_and_undefined_estimates_fail(estimate, mcse):
    with pytest.raises(AssertionError, match=r"1 of 1 entries lie beyond 4 Monte Carlo errors"):
        assert_within(estimate, 1.0, mcse)


def test_the_message_names_the_entry():
    with pytest.raises(
        AssertionError,
        match=r"\(1,\): estimate 5, truth 2, off by 3 = 30 Monte Carlo errors of 0.1",
    ):
        assert_within([1.0, 5.0], [1.0, 2.0], 0.1)

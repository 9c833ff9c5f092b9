"""Fixtures that several test files share."""

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test, as the library's statistical verbs use it."""
    with jax.enable_x64(True):
        yield

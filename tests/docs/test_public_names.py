"""Every public name is described, with a formula, an example and a reference where it needs one."""

import sys
from pathlib import Path

import pytest

EXTENSIONS = str(Path(__file__).resolve().parents[2] / "docs" / "_ext")
sys.path.insert(0, EXTENSIONS)
from inventory import Public, lacks, public_names  # noqa: E402

sys.path.remove(EXTENSIONS)


@pytest.mark.parametrize("public", list(public_names()), ids=lambda public: public.name)
def test_a_public_name_is_documented(public):
    assert not lacks(public)


def test_what_is_missing_is_named():
    def bare():
        """Nothing."""

    missing = ["a description", "an example", "a formula", "a reference"]
    assert lacks(Public("kernels", "un.kernels.bare", bare)) == missing

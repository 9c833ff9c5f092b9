"""docs/architecture.md and its picture are those of the code as it is."""

import pytest
from figures import PACKAGE, Package
from page import DOCS, direct, levels, page, picture


@pytest.mark.parametrize(
    ("name", "write"), [("architecture.md", page), ("architecture.svg", picture)]
)
def test_the_page_is_not_stale(name, write):
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == write(Package(PACKAGE)), "run `make architecture`"


def test_levels_and_direct_imports_of_a_small_graph():
    edges = {"ground": set(), "middle": {"ground"}, "top": {"ground", "middle"}}
    assert levels(edges) == [["ground"], ["middle"], ["top"]]
    assert levels(edges | {"tool": set(), "top": {"middle", "tool"}})[1] == ["middle", "tool"]
    assert direct(edges) == [("middle", "ground"), ("top", "middle")]

"""The pages hang together: links lead somewhere, every page is in a toctree, code is executed."""

import re
from pathlib import Path

import pytest
import typer

from unnorm.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if not {"generated", "_ext"} & set(path.relative_to(DOCS).parts)
)
BY_NAME = {str(path.relative_to(DOCS)): path for path in PAGES}
BESIDE = {name: ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}
FENCE = re.compile(r"^(`{3,}|:{3,})(.*?)\n(.*?)^\1\s*$", re.M | re.S)
LINK = re.compile(r"(?<!`)\[[^\]`]*(?:`[^`]*`[^\]`]*)*\]\(([^)\s]+)\)")


def fences(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: what stands after the fence, and the block."""
    return [(kind.strip(), block) for _, kind, block in FENCE.findall(text)]


def entries(text: str) -> list[str]:
    """The pages that the toctrees of a page name."""
    found = []
    for kind, block in fences(text):
        if kind.startswith("{toctree}"):
            lines = [line.strip() for line in block.splitlines()]
            found += [line for line in lines if line and not line.startswith(":")]
    return [re.sub(r".*<(.*)>", r"\1", line) for line in found]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST write them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {text.replace(" ", "-") for text in plain}


def test_there_are_pages():
    assert {"index.md", "install.md", "tutorial.md", "guide/fit.md"} <= set(BY_NAME)


@pytest.mark.parametrize("name", BY_NAME | BESIDE)
def test_links_lead_somewhere(name):
    path = (BY_NAME | BESIDE)[name]
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if DOCS / "generated" in there.parents:
            continue  # written by the build, which checks these
        assert there.exists(), f"{name} links to {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{name} links to {target}"


def test_every_page_is_in_a_toctree():
    named = {"index"}
    for path in PAGES:
        for entry in entries(path.read_text(encoding="utf-8")):
            there = (path.parent / entry).resolve().relative_to(DOCS)
            named.add(str(there))
            exists = (DOCS / f"{there}.md").exists() or there.parts[0] == "generated"
            assert exists, f"{path.name} names {entry} in a toctree"
    missing = {name.removesuffix(".md") for name in BY_NAME} - named
    assert not missing, f"in no toctree: {sorted(missing)}"


@pytest.mark.parametrize("name", BY_NAME)
def test_python_on_a_page_is_executed(name):
    """A block of Python is a `{code-cell}`, whose output the build computes.

    One that takes too long, or a package that is not at hand, is a `{code-block}`.
    """
    text = BY_NAME[name].read_text(encoding="utf-8")
    kinds = [kind for kind, _ in fences(text)]
    assert "python" not in kinds and "pycon" not in kinds, "write {code-cell} python"
    if any(kind.startswith("{code-cell}") for kind in kinds):
        assert text.startswith("---\nfile_format: mystnb"), "without this head nothing is executed"


def test_the_tutorial_shows_the_command_line():
    """The build runs the commands; here their names and options are looked up."""
    blocks = fences(BY_NAME["tutorial.md"].read_text(encoding="utf-8"))
    (model,) = [block for kind, block in blocks if kind.startswith("{file}")]
    assert len(model.strip().splitlines()) < 15
    lines = [line for kind, block in blocks if kind == "{shell}" for line in block.splitlines()]
    calls = [line.split() for line in lines if line.startswith("unnorm ")]
    assert [call[1] for call in calls] == ["fit", "compare", "simulate", "logz", "report"]
    commands = typer.main.get_command(app).commands
    for _, command, *arguments in calls:
        known = {name for option in commands[command].params for name in option.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_the_gallery_has_its_eight_analyses():
    scripts = sorted((DOCS / "gallery").glob("*.py"))
    assert len(scripts) >= 8
    for script in scripts:
        assert script.read_text(encoding="utf-8").startswith('"""\n'), f"{script.name}: a title"


@pytest.mark.slow
def test_the_code_of_the_readme_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block for kind, block in fences(readme) if kind == "python"]
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)

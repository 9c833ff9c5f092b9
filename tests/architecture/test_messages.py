"""Messages are sentences in plain English."""

import ast
import pathlib
import re

import pytest

import unnorm

FILES = sorted(pathlib.Path(unnorm.__file__).parent.rglob("*.py"))
# "power law" is the field's term.
ODD = re.compile(
    r"such a one|(pass|give) such|; pass (one|some|it)\.|\btold\b|(?<!power )\blaws?\b|\banew\b"
    r"|whole number|nothing is to be done|\bis to be\b|\bmend\b|\bran away\b|\bis no Python\b"
    r"|, for (it|they|there)\b|\bpass one such\b"
)


def text(node):
    """The words of a string or f-string, an ellipsis for what it fills in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def phrases(tree):
    """Every string of a module that is no docstring and no part of another."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
    return [(n.lineno, text(n)) for n in ast.walk(tree) if n not in skipped and " " in text(n)]


def raised(tree):
    """The literal messages of ValueErrors and TypeErrors."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in (
            "ValueError",
            "TypeError",
        ):
            yield from ((arg.lineno, text(arg)) for arg in call.args if " " in text(arg))


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def test_no_message_has_an_odd_phrase(trees):
    odd = [f"{p.name}:{n}: {s}" for p, t in trees.items() for n, s in phrases(t) if ODD.search(s)]
    assert not odd, "\n".join(odd)


def test_a_refusal_is_one_sentence_of_what_was_found_and_what_to_do(trees):
    refusals = [(p, n, s) for p, tree in trees.items() for n, s in raised(tree)]
    assert len(refusals) > 300
    wrong = [
        f"{path.name}:{line}: {message}"
        for path, line, message in refusals
        if "\n" in message
        or message[-1] not in ".…?"
        or (";" not in message and "…" not in message)
    ]
    assert not wrong, "\n".join(wrong)

"""Run the case studies and write a Markdown page of each: `python docs/cases/make.py`, or with names of some.

A case is a script. Comments at its left margin are the page's text; what stands between them is run, shown, and
followed by what it printed. `picture(figure)` saves the page's picture.
"""

import contextlib
import io
import sys
from pathlib import Path

HERE = Path(__file__).parent


def blocks(source: str) -> list[tuple[bool, str]]:
    """The script as (is it code, text), in order."""
    found: list[tuple[bool, list[str]]] = []
    for line in source.splitlines():
        code = not line.startswith("#")
        if not found or (found[-1][0] != code and line.strip()):
            found.append((code, []))
        found[-1][1].append(line if code else line[2:])
    return [(code, "\n".join(lines).strip()) for code, lines in found if "\n".join(lines).strip()]


def page(script: Path) -> str:
    """The page of one script, every number of it printed by this very run."""
    parts: list[str] = []
    pictures: list[str] = []

    def picture(figure, words: str) -> None:
        figure.savefig(HERE / f"{script.stem}.png", dpi=100)
        pictures.append(f"![{words}]({script.stem}.png)")

    names = {"__name__": script.stem, "picture": picture}
    for code, text in blocks(script.read_text(encoding="utf-8")):
        if not code:
            parts.append(text)
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, str(script), "exec"), names)
        if not pictures:
            parts.append(f"```python\n{text}\n```")
        if printed.getvalue():
            parts.append(f"```text\n{printed.getvalue().rstrip()}\n```")
        while pictures:
            parts.append(pictures.pop())
    made = f"<!-- Written by `python docs/cases/make.py {script.stem}`; edit {script.name}. -->"
    return "\n\n".join([made, *parts]) + "\n"


def main() -> None:
    scripts = [HERE / f"{name}.py" for name in sys.argv[1:]] or sorted(HERE.glob("*.py"))
    for script in scripts:
        if script.name != Path(__file__).name:
            print(script.stem, flush=True)
            script.with_suffix(".md").write_text(page(script), encoding="utf-8")


if __name__ == "__main__":
    main()

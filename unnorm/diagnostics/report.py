"""One self-contained HTML file from headings, text, code, tables, figures and findings."""

import base64
import html
import io
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unnorm.core.display import escape, more_rows, row_label
from unnorm.core.findings import Finding
from unnorm.core.messages import format_table
from unnorm.diagnostics.page_style import POLICY, SCRIPT, STYLE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """One part of a report; what is given appears in the order of the fields.

    Attributes:
        heading: its heading.
        text: paragraphs, parted by blank lines.
        code: a declaration or another listing.
        table: a DataFrame; numbers are rounded for reading, strings stand as they are.
        figure: a Matplotlib Figure.
        findings: findings of a result; of a header they come first.
        verdict: a word, and whether it is a good one, beside the heading.
        facts: names and values of a header.
        copies: texts that buttons copy, by the name of their format.
        beside: whether the figure and the table stand side by side where there is room.
        folded: parts that are shown when asked for.
        most: rows of the table that are shown.
    """

    heading: str
    text: str | None = None
    code: str | None = None
    table: "pd.DataFrame | None" = None
    figure: "Figure | None" = None
    findings: Sequence[Finding] = ()
    verdict: tuple[str, bool] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    beside: bool = False
    folded: "Sequence[Section]" = ()
    most: int = 60


def write_report(path: str | os.PathLike, title: str, sections: Sequence[Section]) -> Path:
    """Write one HTML file that needs nothing beside it: figures and styles stand inside.

    The file appears whole or not at all: it is written under another name in the same folder and
        then moved.

    Args:
        path: where to write; an older file is replaced.
        title: the heading of the whole.
        sections: its parts, in order.

    Returns:
        The path.

    Raises:
        FileNotFoundError: the folder does not exist.
        TypeError: a section, table or figure of another type.

    Example:
        >>> import tempfile
        >>> from unnorm.diagnostics.report import Section, write_report
        >>> path = tempfile.mkdtemp() + "/report.html"
        >>> write_report(path, "Ising", [Section("Result", "It converged.")]).name
        'report.html'
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path is {path}, and the folder {path.parent} does not exist; it must be in an "
            "existing folder; create it first."
        )
    body = "\n".join(_section(section, f"part-{at}") for at, section in enumerate(sections))
    script = f"<script>{SCRIPT}</script>\n" if "<button" in body else ""
    contents = _contents(sections) if len(sections) > 3 else ""
    _write_whole(
        path,
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">\n'
        f"<title>{escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n"
        f'<body>\n<div class="page{" with-contents" if contents else ""}">\n{contents}<main>\n'
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n</div>\n{script}</body>\n</html>\n",
    )
    return path


def _contents(sections: Sequence[Section]) -> str:
    """Links to the sections; those whose verdict is bad are marked."""
    links = "\n".join(
        f'<li><a href="#part-{at}">{escape(section.heading)}</a>{_mark(section)}</li>'
        for at, section in enumerate(sections)
        if isinstance(section, Section)
    )
    return f'<nav aria-label="Contents">\n<ul>\n{links}\n</ul>\n</nav>\n'


def _mark(section: Section) -> str:
    if section.verdict is None or section.verdict[1]:
        return ""
    return f' <span class="mark">{escape(section.verdict[0])}</span>'


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _section(section: Section, anchor: str) -> str:
    if not isinstance(section, Section):
        raise TypeError(
            f"sections hold a {type(section).__name__}; expected a Section; wrap it: "
            "Section(heading, ...)."
        )
    badge = ""
    if section.verdict is not None:
        kind = "good" if section.verdict[1] else "bad"
        badge = f' <span class="badge {kind}">{escape(section.verdict[0])}</span>'
    head = f'<section id="{anchor}">\n<h2>{escape(section.heading)}{badge}</h2>'
    return "\n".join([head, *_parts(section), "</section>"])


def _parts(section: Section) -> list[str]:
    """What stands below the heading."""
    parts = [_findings(section.findings)] if section.findings and section.facts else []
    parts += [_facts(section.facts)] if section.facts else []
    parts += [
        f"<p>{escape(part.strip())}</p>"
        for part in (section.text or "").split("\n\n")
        if part.strip()
    ]
    if section.code is not None:
        parts.append(f"<pre><code>{escape(section.code.strip(chr(10)))}</code></pre>")
    table = [] if section.table is None else [_table(section)]
    figure = [] if section.figure is None else [_figure(section.figure, section.heading)]
    if section.beside and table and figure:
        parts += ['<div class="beside">', *figure, f"<div>{table[0]}</div>", "</div>"]
    else:
        parts += [*table, *figure]
    parts += [_findings(section.findings)] if section.findings and not section.facts else []
    parts += [
        "\n".join(
            [f"<details>\n<summary>{escape(one.heading)}</summary>", *_parts(one), "</details>"]
        )
        for one in section.folded
    ]
    return parts


def _facts(facts: Mapping[str, str]) -> str:
    rows = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_minus(value))}</dd>" for name, value in facts.items()
    )
    return f"<dl>\n{rows}\n</dl>"


def _copies(copies: Mapping[str, str]) -> str:
    """A button for each format, with the text in a field that is out of sight."""
    buttons = "".join(
        f'<button type="button">Copy as {escape(name)}</button>'
        f'<textarea readonly tabindex="-1" aria-hidden="true">\n{escape(text)}</textarea>'
        for name, text in copies.items()
    )
    return f"<div>{buttons}</div>\n" if copies else ""


def _table(section: Section) -> str:
    table: Any = section.table
    heading = section.heading
    if not hasattr(table, "columns"):
        raise TypeError(
            f"table of {heading!r} is a {type(table).__name__}; expected a DataFrame; wrap it: "
            "pd.DataFrame(...)."
        )
    shown = format_table(table.head(section.most))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in shown.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{_label(label)}</th>'
        + "".join(f"<td>{escape(_minus(cell))}</td>" for cell in row)
        + "</tr>"
        for label, row in zip(shown.index, shown.to_numpy(), strict=True)
    )
    left = more_rows(len(table), section.most)
    note = f"\n<p>{left}; the copies hold all.</p>" if left and section.copies else ""
    note = note or (f"\n<p>{left}.</p>" if left else "")
    return (
        f'{_copies(section.copies)}<div class="wide"><table>\n'
        f"<thead><tr><th></th>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>{note}"
    )


def _minus(cell: object) -> str:
    """A cell with typographic minus signs before its numbers."""
    return re.sub(r"(?<!\S)-(?=[\d.]|inf\b)", "−", str(cell))


def _label(label: object) -> str:
    """The label of a row, which may break after a comma and nowhere inside a word."""
    return escape(row_label(label)).replace(",", ",<wbr>")


def _figure(figure: "Figure", heading: str) -> str:
    if not hasattr(figure, "savefig"):
        raise TypeError(
            f"figure of {heading!r} is a {type(figure).__name__}; expected a Matplotlib Figure; "
            "pass the Figure."
        )
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that no font here has is drawn as a box
        figure.savefig(picture, format="png", dpi=150, facecolor="white")
    inline = base64.b64encode(picture.getvalue()).decode()
    width = round(figure.get_figwidth() * 96)
    kind = ' class="large"' if width > 560 else ""  # of which a phone shows a part, legibly
    image = f'width="{width}"{kind} alt="{escape(heading)}" src="data:image/png;base64,{inline}"'
    return f"<figure><img {image}></figure>"


def _findings(findings: Sequence[Finding]) -> str:
    items = "\n".join(
        f'<li class="{escape(f.severity)}"><b>{escape(f.severity.capitalize())}.</b> '
        f"{escape(_sentence(f.what))}"
        + (f"<span>{escape(_sentence(f.advice))}</span>" if f.advice else "")
        + "</li>"
        for f in findings
    )
    return f'<ul class="findings">\n{items}\n</ul>'


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}".rstrip(".") + "."

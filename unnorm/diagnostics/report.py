"""One self-contained HTML file from headings, text, code, tables, figures and findings."""

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unnorm.core.findings import Finding
from unnorm.core.messages import format_table, printable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 60rem; background: #fff;
  color: #1d2126;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
    sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1.5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; padding-top: 1rem; border-top: 1px solid #d9dde2; }
p { margin: .6rem 0; }
pre { overflow-x: auto; padding: .9rem 1.1rem; border-radius: 6px; background: #f5f6f8;
  font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #eceef1; }
th { white-space: normal; overflow-wrap: anywhere; }
th { font-weight: 600; } thead th { border-bottom: 1.5px solid #1d2126; }
tbody th { text-align: left; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
ul.findings { list-style: none; margin: 1rem 0; padding: 0; }
ul.findings li { margin: .5rem 0; padding: .5rem .9rem; border-left: 4px solid;
  border-radius: 0 4px 4px 0; }
li.error { border-color: #b3261e; background: #fcefee; } li.error b { color: #8c1d18; }
li.warning { border-color: #c77700; background: #fff6e8; } li.warning b { color: #8a5200; }
li.note { border-color: #0072b2; background: #eef5fa; } li.note b { color: #005a8d; }
li span { display: block; color: #4a5058; }
@media print { body { max-width: none; padding: 0; } h2, figure, li { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """One part of a report; what is given appears in the order of the fields.

    Attributes:
        heading: its heading.
        text: paragraphs, parted by blank lines.
        code: a declaration or another listing.
        table: a DataFrame; numbers are rounded for reading.
        figure: a Matplotlib Figure.
        findings: findings of a result.
    """

    heading: str
    text: str | None = None
    code: str | None = None
    table: "pd.DataFrame | None" = None
    figure: "Figure | None" = None
    findings: Sequence[Finding] = ()


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
            f"path is {path}, and there is no folder {path.parent}; create it first."
        )
    body = "\n".join(_section(section) for section in sections)
    _write_whole(
        path,
        '<!doctype html>\n<html lang="en">\n<head>\n<meta '
        f'charset="utf-8">\n<title>{_text(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, '
        f'initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{_text(title)}</h1>\n{body}\n</body>\n</html>\n",
    )
    return path


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


def _text(value: object) -> str:
    return html.escape(printable(value))


def _section(section: Section) -> str:
    if not isinstance(section, Section):
        raise TypeError(
            f"sections hold a {type(section).__name__}; expected Section; wrap it: "
            "Section(heading, ...)."
        )
    parts = [f"<section>\n<h2>{_text(section.heading)}</h2>"]
    parts += [
        f"<p>{_text(part.strip())}</p>"
        for part in (section.text or "").split("\n\n")
        if part.strip()
    ]
    if section.code is not None:
        parts.append(f"<pre><code>{_text(section.code.strip(chr(10)))}</code></pre>")
    if section.table is not None:
        parts.append(_table(section.table, section.heading))
    if section.figure is not None:
        parts.append(_figure(section.figure, section.heading))
    if section.findings:
        parts.append(_findings(section.findings))
    return "\n".join([*parts, "</section>"])


def _table(table: "pd.DataFrame", heading: str) -> str:
    if not hasattr(table, "columns"):
        raise TypeError(
            f"table of {heading!r} is a {type(table).__name__}; expected a DataFrame; wrap it: "
            "pd.DataFrame(...)."
        )
    shown = format_table(table)
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in shown.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{_text(label)}</th>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in row)
        + "</tr>"
        for label, row in zip(shown.index, shown.to_numpy(), strict=True)
    )
    return (
        f'<div class="wide"><table>\n<thead><tr><th></th>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _figure(figure: "Figure", heading: str) -> str:
    if not hasattr(figure, "savefig"):
        raise TypeError(
            f"figure of {heading!r} is a {type(figure).__name__}; expected a Matplotlib Figure; "
            "pass one."
        )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150, facecolor="white")
    inline = base64.b64encode(picture.getvalue()).decode()
    width = round(figure.get_figwidth() * 96)
    image = f'width="{width}" alt="{_text(heading)}" src="data:image/png;base64,{inline}"'
    return f"<figure><img {image}></figure>"


def _findings(findings: Sequence[Finding]) -> str:
    items = "\n".join(
        f'<li class="{_text(f.severity)}"><b>{_text(f.severity.capitalize())}.</b> '
        f"{_text(_sentence(f.what))}"
        + (f"<span>{_text(_sentence(f.advice))}</span>" if f.advice else "")
        + "</li>"
        for f in findings
    )
    return f'<ul class="findings">\n{items}\n</ul>'


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}".rstrip(".") + "."

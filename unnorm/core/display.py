"""Results for a notebook (HTML) and for a terminal (rich): one card, two renderers."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unnorm.core.messages import pluralize, printable

if TYPE_CHECKING:
    import pandas as pd

VERDICT_COLORS = {True: ("#0b6e4f", "green"), False: ("#b3261e", "red")}  # of HTML, of a terminal
FINDING_COLORS = {
    "error": ("#b3261e", "red"),
    "warning": ("#8a5200", "yellow"),
    "note": ("#005a8d", "cyan"),
}


@dataclass(frozen=True)
class Card:
    """What of a result is shown.

    Attributes:
        title: one line.
        verdict: a word or two beside it, such as "passed".
        facts: names and values, in order.
        tables: captions and DataFrames of strings, whose index labels the rows.
    """

    title: str
    verdict: str
    facts: Mapping[str, str] = field(default_factory=dict)
    tables: "tuple[tuple[str, pd.DataFrame], ...]" = ()


@dataclass(frozen=True)
class MostRows:
    """Rows of a table that are shown; more are counted.

    Attributes:
        text: of plain text, and of a notebook, which stay readable without scrolling.
        terminal: which scrolls.
    """

    text: int = 30
    terminal: int = 60


MOST = MostRows()


def escape(value: object) -> str:
    """Any value as text inside HTML, in which nothing of it is markup."""
    return html.escape(printable(value))


def row_label(label: object) -> str:
    """The label of a row; of several levels, those that are not empty."""
    if not isinstance(label, tuple):
        return str(label)
    first, *rest = [str(one) for one in label if one != ""] or [""]
    return f"{first}[{','.join(rest)}]" if rest else first


def more_rows(count: int, most: int) -> str:
    """What stands below a table that was cut, or nothing."""
    left = count - most
    if left <= 0:
        return ""
    return f"{pluralize(left, 'more row')} {'is' if left == 1 else 'are'} not shown"


# -- HTML ------------------------------------------------------------------------------------------
def html_table(table: "pd.DataFrame", most: int) -> str:
    """A DataFrame of strings as an HTML table of at most so many rows."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    shown = table.head(most)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row_label(label))}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for label, row in zip(shown.index, shown.to_numpy(), strict=True)
    )
    left = more_rows(len(table), most)
    note = f"\n<p>{left}.</p>" if left else ""
    return (
        f'<div style="overflow-x:auto"><table>\n<thead><tr><th></th>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>{note}"
    )


def html_of(result: Any, card: Card, most: int = MOST.text) -> str:
    """A result for a notebook; colours are legible on light and dark pages."""
    color = VERDICT_COLORS[bool(result.passed)][0]
    badge = (
        f'<span style="background:{color};color:#fff;padding:.1em .5em;border-radius:.3em">'
        f"{escape(card.verdict)}</span>"
    )
    parts = [f"<p><b>{escape(card.title)}</b> {badge}</p>"]
    if card.facts:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(value)}</td></tr>'
            for name, value in card.facts.items()
        )
        parts.append(f"<table><tbody>{rows}</tbody></table>")
    for caption, table in card.tables:
        parts += [f"<p>{escape(caption)}</p>"] if caption else []
        parts.append(html_table(table, most))
    items = "".join(
        f'<li style="border-left:4px solid {FINDING_COLORS[f.severity][0]};padding-left:.6em;'
        f'margin:.3em 0"><b>{escape(f.severity.capitalize())}.</b> {escape(f.sentence)}</li>'
        for f in result.findings
    )
    parts += [f'<ul style="list-style:none;padding:0">{items}</ul>'] if items else []
    return '<div class="unnorm-result">\n' + "\n".join(parts) + "\n</div>"


# -- the terminal ----------------------------------------------------------------------------------
def rich_of(result: Any, card: Card, most: int = MOST.terminal) -> Any:
    """A result for rich's console; names of the user's are text and never markup."""
    from rich.console import Group
    from rich.text import Text

    title = Text.assemble(
        (printable(card.title), "bold"),
        "  ",
        (f" {printable(card.verdict)} ", f"bold white on {VERDICT_COLORS[bool(result.passed)][1]}"),
    )
    facts = [Text(f"{name}: {printable(value)}") for name, value in card.facts.items()]
    tables = [_rich_table(caption, table, most) for caption, table in card.tables]
    findings = [
        Text.assemble(
            (f.severity, FINDING_COLORS[f.severity][1]), ": ", Text(printable(f.sentence))
        )
        for f in result.findings
    ]
    return Group(title, *facts, *tables, *findings)


def _rich_table(caption: str, table: "pd.DataFrame", most: int) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    left = more_rows(len(table), most)
    out = Table(
        title=Text(printable(caption)) if caption else None,
        title_justify="left",
        caption=left or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    out.add_column("", overflow="fold")
    for name in table.columns:
        out.add_column(Text(printable(name)), justify="right", overflow="fold")
    shown = table.head(most)
    for label, row in zip(shown.index, shown.to_numpy(), strict=True):
        out.add_row(*(Text(printable(cell)) for cell in (row_label(label), *row)))
    return out

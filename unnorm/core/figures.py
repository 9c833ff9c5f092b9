"""What all figures share: Matplotlib's Figure without pyplot's global state, and text that is never
a formula.
"""

from typing import TYPE_CHECKING, Any

from unnorm.core.messages import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow that is lost on
# white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, PALE = "#222222", "#8a8a8a"
# Line styles that differ in black and white, in the order of the colours.
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 3)))


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tidy(ax: "Axes") -> None:
    """Two spines, pale; small labels."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    ax.tick_params(color=PALE, labelcolor=INK, labelsize=8)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)


def plain(text: object, most: int = 60) -> dict[str, Any]:
    """The keywords of a text of the user's: shortened, with no formula in it."""
    words = " ".join(printable(text).split())
    return {"s": words if len(words) <= most else words[: most - 1] + "…", "parse_math": False}


def set_text(set_label: Any, text: object, most: int = 60, **options: Any) -> None:
    """Label an axis, or title it, with a name of the user's; lines stay lines."""
    shown = "\n".join(plain(line, most)["s"] for line in printable(text).split("\n"))
    set_label(shown, parse_math=False, **options)


def set_row_labels(ax: "Axes", places: Any, labels: list[str], most: int = 40) -> None:
    """Label the rows of a plot, from the top."""
    shown = [plain(label, most)["s"] for label in labels]
    ax.set_yticks(places, labels=shown, parse_math=False)
    ax.tick_params(axis="y", length=0)


def add_legend(owner: Any, handles: Any = None, **options: Any) -> Any:
    """A legend whose texts are no formulas."""
    given = {} if handles is None else {"handles": handles}
    legend = owner.legend(**given, **({"frameon": False, "fontsize": 8} | options))
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend


def mark_failure(figure: "Figure", result: Any) -> None:
    """Say above a figure that its result did not pass, and the first reason."""
    if result.passed:
        return
    why = next((f.what for f in result.findings if f.severity == "error"), "not converged")
    shown = plain(f"Did not pass: {why}", 90)
    figure.suptitle(
        shown["s"], parse_math=False, color="#b3261e", fontsize=9, fontweight="bold", x=0.01,
        ha="left",
    )  # fmt: skip

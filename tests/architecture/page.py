"""docs/architecture.md and its picture, written from the code: `python tests/architecture/page.py`.

Standard library only, and deterministic: a test compares the files with what this writes.
"""

import ast
from html import escape
from itertools import groupby
from pathlib import Path

from figures import JOURNEYS, PACKAGE, Journey, Package

DOCS = PACKAGE.parent / "docs"
VERBS = {"sample": "un.sample", "fit": "un.fit", "log_z": "un.log_z"}
WIDTH, HEIGHT, GAP, MARGIN = 204, 64, 26, 16  # of a box and between boxes, in pixels


def room_of(module: str) -> str:
    return module.partition(".")[0]


def rooms(package: Package) -> dict[str, list[str]]:
    """The modules of each folder at the top, by its name."""
    found: dict[str, list[str]] = {}
    for module, path in package.files.items():
        if path.parent != package.folder:
            found.setdefault(room_of(module), []).append(module)
    return found


def uses(package: Package) -> dict[str, set[str]]:
    """Which other rooms each room imports."""
    names = rooms(package)
    return {
        room: {room_of(other) for module in modules for other in package.imports_of(module)}
        & set(names) - {room}
        for room, modules in names.items()
    }


def levels(edges: dict[str, set[str]]) -> list[list[str]]:
    """Rooms from the ground up: each above all that it imports, and right below its lowest user.

    Lines between neighbouring levels are short, so that none runs behind a box.
    """
    depth: dict[str, int] = {}

    def down(room: str) -> int:
        if room not in depth:
            depth[room] = 1 + max(map(down, sorted(edges[room])), default=-1)
        return depth[room]

    for room in sorted(edges, key=down, reverse=True):
        users = [depth[other] for other in edges if room in edges[other]]
        depth[room] = min(users) - 1 if users else depth[room]
    return [[r for r in sorted(edges) if depth[r] == n] for n in range(max(depth.values()) + 1)]


def direct(edges: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that no longer way implies (the transitive reduction)."""

    def reach(room: str) -> set[str]:
        return edges[room].union(*map(reach, edges[room]))

    return [
        (room, other)
        for room in sorted(edges)
        for other in sorted(edges[room])
        if not any(other in reach(between) for between in edges[room] - {other})
    ]


def summary(package: Package, module: str) -> str:
    return (ast.get_docstring(package.trees[module]) or "").partition("\n\n")[0].replace("\n", " ")


def picture(package: Package) -> str:
    """The rooms as boxes, from the ground at the bottom to the verbs on top, and who uses whom."""
    edges = uses(package)
    rows = levels(edges)[::-1]
    width = max(map(len, rows)) * (WIDTH + GAP) - GAP + 2 * MARGIN
    height = len(rows) * (HEIGHT + 2 * GAP) - 2 * GAP + 2 * MARGIN
    place = {
        room: (
            (width - len(row) * (WIDTH + GAP) + GAP) // 2 + i * (WIDTH + GAP),
            MARGIN + n * (HEIGHT + 2 * GAP),
        )
        for n, row in enumerate(rows)
        for i, room in enumerate(row)
    }
    lines = [
        f'<line x1="{place[a][0] + WIDTH // 2}" y1="{place[a][1] + HEIGHT}" '
        f'x2="{place[b][0] + WIDTH // 2}" y2="{place[b][1]}" stroke="#8a94a6"/>'
        for a, b in direct(edges)
    ]
    boxes = [box(*place[room], room, len(modules)) for room, modules in rooms(package).items()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(lines + boxes)
        + "\n</svg>\n"
    )


def box(x: int, y: int, room: str, count: int) -> str:
    middle = x + WIDTH // 2
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef3fb" '
        f'stroke="#33507a"/><text x="{middle}" y="{y + 28}" text-anchor="middle" '
        f'font-size="17" font-weight="bold" fill="#12233d">{escape(room)}</text>'
        f'<text x="{middle}" y="{y + 49}" text-anchor="middle" font-size="13" '
        f'fill="#33507a">{count} files</text>'
    )


def way(package: Package, verb: str) -> str:
    """The modules that the density enters, one after the other, by folder."""
    modules = list(dict.fromkeys(Journey(package, verb).rooms))
    steps = [
        f"`{folder}` ({', '.join(module.rpartition('.')[2] for module in group)})"
        for folder, group in groupby(modules, lambda module: module.rpartition(".")[0])
    ]
    return " → ".join(steps)


def folders(package: Package) -> list[str]:
    """A row of the table for each folder: what its own docstring says, and its modules."""
    found = sorted({name.rpartition(".")[0] for name in package.files} - {""})
    rows = []
    for folder in found:
        inside = [m.rpartition(".")[2] for m in package.files if m.rpartition(".")[0] == folder]
        inside = [name for name in inside if f"{folder}.{name}" not in found]
        rows.append(f"| `{folder}/` | {summary(package, folder)} | {', '.join(sorted(inside))} |")
    return rows


def page(package: Package) -> str:
    ways = [f"- **`{VERBS[verb]}`**: {way(package, verb)}" for verb in VERBS if verb in JOURNEYS]
    return "\n".join(
        [
            "# Architecture",
            "",
            "This page is written from the code by `make architecture`; a test fails when it is "
            "stale.",
            "",
            "![The rooms of unnorm and their imports](architecture.svg)",
            "",
            "A room imports only rooms below it. Lines show direct imports; those that a longer "
            "way implies are left out. `tests/architecture/test_imports.py` holds the rule.",
            "",
            "## The way of a density through each verb",
            "",
            "Modules that the density itself enters, in the order of the calls:",
            "",
            *ways,
            "",
            "## Folders",
            "",
            "| folder | what it is | modules |",
            "| --- | --- | --- |",
            *folders(package),
            "",
        ]
    )


def main(docs: Path = DOCS) -> None:
    package = Package(PACKAGE)
    (docs / "architecture.md").write_text(page(package), encoding="utf-8")
    (docs / "architecture.svg").write_text(picture(package), encoding="utf-8")


if __name__ == "__main__":
    main()

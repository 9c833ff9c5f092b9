"""The board of toys as Markdown."""

from collections import defaultdict
from statistics import median

from benchmarks.harness import table

WHO = ("unnorm", "torchebm", "ebmkit")


def render(runs: list[dict]) -> str:
    """A table for each number of steps: medians over the seeds."""
    cells = defaultdict(list)
    for run in runs:
        who, toy, objective, width, steps, _ = run["cell"]
        cells[width, steps, toy, objective, who].append(run)
    parts = []
    for width, steps in sorted({key[:2] for key in cells}):
        rows = [
            [
                toy,
                objective,
                *_row({who: cells.get((width, steps, toy, objective, who)) for who in WHO}),
            ]
            for toy, objective in dict.fromkeys(
                key[2:4] for key in cells if key[:2] == (width, steps)
            )
        ]
        header = [
            *("toy", "objective", "seeds"),
            *(f"KL, {who}" for who in WHO),
            *("CPU s, unnorm: steps", "call", "first call"),
            *(f"CPU s, {who}" for who in WHO[1:]),
            *("log Z − grid", "converged", "right"),
        ]
        parts.append(f"Width {width}, {steps:,} steps\n\n" + table(header, rows))
    return "\n\n".join(parts)


def _row(by: dict[str, list[dict] | None]) -> list[str]:
    ours = [run for run in by["unnorm"] or [] if "error" not in run]
    log_z = [max(_distances(run), default=float("nan")) for run in ours]
    return [
        str(len(ours)),
        *(_median(by[who], "kl") for who in WHO),
        _median(ours, "steps_seconds", 1),
        *(
            _median([run for run in ours if run["first"] == first], "seconds", 1)
            for first in (0, 1)
        ),
        *(_median(by[who], "seconds", 1) for who in WHO[1:]),
        f"{max(log_z):.3f}" if log_z else "",
        str(sum(run["converged"] for run in ours)),
        str(sum(map(is_right, ours))),
    ]


def _distances(run: dict) -> list[float]:
    """Of the log Z that are claimed to be reliable."""
    reported = [run["log_z"] if run["log_z_verdict"] == "ok" else None, run["log_z_learned"]]
    return [abs(one - run["log_z_grid"]) for one in reported if one is not None]


def is_right(run: dict) -> bool:
    """What is called converged has KL under .1 from what the objective aims at, and what has KL
    under .03 is called so."""
    return run["kl_target"] < 0.1 if run["converged"] else run["kl_target"] > 0.03


def _median(runs: list[dict] | None, name: str, digits: int = 3) -> str:
    found = [run[name] for run in runs or [] if "error" not in run]
    if not found:
        return "failed" if runs else ""
    return f"{median(found):.{digits}f}"

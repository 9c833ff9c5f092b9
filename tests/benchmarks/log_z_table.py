"""The scoreboard of log Z as Markdown tables."""

import math
from collections.abc import Mapping

import numpy as np

from benchmarks.harness import table

FAR = 0.3  # nats: a run that is called ok with a larger error is the worst outcome
MISSED = 3.0  # standard errors, the same
HEADER = (
    "target",
    "estimator",
    "runs",
    "called ok",
    "rmse",
    "goal",
    "se / rmse",
    "95% cover",
    "worst error",
    "missed",
    "values",
    "gradients",
    "seconds",
)


def render(lines: list[dict], targets: Mapping) -> str:
    """A row for each pair of target and estimator, the pooled rows, and who refused what.

    rmse, se / rmse (the median standard error's), cover, the worst error and the number missed (off
    by more than three standard errors, or by more than .3 nats) are of the runs called ok; the
    evaluations are medians of all runs, the seconds of warm ones.
    """
    pairs: dict[tuple[str, str], list[dict]] = {}
    for line in lines:
        pairs.setdefault((line["target"], line["estimator"]), []).append(line)
    order, names = list(targets), list(dict.fromkeys(name for _, name in pairs))
    ran = {pair: runs for pair, runs in pairs.items() if not any("refused" in run for run in runs)}
    rows = [
        _row(target, name, ran[target, name], targets[target])
        for target in order
        for name in names
        if (target, name) in ran
    ]
    pooled = [
        _pooled(name, {t: runs for (t, n), runs in ran.items() if n == name}, targets)
        for name in names
    ]
    header = (
        "estimator",
        "targets",
        "runs",
        "called ok",
        "95% cover",
        "worst error",
        f"over {FAR} nats",
        "missed",
    )
    refusals = [
        _refusal(name, {t: runs for (t, n), runs in pairs.items() if n == name}) for name in names
    ]
    parts = [
        table(HEADER, rows),
        table(header, [row for row in pooled if row]),
        "\n".join(filter(None, refusals)),
    ]
    return "\n\n".join(filter(None, parts))


def _refusal(name: str, by_target: dict[str, list[dict]]) -> str | None:
    """What an estimator does not serve, and its first reason."""
    said = {t: run["refused"] for t, runs in by_target.items() for run in runs if "refused" in run}
    return (
        f"- {name} does not serve {', '.join(said)}: {next(iter(said.values()))}" if said else None
    )


def _ok(runs: list[dict]) -> list[dict]:
    return [run for run in runs if run.get("verdict") in ("ok", "exact")]


def _errors(runs: list[dict], log_z: float) -> np.ndarray:
    return np.array([run["value"] - log_z for run in runs])


def _covered(runs: list[dict], log_z: float) -> int:
    return sum(run["lower"] <= log_z <= run["upper"] for run in runs)


def _missed(runs: list[dict], log_z: float) -> int:
    """Called ok, and wrong: written with `not`, so that a NaN is wrong."""
    allowed = np.minimum([MISSED * run["standard_error"] for run in runs], FAR)
    return int(np.sum(~(np.abs(_errors(runs, log_z)) <= allowed)))


def _median(runs: list[dict], key: str) -> float:
    found = [run[key] for run in runs if key in run]
    return float(np.median(found)) if found else math.nan


def _counted(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:,.0f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _row(target: str, name: str, runs: list[dict], known) -> list:
    ok = _ok(runs)
    warm = _median([run for run in runs if run.get("warm")] or runs, "seconds")
    tail = [_counted(_median(runs, "values")), _counted(_median(runs, "gradients")), f"{warm:.3g}"]
    goal = known.goal if known.goal is not None and name == "auto" else ""
    if not ok:
        return [target, name, len(runs), "0%", "-", goal, "-", "-", "-", 0, *tail]
    errors = _errors(ok, known.log_z)
    rmse, spread = float(np.sqrt(np.mean(errors**2))), _median(ok, "standard_error")
    return [
        target,
        name,
        len(runs),
        _share(len(ok), len(runs)),
        f"{rmse:.3g}",
        goal,
        f"{spread / rmse:.2f}" if rmse > 0 else "-",
        _share(_covered(ok, known.log_z), len(ok)),
        f"{np.max(np.abs(errors)):.3g}",
        _missed(ok, known.log_z),
        *tail,
    ]


def _pooled(name: str, by_target: dict[str, list[dict]], targets: Mapping) -> list | None:
    """One estimator over all of its targets."""
    if not by_target:
        return None
    ok = {target: _ok(runs) for target, runs in by_target.items()}
    runs, called = sum(map(len, by_target.values())), sum(map(len, ok.values()))
    worst = np.concatenate(
        [np.abs(_errors(part, targets[t].log_z)) for t, part in ok.items()] or [[]]
    )
    covered = sum(_covered(part, targets[t].log_z) for t, part in ok.items())
    missed = sum(_missed(part, targets[t].log_z) for t, part in ok.items() if part)
    return [
        name,
        len(by_target),
        runs,
        _share(called, runs),
        _share(covered, called),
        f"{worst.max():.3g}" if len(worst) else "-",
        int(np.sum(~(worst <= FAR))),
        missed,
    ]


__all__ = ["render"]

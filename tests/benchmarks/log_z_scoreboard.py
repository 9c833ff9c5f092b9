"""The scoreboard of log Z: every estimator and the library's own choice on every target, over many
seeds.

Each run is one line of JSON appended to a file, so that a scoreboard can be stopped and resumed,
and several processes may share it (`--slice 0/2` and `--slice 1/2` on two cores). Routes that are
exact (enumeration, quadrature) are switched off. A pair of target and estimator gets `--seeds`
seeds where a warm run takes less than `--quick` seconds, else `--slow-seeds`, and no further one
after `--limit` seconds. Run from the folder tests:

    python -m benchmarks.log_z_scoreboard runs.jsonl --slice 0/2
    python -m benchmarks.log_z_scoreboard runs.jsonl --targets gaussian --estimators auto --seeds 2
    python -m benchmarks.log_z_scoreboard runs.jsonl --table
"""

import argparse
import contextlib
import gc
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from log_z_targets import TARGETS, Target

import unnorm as un
from benchmarks.dynesty_peer import PEERS
from benchmarks.log_z_table import render
from unnorm.core.findings import NOTE
from unnorm.partition import driver
from unnorm.partition.base import LogZ

EXACT = {"exact", "quadrature"}
AUTO = "auto"


def estimators() -> list[str]:
    """What is on the board: the library's own choice, the registry without its exact routes, and
    the peers."""
    return [
        AUTO,
        *(name for name in un.estimators.ESTIMATORS if name not in EXACT | {AUTO}),
        *PEERS,
    ]


@contextlib.contextmanager
def no_exact_route() -> Iterator[None]:
    """The library's own choice as it is where Z is out of exact reach."""
    before = driver.has_exact
    driver.has_exact = lambda *_, **__: False
    try:
        yield
    finally:
        driver.has_exact = before


def log_z(name: str, target: Target, seed: int) -> LogZ:
    chosen = None if name == AUTO and AUTO not in un.estimators.ESTIMATORS else name
    with no_exact_route():
        return un.log_z(target.density, chosen, seed=seed, progress=False)


def record(target: str, estimator: str, seed: int) -> dict:
    """One run as it is written down; `refused` or `raised` where there is no answer."""
    head, began = {"target": target, "estimator": estimator, "seed": seed}, time.perf_counter()
    try:
        if estimator in PEERS:
            return head | PEERS[estimator](target, TARGETS[target](), seed)
        z = log_z(estimator, TARGETS[target](), seed)
    except ValueError as refusal:
        return head | {"refused": str(refusal)}
    except (
        Exception
    ) as error:  # one broken pair must not end the board; it counts against the estimator
        return head | {"raised": repr(error)[:300], "seconds": time.perf_counter() - began}
    lower, upper = z.interval() if z.standard_error >= 0 else (math.nan, math.nan)
    return head | {
        "value": float(z.value),
        "standard_error": float(z.standard_error),
        "lower": float(lower),
        "upper": float(upper),
        "verdict": z.verdict,
        "values": int(z.evaluations["values"]),
        "gradients": int(z.evaluations["gradients"]),
        "seconds": time.perf_counter() - began,
        "said": [finding.what for finding in z.findings if finding.severity != NOTE],
    }


def run_pair(
    target: str, estimator: str, before: list[dict], write: Callable[[dict], None], options
) -> None:
    """The seeds that a pair still lacks. The first run of a process compiles and is no warm one."""
    done, spent, cold = {line["seed"] for line in before}, 0.0, True
    warm = [line["seconds"] for line in before if line.get("warm")]
    if any("refused" in line for line in before):
        return
    for seed in range(options.seeds):
        slow = bool(warm) and min(warm) >= options.quick
        if seed in done:
            continue
        if (slow and seed >= options.slow_seeds) or spent > options.limit:
            break
        line = record(target, estimator, seed) | {"warm": not cold}
        write(line)
        if "refused" in line:
            break
        spent += line["seconds"]
        warm += [line["seconds"]] if line["warm"] else []
        cold = False


def read(file: Path) -> list[dict]:
    return (
        [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        if file.exists()
        else []
    )


def run(options) -> None:
    before = read(options.file)
    part, parts = map(int, options.slice.split("/"))
    grid = itertools.product(enumerate(options.targets), enumerate(options.estimators))
    for target, estimator in [
        (target, name) for (i, target), (j, name) in grid if (i + j) % parts == part
    ]:

        def write(line: dict) -> None:
            with options.file.open(
                "a"
            ) as out:  # one short write at the end of the file: processes do not mix
                out.write(json.dumps(line) + "\n")
                out.flush()
                os.fsync(out.fileno())
            told = {
                k: line.get(k)
                for k in ("value", "standard_error", "verdict", "seconds", "refused", "raised")
            }
            print(
                line["target"],
                line["estimator"],
                line["seed"],
                {k: v for k, v in told.items() if v is not None},
            )

        mine = [
            line for line in before if (line["target"], line["estimator"]) == (target, estimator)
        ]
        run_pair(target, estimator, mine, write, options)
        jax.clear_caches()  # a process may map only so many compiled programs
        gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "file", type=Path, help="one JSON line a run; what is there is not run again"
    )
    parser.add_argument(
        "--table", action="store_true", help="only render the Markdown table of the file"
    )
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--estimators", nargs="+", choices=estimators(), default=estimators())
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--slow-seeds", type=int, default=20)
    parser.add_argument(
        "--quick", type=float, default=2.0, help="seconds of a warm run below which it gets --seeds"
    )
    parser.add_argument(
        "--limit", type=float, default=1200.0, help="seconds after which a pair gets no further run"
    )
    parser.add_argument(
        "--slice", default="0/1", help="0/2 and 1/2: every other pair of target and estimator"
    )
    options = parser.parse_args()
    if not options.table:
        run(options)
    chosen = {(target, name) for target in options.targets for name in options.estimators}
    lines = [line for line in read(options.file) if (line["target"], line["estimator"]) in chosen]
    print(render(lines, {name: TARGETS[name]() for name in options.targets}))


if __name__ == "__main__":
    main()

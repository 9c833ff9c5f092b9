"""Benchmarks: ratios in one process, alternating, medians; `make bench` prints the tables of
docs/appendix/benchmarks.md."""

import sys
from pathlib import Path

# They run as programs from `tests`, and use the targets of the tests.
sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))

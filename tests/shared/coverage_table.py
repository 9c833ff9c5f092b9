"""What the last runs of test_coverage.py found, as a Markdown table: `python
tests/shared/coverage_table.py`."""

import json
from pathlib import Path

import numpy as np

FOUND = Path(__file__).parents[2] / ".pytest_cache" / "v" / "coverage"
HEADER = (
    "objective",
    "density",
    "model",
    "parameters",
    "lowest to highest",
    "log Z",
    "by H⁻¹/n",
    "infinite",
    "unsettled",
    "data sets",
)


def row(path: Path) -> list[str]:
    case = json.loads(path.read_text())
    covered, other = dict(case["covered"]), list(case["by H⁻¹/n"].values())
    log_z, cells = covered.pop("log Z"), list(covered.values())
    return [
        *path.parts[-3:],
        f"{np.mean(cells):.3f}",
        f"{min(cells):.3f} to {max(cells):.3f}",
        f"{log_z:.3f}",
        f"{min(other):.3f} to {max(other):.3f}",
        str(case["infinite"]),
        str(case["unsettled"]),
        f"{case['sets']:,}",
    ]


def main() -> None:
    rows = [HEADER, ["---"] * len(HEADER), *(row(path) for path in sorted(FOUND.glob("*/*/*")))]
    print("\n".join("| " + " | ".join(cells) + " |" for cells in rows))


if __name__ == "__main__":
    main()

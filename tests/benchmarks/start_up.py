"""What a call costs beyond its steps, and what a second process saves by JAX's compile cache."""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

import unnorm as un
from benchmarks.harness import table
from benchmarks.targets import targets

FIRST = """
import time
began = time.perf_counter()
import unnorm as un
from benchmarks.targets import targets
density = targets()["network 2→128→128→1"]
un.sample(density, "nuts", draws=20, warmup=100, seed=0, progress=False)
print(time.perf_counter() - began)
"""


def overhead() -> list[list]:
    """Medians of nine calls of one block, with a new seed, new values and a new step size each."""
    rows = []
    for name, density in targets().items():
        for kernel in ("ula", "random_walk_mh", "mala"):
            seconds = []
            for turn in range(10):
                value = density.constants | {}
                changed = un.Density(
                    density.function,
                    density.variables,
                    constants={n: v * (1 + turn / 1e3) for n, v in value.items()},
                )
                made = un.kernels.KERNELS[kernel](step_size=0.1 + turn / 1e3)
                began = time.perf_counter()
                un.sample(
                    changed,
                    made,
                    draws=20,
                    warmup=0,
                    chains=1,
                    seed=turn,
                    keep="last",
                    progress=False,
                )
                seconds.append(time.perf_counter() - began)
            rows.append([name, kernel, f"{1e3 * np.median(seconds[1:]):.1f}"])
    return rows


def second_process() -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        runs = [
            subprocess.run(
                [sys.executable, "-c", FIRST],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            for _ in range(4)
        ]
    return [float(run.stdout) for run in runs]


def main() -> None:
    print(table(["target", "kernel", "ms a repeated call beyond its steps"], overhead()))
    first, *later = second_process()
    print(f"first draw: {first:.1f} s in the first process, {np.median(later):.1f} s in later ones "
          f"({np.median(later) / first:.2f})")  # fmt: skip


if __name__ == "__main__":
    main()

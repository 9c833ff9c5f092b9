"""What users call is annotated, and the benchmarks can be started."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import unnorm as un

TESTS = Path(__file__).resolve().parents[1]
PUBLIC = [name for name in un.__all__ if inspect.isfunction(getattr(un, name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_of_a_public_function_is_annotated(name):
    signature = inspect.signature(inspect.unwrap(getattr(un, name)))
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert not bare and signature.return_annotation is not signature.empty


def test_there_are_public_functions():
    assert {"sample", "fit", "log_z", "diagnose"} <= set(PUBLIC)


def test_a_benchmark_starts_in_the_folder_of_the_tests():
    """Its targets lie beside it, in `tests/shared`, and `-m` must find them."""
    run = [sys.executable, "-m", "benchmarks.log_z_scoreboard", "--help"]
    done = subprocess.run(run, cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0 and "--targets" in done.stdout, done.stderr

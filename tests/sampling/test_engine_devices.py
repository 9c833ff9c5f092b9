"""Chains over several devices and processes: the same draws, no collective in the loop, a sentence
where one dies."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'shared'}"}

JOB = """
import sys
import numpy as np
import unnorm as un
un.use_devices(int(sys.argv[1]))
import jax
from targets import gaussian
draws = un.sample(gaussian, sys.argv[3], draws=400, warmup=200, chains=4, seed=1, progress=False)
np.save(sys.argv[2], draws.posterior["x"].values)
"""

COMPILED = """
import numpy as np
import unnorm as un
un.use_devices(2)
import jax
from targets import gaussian
from unnorm.sampling.engine import scan
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.engine.chunked_run import Plan, Run
from unnorm.declaration.density import cast
for name in ("nuts", "mala"):
    kernel = cast(un.kernels.KERNELS[name](), np.float32)
    plan = Plan(100, 0, 4, 1, "all", 0, "float32")
    run = Run(Unconstrained(cast(gaussian.for_jit(), np.float32)), kernel, plan, None, {}, None, lambda trial: trial())
    carry, part = run.begin(), run.parts()[0]
    layout = run.layout(carry)
    assert layout.devices == 2
    lowered = scan.sample_chunk.lower(
        kernel, run.target, carry.tuning, carry.states, carry.moments, run.keys, part.blocks, layout=layout
    )
    print(lowered.compile().as_text())
"""  # noqa: E501


def python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["mala", pytest.param("nuts", marks=pytest.mark.slow)])
def test_draws_do_not_depend_on_the_number_of_devices(name, tmp_path):
    """The keys are the same; rounding could part the chains, and on this density it does not."""
    for devices in (1, 2):
        python(JOB, devices, tmp_path / f"{devices}.npy", name)
    one, two = (np.load(tmp_path / f"{devices}.npy") for devices in (1, 2))
    assert one.shape == (4, 400, 3)
    np.testing.assert_allclose(one[:, :5], two[:, :5], rtol=1e-4, atol=1e-4)
    assert abs(one.mean() - two.mean()) < 0.2


def test_the_compiled_loop_holds_no_collective():
    program = python(COMPILED)
    assert "while" in program and "num_partitions=2" in program
    assert not re.search(
        r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter", program
    )


def test_use_devices_after_jax_has_started_is_refused():
    code = "import jax, unnorm as un\njax.numpy.zeros(1)\ntry:\n un.use_devices(5)\nexcept ValueError as e:\n print(e)"  # noqa: E501
    assert "had started with" in python(code)


@pytest.mark.parametrize("wrong", ["0", "2.5", "True"])
def test_bad_numbers_of_devices_are_refused(wrong):
    assert "must be a positive integer" in python(
        f"import unnorm as un\ntry:\n un.use_devices({wrong})\nexcept ValueError as e:\n print(e)"
    )


MODEL = """
import jax.numpy as jnp
import unnorm as un

frozen = jnp.ones(2)  # an array at import: the devices must have been set up before


@un.density
def normal(x: un.Real[2]):
    return -0.5 * x @ x
"""


def start(tmp_path, process, port, *options):
    command = [
        sys.executable,
        "-m",
        "unnorm.cli",
        "sample",
        str(tmp_path / "model.py") + ":normal",
        "--kernel",
        "mala",
        "--chains",
        "4",
        "--seed",
        "1",
        "--coordinator",
        f"127.0.0.1:{port}",
        "--processes",
        "2",
        "--process-id",
        str(process),
        *options,
    ]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.slow
def test_two_processes_give_the_bits_of_two_devices(tmp_path):
    import xarray

    (tmp_path / "model.py").write_text(MODEL)
    port = free_port()
    jobs = [start(tmp_path, i, port, "--output", str(tmp_path / f"{i}.nc")) for i in range(2)]
    assert [job.wait(timeout=200) for job in jobs] == [0, 0], [job.stderr.read() for job in jobs]
    alone = [
        sys.executable,
        "-m",
        "unnorm.cli",
        "sample",
        str(tmp_path / "model.py") + ":normal",
        "--kernel",
        "mala",
        "--seed",
        "1",
        "--devices",
        "2",
        "--output",
        str(tmp_path / "alone.nc"),
    ]
    assert subprocess.run(alone, env=ENVIRONMENT).returncode == 0
    two, one = (
        xarray.open_datatree(tmp_path / name, engine="h5netcdf") for name in ("0.nc", "alone.nc")
    )
    draws = two.posterior["x"].values
    assert draws.shape == (4, 1000, 2) and np.array_equal(draws, one.posterior["x"].values)
    # Moments of a standard normal, by the draws' own error.
    assert np.all(np.abs(draws.mean((0, 1))) < 0.2) and np.all(np.abs(draws.var((0, 1)) - 1) < 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_when_a_process_dies_the_other_ends_with_a_sentence_and_the_job_resumes(dead, tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    options = (
        "--draws",
        "400000",
        "--warmup",
        "100",
        "--thin",
        "20",
        "--store",
        str(tmp_path / "run.d"),
    )
    port = free_port()
    jobs = [start(tmp_path, i, port, *options) for i in range(2)]
    state = tmp_path / "run.d" / f"process-{1 - dead}-of-2" / "state.json"
    while not state.exists():
        time.sleep(0.1)
    subprocess.run(["pkill", "-KILL", "-f", f"{tmp_path}.*--process-id {dead}"])
    assert jobs[1 - dead].wait(timeout=300) == 1
    assert "one of the 2 processes has stopped answering" in jobs[1 - dead].stderr.read()
    jobs[dead].send_signal(signal.SIGKILL)
    before = state.read_text()
    port = free_port()
    jobs = [start(tmp_path, i, port, *options) for i in range(2)]
    assert [job.wait(timeout=300) for job in jobs] == [0, 0], [job.stderr.read() for job in jobs]
    assert len(state.read_text()) > len(before)
    assert "over all 2 the worst R-hat" in jobs[0].stdout.read()

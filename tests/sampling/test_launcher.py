"""The process that watches another one ends it, however it ends itself."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}

LAUNCHER = """
import os, sys
from unnorm.sampling.engine import multihost
print(multihost.run_child([sys.executable, "-c", sys.argv[1]], os.environ, grace=0.5))
"""

CHILD = """
import os, signal, sys, time
{before}
open({file!r}, "w").write(str(os.getpid()))
time.sleep(100)
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
TIED = "from unnorm.sampling.engine.multihost import die_with_parent; die_with_parent()"


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("number", "before"), [(signal.SIGTERM, ""), (signal.SIGTERM, STUBBORN), (signal.SIGKILL, TIED)]
)
def test_a_launcher_leaves_no_orphan(number, before, tmp_path):
    file = tmp_path / "pid"
    code = CHILD.format(before=before, file=str(file))
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, code], env=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(file.read_text())
    assert is_alive(child)
    launcher.send_signal(number)
    launcher.wait(timeout=60)
    deadline = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


@pytest.mark.slow
def test_the_child_imports_nothing_from_the_current_folder(tmp_path):
    for name in ("jax", "typer", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('taken', 'w')")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [
        sys.executable,
        "-P",
        "-m",
        "unnorm.cli",
        "sample",
        "absent.py:p",
        "--coordinator",
        f"127.0.0.1:{port}",
        "--processes",
        "1",
        "--process-id",
        "0",
    ]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
    assert (
        "absent.py:p does not name a density" in done.stderr and not (tmp_path / "taken").exists()
    )

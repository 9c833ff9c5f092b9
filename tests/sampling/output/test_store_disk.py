"""Stores on a disk that fills up, in processes that are killed, on read-only media, opened
twice."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from store_faults import JOBS, FaultyDisk, full, sampled
from targets import gaussian

import unnorm as un
from unnorm.sampling.output import atomic_files

RUN = {"draws": 200, "warmup": 100, "chains": 2, "seed": 1, "progress": False}


def run(store=None):
    return un.sample(gaussian, "mala", store=store, **RUN).posterior["x"].values


@pytest.fixture(scope="module")
def unbroken():
    return run()


def stamps(folder, pattern="*"):
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob(pattern)
        if path.is_file()
    }


# -- a full disk -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """How often a whole run calls the disk."""
    disk, atomic_files.os = FaultyDisk(), FaultyDisk()
    disk = atomic_files.os
    try:
        run(tmp_path_factory.mktemp("calls") / "run.d")
    finally:
        atomic_files.os = os
    return disk.count


@pytest.mark.parametrize("moment", range(10))
def test_a_full_disk_is_a_sentence_and_loses_nothing(
    moment, calls, unbroken, tmp_path, monkeypatch
):
    at = 1 + round(moment * (calls - 1) / 9)
    monkeypatch.setattr(atomic_files, "os", FaultyDisk(at, full))
    with pytest.raises(
        un.StoreError, match=r"cannot be written .No space left on device"
    ) as raised:
        run(tmp_path / "run.d")
    monkeypatch.undo()
    assert isinstance(raised.value, OSError) and raised.value.errno == errno.ENOSPC
    assert not list(tmp_path.rglob("*.tmp"))
    parts = stamps(tmp_path, "part-*.npz")
    assert np.array_equal(run(tmp_path / "run.d"), unbroken)
    assert (
        parts.items() <= stamps(tmp_path, "part-*.npz").items()
    )  # whole parts were not made again


def test_a_full_disk_leaves_the_last_saved_fit_alone(tmp_path, monkeypatch):
    p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
    fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
    fit.save(tmp_path / "fit.npz")
    for at in range(1, 5):  # from the first call to the rename
        monkeypatch.setattr(atomic_files, "os", FaultyDisk(at, full))
        with pytest.raises(un.StoreError, match="No space left"):
            fit.save(tmp_path / "fit.npz")
        monkeypatch.undo()
        assert un.load(tmp_path / "fit.npz", p).summary().equals(fit.summary())
    assert [path.name for path in tmp_path.iterdir()] == ["fit.npz"]


# -- what is complete is not written again ---------------------------------------------------------
def test_a_finished_store_is_opened_without_writing(unbroken, tmp_path, monkeypatch):
    first = run(tmp_path / "run.d")
    before = stamps(tmp_path)
    monkeypatch.setattr(
        atomic_files, "os", FaultyDisk(1, full)
    )  # the lock is the one call that may write, and it is let be
    monkeypatch.setattr(atomic_files.Lock, "__init__", _read_only)
    assert np.array_equal(run(tmp_path / "run.d"), unbroken) and np.array_equal(first, unbroken)
    assert np.array_equal(
        un.resume(tmp_path / "run.d", gaussian, progress=False).posterior["x"], unbroken
    )
    monkeypatch.undo()
    assert np.array_equal(run(tmp_path / "run.d"), unbroken) and stamps(tmp_path) == before


def _read_only(self, folder):
    """A folder of a read-only mount."""
    self.held, self.busy, self.read_only = None, False, True


def test_an_unfinished_store_on_a_read_only_mount_is_a_sentence(tmp_path, monkeypatch):
    run(tmp_path / "run.d")
    (tmp_path / "run.d" / "part-00007.npz").unlink()
    monkeypatch.setattr(atomic_files.Lock, "__init__", _read_only)
    with pytest.raises(un.StoreError, match="cannot be written, and its run is not complete"):
        run(tmp_path / "run.d")


def test_draws_of_a_read_only_store_without_gathered_files_come_from_the_parts(
    unbroken, tmp_path, monkeypatch
):
    run(tmp_path / "run.d")
    (tmp_path / "run.d" / "gathered.json").unlink()
    monkeypatch.setattr(atomic_files.Lock, "__init__", _read_only)
    assert np.array_equal(run(tmp_path / "run.d"), unbroken)


def test_a_map_of_the_draws_outlives_a_second_gathering(unbroken, tmp_path):
    mapped = run(tmp_path / "run.d")
    (tmp_path / "run.d" / "gathered.json").unlink()
    again = run(tmp_path / "run.d")
    assert np.array_equal(mapped, unbroken) and np.array_equal(again, unbroken)


def test_editing_draws_does_not_edit_the_disk(unbroken, tmp_path):
    draws = un.sample(gaussian, "mala", store=tmp_path / "run.d", **RUN)
    draws.posterior["x"].values[:] = 0.0
    draws.posterior["x"].data[0] = 1.0
    assert np.array_equal(run(tmp_path / "run.d"), unbroken)


# -- two at once -----------------------------------------------------------------------------------
def test_a_store_that_is_being_written_is_refused_to_others(tmp_path, unbroken):
    tried = []

    def meanwhile(x):
        return x[0]

    import unnorm.sampling.engine.chunked_run as runs

    advance = runs.Run.advance

    def second(self, i, carry, shown):
        if not tried:
            tried.append(0)
            with pytest.raises(un.StoreError, match="in use by another process"):
                run(tmp_path / "run.d")
        return advance(self, i, carry, shown)

    runs.Run.advance = second
    try:
        assert np.array_equal(run(tmp_path / "run.d"), unbroken) and tried
    finally:
        runs.Run.advance = advance
    holder = atomic_files.Lock(tmp_path / "run.d")
    assert holder.writable and np.array_equal(
        run(tmp_path / "run.d"), unbroken
    )  # complete: to be read by all
    holder.release()


# -- killed ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "left", ["meta.json.tmp", ".meta.json.0123456789abcdef.tmp", ".x.npy.0123456789abcdef.tmp"]
)
def test_a_store_that_holds_only_what_a_killed_process_left_is_new(left, tmp_path, unbroken):
    (tmp_path / "run.d").mkdir()
    (tmp_path / "run.d" / left).write_bytes(b"{")
    assert np.array_equal(run(tmp_path / "run.d"), unbroken)
    assert not (tmp_path / "run.d" / left).exists()


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_fifty_kills_from_the_first_byte_on_change_no_bit(job, tmp_path):
    """The first 25 die at the first 25 calls of the disk, the others at random moments after the
    folder was made."""
    whole, began = JOBS[job](), time.monotonic()
    JOBS[job](tmp_path / "timed.d")
    lasts = time.monotonic() - began
    tests = Path(__file__).parents[2] / "shared"
    environment = os.environ | {
        "PYTHONPATH": f"{tests.parents[1]}:{tests}",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    rng, same, stages = random.Random(0), 0, []
    for i in range(50):
        store = tmp_path / f"{i}.d"
        at = i + 1 if i < 25 else 0
        process = subprocess.Popen(
            [sys.executable, str(tests / "store_faults.py"), job, str(store), str(at)],
            env=environment,
        )
        if at == 0:
            while not store.exists() and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, lasts))
            process.send_signal(signal.SIGKILL)
        process.wait()
        stages.append(len(list(store.glob("part-*.npz"))))
        assert at == 0 or process.returncode == -signal.SIGKILL
        assert at != 1 or not (store / "meta.json").exists()
        same += np.array_equal(JOBS[job](store), whole)
    assert same == 50
    assert len(set(stages)) > 5  # the kills did fall at different moments


def test_the_job_of_the_kill_test_is_the_run_in_memory(tmp_path):
    assert np.array_equal(sampled(tmp_path / "run.d"), sampled())

"""Stores: a run that is stopped, killed or damaged goes on to the same bits; another run's store is
refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from targets import gaussian, ising

import unnorm as un
from unnorm.sampling.output.datatree import provenance

RUN = {"draws": 200, "warmup": 100, "chains": 2, "progress": False}


def same(one, other):
    return all(
        np.array_equal(one[group][name], other[group][name], equal_nan=True)
        for group in ("posterior", "sample_stats")
        for name in one[group].data_vars
    )


KERNELS = {
    "mala": un.kernels.MALA(),
    "nuts": un.kernels.NUTS(),
    "mclmc": un.kernels.MCLMC(),
    "mclmc adjusted": un.kernels.MCLMC(adjusted=True),
    "replica exchange": un.kernels.ReplicaExchange("mala", temperatures=3),
    "elliptical": un.kernels.EllipticalSlice(),
}
QUICK = ("mala", "elliptical")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in KERNELS]
)
def test_a_store_holds_what_memory_holds_and_resumes(name, tmp_path):
    unbroken = un.sample(gaussian, KERNELS[name], seed=1, **RUN)
    stored = un.sample(gaussian, KERNELS[name], seed=1, store=tmp_path / "run.d", **RUN)
    assert same(unbroken, stored)
    cut_back(tmp_path / "run.d", parts=9)
    assert same(unbroken, un.resume(tmp_path / "run.d", gaussian, progress=False))
    if name != "mclmc":  # its warm-up is one part
        cut_back(tmp_path / "run.d", parts=3)
        assert same(unbroken, un.resume(tmp_path / "run.d", gaussian, progress=False))


def cut_back(folder: Path, parts: int):
    """As if the process had died after so many parts."""
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(
        json.dumps({k: v for k, v in state.items() if int(k) < parts})
    )


def test_a_run_that_goes_on_has_the_chain_blocks_of_its_beginning(tmp_path, monkeypatch):
    """Another block would round in another way; what a trial finds depends on the hour."""
    options = {"draws": 40, "warmup": 0, "chains": 8, "seed": 1, "progress": False}
    monkeypatch.setattr("unnorm.sampling.engine.chunked_run.chain_block", lambda *_: 4)
    stored = un.sample(
        gaussian, un.kernels.MALA(step_size=0.1), store=tmp_path / "run.d", **options
    )
    cut_back(tmp_path / "run.d", parts=1)
    monkeypatch.setattr(
        "unnorm.sampling.engine.chunked_run.chain_block", lambda *_: pytest.fail("tried anew")
    )
    assert same(stored, un.resume(tmp_path / "run.d", gaussian, progress=False))


def test_gibbs_and_float64_resume(tmp_path):
    p = ising.with_dimensions(d=5).bind(field=np.linspace(-1, 1, 5))
    unbroken = un.sample(p, seed=3, dtype="float64", **RUN)
    un.sample(p, seed=3, dtype="float64", store=tmp_path / "run.d", **RUN)
    cut_back(tmp_path / "run.d", parts=12)
    assert same(unbroken, un.resume(tmp_path / "run.d", p, progress=False))


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_part_is_made_again(damage, tmp_path):
    whole = un.sample(gaussian, "mala", seed=1, store=tmp_path / "run.d", **RUN)
    values = whole.posterior["x"].values.copy()
    part = tmp_path / "run.d" / "part-00010.npz"
    content = part.read_bytes()
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(
            content[:100] if damage == "truncated" else content[:-9] + b"\0" + content[-8:]
        )
    again = un.resume(tmp_path / "run.d", gaussian, progress=False)
    assert np.array_equal(again.posterior["x"], values) and part.read_bytes() == content


def test_the_same_call_goes_on_and_tracked_functions_and_moments_are_kept(tmp_path):
    options = RUN | {"keep": "moments", "track": {"norm": lambda x: x @ x}, "seed": 5}
    unbroken = un.sample(gaussian, "mala", **options)
    stored = un.sample(gaussian, "mala", store=tmp_path / "run.d", **options)
    cut_back(tmp_path / "run.d", parts=8)
    again = un.sample(gaussian, "mala", store=tmp_path / "run.d", **options)
    for tree in (stored, again):
        assert np.array_equal(tree.posterior["norm"], unbroken.posterior["norm"])
        assert all(
            np.array_equal(tree["moments"][n], unbroken["moments"][n])
            for n in unbroken["moments"].data_vars
        )


REFUSED = {
    "parameter value": (
        lambda: gaussian.bind(centre=np.zeros(3)),
        {},
        "parameter or constant centre is",
    ),
    "step size": (
        lambda: gaussian,
        {"kernel": un.kernels.MALA(step_size=0.2)},
        "kernel step_size is None",
    ),
    "another kernel": (lambda: gaussian, {"kernel": un.kernels.NUTS()}, "kernel kernel is mala"),
    "another seed": (lambda: gaussian, {"seed": 2}, "options seed is 1"),
    "more draws": (lambda: gaussian, {"draws": 300}, "options draws is 200"),
    "another model": (
        lambda: un.Density(
            lambda x, *, centre, precision: -0.4 * (x - centre) @ precision @ (x - centre),
            gaussian.variables,
            {n: (s, gaussian.parameters[n]) for n, s in gaussian.supports.items()},
        ),
        {},
        "density is gaussian",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_store_of_another_run_is_refused_with_the_difference_named(case, tmp_path):
    density, options, words = REFUSED[case]
    un.sample(gaussian, "mala", seed=1, store=tmp_path / "run.d", **RUN)
    before = sorted((f.name, f.stat().st_mtime_ns) for f in (tmp_path / "run.d").iterdir())
    with pytest.raises(ValueError, match=words):
        un.sample(
            density(), **{"kernel": "mala", "seed": 1, "store": tmp_path / "run.d"} | RUN | options
        )
    assert before == sorted((f.name, f.stat().st_mtime_ns) for f in (tmp_path / "run.d").iterdir())


def test_another_version_is_refused(tmp_path, monkeypatch):
    versions = provenance() | {"jax": "0.0.1"}
    monkeypatch.setattr("unnorm.sampling.driver.provenance", lambda: versions)
    un.sample(gaussian, "mala", seed=1, store=tmp_path / "run.d", **RUN)
    monkeypatch.undo()
    with pytest.raises(un.StoreError, match=r"version of jax is 0.0.1"):
        un.resume(tmp_path / "run.d", gaussian, progress=False)


def test_no_store_and_a_foreign_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        un.resume(tmp_path / "nothing.d", gaussian)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds other files"):
        un.sample(gaussian, "mala", store=tmp_path, **RUN)
    with pytest.raises(ValueError, match="holds other files"):
        un.sample(gaussian, "mala", store=tmp_path / "letter.txt", **RUN)
    assert [f.name for f in tmp_path.iterdir()] == ["letter.txt"]


def test_an_interrupt_returns_what_is_there_marked_incomplete(tmp_path):
    calls = 0

    def stop(x):
        return x[0]

    import unnorm.sampling.engine.chunked_run as run

    advance = run.Run.advance

    def interrupted(self, i, carry, shown):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return advance(self, i, carry, shown)

    run.Run.advance = interrupted
    try:
        part = un.sample(gaussian, "mala", seed=1, track={"first": stop}, **RUN)
    finally:
        run.Run.advance = advance
    whole = un.sample(gaussian, "mala", seed=1, **RUN)
    count = part.posterior.sizes["draw"]
    assert 0 < count < 200 and part.attrs["incomplete"] == 1 and whole.attrs["incomplete"] == 0
    assert np.array_equal(part.posterior["x"], whole.posterior["x"][:, :count])
    assert "interrupted after" in part.attrs["findings"]


JOB = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
import unnorm as un
from targets import gaussian
run = dict(draws=4000, warmup=1000, chains=4, thin=300, seed=1, progress=False)
draws = un.sample(gaussian, "mala", store={store!r}, **run)
np.save({out!r}, draws.posterior["x"].values)
"""


@pytest.mark.slow
def test_fifty_kills_and_resumptions_change_no_bit(tmp_path):
    """Each of 50 runs is killed (-9) at a random moment, and goes on by the same program."""
    tests = str(Path(__file__).parents[2] / "shared")
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }

    def job(i):
        code = JOB.format(
            tests=tests, store=str(tmp_path / f"run{i}.d"), out=str(tmp_path / f"{i}.npy")
        )
        return subprocess.Popen([sys.executable, "-c", code], env=environment)

    def begun(name, process):
        while not (tmp_path / f"run{name}.d" / "meta.json").exists() and process.poll() is None:
            time.sleep(0.005)
        return time.monotonic()

    job("warm").wait()  # fills the compile cache
    process = job("unbroken")
    began = begun("unbroken", process)
    assert process.wait() == 0
    lasts = time.monotonic() - began
    unbroken = np.load(tmp_path / "unbroken.npy")
    rng, same_bits, stages = random.Random(0), 0, set()
    for i in range(50):
        process, store = job(i), tmp_path / f"run{i}.d"
        begun(i, process)
        time.sleep(rng.uniform(0, lasts))
        process.send_signal(signal.SIGKILL)
        process.wait()
        stages.add(
            len(json.loads((store / "state.json").read_text()))
            if (store / "state.json").exists()
            else 0
        )
        assert job(i).wait() == 0
        same_bits += np.array_equal(np.load(tmp_path / f"{i}.npy"), unbroken)
    assert same_bits == 50
    assert len(stages) > 5  # the kills did fall at different moments


def test_memory_maps_hold_the_draws(tmp_path):
    stored = un.sample(gaussian, "mala", seed=1, store=tmp_path / "run.d", **RUN)
    assert (tmp_path / "run.d" / "events" / "x.npy").exists()
    assert stored.posterior["x"].shape == (2, 200, 3) and bool(
        jnp.isfinite(stored.posterior["x"].values).all()
    )

"""Stores and saved fits of another run, edited, damaged or crafted: a sentence, or the right
bits."""

import contextlib
import io
import json
import os
import random
import shutil
import tracemalloc
import zipfile
from hashlib import sha256

import numpy as np
import pytest
from stored_runs import line, run

import unnorm as un
from unnorm.sampling.output import archive, atomic_files


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished store, and its draws."""
    folder = tmp_path_factory.mktemp("finished") / "run.d"
    return folder, run(store=folder).posterior["x"].values.copy()


@pytest.fixture
def store(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run.d")
    return tmp_path / "run.d"


@un.density
def spread(x: un.Real, *, scale: un.Positive = 1.0):
    return -0.5 * (x / scale) ** 2


POINTS = np.random.default_rng(0).normal(size=64)


# -- edited and damaged ----------------------------------------------------------------------------
def test_an_edited_description_is_not_believed(store, finished):
    meta = json.loads((store / "meta.json").read_text())
    for edit in (
        {"options": meta["options"] | {"seed": 2}},
        {"checksum": None},
        {"rebuild": {"name": "hmc"}},
    ):
        (store / "meta.json").write_text(json.dumps(meta | edit))
        with pytest.raises(un.StoreError, match=r"damaged meta.json"):
            un.resume(store, line, progress=False)
    del meta["checksum"]
    (store / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(un.StoreError, match=r"damaged meta.json"):
        un.resume(store, line, progress=False)
    assert np.array_equal(
        run(store=store).posterior["x"], finished[1]
    )  # the parts say that they are of this run
    assert np.array_equal(un.resume(store, line, progress=False).posterior["x"], finished[1])


def test_swapped_parts_are_made_again(store, finished):
    one, other = store / "part-00002.npz", store / "part-00003.npz"
    one.rename(store / "x"), other.rename(one), (store / "x").rename(other)
    (store / "gathered.json").unlink()
    assert np.array_equal(un.resume(store, line, progress=False).posterior["x"], finished[1])


def test_a_part_of_another_run_is_refused(store, tmp_path):
    run(store=tmp_path / "other.d", seed=2)
    shutil.copy(tmp_path / "other.d" / "part-00002.npz", store / "part-00002.npz")
    with pytest.raises(un.StoreError, match=r"holds part-00002.npz of another run"):
        run(store=store)


def test_a_deleted_part_and_an_interrupt_leave_no_hole(store, finished, monkeypatch):
    import unnorm.sampling.engine.chunked_run as runs

    first = next(
        i
        for i in range(99)
        if "events/x" in archive.unpack((store / f"part-{i:05d}.npz").read_bytes())
    )
    (store / f"part-{first + 1:05d}.npz").unlink()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Run, "advance", interrupted)
    part = run(store=store)
    count = part.posterior.sizes["draw"]
    assert 0 < count < 60 and part.attrs["incomplete"] == 1
    assert np.array_equal(part.posterior["x"], finished[1][:, :count])
    monkeypatch.undo()
    assert np.array_equal(run(store=store).posterior["x"], finished[1])


def flipped(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def flips(folder, original, expected, call, count, seed=0):
    """How many of so many bit flips, over every file in turn, give a StoreError or the right
    bits."""
    rng, good = random.Random(seed), 0
    names = sorted(
        p.relative_to(original) for p in original.rglob("*") if p.is_file() and p.stat().st_size
    )
    for i in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        flipped(folder / names[i % len(names)], rng)
        try:
            good += np.array_equal(call(), expected, equal_nan=True)
        except un.StoreError as error:
            good += str(error).count("\n") == 0
    return good


def resumed(folder):
    return un.resume(folder, line, progress=False).posterior["x"].values


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_bit_flips_of_a_store_give_a_sentence_or_the_right_bits(count, finished, tmp_path):
    folder = tmp_path / "run.d"
    assert flips(folder, finished[0], finished[1], lambda: resumed(folder), count) == count


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    fitted = un.fit(spread, POINTS, "maximum_likelihood", seed=0, progress=False)
    fitted.save(folder / "fit.npz")
    return folder, fitted


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_bit_flips_of_a_saved_fit_give_a_sentence(count, saved, tmp_path):
    folder, expected = tmp_path / "fit", saved[1].summary().to_numpy()
    path = folder / "fit.npz"
    assert (
        flips(folder, saved[0], expected, lambda: un.load(path, spread).summary().to_numpy(), count)
        == count
    )


@pytest.mark.slow
def test_bit_flips_of_a_training_give_a_sentence_or_the_right_bits(tmp_path):
    folder, options = (
        tmp_path / "fit.d",
        {"steps": 50, "batch_size": 16, "seed": 0, "progress": False},
    )

    def estimate(store):
        return un.fit(spread, POINTS, "score_matching", store=store, **options).summary().to_numpy()

    whole = estimate(tmp_path / "whole.d")
    assert flips(folder, tmp_path / "whole.d", whole, lambda: estimate(folder), 200) == 200


# -- crafted ---------------------------------------------------------------------------------------
def sealed(content):
    return content + sha256(content).digest()


def npz(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as held:
        for name, content in members.items():
            held.writestr(name, content)
    return buffer.getvalue()


def header(shape, dtype="<f8"):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return head.getvalue()


BOMBS = {
    "compressed": lambda: npz(**{"told.npy": bytes(2**26)}),
    "header": lambda: archive.pack({"told": np.zeros(3)}).replace(
        b"(3,)            ", b"(900000000,)    "
    )[:-32],
    "object": lambda: npz(**{"told.npy": header((1,), "|O") + bytes(8)}),
    "no archive": lambda: b"PK" + bytes(100),
    "no array": lambda: npz(**{"told.npy": b"hello"}),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_crafted_fit_is_refused_in_little_memory(case, tmp_path):
    (tmp_path / "fit.npz").write_bytes(sealed(BOMBS[case]()))
    tracemalloc.start()
    with pytest.raises(un.StoreError, match="holds no fit"):
        un.load(tmp_path / "fit.npz", spread)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_crafted_name_does_not_leave_the_store(store, tmp_path):
    for path in sorted(store.glob("part-*.npz")):
        arrays = archive.unpack(path.read_bytes())
        if "events/x" in arrays:
            arrays["events/../../../x"] = arrays.pop("events/x")
            path.write_bytes(archive.pack(arrays))
    (store / "gathered.json").unlink()
    with pytest.raises(un.StoreError, match=r"whose events are ../../../x"):
        run(store=store)
    assert not list(tmp_path.glob("x*")) and not list(tmp_path.parent.glob("x.npy"))


def test_odd_names_of_tracked_functions_stay_in_the_store(tmp_path):
    odd = {"..x": lambda x: x, "a\\b": lambda x: 2 * x, "ü" * 80: lambda x: 3 * x}
    draws = run(store=tmp_path / "run.d", track=odd)
    assert {path.parent.name for path in tmp_path.rglob("*.npy")} == {
        "events",
        "tracked",
        "statistics",
    }
    assert all(
        np.array_equal(draws.posterior[name], f(draws.posterior["x"].values))
        for name, f in odd.items()
    )


def test_a_tracked_name_that_draws_cannot_hold_is_refused_before_the_run():
    for name in ("../up", "a/b", "", "..", "draw"):
        with pytest.raises(ValueError, match="track was given"):
            run(track={name: lambda x: x})


@pytest.mark.parametrize(
    "name", ["lock", "meta.json", "part-00000.npz", "state.json", "events", "gathered.json"]
)
def test_symbolic_links_are_not_followed(name, store, finished, tmp_path):
    (tmp_path / "outside").mkdir()
    for victim in (tmp_path / "outside" / "file", tmp_path / "outside" / "x.npy"):
        victim.write_text("dear")
    target = store / name
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    target.symlink_to(tmp_path / "outside" / ("" if name == "events" else "file"))
    with contextlib.suppress(un.StoreError):
        assert np.array_equal(run(store=store).posterior["x"], finished[1])
    assert {path.read_text() for path in (tmp_path / "outside").iterdir()} == {"dear"}


def test_a_link_under_the_name_of_a_temporary_file_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("dear")
    monkeypatch.setattr(atomic_files.secrets, "token_hex", lambda n: "0" * 16)
    (tmp_path / ".fit.npz.0000000000000000.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        atomic_files.write(tmp_path / "fit.npz", b"fit")
    assert victim.read_text() == "dear"


def test_a_pipe_in_the_place_of_a_file_does_not_hang(store, finished):
    (store / "state.json").unlink()
    os.mkfifo(store / "state.json")
    assert np.array_equal(run(store=store).posterior["x"], finished[1])


OTHER_DENSITIES = {
    "function": (
        un.Density(
            lambda x, *, scale: -((x / scale) ** 2), {"x": un.Real}, {"scale": (un.Positive, 1.0)}
        ),
        "another function",
    ),
    "support": (
        un.Density(spread.function, {"x": un.Real}, {"scale": (un.Interval(0, 9), 1.0)}),
        "parameter scale",
    ),
    "variable": (
        un.Density(spread.function, {"x": un.Interval(-99, 99)}, {"scale": (un.Positive, 1.0)}),
        "variable x",
    ),
}


@pytest.mark.parametrize("case", OTHER_DENSITIES)
@pytest.mark.parametrize("versions", ["same", "other"])
def test_a_fit_is_loaded_for_its_own_density_alone(case, versions, saved, monkeypatch):
    other, words = OTHER_DENSITIES[case]
    other = un.Density(
        _named(other.function), other.variables, {n: (s, 1.0) for n, s in other.supports.items()}
    )
    if versions == "other":
        monkeypatch.setattr(
            "unnorm.fitting.results.serialization.provenance", lambda: {"jax": "0.0.1"}
        )
    assert un.load(saved[0] / "fit.npz", spread).summary().equals(saved[1].summary())
    with pytest.raises(un.StoreError, match=words):
        un.load(saved[0] / "fit.npz", other)


def _named(function):
    if function is spread.function:
        return function

    def spread_(x, *, scale):
        return function(x, scale=scale)

    spread_.__name__ = "spread"
    return spread_


def test_an_older_fit_is_named(tmp_path):
    told = np.frombuffer(json.dumps({"format": 2, "density": "spread"}).encode(), np.uint8)
    np.savez(tmp_path / "fit.npz", told=told)
    with pytest.raises(un.StoreError, match="older format"):
        un.load(tmp_path / "fit.npz", spread)

"""Compiled programs on disk: only those of verbs, bounded, and never in the user's way."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from unnorm.core.compilation.program_store import ProgramStore, StoreOptions, default_folder
from unnorm.core.jax_compat import compilation_cache_replaced

RUN = """
import jax, jax.numpy as jnp, numpy as np, sys
import unnorm as un
def of_others(x):
    return jnp.sin(jnp.cumsum(x)) @ x
jax.jit(of_others)(np.arange(7.0))
p = un.Density(lambda x: -0.5 * jnp.sum(x**2), {"x": un.Real[3]})
print(un.log_z(p, un.estimators.ImportanceSampling(draws=100), seed=0, progress=False).value)
jax.jit(of_others)(np.arange(9.0))
from jax._src import compilation_cache
assert compilation_cache._cache is None or jax.config.jax_compilation_cache_dir
"""


def run(folder, **environment):
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("JAX_", "UNNORM_"))}
    given = kept | {"XDG_CACHE_HOME": str(folder)} | environment
    found = subprocess.run(
        [sys.executable, "-c", RUN], env=given, capture_output=True, text=True, check=True
    )
    assert "rror" not in found.stderr
    return found.stdout, sorted(path.name for path in folder.rglob("*-*") if path.is_file())


@pytest.mark.slow
def test_verbs_alone_are_kept_and_read_again(tmp_path):
    first, files = run(tmp_path)
    assert files and not any("of_others" in name for name in files)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-*") if path.is_file()}
    second, again = run(tmp_path)
    assert second == first and again == files
    assert any(path.stat().st_mtime_ns > time for path, time in times.items())  # read
    assert run(tmp_path / "off", UNNORM_CACHE="0")[1] == []
    own = tmp_path / "own"
    run(tmp_path / "mine", JAX_COMPILATION_CACHE_DIR=str(own),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")  # fmt: skip
    assert list(own.iterdir()) and not (tmp_path / "mine").exists()


def test_jax_has_its_own_cache_again_after_nested_blocks(tmp_path):
    from jax._src import compilation_cache

    before, store = compilation_cache._cache, ProgramStore(tmp_path / "one")
    try:
        compilation_cache._cache = None
        with compilation_cache_replaced(store, 0.0):
            with compilation_cache_replaced(store, 0.0):
                assert compilation_cache._cache is store
            jax.jit(lambda x: x * 3 + jnp.tanh(x))(2.0)
            assert compilation_cache._cache is store
        assert compilation_cache._cache is None
    finally:
        compilation_cache._cache = before
    assert list((tmp_path / "one").iterdir()), (
        "JAX no longer asks jax._src.compilation_cache._cache: change core/jax_compat.py."
    )


def test_the_least_recently_used_go_first(tmp_path):
    store = ProgramStore(tmp_path / "one", StoreOptions(max_bytes=1000, puts_between=1000))
    for i, name in enumerate("abcd"):
        store.put(name, bytes(300))
        os.utime(tmp_path / "one" / name, (i, i))
    assert store.get("a") == bytes(300)  # used last now
    store.prune()
    assert [store.get(name) is not None for name in "abcd"] == [True, False, False, True]


def test_a_half_written_program_is_never_seen(tmp_path):
    store = ProgramStore(tmp_path / "one")
    store.put("a", b"program")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["a"]
    assert store.get("b") is None


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    store = ProgramStore(tmp_path / "one")
    (tmp_path / "one").rmdir()
    store.put("a", b"program")
    assert store.get("a") is None


def test_the_folder_is_the_users_and_of_this_version():
    assert "unnorm" in str(default_folder()) and "programs" in str(default_folder())

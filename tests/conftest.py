"""Fixtures that several test files share."""

import gc
import itertools
from pathlib import Path

import jax
import pytest
from targets import ising

import unnorm as un

TESTS = itertools.count()
collect_ignore = ["benchmarks"]  # programs of their own, which set JAX's devices up

LONG_EXAMPLES = {
    f"unnorm.{room}.{name}"
    for room, names in {
        "partition.estimators": (
            "annealed_importance_sampling.AIS",
            "bennett_acceptance_ratio.Bennett",
            "bridge_sampling.Bridge",
            "importance_sampling.ImportanceSampling",
            "nested_sampling.NestedSampling",
            "noise_contrastive.NCE",
            "normalizing_flow.FlowImportance",
            "sequential_monte_carlo.SMC",
        ),
        "fitting.objectives": (
            "adversarial.objective.Adversarial",
            "contrastive_divergence.objective.ContrastiveDivergence",
            "noise_contrastive.flow_contrastive.FlowContrastive",
            "score_matching.denoising.DenoisingScoreMatching",
            "score_matching.finite_difference.FiniteDifferenceScoreMatching",
            "variational.objective.EvidenceLowerBound",
        ),
        "plots": ("path.plot_path",),
    }.items()
    for name in names
}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """A docstring cannot mark its example as slow; quick tests try each method elsewhere."""
    for item in items:
        if item.name in LONG_EXAMPLES:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """What is imported stays; to look through it for garbage again and again takes a tenth of the
    time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def room_for_compiled_programs():
    """A process may map 65,530 regions, each compiled program takes some, and XLA crashes where
    none is left; and it may take all memory. Counting regions takes milliseconds, and a test adds a
    thousand at most."""
    yield
    process = Path("/proc/self")
    if next(TESTS) % 8 or not (process / "maps").exists():
        return
    pages = int((process / "statm").read_text().split()[1])
    regions = (process / "maps").read_bytes().count(b"\n")
    if regions > 30_000 or pages > 750_000:  # of 4 kB: 3 GB
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Double precision for one test, as the library's statistical verbs use it."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def ozone():
    """Case C: Ozone and Wind, each column divided by its standard deviation."""
    raw = un.models.load("ozone_wind")
    return raw / raw.std(ddof=0)


@pytest.fixture(scope="session")
def rochdale():
    """Case A: the Ising model fitted to Rochdale by maximum likelihood, all 2^8 states
    enumerated."""
    return un.fit(ising, un.models.load("rochdale"), "maximum_likelihood", seed=0, progress=False)

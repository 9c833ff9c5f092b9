"""Every objective on every toy, beside torchebm and ebmkit in the same process: Kullback-Leibler
divergence by a grid, CPU seconds, log Z, and whether the verdict was right.

All train one energy, net(x) − |x|²/10 with a network 2→w→w→1 (SiLU; w is --width), from the same
weights, on the same 8,192 rows, in batches of 256, by Adam on a cosine schedule from 1e-3 to 0 with
gradients clipped to norm 10. Energies conditional on the noise level are each program's own, of
this width and depth. Options of an objective that decide what it costs are equal (Langevin steps,
projections, noise points, noise levels); the others are each program's documented defaults. One
thread each.

Each run is one line of JSON appended to a file, so that the board can be stopped and resumed. It
needs torch, torchebm and ebmkit beside unnorm; run from the folder tests:

    python -m benchmarks.toy_peers ../build/toy_peers.jsonl --steps 2000 --seeds 0 1 2 3 4
    python -m benchmarks.toy_peers ../build/toy_peers.jsonl --table
"""

import argparse
import functools
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # before JAX and torch start their threads
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["UNNORM_CACHE"] = "0"  # the first call of a process compiles
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp, ndtr

import unnorm as un
from benchmarks.toy_peers_table import render
from unnorm.models.toys import SAMPLERS

try:
    from benchmarks import toy_peers_torch as peers
except ImportError:
    peers = None

o = un.objectives
ROWS, BATCH, CONFINEMENT = 8_192, 256, 0.1
SIDE, CELLS = 14.0, 560
SIGMA, LEVELS, K, STEP = 0.1, (0.05, 2.0, 12), 10, 0.01
CHAINS, PROJECTIONS, RATIO = 256, 5, 4
OBJECTIVES = {
    "NCE": o.NCE(noise_ratio=RATIO),
    "energy discrepancy": o.EnergyDiscrepancy(noise_ratio=RATIO),
    "score matching": o.ScoreMatching(),
    "sliced": o.SlicedScoreMatching(projections=PROJECTIONS),
    "denoising": o.DenoisingScoreMatching(sigma=SIGMA, corruptions=1),
    "noise levels": o.DenoisingScoreMatching(sigma=LEVELS, corruptions=1),
    "persistent CD": o.ContrastiveDivergence(
        k=K, persistent=True, chains=CHAINS, kernel=un.kernels.MALA()
    ),
    "CD": o.ContrastiveDivergence(k=K, kernel=un.kernels.MALA()),
    "ranking NCE": o.RankingNCE(noise_ratio=RATIO),
    "conditional NCE": o.ConditionalNCE(noise_ratio=RATIO),
    "flow contrastive": o.FlowContrastive(),
    "adversarial": o.Adversarial(),
}
SMOOTHED_BY = {"denoising": SIGMA, "noise levels": LEVELS[0]}


# -- the truth, on a grid --------------------------------------------------------------------------
AXIS = (np.arange(CELLS) + 0.5) * SIDE / CELLS - SIDE / 2
GRID = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
LOG_CELL = 2 * np.log(SIDE / CELLS)


@functools.cache
def truth(toy: str, smooth: float) -> np.ndarray:
    """The log-density of the toy with noise of this standard deviation added, on the grid."""
    if toy == "checkerboard":
        return _checkerboard(smooth)
    p = getattr(un.models, toy)
    places = np.asarray(p.constants["places"], float)
    variance = float(p.parameters["scale"]) ** 2 + smooth**2
    sums = np.zeros(len(GRID))
    for place in places:
        sums += np.exp(-((GRID - place) ** 2).sum(1) / (2 * variance))
    with np.errstate(divide="ignore"):
        return np.log(sums / (2 * np.pi * variance * len(places)))


def _checkerboard(smooth: float) -> np.ndarray:
    edges = np.arange(-2, 3)[:, None]
    below = ndtr((edges - AXIS) / smooth) if smooth else (edges > AXIS).astype(float)
    columns = np.diff(below, axis=0)  # (4, CELLS): the share of each column at each point
    board = (np.add.outer(np.arange(4), np.arange(4)) % 2 == 0) / 8
    with np.errstate(divide="ignore"):
        return np.log(np.einsum("ix,ij,jy->xy", columns, board, columns)).ravel()


def divergences(toy: str, objective: str, values: np.ndarray) -> dict:
    """KL from the toy, and from the toy smoothed as the objective smooths it; log Z on the grid."""
    log_z = float(logsumexp(values) + LOG_CELL)
    found = {"log_z_grid": log_z}
    for name, smooth in (("kl", 0.0), ("kl_target", SMOOTHED_BY.get(objective, 0.0))):
        true = truth(toy, smooth)
        inside = true > -np.inf
        weight = np.exp(true[inside] + LOG_CELL)
        found[name] = float(weight @ (true[inside] - values[inside] + log_z) / weight.sum())
    return found


# -- ours ------------------------------------------------------------------------------------------
def weights(width: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of the layers, uniform as those of torch and Equinox."""
    rng, sizes = np.random.default_rng(seed), (2, width, width, 1)
    layers = []
    for before, after in itertools.pairwise(sizes):
        limit = before**-0.5
        layers.append(
            tuple(
                rng.uniform(-limit, limit, shape).astype(np.float32)
                for shape in ((after, before), (after,))
            )
        )
    return layers


def network(width: int, seed: int) -> eqx.nn.MLP:
    net = eqx.nn.MLP(2, "scalar", width, 2, activation=jax.nn.silu, key=jax.random.key(0))
    given = [jnp.asarray(part) for layer in weights(width, seed) for part in layer]
    return eqx.tree_at(
        lambda n: [x for one in n.layers for x in (one.weight, one.bias)], net, given
    )


@un.density
def energy(x: un.Real[2], *, network: un.PyTree):
    return network(x) - CONFINEMENT * x @ x


_RUN_BEFORE: set[tuple] = set()


def ours(
    objective: str, data: np.ndarray, width: int, steps: int, seed: int
) -> tuple[dict, np.ndarray]:
    by_level = objective == "noise levels"
    if by_level:
        p, start = un.models.noise_conditional_energy(2, width=width, depth=2, seed=seed), None
    else:
        p, start = energy, {"network": network(width, seed)}
    looks: list[tuple] = []
    began = time.process_time()
    fit = un.fit(
        p,
        data,
        OBJECTIVES[objective],
        start=start,
        steps=steps,
        batch_size=BATCH,
        seed=seed,
        progress=False,
        callback=lambda seen: looks.append((seen["step"], time.process_time())) and None,
    )
    call = time.process_time() - began
    (first, start_at), (last, end) = looks[0], looks[-1]
    density = fit.density.given(sigma=LEVELS[0]) if by_level else fit.density
    found = {
        "first": (objective, width, steps) not in _RUN_BEFORE,
        "seconds": call,
        "steps_seconds": steps * (end - start_at) / (last - first),
        "converged": fit.converged,
        "passed": fit.passed,
        "findings": [
            [f.severity, str(f.code), f.what] for f in fit.findings if f.severity != "note"
        ],
    }
    _RUN_BEFORE.add((objective, width, steps))
    estimate = un.log_z(density, seed=0, progress=False)
    found["log_z"], found["log_z_verdict"] = float(estimate.value), str(estimate.verdict)
    learned = getattr(fit, "log_z", None)
    found["log_z_learned"] = None if learned is None else float(learned)
    return found, np.asarray(density(GRID), float)


# -- the board -------------------------------------------------------------------------------------
def run(who: str, toy: str, objective: str, width: int, steps: int, seed: int) -> dict:
    data = SAMPLERS[toy](np.random.default_rng(1_000 + seed), ROWS).astype(np.float32)
    train: Callable = ours if who == "unnorm" else peers.PEERS[who]
    try:
        found, values = train(objective, data, width, steps, seed)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return found | divergences(toy, objective, values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, nargs="+", default=[2_000, 10_000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--toys", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--who", nargs="+", default=["unnorm", "torchebm", "ebmkit"])
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    lines = given.path.read_text().splitlines() if given.path.exists() else []
    done = {tuple(json.loads(line)["cell"]) for line in lines}
    if given.table:
        print(render([json.loads(line) for line in lines]))
        return
    if peers is None:
        given.who = ["unnorm"]
        print("torch, torchebm or ebmkit is not installed: their columns are left out")
    given.path.parent.mkdir(parents=True, exist_ok=True)
    cells = (
        (who, toy, objective, given.width, steps, seed)
        for steps in given.steps
        for seed in given.seeds
        for toy in given.toys
        for objective in given.objectives
        for who in given.who
    )
    for cell in cells:
        if cell in done or (cell[0] != "unnorm" and not peers.has(*cell[:3:2])):
            continue
        found = {"cell": cell} | run(*cell)
        with given.path.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(*cell, {k: v for k, v in found.items() if k not in ("cell", "findings")}, flush=True)


if __name__ == "__main__":
    main()

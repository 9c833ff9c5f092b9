"""CPU seconds of first calls, each in a fresh process; import and declaration excluded.

`python -m benchmarks.cold [--old COMMIT] [--turns 5]`, in tests/. The working tree alternates with
an older commit, of which a worktree is made. Rows "first" run without any store of programs; rows
"second process" run with a store of programs that one process before has filled.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import table

ROOT = Path(__file__).resolve().parents[2]
SET_UP = """
import time
import jax, jax.numpy as jnp, numpy as np
import unnorm as un
un.fit, un.sample, un.log_z, un.diagnose, un.objectives, un.estimators, un.kernels
rng, given = np.random.default_rng(0), dict(seed=0, progress=False)
quartic = un.Density(lambda x, *, a, b: a * x**2 - b * x**4, {"x": un.Real},
                     {"a": (un.Real, 0.0), "b": (un.Positive, 1.0)})
some = rng.normal(size=500) * 0.6
normal = un.Density(lambda x, *, mu, sigma: -0.5 * ((x - mu) / sigma) ** 2, {"x": un.Real},
                    {"mu": (un.Real, 0.0), "sigma": (un.Positive, 1.0)})
ising = un.Density(lambda x, *, coupling, field: field @ x + 0.5 * x @ coupling @ x,
                   {"x": un.Binary["d"]},
                   {"coupling": (un.Symmetric["d"], 0.0), "field": (un.Real["d"], 0.0)})
women = un.models.load("rochdale")
five = un.Density(lambda x: -0.5 * jnp.sum(jnp.arange(1.0, 6.0) * x**2) - 0.1 * jnp.sum(x**4),
                  {"x": un.Real[5]})
w, u = rng.normal(size=(60, 4)), rng.normal(size=(60, 1))
yes = (rng.random((60, 4)) < 1 / (1 + np.exp(-(0.5 + w + u)))).astype(float)

@un.density
def logit(y: un.Binary["m"], u: un.Real, *, w: un.Covariate["m"], a: un.Real = 0.0,
          b: un.Real = 0.0, tau: un.Positive = 1.0):
    eta = a + b * w + u
    return jnp.sum(y * eta - jax.nn.softplus(eta)) - 0.5 * (u / tau) ** 2 - jnp.log(tau)

def numpyro_nuts():
    import numpyro
    from numpyro.infer import MCMC, NUTS
    potential = lambda x: -five.log_density({"x": x})
    run = MCMC(NUTS(potential_fn=potential), num_warmup=1000, num_samples=1000, num_chains=4,
               chain_method="vectorized", progress_bar=False)
    run.run(jax.random.key(0), init_params=jnp.zeros((4, 5)))
    np.asarray(jax.tree.leaves(run.get_samples())[0])
"""
CALLS = {
    "maximum likelihood, Ising of 8": ('un.fit(ising, women, "maximum_likelihood", **given)', 4),
    "maximum likelihood, quartic": ('un.fit(quartic, some, "maximum_likelihood", **given)', 4),
    "score matching, quartic": ('un.fit(quartic, some, "score_matching", **given)', 4),
    "NCE, normal": ('un.fit(normal, rng.normal(1, 2, size=500), "nce", **given)', 6),
    "random-intercept logit, 60 groups of 4": ('un.fit(logit, {"y": yes, "w": w}, **given)', 8),
    "log Z, five dimensions": ("un.log_z(five, **given)", 12),
    "NUTS and diagnose, five dimensions": (
        'un.diagnose(un.sample(five, "nuts", **given), five)',
        11.7,
    ),
    "NumPyro's NUTS, five dimensions": ("numpyro_nuts()", None),
}


def seconds(tree: Path, call: str, store: Path | None) -> float:
    """CPU seconds of one call in a fresh process of this tree."""
    code = f"{SET_UP}\nbegan = time.process_time()\n{call}\nprint(time.process_time() - began)"
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("JAX_", "XLA_", "UNNORM_"))}
    kept |= {"PYTHONPATH": str(tree), "UNNORM_CACHE": "0"}
    if store is not None:
        kept |= {"UNNORM_CACHE": "1", "XDG_CACHE_HOME": str(store)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=kept, cwd=tree, capture_output=True, text=True
    )
    if found.returncode:
        raise RuntimeError(found.stderr[-2000:])
    return float(found.stdout.splitlines()[-1])


def rows(trees: dict[str, Path], names: list[str], turns: int) -> list[list]:
    found = []
    for name in names:
        call, asked = CALLS[name]
        first: dict[str, list[float]] = {tree: [] for tree in trees}
        second: list[float] = []
        for _ in range(turns):
            for tree, path in trees.items():
                first[tree].append(seconds(path, call, None))
        if "NumPyro" not in name:
            with tempfile.TemporaryDirectory() as store:
                seconds(trees["new"], call, Path(store))
                second = [seconds(trees["new"], call, Path(store)) for _ in range(turns)]
        medians = {tree: statistics.median(times) for tree, times in first.items()}
        again = statistics.median(second) if second else float("nan")
        row = [name, *(f"{medians[tree]:.1f}" for tree in trees), asked or "",
               f"{again:.1f}", f"{again / medians['new']:.2f}"]  # fmt: skip
        print(*row, sep=" | ", flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--old", help="a commit to alternate with")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", help="rows whose name contains this")
    given = parser.parse_args()
    names = [name for name in CALLS if not given.only or given.only in name]
    with tempfile.TemporaryDirectory() as folder:
        trees = {}
        if given.old:
            trees["old"] = Path(folder) / "old"
            command = ["git", "worktree", "add", "--detach", str(trees["old"]), given.old]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        try:
            trees["new"] = ROOT
            found = rows(trees, names, given.turns)
        finally:
            if given.old:
                command = ["git", "worktree", "remove", "--force", str(trees["old"])]
                subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    head = ["first call", *trees, "asked", "second process", "of the first"]
    print(table(head, found))


if __name__ == "__main__":
    main()

"""`un.sample` with no kernel named against NUTS of NumPyro and of BlackJAX, each jitted by hand.

    python -m benchmarks.auto_sampling [turns] [part of a target's name ...]
    python -m benchmarks.auto_sampling many [part of a target's name ...]

ESS is the bulk ESS of the worst coordinate; gradients and CPU seconds are of warm-up and draws for
seconds, of draws alone for gradients. All run in one process, in turn, after a first, compiling
call. With `many`, 1,024 chains make the draws at which nested R-hat is below 1.01.
"""

import json
import sys
import time
from typing import Any

import arviz_stats.base
import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import NUTS

import unnorm as un
from benchmarks.harness import table
from benchmarks.warm_up import eight_schools
from unnorm.declaration.density import cast
from unnorm.declaration.unconstrained import Unconstrained

DRAWS, WARMUP, CHAINS = 1000, 1000, 4
MANY, LIMIT = 1024, 1.01
ASKED = {
    "eight schools": 1.3,
    "Gaussian, 100-D, condition 100": 3.0,
    "Gaussian, 100-D, condition 1,000": 3.0,
    "logistic regression, 25-D": 1.3,
    "Gaussian, 1,000-D, AR(1)": 5.0,
}


def gaussian(condition: float, size: int = 100) -> un.Density:
    """Variances in geometric progression, along random axes."""
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))
    variances = np.geomspace(1, condition, size) / condition**0.5
    precision = ((axes / variances) @ axes.T).astype(np.float32)
    return un.Density(
        lambda x, *, precision: -0.5 * x @ (precision @ x),
        {"x": un.Real[size]},
        constants={"precision": precision},
    )


def autoregressive(size: int = 1000, rho: float = 0.9) -> un.Density:
    def log_density(x):
        return -0.5 * (x[0] ** 2 + jnp.sum((x[1:] - rho * x[:-1]) ** 2) / (1 - rho**2))

    return un.Density(log_density, {"x": un.Real[size]})


def logistic(rows: int = 1000, size: int = 25) -> un.Density:
    """Like German credit: an intercept and 24 correlated columns, standard normal prior."""
    rng = np.random.default_rng(1)
    design = 0.6 * rng.normal(size=(rows, 1)) + 0.8 * rng.normal(size=(rows, size - 1))
    design = np.concatenate([np.ones((rows, 1)), design], 1).astype(np.float32)
    chances = 1 / (1 + np.exp(-design @ rng.normal(scale=0.4, size=size)))
    signs = np.where(rng.uniform(size=rows) < chances, 1.0, -1.0).astype(np.float32)
    return un.Density(
        lambda b, *, a: -jnp.sum(jnp.logaddexp(0.0, -(a @ b))) - 0.5 * b @ b,
        {"b": un.Real[size]},
        constants={"a": design * signs[:, None]},
    )


TARGETS = {
    "eight schools": lambda: un.from_numpyro(eight_schools),
    "Gaussian, 100-D, condition 100": lambda: gaussian(100),
    "Gaussian, 100-D, condition 1,000": lambda: gaussian(1000),
    "logistic regression, 25-D": logistic,
    "Gaussian, 1,000-D, AR(1)": autoregressive,
}


def worst_ess(positions: dict) -> float:
    flat = np.concatenate([np.asarray(v).reshape(*v.shape[:2], -1) for v in positions.values()], -1)
    return float(np.min(arviz_stats.base.array_stats.ess(flat, chain_axis=0, draw_axis=1)))


def starts_of(target: Unconstrained, seed: int, chains: int) -> tuple[jax.Array, dict]:
    keys = jax.random.split(jax.random.key(seed), chains)
    return keys, jax.vmap(lambda key: target.random_position(key, np.float32))(keys)


def numpyro_nuts(density: un.Density, *_: Any) -> Any:
    target = Unconstrained(cast(density.for_jit(), np.float32))
    kernel = NUTS(potential_fn=lambda z: -target.log_density(z))
    begin = jax.jit(lambda keys, starts: kernel.init(keys, WARMUP, starts, (), {}))

    @jax.jit
    def run(states):
        def one(states, _):
            states = kernel.sample(states, (), {})
            return states, (jax.vmap(target.constrain)(states.z), states.num_steps)

        states, _ = jax.lax.scan(lambda s, _: (one(s, None)[0], None), states, None, WARMUP)
        return jax.lax.scan(one, states, None, DRAWS)[1]

    def call(seed):
        kept, steps = run(begin(*starts_of(target, seed, CHAINS)))
        return jax.tree.map(lambda z: np.asarray(z).swapaxes(0, 1), kept), int(steps.sum())

    return call


def blackjax_nuts(
    density: un.Density, draws: int = DRAWS, warmup: int = WARMUP, chains: int = CHAINS
) -> Any:
    """BlackJAX's own loop: window adaptation of each chain, then draws, under one vmap and jit."""
    target = Unconstrained(cast(density.for_jit(), np.float32))
    adaptation = blackjax.window_adaptation(blackjax.nuts, target.log_density)

    def chain(key, start):
        warm, key = jax.random.split(key)
        (state, parameters), _ = adaptation.run(warm, start, warmup)
        step = blackjax.nuts(target.log_density, **parameters).step

        def one(state, key):
            state, info = step(key, state)
            return state, (target.constrain(state.position), info.num_integration_steps)

        return jax.lax.scan(one, state, jax.random.split(key, draws))[1]

    run = jax.jit(jax.vmap(chain))

    def call(seed):
        kept, steps = run(*starts_of(target, seed, chains))
        return jax.tree.map(np.asarray, kept), int(steps.sum())

    return call


def ours(
    density: un.Density, draws: int = DRAWS, warmup: int = WARMUP, chains: int = CHAINS
) -> Any:
    def call(seed):
        run = un.sample(
            density,
            draws=draws,
            warmup=warmup,
            chains=chains,
            seed=seed,
            progress=False,
            dtype="float32",
        )
        # a step of adjusted MCLMC is of two gradients
        gradients = 2 if run.attrs["kernel"] == "mclmc" else 1
        kept = {name: run.posterior[name].values for name in density.variables}
        call.kernel = run.attrs["kernel"]
        return kept, gradients * int(run.sample_stats["n_steps"].sum())

    return call


CONTENDERS = {"NumPyro": numpyro_nuts, "BlackJAX": blackjax_nuts, "unnorm": ours}


def few(turns: int, names: list[str]) -> None:
    rows = []
    for name in chosen(names):
        density = TARGETS[name]()
        calls = {who: make(density) for who, make in CONTENDERS.items()}
        for call in calls.values():
            call(0)
        rates: dict[str, list] = {who: [] for who in calls}
        for turn in range(1, turns + 1):
            for who, call in calls.items():
                began = time.process_time()
                kept, gradients = call(turn)
                seconds = time.process_time() - began
                ess = worst_ess(kept)
                rates[who].append((1000 * ess / gradients, ess / seconds))
        middle = {who: np.median(found, 0) for who, found in rates.items()}
        best = np.max([middle["NumPyro"], middle["BlackJAX"]], 0)
        ratios = middle["unnorm"] / best
        per = [f"{middle[who][0]:.1f}" for who in calls] + [f"{ratios[0]:.2f}"]
        cpu = [f"{middle[who][1]:,.0f}" for who in calls] + [f"{ratios[1]:.2f}"]
        rows.append([name, calls["unnorm"].kernel, *per, *cpu, ASKED[name]])
        print(json.dumps(rows[-1]), flush=True)
    per, cpu = (
        [f"{who}, ESS per {what}" for who in CONTENDERS] + ["ratio"]
        for what in ("1,000 gradients", "CPU second")
    )
    print(table(["target", "auto took", *per, *cpu, "asked"], rows))


def nested_rhat(positions: dict, superchain: int = 16) -> float:
    """The worst coordinate's, chains in groups of `superchain`."""
    worst = 0.0
    for values in positions.values():
        flat = np.asarray(values, float).reshape(*values.shape[:2], -1)
        ids = np.arange(len(flat)) // superchain
        found = arviz_stats.base.array_stats.rhat_nested(
            flat, superchain_ids=ids, chain_axis=0, draw_axis=1
        )
        worst = max(worst, float(np.max(found)))
    return worst


def many(names: list[str]) -> None:
    """Wall seconds of a second call that ends with nested R-hat below the limit."""
    rows = []
    for name in chosen(names):
        density = TARGETS[name]()
        row = [name]
        for make in (blackjax_nuts, ours):
            for steps in (100, 200, 400):
                call = make(density, steps // 2, steps, MANY)
                call(0)
                began = time.perf_counter()
                kept, _ = call(1)
                seconds, found = time.perf_counter() - began, nested_rhat(kept)
                if found < LIMIT:
                    break
            row += [f"{seconds:.1f} ({steps} steps, {found:.4f})"]
        rows.append(row)
        print(json.dumps(row), flush=True)
    print(table(["target", "NUTS under vmap, wall seconds", "auto, wall seconds"], rows))


def chosen(names: list[str]) -> list[str]:
    return [name for name in TARGETS if not names or any(part in name for part in names)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["many"]:
        many(sys.argv[2:])
    else:
        few(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:])

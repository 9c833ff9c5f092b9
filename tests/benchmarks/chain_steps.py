"""Chain-steps per second of `un.sample` against the same algorithm written by hand as one jitted
`lax.scan`."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import unnorm as un
from benchmarks.harness import medians, table, terminal
from benchmarks.targets import targets

STEP = 0.1
STEPS = {1: 100_000, 64: 20_000, 1024: 2_000}


def ula(log_density, step, x, key):
    noise = jax.random.normal(key, x.shape)
    return x + step * jax.grad(log_density)(x) + jnp.sqrt(2 * step) * noise


def random_walk(log_density, step, state, key):
    x, value = state
    walk, choose = jax.random.split(key)
    proposal = x + step * jax.random.normal(walk, x.shape)
    proposed = log_density(proposal)
    accept = jnp.log(jax.random.uniform(choose)) < proposed - value
    return jnp.where(accept, proposal, x), jnp.where(accept, proposed, value)


def mala(log_density, step, state, key):
    x, value, gradient = state
    walk, choose = jax.random.split(key)
    forward = x + step * gradient
    proposal = forward + jnp.sqrt(2 * step) * jax.random.normal(walk, x.shape)
    proposed, slope = jax.value_and_grad(log_density)(proposal)
    there = jnp.sum((proposal - forward) ** 2)
    back = jnp.sum((x - proposal - step * slope) ** 2)
    accept = jnp.log(jax.random.uniform(choose)) < proposed - value + (there - back) / (4 * step)
    return jax.tree.map(lambda a, b: jnp.where(accept, a, b), (proposal, proposed, slope), state)


HAND = {
    "ULA": (ula, lambda f, x: x),
    "random walk": (random_walk, lambda f, x: (x, f(x))),
    "MALA": (mala, lambda f, x: (x, *jax.value_and_grad(f)(x))),
}
OURS = {
    "ULA": lambda: un.kernels.ULA(step_size=STEP),
    "random walk": lambda: un.kernels.RandomWalkMH(step_size=STEP),
    "MALA": lambda: un.kernels.MALA(step_size=STEP),
}


def by_hand(
    density: un.Density, algorithm: str, chains: int, steps: int, store: bool
) -> Callable[[int], object]:
    """The loop that a careful user writes: keys split inside the scan, everything jitted, the
    density an argument."""
    move, start = HAND[algorithm]

    @functools.partial(jax.jit, static_argnums=2)
    def run(values, key, steps):
        def log_density(x):
            return density.function(x, **values)

        positions = jax.random.normal(key, (chains, density.variables["x"].axes[0]))
        states = jax.vmap(lambda x: start(log_density, x))(positions)

        def one(states, key):
            states = jax.vmap(lambda s, k: move(log_density, STEP, s, k))(
                states, jax.random.split(key, chains)
            )
            return states, jax.tree.leaves(states)[0] if store else None

        return jax.lax.scan(one, states, jax.random.split(key, steps))

    values = {name: jnp.asarray(value) for name, value in density.constants.items()}
    return lambda turn: jax.tree.map(np.asarray, run(values, jax.random.key(turn), steps))


def ours(
    density: un.Density, algorithm: str, chains: int, steps: int, store: bool
) -> Callable[[int], object]:
    kernel, keep = OURS[algorithm](), "all" if store else "last"
    return lambda turn: un.sample(
        density, kernel, draws=steps, warmup=0, chains=chains, seed=turn, keep=keep, progress=store
    )


def main() -> None:
    with terminal():  # for the progress bar, where draws are stored
        rows = measured()
    print(
        table(["target", "kernel", "chains", "stored", "hand, µs a step", "unnorm", "ratio"], rows)
    )


def measured() -> list[list]:
    rows = []
    for name, density in targets().items():
        for algorithm in HAND:
            for chains in (1, 64):
                steps = (
                    STEPS[chains] if name == "2-D mixture" or chains == 1 else STEPS[chains] // 10
                )
                for store in (False, True):
                    found = medians(
                        {
                            "hand": by_hand(density, algorithm, chains, steps, store),
                            "ours": ours(density, algorithm, chains, steps, store),
                        }
                    )
                    micro = {who: seconds / steps * 1e6 for who, seconds in found.items()}
                    rows.append(
                        [name, algorithm, chains, "draws" if store else "nothing"]
                        + [
                            f"{micro['hand']:.2f}",
                            f"{micro['ours']:.2f}",
                            f"{found['hand'] / found['ours']:.2f}",
                        ]
                    )
                    print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()

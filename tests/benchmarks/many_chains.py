"""1,024 chains over two devices: `un.sample` against BlackJAX's MALA under vmap, and against a
plain torch loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import unnorm as un
from benchmarks.harness import medians, table
from benchmarks.targets import targets

STEP, CHAINS = 0.1, 1024
STEPS = {"2-D mixture": 20_000, "100-D Gaussian": 2_000, "network 2→128→128→1": 4_000}
CLAIMS = {"2-D mixture": 3.0, "100-D Gaussian": 1.8, "network 2→128→128→1": 1.3}


def blackjax_mala(density: un.Density, steps: int):
    """The loop of BlackJAX's own documentation: one jitted scan over a vmapped step."""
    import blackjax  # here, for its import starts JAX, before which the devices must be set up

    @functools.partial(jax.jit, static_argnums=2)
    def run(values, key, steps):
        mala = blackjax.mala(lambda x: density.function(x, **values), STEP)
        states = jax.vmap(mala.init)(
            jax.random.normal(key, (CHAINS, density.variables["x"].axes[0]))
        )

        def one(states, key):
            return jax.vmap(mala.step)(jax.random.split(key, CHAINS), states)[0], None

        return jax.lax.scan(one, states, jax.random.split(key, steps))[0].position

    values = {name: jnp.asarray(value) for name, value in density.constants.items()}
    return lambda turn: np.asarray(run(values, jax.random.key(turn), steps))


def ours(density: un.Density, steps: int, kernel):
    return lambda turn: un.sample(
        density,
        kernel,
        draws=steps,
        warmup=0,
        chains=CHAINS,
        seed=turn,
        keep="last",
        progress=False,
    )


def torch_langevin(density: un.Density, steps: int):
    """Unadjusted Langevin on the Gaussian as a torch user writes it."""
    import torch

    precision = torch.tensor(np.array(density.constants["precision"]))

    def run(turn):
        torch.manual_seed(turn)
        x = torch.randn(CHAINS, 100)
        for _ in range(steps):
            x = x - STEP * precision * x + (2 * STEP) ** 0.5 * torch.randn_like(x)
        return x

    return run


def main() -> None:
    un.use_devices(2)
    rows = []
    for name, density in targets().items():
        steps = STEPS[name]
        found = medians(
            {
                "b": blackjax_mala(density, steps),
                "o": ours(density, steps, un.kernels.MALA(step_size=STEP)),
            }
        )
        micro = [f"{found[who] / steps * 1e6:.0f}" for who in "bo"]
        rows.append(
            [
                name,
                "MALA",
                "BlackJAX, vmapped",
                *micro,
                f"{found['b'] / found['o']:.2f}",
                CLAIMS[name],
            ]
        )
        print(rows[-1], flush=True)
    density = targets()["100-D Gaussian"]
    try:
        import torch  # noqa: F401
    except ImportError:
        print("torch is not installed (the extra `bench` has it): its row is left out")
    else:
        found = medians(
            {
                "t": torch_langevin(density, 2000),
                "o": ours(density, 2000, un.kernels.ULA(step_size=STEP)),
            }
        )
        micro = [f"{found[who] / 2000 * 1e6:.0f}" for who in "to"]
        rows.append(
            ["100-D Gaussian", "ULA", "torch", *micro, f"{found['t'] / found['o']:.2f}", 1.0]
        )
    print(
        table(
            ["target", "kernel", "against", "theirs, µs a step", "unnorm", "ratio", "asked"], rows
        )
    )


if __name__ == "__main__":
    main()

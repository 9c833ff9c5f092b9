"""Training a network, steps a second: `un.fit` against the loop written by hand, and against
torchebm (extra `bench`).

The same work for all: 256 rows a step, a network 2→128→128→1 with tanh, Adam at 1e-3, float32. Ours
are the steps of `un.fit` between its first and its last look at the loss; what the call does
besides (the chains' health, log Z of the fit), which the others do not, is a column of its own. By
hand: the objective written out for this network, `jax.lax.scan` over Optax steps, compiled once.
"""

import functools
import math
import statistics
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import unnorm as un
from benchmarks.harness import medians, table

try:
    import torch
    import torchebm.core
    import torchebm.losses
    import torchebm.samplers
except ImportError:
    torch = None

ROWS, BATCH, WIDTH, K, CHAINS, STEP, SIGMA, RATIO = 4096, 256, 128, 10, 256, 0.01, 0.1, 10
OPTIMIZER = optax.adam(1e-3)
DATA = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
NETWORK = eqx.nn.MLP(2, "scalar", WIDTH, 2, activation=jnp.tanh, key=jax.random.key(0))
PARAMETERS, SHAPE = eqx.partition(NETWORK, eqx.is_array)


@un.density
def energy(x: un.Real[2], *, network: un.PyTree = NETWORK):
    return network(x) - 0.5 * x @ x


def log_density(parameters, x):
    return eqx.combine(parameters, SHAPE)(x) - 0.5 * x @ x


# -- by hand ---------------------------------------------------------------------------------------
def langevin(parameters, x, key):
    slope = jax.vmap(jax.grad(log_density, 1), (None, 0))

    def step(x, key):
        return x + STEP * slope(parameters, x) + (2 * STEP) ** 0.5 * jax.random.normal(
            key, x.shape
        ), None

    return jax.lax.scan(step, x, jax.random.split(key, K))[0]


def contrast(parameters, x, negatives):
    values = jax.vmap(log_density, (None, 0))
    return values(parameters, negatives).mean() - values(parameters, x).mean()


def exact(parameters, x, key):
    def one(x):
        score = jax.grad(log_density, 1)
        return jnp.trace(jax.jacfwd(score, 1)(parameters, x)) + 0.5 * jnp.sum(
            score(parameters, x) ** 2
        )

    return jax.vmap(one)(x).mean()


def sliced(projections):
    def loss(parameters, x, key):
        def one(x, directions):
            score, push = jax.linearize(lambda x: jax.grad(log_density, 1)(parameters, x), x)
            curvature = jnp.sum(directions * jax.vmap(push)(directions), 1)
            return jnp.mean(
                curvature + 0.5 * (directions @ score) ** 2
            )  # as torchebm: the plain square

        return jax.vmap(one)(x, jax.random.rademacher(key, (BATCH, projections, 2), x.dtype)).mean()

    return loss


def denoising(parameters, x, key):
    noise = jax.random.normal(key, x.shape)
    slope = jax.vmap(jax.grad(log_density, 1), (None, 0))(parameters, x + SIGMA * noise)
    return 0.5 * jnp.mean(jnp.sum((SIGMA * slope + noise) ** 2, 1))


def nce(parameters, x, key):
    parameters, log_z = parameters

    def log_noise(x):
        return -0.5 * jnp.sum(x**2 / 4, -1) - math.log(2 * math.pi * 4)

    noise = 2.0 * jax.random.normal(key, (BATCH * RATIO, 2))
    values = jax.vmap(log_density, (None, 0))
    real = values(parameters, x) - log_z - log_noise(x) - math.log(RATIO)
    fake = values(parameters, noise) - log_z - log_noise(noise) - math.log(RATIO)
    return jax.nn.softplus(-real).mean() + RATIO * jax.nn.softplus(fake).mean()


def by_hand(
    loss, steps: int, persistent: bool | None = None, start=PARAMETERS
) -> Callable[[int], object]:
    """Adam on batches; `persistent` is None where the loss needs no chains."""

    @jax.jit
    def run(key):
        def step(carry, key):
            parameters, moments, chains = carry
            pick, key = jax.random.split(key)
            x = jnp.asarray(DATA)[jax.random.randint(pick, (BATCH,), 0, ROWS)]
            if persistent is None:
                value, slope = jax.value_and_grad(loss)(parameters, x, key)
            else:
                negatives = langevin(parameters, chains if persistent else x, key)
                chains = negatives if persistent else chains
                value, slope = jax.value_and_grad(contrast)(parameters, x, negatives)
            update, moments = OPTIMIZER.update(slope, moments)
            return (optax.apply_updates(parameters, update), moments, chains), value

        carry = start, OPTIMIZER.init(start), jnp.asarray(DATA[:CHAINS])
        return jax.lax.scan(step, carry, jax.random.split(key, steps))

    return lambda turn: jax.block_until_ready(run(jax.random.key(turn)))


# -- torchebm --------------------------------------------------------------------------------------
def torch_training(make: Callable, steps: int) -> Callable[[int], object]:
    """A loop over torchebm's loss as its documentation writes it."""

    class Energy(torchebm.core.BaseModel):
        def __init__(self):
            super().__init__()
            parts = torch.nn.Linear, torch.nn.Tanh
            self.layers = torch.nn.Sequential(
                parts[0](2, WIDTH),
                parts[1](),
                parts[0](WIDTH, WIDTH),
                parts[1](),
                parts[0](WIDTH, 1),
            )

        def forward(self, x):
            return 0.5 * (x**2).sum(-1) - self.layers(x).squeeze(-1)

    model = Energy()
    loss, rows = make(model), torch.tensor(DATA)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run(turn):
        torch.manual_seed(turn)
        for _ in range(steps):
            value = loss(rows[torch.randint(ROWS, (BATCH,))])
            value = value[0] if isinstance(value, tuple) else value
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

    return run


def torch_chains(persistent: bool) -> Callable:
    def make(model):
        sampler = torchebm.samplers.LangevinDynamics(model, step_size=STEP, noise_scale=1.0)
        return torchebm.losses.ContrastiveDivergence(
            model,
            sampler,
            k_steps=K,
            persistent=persistent,
            buffer_size=CHAINS,
            energy_reg_weight=0.0,
        )

    return make


# -- the table -------------------------------------------------------------------------------------
def contenders() -> dict[str, tuple]:
    """By objective: ours, by hand, torchebm's (None: it has none), and steps a turn of ours and by
    hand."""
    o, ula = un.objectives, un.kernels.ULA(step_size=STEP)
    start = PARAMETERS, jnp.zeros(())
    noise = un.objectives.NCE(noise=_wide_noise(), noise_ratio=RATIO)
    hand = functools.partial
    losses = torchebm.losses if torch else None
    return {
        "CD-10": (
            o.ContrastiveDivergence(k=K, kernel=ula),
            hand(by_hand, None, persistent=False),
            torch_chains(False),
            1000,
        ),
        "persistent CD-10": (
            o.ContrastiveDivergence(k=K, persistent=True, kernel=ula, chains=CHAINS),
            hand(by_hand, None, persistent=True),
            torch_chains(True),
            1000,
        ),
        "score matching, exact": (
            o.ScoreMatching(),
            hand(by_hand, exact),
            torch and (lambda m: losses.ScoreMatching(m)),
            1000,
        ),
        "sliced, 1 projection": (
            o.SlicedScoreMatching(projections=1, variance_reduction=False),
            hand(by_hand, sliced(1)),
            torch and (lambda m: losses.SlicedScoreMatching(m, n_projections=1)),
            1000,
        ),
        "sliced, 5 projections": (
            o.SlicedScoreMatching(projections=5, variance_reduction=False),
            hand(by_hand, sliced(5)),
            torch and (lambda m: losses.SlicedScoreMatching(m, n_projections=5)),
            1000,
        ),
        "denoising": (
            o.DenoisingScoreMatching(sigma=SIGMA, corruptions=1),
            hand(by_hand, denoising),
            torch and (lambda m: losses.DenoisingScoreMatching(m, noise_scale=SIGMA)),
            2000,
        ),
        f"NCE, ratio {RATIO}": (noise, hand(by_hand, nce, start=start), None, 1000),
    }


def _wide_noise():
    import numpyro.distributions as dist

    return dist.Normal(jnp.zeros(2), 2.0 * jnp.ones(2)).to_event(1)


class Ours:
    """`un.fit`; of each call the steps a second between its looks, and the seconds besides."""

    def __init__(self, objective, steps: int):
        self.objective, self.steps, self.speeds, self.besides = objective, steps, [], []

    def __call__(self, turn: int) -> None:
        looks, began = [], time.perf_counter()
        un.fit(
            energy,
            DATA,
            self.objective,
            optimizer=OPTIMIZER,
            steps=self.steps,
            batch_size=BATCH,
            seed=turn,
            progress=False,
            callback=lambda seen: looks.append((seen["step"], time.perf_counter())),
        )
        (first, start), (last, end) = looks[0], looks[-1]
        if turn:  # the first compiles
            self.speeds.append((last - first) / (end - start))
            self.besides.append(time.perf_counter() - began - self.steps / self.speeds[-1])


def main(repeats: int = 5) -> None:
    rows = []
    for name, (objective, hand, peer, steps) in contenders().items():
        ours, short = Ours(objective, steps), max(steps // 10, 100)
        calls = {"ours": ours, "hand": hand(steps)}
        if torch and peer:
            calls["torchebm"] = torch_training(peer, short)
        found = medians(calls, repeats)
        speed = {
            who: (short if who == "torchebm" else steps) / seconds for who, seconds in found.items()
        }
        speed["ours"] = statistics.median(ours.speeds)
        peers = speed.get("torchebm")
        rows.append(
            [
                name,
                f"{speed['hand']:.0f}",
                f"{speed['ours']:.0f}",
                f"{speed['ours'] / speed['hand']:.2f}",
            ]
            + ([f"{peers:.0f}", f"{speed['ours'] / peers:.1f}"] if peers else ["", ""])
            + [f"{statistics.median(ours.besides):.1f}"]
        )
        print(rows[-1], flush=True)
    print(
        table(
            [
                "objective",
                "by hand, steps a second",
                "unnorm",
                "ratio",
                "torchebm",
                "ratio",
                "s besides",
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()

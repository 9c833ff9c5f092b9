"""Effective draws (worst coordinate) per second of a user's second call, adaptation included."""

import json
import sys
import time

import arviz_stats.base
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model

import unnorm as un
from benchmarks.harness import table

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], np.float32)
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], np.float32)
COVARIANCE = 0.9 ** np.abs(np.subtract.outer(np.arange(100), np.arange(100))).astype(np.float32)
DRAWS, WARMUP, CHAINS = 2000, 1000, 4


def eight_schools():
    """Non-centred (Rubin, 1981)."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    z = numpyro.sample("z", dist.Normal(0, 1).expand([8]).to_event(1))
    numpyro.sample("y", dist.Normal(mu + tau * z, SIGMA).to_event(1), obs=Y)


def correlated():
    numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(100), COVARIANCE))


MODELS = {"eight schools": eight_schools, "100-D correlated Gaussian": correlated}
KERNELS = {
    "auto": None,
    "NUTS": un.kernels.NUTS(),
    "NUTS, dense mass": un.kernels.NUTS(dense_mass=True),
    "HMC": un.kernels.HMC(),
    "MCLMC (biased)": un.kernels.MCLMC(),
    "MCLMC, adjusted": un.kernels.MCLMC(adjusted=True),
    "MALA": un.kernels.MALA(),
    "Barker": un.kernels.Barker(),
    "random walk, learned covariance": un.kernels.RandomWalkMH(learn_covariance=True),
    "slice": un.kernels.Slice(),
}


def worst_ess(draws: dict) -> float:
    flat = np.concatenate([np.asarray(v).reshape(*v.shape[:2], -1) for v in draws.values()], -1)
    ess = arviz_stats.base.array_stats.ess
    return float(np.min(ess(flat, chain_axis=0, draw_axis=1)))


def numpyro_run(model):
    mcmc = MCMC(
        NUTS(model),
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )

    def call(turn):
        mcmc.run(jax.random.key(turn))
        return jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))

    return call


def numpyro_by_hand(model):
    """NumPyro's NUTS in one jitted program that is compiled once."""
    info = initialize_model(jax.random.key(0), model)
    kernel = NUTS(potential_fn=info.potential_fn)

    @jax.jit
    def begin(keys, starts):  # with a key for every chain, NumPyro maps its kernel over them
        return kernel.init(keys, WARMUP, starts, (), {})

    @jax.jit
    def run(states):
        def one(states, _):
            states = kernel.sample(states, (), {})
            return states, states.z

        states, _ = jax.lax.scan(lambda s, _: (one(s, None)[0], None), states, None, WARMUP)
        return jax.lax.scan(one, states, None, DRAWS)[1]

    def call(turn):
        keys = jax.random.split(jax.random.key(turn), CHAINS)
        starts = jax.vmap(
            lambda k: jax.tree.map(
                lambda z: jax.random.uniform(k, z.shape, z.dtype, -2, 2), info.param_info.z
            )
        )
        draws = run(begin(keys, starts(keys)))
        return jax.tree.map(lambda z: np.asarray(z).swapaxes(0, 1), draws)

    return call


def ours(density, kernel):
    def call(turn):
        draws = un.sample(
            density, kernel, draws=DRAWS, warmup=WARMUP, chains=CHAINS, seed=turn, progress=False
        )
        return {name: draws.posterior[name].values for name in draws.posterior.data_vars}

    return call


def main(repeats: int = 9) -> None:
    rows = []
    for name, model in MODELS.items():
        density = un.from_numpyro(model)
        calls = {
            "NumPyro, MCMC.run": numpyro_run(model),
            "NumPyro, jitted by hand": numpyro_by_hand(model),
        }
        calls |= {f"unnorm, {kernel}": ours(density, made) for kernel, made in KERNELS.items()}
        rates = {who: [] for who in calls}
        for call in calls.values():
            call(0)
        for turn in range(1, repeats + 1):
            for who, call in calls.items():
                began = time.perf_counter()
                draws = call(turn)
                seconds = time.perf_counter() - began
                rates[who].append(worst_ess(draws) / seconds)
        middle = {who: float(np.median(found)) for who, found in rates.items()}
        first, second = list(middle.values())[:2]
        for who, rate in middle.items():
            rows.append([name, who, f"{rate:,.0f}", f"{rate / first:.1f}", f"{rate / second:.2f}"])
            print(json.dumps(rows[-1]), flush=True)
    print(
        table(
            ["target", "sampler", "effective draws a second", "to MCMC.run", "to NumPyro by hand"],
            rows,
        )
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

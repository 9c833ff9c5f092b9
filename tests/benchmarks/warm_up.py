"""Divergences and effective draws per gradient after warm-up, against NumPyro's NUTS at equal
defaults.

`python -m benchmarks.warm_up [seeds] [density ...]`: both sample the same log-density in the same
coordinates from starts uniform on (-2, 2); 4 chains, 1,000 + 1,000 steps.
"""

import json
import sys
from typing import Any

import arviz_stats.base
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import NUTS

import unnorm as un
from benchmarks.effective_draws import eight_schools
from benchmarks.harness import table
from unnorm.declaration.density import cast
from unnorm.declaration.unconstrained import Unconstrained

DRAWS, WARMUP, CHAINS = 1000, 1000, 4
ETA = np.array([3.2846, 5.5565])  # the truncated Gaussian that is fitted to Ozone and Wind
PRECISION = np.array([[0.8973, 0.9913], [0.9913, 1.5535]])


def truncated_gaussian() -> un.Density:
    return un.Density(lambda x: ETA @ x - 0.5 * x @ PRECISION @ x, {"x": un.Positive[2]})


def banana() -> un.Density:
    """x_0 ~ N(0, 1), x_1 | x_0 ~ N(x_0², 0.25²)."""
    return un.Density(lambda x: -0.5 * x[0] ** 2 - 8 * (x[1] - x[0] ** 2) ** 2, {"x": un.Real[2]})


def logistic() -> un.Density:
    """Logistic regression, 20 coefficients with N(0, 1) priors, 200 rows with covariates of
    different scales."""
    rng = np.random.default_rng(0)
    design = rng.normal(size=(200, 20)) * np.geomspace(0.1, 3, 20)
    signs = np.where(
        rng.uniform(size=200) < 1 / (1 + np.exp(-design @ rng.normal(size=20))), 1.0, -1.0
    )
    return un.Density(
        lambda b, *, signed: -0.5 * b @ b - jnp.sum(jnp.logaddexp(0.0, -signed @ b)),
        {"b": un.Real[20]},
        constants={"signed": signs[:, None] * design},
    )


def arma(seed: int = 0) -> un.Density:
    """The posterior of an ARMA(1, 1) as in Stan's examples, of 200 simulated values.

    Starts with a large moving-average coefficient lie where residuals grow as its 200th power.
    """
    rng = np.random.default_rng(seed)
    noise = 0.15 * rng.normal(size=201)
    y = np.zeros(201)
    for t in range(1, 201):
        y[t] = 0.9 * y[t - 1] + 0.1 * noise[t - 1] + noise[t]

    def function(mu, phi, theta, sigma, *, y):
        def residual(before, pair):
            previous, now = pair
            after = now - (mu + phi * previous + theta * before)
            return after, after

        first = y[0] - (mu + phi * mu)
        _, others = jax.lax.scan(residual, first, (y[:-1], y[1:]))
        prior = -0.5 * (mu / 10) ** 2 - 0.125 * (phi**2 + theta**2) - jnp.log1p((sigma / 2.5) ** 2)
        return prior - 0.5 * (first**2 + jnp.sum(others**2)) / sigma**2 - len(y) * jnp.log(sigma)

    variables = {"mu": un.Real, "phi": un.Real, "theta": un.Real, "sigma": un.Positive}
    return un.Density(function, variables, constants={"y": y[1:]})


DENSITIES = {
    "truncated Gaussian": truncated_gaussian,
    "banana": banana,
    "eight schools": lambda: un.from_numpyro(eight_schools),
    "logistic regression": logistic,
    "ARMA(1, 1)": arma,
}


def worst_ess(positions: dict) -> float:
    flat = np.concatenate([np.asarray(v).reshape(*v.shape[:2], -1) for v in positions.values()], -1)
    return float(np.min(arviz_stats.base.array_stats.ess(flat, chain_axis=0, draw_axis=1)))


def numpyro_sampler(density: un.Density) -> Any:
    """(worst ESS, gradients, divergences, acceptance) of a seed; one program for all seeds."""
    target = Unconstrained(cast(density.for_jit(), np.float32))
    kernel = NUTS(potential_fn=lambda z: -target.log_density(z))

    def one(states, _):
        states = kernel.sample(states, (), {})
        return states, (
            jax.vmap(target.constrain)(states.z),
            states.num_steps,
            states.diverging,
            states.accept_prob,
        )

    begin = jax.jit(lambda keys, starts: kernel.init(keys, WARMUP, starts, (), {}))

    @jax.jit
    def run(states):
        states, _ = jax.lax.scan(lambda s, _: (one(s, None)[0], None), states, None, WARMUP)
        return jax.lax.scan(one, states, None, DRAWS)[1]

    def call(seed):
        keys = jax.random.split(jax.random.key(seed), CHAINS)
        starts = jax.vmap(lambda k: target.random_position(k, np.float32))(keys)
        kept, steps, diverging, rates = run(begin(keys, starts))
        kept = jax.tree.map(lambda z: np.asarray(z).swapaxes(0, 1), kept)
        return worst_ess(kept), int(steps.sum()), int(diverging.sum()), float(rates.mean())

    return call


def our_sampler(density: un.Density, kernel: Any = None) -> Any:
    kernel = un.kernels.NUTS() if kernel is None else kernel

    def call(seed):
        draws = un.sample(
            density,
            kernel,
            draws=DRAWS,
            warmup=WARMUP,
            chains=CHAINS,
            seed=seed,
            progress=False,
            dtype="float32",
        )
        stats = draws.sample_stats
        kept = {name: draws.posterior[name].values for name in density.variables}
        passed = un.diagnose(draws, density).passed
        rate = float(stats["acceptance_rate"].mean())
        return (
            worst_ess(kept),
            int(stats["n_steps"].sum()),
            int(stats["diverging"].sum()),
            rate,
            passed,
        )

    return call


def main(seeds: int = 20, *names: str) -> None:
    rows = []
    for name in names or DENSITIES:
        density = DENSITIES[name]()
        for who, call in {
            "NumPyro": numpyro_sampler(density),
            "unnorm": our_sampler(density),
        }.items():
            found = [call(seed) for seed in range(seeds)]
            ess, gradients, diverging, rates = (
                np.array([one[i] for one in found]) for i in range(4)
            )
            passed = f"{sum(one[4] for one in found)}" if len(found[0]) > 4 else ""
            per = 1000 * np.median(ess / gradients)
            counts = int(diverging.sum()), int(diverging.max())
            rows.append([name, who, *counts, f"{per:.1f}", f"{rates.mean():.2f}", passed])
            print(json.dumps(rows[-1]), flush=True)
    head = [
        "density",
        "sampler",
        f"divergences, {seeds} seeds",
        "most in one",
        "ESS / 1,000 gradients",
        "acceptance",
    ]
    print(table([*head, "passed"], rows))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])

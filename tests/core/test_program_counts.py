"""How many programs a first call compiles: it waits for each of them.

A number that grows means that an operation of JAX runs outside of a program at the door of a verb:
compute it with NumPy, or inside a program of `core/compilation.compiled`.
"""

import os
import subprocess
import sys

import pytest

SET_UP = """
import sys
import jax, jax.numpy as jnp, numpy as np
import unnorm as un
counted = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **more: counted.append(more.get("fun_name", ""))
    if event.endswith("backend_compile_duration") else None)
rng = np.random.default_rng(0)
quartic = un.Density(lambda x, *, a, b: a * x**2 - b * x**4, {"x": un.Real},
                     {"a": (un.Real, 0.0), "b": (un.Positive, 1.0)})
normal = un.Density(lambda x, *, mu, sigma: -0.5 * ((x - mu) / sigma) ** 2, {"x": un.Real},
                    {"mu": (un.Real, 0.0), "sigma": (un.Positive, 1.0)})
ising = un.Density(lambda x, *, coupling, field: field @ x + 0.5 * x @ coupling @ x,
                   {"x": un.Binary["d"]},
                   {"coupling": (un.Symmetric["d"], 0.0), "field": (un.Real["d"], 0.0)})
five = un.Density(lambda x: -0.5 * jnp.sum(jnp.arange(1.0, 6.0) * x**2) - 0.1 * jnp.sum(x**4),
                  {"x": un.Real[5]})
given = dict(seed=0, progress=False)
"""
CALLS = {
    "maximum likelihood, Ising of 8": (
        'un.fit(ising, un.models.load("rochdale"), "maximum_likelihood", **given)',
        24,
    ),
    "score matching, quartic": (
        'un.fit(quartic, rng.normal(size=500) * 0.6, "score_matching", **given)',
        40,
    ),
    "maximum likelihood, quartic": (
        'un.fit(quartic, rng.normal(size=500) * 0.6, "maximum_likelihood", **given)',
        50,
    ),
    "NCE, normal": ('un.fit(normal, rng.normal(1, 2, size=500), "nce", **given)', 60),
    "log Z, five dimensions": ("un.log_z(five, **given)", 24),
    "NUTS and diagnose, five dimensions": (
        'un.diagnose(un.sample(five, "nuts", **given), five)',
        44,
    ),
}
QUICK = ("maximum likelihood, Ising of 8",)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CALLS]
)
def test_first_calls_compile_few_programs(name):
    call, most = CALLS[name]
    code = f"{SET_UP}\n{call}\nprint(len(counted), *counted)"
    found = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    count, *programs = found.stdout.splitlines()[-1].split()
    print(name, count)
    assert int(count) <= most, f"{name}: {count} programs: {' '.join(programs)}"

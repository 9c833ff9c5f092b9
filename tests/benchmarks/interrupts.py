"""Seconds from Ctrl-C to KeyboardInterrupt, in first calls of verbs, each in a fresh process.

`python -m benchmarks.interrupts`, in tests/. A signal is served when XLA returns; the moments of
the signal lie in compilation and in long runs.
"""

import os
import subprocess
import sys

from benchmarks.harness import table

PROGRAM = """
import os, signal, threading, time
import jax.numpy as jnp, numpy as np
import unnorm as un
un.sample, un.fit, un.log_z, un.models
bent = lambda x: -0.5 * jnp.sum(x**2) - 0.1 * jnp.sum(x**4)
five, fifty = (un.Density(bent, {{"x": un.Real[size]}}) for size in (5, 50))
normal = un.Density(lambda x, *, m, s: -0.5 * ((x - m) / s) ** 2, {{"x": un.Real}},
                    {{"m": (un.Real, 0.0), "s": (un.Positive, 1.0)}})
rows, quiet = np.random.default_rng(0).normal(size=(2000, 2)), dict(seed=0, progress=False)
sent = []

def interrupt():
    time.sleep({delay})
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    fit = {call}
    print("stopped" if "interrupt" in str(getattr(fit, "findings", "")) else "ended")
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0])
"""
CALLS = {
    "NUTS": "un.sample(five, draws=10**6, **quiet)",
    "NUTS, 1,024 chains": "un.sample(five, draws=20_000, chains=1024, **quiet)",
    "log Z": "un.log_z(five, **quiet)",
    "SMC, 50 dimensions": "un.log_z(fifty, 'smc', **quiet)",
    "NCE": 'un.fit(normal, rows[:, 0], "nce", **quiet)',
    "score matching of a network": "un.fit(un.models.fully_connected_energy(2), rows, "
    '"score_matching", steps=50_000, **quiet)',
}


def seconds(call: str, delay: float) -> str:
    """What one process prints."""
    code = PROGRAM.format(call=call, delay=delay)
    kept = os.environ | {"UNNORM_CACHE": "0"}
    found = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True)
    said = found.stdout.strip() or found.stderr.strip().splitlines()[-1]
    return said if said in ("ended", "stopped") else f"{float(said):.2f}"


def main(delays: tuple[float, ...] = (1.0, 3.0, 5.0, 8.0)) -> None:
    """Print the table."""
    rows = [[name, *(seconds(call, delay) for delay in delays)] for name, call in CALLS.items()]
    print(table(["verb", *(f"after {delay:g} s" for delay in delays)], rows))


if __name__ == "__main__":
    main()

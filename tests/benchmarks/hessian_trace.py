"""Exact score matching of a network: seconds and memory of each way to take the Hessian's trace.

The loss and its PARAMETER gradient, D → 128 → 128 → 1, 256 rows, float32. Memory is the compiled
program's own account of its temporary arrays.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

import unnorm as un
from benchmarks.harness import medians, table
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.score_matching.exact import FormState
from unnorm.numerics.hessian_trace import TRACES

ROWS, WIDTH, REPEATS = 256, 128, 5
DIMENSIONS = (2, 4, 8, 16, 64)


def energy(x: jax.Array, layers: list) -> jax.Array:
    *hidden, (last, shift) = layers
    for weights, bias in hidden:
        x = jnp.tanh(x @ weights + bias)
    return (x @ last + shift)[0]


def network(size: int) -> list:
    sizes = (size, WIDTH, WIDTH, 1)
    keys, pairs = (
        jax.random.split(jax.random.key(0), len(sizes) - 1),
        zip(sizes, sizes[1:], strict=False),  # noqa: RUF007
    )
    return [
        (jax.random.normal(key, (a, b)) / a**0.5, jnp.zeros(b))
        for key, (a, b) in zip(keys, pairs, strict=True)
    ]


def compiled(trace: str, size: int) -> tuple[Callable, float]:
    """The loss and its gradient as one program, and the mebibytes it needs besides its
    arguments."""
    objective = un.objectives.ScoreMatching(trace=trace)
    declared = un.Density(
        lambda x, *, layers: energy(x, layers), {"x": un.Real[size]}, {"layers": un.PyTree}
    )
    density, state = (
        declared.bind(layers=network(size)).for_jit(),
        ObjectiveState(shared=FormState({"x": None})),
    )
    rows = jax.random.normal(jax.random.key(1), (ROWS, size))

    def loss(free, rows):
        moved = density.at(free)
        return jax.vmap(lambda x: objective.loss_i(moved, state, {"x": x}, None))(rows).mean()

    program = jax.jit(jax.value_and_grad(loss)).lower(density.free(), rows).compile()
    free = density.free()
    return lambda turn: jax.block_until_ready(
        program(free, rows)
    ), program.memory_analysis().temp_size_in_bytes / 2**20


def main() -> None:
    rows = []
    for size in DIMENSIONS:
        programs = {trace: compiled(trace, size) for trace in ("auto", *TRACES)}
        seconds = medians({trace: call for trace, (call, _) in programs.items()}, REPEATS)
        for trace, (_, memory) in programs.items():
            ratio, share = seconds[trace] / seconds["jacobian"], memory / programs["jacobian"][1]
            rows.append(
                [
                    size,
                    trace,
                    f"{1e3 * seconds[trace]:.1f}",
                    f"{ratio:.2f}",
                    f"{memory:.1f}",
                    f"{100 * share:.1f} %",
                ]
            )
            print(rows[-1], flush=True)
    print(table(["D", "trace", "ms", "of jacobian's", "MiB", "of jacobian's"], rows))


if __name__ == "__main__":
    main()

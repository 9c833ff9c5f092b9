"""A diagonal metric for kernels with one step size: learned in Stan's windows where the step size
is adapted.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree


def diagonal_window(kernel: Any) -> str | None:
    """The kernel's strategy. A step size that the user gave is in the coordinates as they are: no
    metric is learned.
    """
    if kernel.step_size is not None:
        return None
    return "window" if getattr(kernel, kernel.metric_option) is None else "step_size"


def with_diagonal(kernel: Any, size: int, step_size: float) -> dict[str, Any]:
    """The first tuning: a step size, and a metric where one was given or is learned."""
    given = getattr(kernel, kernel.metric_option)
    tuning = {"step_size": step_size if kernel.step_size is None else kernel.step_size}
    if given is not None:
        return tuning | {kernel.metric_option: given}
    return (
        tuning if kernel.step_size is not None else tuning | {kernel.metric_option: jnp.ones(size)}
    )


def steps_of(tuning: dict, position: dict, power: float = 1.0) -> dict:
    """The step size of every coordinate, ε M^power, by variable."""
    step_size, metric = tuning["step_size"], tuning.get("inverse_mass_matrix")
    if metric is None:
        return jax.tree.map(lambda leaf: step_size, position)
    flat, unravel = ravel_pytree(position)
    return unravel((step_size * metric**power).astype(flat.dtype) * jnp.ones_like(flat))


def refuse_matrix(kernel: Any) -> None:
    """A sentence where the metric is no vector."""
    given = getattr(kernel, kernel.metric_option)
    if given is not None and np.ndim(given) > 1:
        raise ValueError(
            f"{kernel.metric_option} of {type(kernel).__name__} has the shape {np.shape(given)}; "
            "expected a vector, one variance for each unconstrained coordinate; pass the diagonal, "
            "or use un.kernels.NUTS for a matrix."
        )

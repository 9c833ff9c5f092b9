"""The kernel of a fit's chains: which one, prepared for the density, and its first tuning."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.core.method import look_up
from unnorm.core.random_keys import make_key
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.integration.representative_rows import at_rows
from unnorm.interactions.ties import tie_changes
from unnorm.sampling.kernels.registry import (
    HMC,
    KERNELS,
    Blockwise,
    Gibbs,
    RandomWalkMH,
    TieNoTie,
    kernels_for,
)


def kernel_by_name(kernel: Any) -> Any:
    """A name becomes its object, because a string is no leaf of a pytree."""
    return look_up(kernel, KERNELS, "kernel", "build") if isinstance(kernel, str) else kernel


def select_kernel(kernel: Any, density: Density) -> Any:
    """The kernel given, or the default of the supports: HMC, Gibbs, a random walk for counts; of a
    graph whose density declares what a tie changes, tie-no-tie proposals.
    """
    if kernel is not None:
        return look_up(kernel, KERNELS, "kernel", "build")
    if tie_changes(density) is not None:
        return TieNoTie()
    kernels = {
        (name,): HMC()
        if not support.discrete
        else Gibbs()
        if support.states is not None
        else RandomWalkMH()
        for name, support in density.variables.items()
    }
    kinds = {type(one) for one in kernels.values()}
    return next(iter(kernels.values())) if len(kinds) == 1 else Blockwise(kernels)


def refuse_support(kernel: Any, density: Density) -> str | None:
    """Which variable the kernel cannot move, as a sentence, or None."""
    for name, support in density.variables.items():
        if not kernel.serves(support):
            return (
                f"{type(kernel).__name__} cannot move {name}, which is {support!r}; "
                f"use {kernels_for(support)}"
            )
    return None


def prepare_kernel(
    kernel: Any, density: Density, rows: dict | None = None, *, perturbation: float = 0.1
) -> Any:
    """The kernel with what it detects about the density as static structure, so that later calls
    stay compiled.

    It is prepared at perturbed parameters: at a start of zero, variables that interact seem not to.
    With covariates it is prepared at some of the `rows`, and is left as it is where these differ in
    structure.
    """
    free = _perturb(density.free(), make_key(0), perturbation)
    perturbed, dtype = density.at(free), jnp.result_type(float, *jax.tree.leaves(free))
    if not density.covariates:
        return cast(kernel.prepare(Unconstrained(perturbed)), dtype)
    assert rows is not None
    found = [kernel.prepare(Unconstrained(one)) for one in at_rows(perturbed, rows)]
    alike = len({jax.tree.structure(one) for one in found}) == 1
    return cast(found[0] if alike else kernel, dtype)


@compiled
def _perturb(free: Any, key: jax.Array, perturbation: float) -> Any:
    vector, unravel = ravel_pytree(free)
    return unravel(vector + perturbation * jax.random.normal(key, vector.shape, vector.dtype))


def initial_tuning(kernel: Any, positions: Position) -> dict[str, Any]:
    """The kernel's own first tuning; a mass matrix that is not given is the spread of the data."""
    variances = _spread(positions)
    if hasattr(kernel, "initial_tunings"):
        tuning = kernel.initial_tunings(jax.tree.map(lambda leaf: leaf[0], positions))
    else:
        tuning = dict(kernel.initial_tuning(len(variances)))
    if "inverse_mass_matrix" in tuning and kernel.inverse_mass_matrix is None:
        tuning["inverse_mass_matrix"] = variances
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, variances.dtype), tuning)


@compiled
def _spread(positions: Position) -> jax.Array:
    """The variances of the coordinates; 1 where they are equal."""
    variances = jnp.var(jax.vmap(lambda one: ravel_pytree(one)[0])(positions), 0)
    return jnp.where(variances > 0, variances, 1.0)


def nan_finding(share: float) -> Finding:
    """Return the finding for proposals whose log-density was NaN."""
    return Finding(
        f"the log-density was NaN at {share:.1%} of the chains' proposals, which were rejected",
        "correct the function there (-inf is a wall, NaN is none)",
        ERROR,
        code=FindingCode.NOT_FINITE,
    )


__all__ = [
    "initial_tuning",
    "kernel_by_name",
    "nan_finding",
    "prepare_kernel",
    "refuse_support",
    "select_kernel",
]

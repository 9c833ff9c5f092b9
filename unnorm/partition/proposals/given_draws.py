"""Draws of the density as a proposal: a mixture of Student's t, one for each distinct part."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.containers import to_numbers, transpose_to_axes
from unnorm.core.messages import join_names
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.proposals.base import (
    Proposal,
    count_names,
    fit_negative_binomials,
    uniform_logits,
)
from unnorm.partition.proposals.mixture import proposal_of_modes
from unnorm.partition.proposals.pathfinder import distinct_normals


def check_draws(who: str, what: str, density: Density, given: Any, least: int) -> None:
    """Raise unless `given` holds enough draws of every variable."""
    draws = draws_by_name(density, given)
    if draws is None:
        raise ValueError(
            f"{who} was given {what} of {type(given).__name__}; expected draws; pass a dict by "
            "variable or the result of un.sample."
        )
    missing = [name for name in density.variables if name not in draws]
    if missing:
        raise ValueError(
            f"{who} was given {what} of draws of {join_names(list(draws)) or 'nothing'}; expected "
            f"{missing[0]} too; pass draws of every variable."
        )
    for name, shape in density.shapes().items():
        found = np.shape(draws[name])
        if len(found) <= len(shape) or found[len(found) - len(shape) :] != shape:
            raise ValueError(
                f"{who} was given {what} of {name} of shape {found}; expected draws of shape "
                f"{shape} along the first axis; reshape it."
            )
    rows = _rows(density, draws)
    sizes = {name: len(value) for name, value in rows.items()}
    if len(set(sizes.values())) > 1 or min(sizes.values()) < least:
        raise ValueError(
            f"{who} was given {what} of {sizes} draws; expected equally many draws of every "
            f"variable, at least {least}; pass more draws."
        )
    for name, support in density.variables.items():
        support.check(rows[name], f"{what.split()[-1]} of {name}")


def chains_in(given: Any) -> int | None:
    """The number of chains that draws come from, concatenated in `positions_of`; None for draws in
    a dict.
    """
    return given.posterior.sizes.get("chain", 1) if hasattr(given, "posterior") else None


def positions_of(density: Density, given: Any, dtype) -> dict[str, jax.Array]:
    """Checked draws as positions, (n, *free shape) by variable; draws on a bound are moved just
    inside.
    """
    positions = {}
    for name, value in _rows(density, draws_by_name(density, given)).items():
        support = density.variables[name]
        inside = jnp.asarray(value if support.discrete else support.inward(value), dtype)
        positions[name] = inside if support.discrete else jax.vmap(support.unconstrain)(inside)
    return positions


def draws_by_name(density: Density, given: Any) -> Mapping | None:
    """Draws by variable, (chain, draw, ...) or (n, ...); None if `given` is of another kind."""
    if not hasattr(given, "posterior"):
        return given if isinstance(given, Mapping) else None
    posterior = given.posterior
    if hasattr(posterior, "to_dataset"):  # a DataTree's group
        posterior = posterior.to_dataset()
    posterior = posterior.transpose("chain", "draw", ..., missing_dims="ignore")
    axes = {
        str(n): density.variables[n].shape_axes if n in density.variables else ()
        for n in posterior.data_vars
    }
    return {
        name: transpose_to_axes(posterior[name], f"draws of {name}", axes[name]).to_numpy()
        for name in axes
    }


def _rows(density: Density, draws: Any) -> dict[str, np.ndarray]:
    """Draws (n, *shape) by variable, with chains concatenated."""
    shapes = density.shapes()
    return {
        n: to_numbers(draws[n], f"draws of {n}").astype(float).reshape(-1, *shapes[n])
        for n in density.variables
    }


def proposal_of_draws(view: Unconstrained, given: Any, pieces: int = 4) -> Proposal:
    """A mixture of Student's t, one for each distinct part of the draws, and independent states.

    Args:
        view: of the density.
        given: draws that passed `check_draws`.
        pieces: number of parts of the draws, because chains may be in different modes.
    """
    density = view.density
    rows = _rows(density, draws_by_name(density, given))
    logits = uniform_logits(view.supports, density.shapes())
    for name in logits:
        codes = jax.vmap(view.supports[name].encode)(jnp.asarray(rows[name]))
        if codes.ndim <= logits[name].ndim:  # numbers, not one-hot vectors
            codes = jnp.asarray(rows[name])[..., None] == jnp.asarray(view.supports[name].states)
        logits[name] = jnp.log(codes.sum(0) + 1.0) - jnp.log(len(codes) + codes.shape[-1])
    counts = fit_negative_binomials({name: rows[name] for name in count_names(view.supports)})
    modes, flat = [], None
    if view.dimension:
        positions = positions_of(density, given, jnp.result_type(float))
        flat = np.asarray(jax.vmap(view.flatten)(positions), float)
        parts = [p for p in np.array_split(flat, pieces) if len(p) > 2 * flat.shape[1]] or [flat]
        modes = distinct_normals([(p.mean(0), np.atleast_2d(np.cov(p.T)), 0.0) for p in parts])
    return proposal_of_modes(view, modes, flat, logits=logits, counts=counts)

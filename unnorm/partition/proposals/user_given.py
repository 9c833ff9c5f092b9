"""Bases other than the pilot's own: Pathfinder's normal approximations, given distributions, given
draws.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.vi import pathfinder
from jax.flatten_util import ravel_pytree
from numpyro.distributions import Distribution

from unnorm.core.containers import oriented, to_numbers
from unnorm.core.findings import listed
from unnorm.core.validation import refuse_other_measure
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.quadrature.modes import Mode, distinct_modes
from unnorm.partition.proposals.mixture import DENSE, Base, base_over, flat_states, parts

PATHFINDER, FLOW = "pathfinder", "flow"
PATHS, DRAWS = 8, 200  # of Pathfinder, from random starts; draws of each, whose spread is taken
LOOKS = 100  # draws of a given law: do they lie in the support?
STEPS = 30  # of a path, at most
# of the given draws, each with a component if it lies apart: chains may stand in modes of their own
PIECES = 4


def require_flowjax(who: str) -> None:
    """Raise where flowjax is missing."""
    if importlib.util.find_spec("flowjax") is None:
        raise ImportError(
            f"{who} needs flowjax, which is not installed; install it: pip install flowjax."
        )


def check_base(who: str, density: Density, base: Any) -> None:
    """Refuse a base that is neither None, "pathfinder", "flow", NumPyro distributions nor draws of
    the density.
    """
    if base is None or (isinstance(base, str) and base in (PATHFINDER, FLOW)):
        if base and not Unconstrained(density).dimension:
            raise ValueError(
                f"{who} was given base={base!r}, and {density.name} has no continuous variable; "
                "expected one; "
                "leave base out."
            )
        if base == FLOW:
            require_flowjax(f"{who} with base={FLOW!r}")
        return
    if (laws := laws_in(base)) is not None:
        _check_laws(who, density, laws)
        return
    if _draws(density, base) is None:
        raise ValueError(
            f"{who} was given base={base!r}; expected None, 'pathfinder', 'flow', NumPyro "
            "distributions by variable, "
            "or draws: a dict by variable or what un.sample returns; pass one of these."
        )
    check_draws(who, "a base", density, base, 2 * (Unconstrained(density).dimension + 1))


def laws_in(base: Any) -> dict[str, Distribution] | None:
    """The base as NumPyro distributions by variable; None if it is something else."""
    found = isinstance(base, Mapping) and any(
        isinstance(law, Distribution) for law in base.values()
    )
    return dict(base) if found else None


def _check_laws(who: str, density: Density, laws: dict[str, Distribution]) -> None:
    shapes = {
        name: shape
        for name, shape in density.shapes().items()
        if not density.variables[name].discrete
    }
    if set(laws) != set(shapes):
        raise ValueError(
            f"{who} was given base with distributions of {listed(list(laws))}; expected one of "
            "every continuous "
            f"variable, {listed(list(shapes)) or 'of which there is none'}; pass these."
        )
    for name, law in laws.items():
        found = tuple(law.shape()) if isinstance(law, Distribution) else type(law).__name__
        if found != shapes[name]:
            raise ValueError(
                f"{who} was given a base of {name} with {found}; expected a distribution of the "
                f"shape {shapes[name]}; "
                "use expand or to_event."
            )
        refuse_other_measure("base of", name, density.variables[name], law)
        density.variables[name].check(
            np.asarray(law.sample(jax.random.key(0), (LOOKS,)), float), f"base of {name}"
        )


def base_of_laws(base: Base, laws: dict[str, Distribution]) -> Base:
    """The base with these laws in place of its mixture."""

    def as_base(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(base.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return base._replace(laws=jax.tree.map(as_base, laws))


def check_draws(who: str, what: str, density: Density, given: Any, least: int) -> None:
    """Refuse what are no draws of every variable, or too few."""
    draws = _draws(density, given)
    if draws is None:
        raise ValueError(
            f"{who} was given {what} of {type(given).__name__}; expected draws: a dict by "
            "variable or what un.sample "
            "returns; pass one of these."
        )
    missing = [name for name in density.variables if name not in draws]
    if missing:
        raise ValueError(
            f"{who} was given {what} of draws of {listed(list(draws)) or 'nothing'}; expected "
            f"{missing[0]} too; pass "
            "draws of every variable."
        )
    for name, shape in density.shapes().items():
        found = np.shape(draws[name])
        if len(found) <= len(shape) or found[len(found) - len(shape) :] != shape:
            raise ValueError(
                f"{who} was given {what} of {name} of the shape {found}; expected draws of the "
                f"shape {shape} along the "
                "first axis; reshape it."
            )
    rows = _rows(density, draws)
    sizes = {name: len(value) for name, value in rows.items()}
    if len(set(sizes.values())) > 1 or min(sizes.values()) < least:
        raise ValueError(
            f"{who} was given {what} of {sizes} draws; expected as many of every variable, at "
            f"least {least}; pass more."
        )
    for name, support in density.variables.items():
        support.check(rows[name], f"{what.split()[-1]} of {name}")


def chains_in(given: Any) -> int | None:
    """How many chains draws are of, one after the other in `positions_of`; None where they are of
    none.
    """
    return given.posterior.sizes.get("chain", 1) if hasattr(given, "posterior") else None


def positions_of(density: Density, given: Any, dtype) -> dict[str, jax.Array]:
    """Draws that were checked as positions, (n, *free shape) by variable; those on a bound are just
    inside.
    """
    positions = {}
    for name, value in _rows(density, _draws(density, given)).items():
        support = density.variables[name]
        inside = jnp.asarray(value if support.discrete else support.inward(value), dtype)
        positions[name] = inside if support.discrete else jax.vmap(support.unconstrain)(inside)
    return positions


def _draws(density: Density, given: Any) -> Mapping | None:
    """Draws by variable, (chain, draw, ...) or (n, ...); None where there are none."""
    if not hasattr(given, "posterior"):
        return given if isinstance(given, Mapping) else None
    posterior = given.posterior.transpose("chain", "draw", ..., missing_dims="ignore")
    axes = {
        str(n): density.variables[n].shape_axes if n in density.variables else ()
        for n in posterior.data_vars
    }
    return {
        name: oriented(posterior[name], f"draws of {name}", axes[name]).to_numpy() for name in axes
    }


def _rows(density: Density, draws: Mapping) -> dict[str, np.ndarray]:
    """Draws (n, *shape) by variable, chains one after the other."""
    shapes = density.shapes()
    return {
        n: to_numbers(draws[n], f"draws of {n}").astype(float).reshape(-1, *shapes[n])
        for n in density.variables
    }


def base_of_draws(density: Density, base: Any, negative_binomials: Any) -> Base:
    """A Student's t with the draws' mean and covariance, one more for each part of them that lies
    apart.
    """
    rows = _rows(density, _draws(density, base))
    states, counts = flat_states(density), {}
    for name in states:
        codes = jax.vmap(density.variables[name].encode)(jnp.asarray(rows[name]))
        if codes.ndim <= states[name].ndim:  # numbers and not one-hot
            codes = jnp.asarray(rows[name])[..., None] == jnp.asarray(
                density.variables[name].states
            )
        states[name] = jnp.log(codes.sum(0) + 1.0) - jnp.log(len(codes) + codes.shape[-1])
    unbounded = {
        n: rows[n] for n, s in density.variables.items() if s.discrete and s.states is None
    }
    if unbounded:
        counts = negative_binomials(unbounded)
    if not Unconstrained(density).dimension:
        return base_over(density, [], counts)._replace(states=states)
    free, _ = parts(density, positions_of(density, base, jnp.result_type(float)))
    flat = np.asarray(jax.vmap(lambda one: ravel_pytree(one)[0])(free), float)
    pieces = [
        piece for piece in np.array_split(flat, PIECES) if len(piece) > 2 * flat.shape[1]
    ] or [flat]
    modes = _distinct([(piece.mean(0), np.atleast_2d(np.cov(piece.T)), 0.0) for piece in pieces])
    return base_over(density, modes, counts, flat)._replace(states=states)


# -- Pathfinder ------------------------------------------------------------------------
@jax.jit
def _paths(density: Density, keys: jax.Array):
    """Means, covariances and evidence lower bounds of normal approximations along quasi-Newton
    paths.
    """
    target, dtype = Unconstrained(density), jnp.result_type(float)

    def one(key):
        start, follow, spread = jax.random.split(key, 3)
        continuous, discrete = parts(density, target.random_position(start, dtype))
        flat, unravel = ravel_pytree(continuous)

        def value(flat):
            return target.log_density(unravel(flat) | discrete)

        found, _ = pathfinder.approximate(follow, value, flat, DRAWS, maxiter=STEPS)
        drawn, _ = pathfinder.sample(spread, found, DRAWS)
        return drawn.mean(0), jnp.atleast_2d(jnp.cov(drawn.T)), found.elbo

    return jax.lax.map(one, keys)


def base_of_pathfinder(
    density: Density, key: jax.Array, counts: dict
) -> tuple[Base, dict[str, int]]:
    """A Student's t at the end of every path that ends apart from the others, and the evaluations
    that it took.

    Those of BlackJAX's line searches beyond one a step are not told, and not counted.

    References:
        Zhang, Carpenter, Gelman and Vehtari (2022), arXiv:2108.03782.
    """
    means, covariances, bounds = (
        np.asarray(part, float) for part in _paths(density, jax.random.split(key, PATHS))
    )
    good = np.isfinite(bounds) & np.isfinite(covariances).all((1, 2))
    modes = _distinct(list(zip(means[good], covariances[good], bounds[good], strict=True)))
    return base_over(density, modes, counts), {
        "values": PATHS * STEPS * DRAWS,
        "gradients": PATHS * STEPS,
    }


def _distinct(normals: list[tuple[np.ndarray, np.ndarray, float]]) -> list[Mode]:
    """Those of normal laws (mean, covariance, log mass) that lie apart from the others."""
    if not normals:
        return []
    size = len(normals[0][0])
    spread = [
        c + 1e-9 * np.trace(c) / size * np.eye(size) + 1e-30 * np.eye(size) for _, c, _ in normals
    ]
    spread = [np.diag(np.diag(c)) for c in spread] if size > DENSE else spread
    heights = [
        mass - 0.5 * np.linalg.slogdet(c)[1]
        for (_, _, mass), c in zip(normals, spread, strict=True)
    ]
    return distinct_modes(
        np.array([mean for mean, *_ in normals]), np.array(heights), np.linalg.inv(np.array(spread))
    )


__all__ = [
    "FLOW", "PATHFINDER", "base_of_draws", "base_of_laws", "base_of_pathfinder", "chains_in", "check_base",
    "check_draws", "laws_in", "positions_of", "require_flowjax",
]  # fmt: skip

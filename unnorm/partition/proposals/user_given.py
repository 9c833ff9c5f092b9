"""Proposals chosen by the user: Pathfinder, NumPyro distributions, draws of the density.

Pathfinder: Zhang, Carpenter, Gelman and Vehtari (2022), arXiv:2108.03782.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.vi import pathfinder
from numpyro.distributions import Distribution

from unnorm.core.compilation.policy import compiled
from unnorm.core.containers import to_numbers, transpose_to_axes
from unnorm.core.messages import join_names
from unnorm.core.method import method
from unnorm.core.random_keys import key_array, make_key, split_keys
from unnorm.core.validation import refuse_other_measure
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.integration.quadrature.modes import Mode, distinct_modes
from unnorm.partition.options import MIXTURE
from unnorm.partition.proposals.base import (
    Proposal,
    count_names,
    fit_negative_binomials,
    uniform_logits,
)
from unnorm.partition.proposals.mixture import proposal_of_modes

PATHFINDER, FLOW = "pathfinder", "flow"


@method
class UserDistributions:
    """NumPyro distributions of the continuous variables, by name."""

    distributions: dict[str, Any]

    def draw(self, view: Unconstrained, keys: jax.Array) -> Position:
        split = key_array(keys[1], len(self.distributions))
        by_name = dict(zip(self.distributions, split, strict=True))
        values = {name: one.sample(by_name[name]) for name, one in self.distributions.items()}
        return {name: view.supports[name].unconstrain(value) for name, value in values.items()}

    def log_prob(self, view: Unconstrained, position: Position) -> jax.Array:
        return sum(  # type: ignore[return-value]
            jnp.sum(self.distributions[name].log_prob(support.constrain(position[name])))
            + support.log_det(position[name])
            for name in position
            if not (support := view.supports[name]).discrete
        )

    def without_tails(self) -> "UserDistributions":
        """The same distributions."""
        return self


def require_flowjax(who: str) -> None:
    """Raise if flowjax is not installed."""
    if importlib.util.find_spec("flowjax") is None:
        raise ImportError(f"{who} needs flowjax, which is not installed; run pip install flowjax.")


def check_proposal(who: str, density: Density, base: Any) -> None:
    """Raise unless base is None, "pathfinder", "flow", NumPyro distributions or draws of the
    density.
    """
    if base is None or (isinstance(base, str) and base in (PATHFINDER, FLOW)):
        if base and not Unconstrained(density).dimension:
            raise ValueError(
                f"{who} was given base={base!r}, and {density.name} has no continuous variable; "
                "expected at least one; leave base out."
            )
        if base == FLOW:
            require_flowjax(f"{who} with base={FLOW!r}")
        return
    if (distributions := distributions_in(base)) is not None:
        _check_distributions(who, density, distributions)
        return
    if _draws(density, base) is None:
        raise ValueError(
            f"{who} was given base={base!r}; expected None, 'pathfinder', 'flow', NumPyro "
            "distributions by variable, or draws by variable; pass one of these."
        )
    check_draws(who, "a base", density, base, 2 * (Unconstrained(density).dimension + 1))


def distributions_in(base: Any) -> dict[str, Distribution] | None:
    """The base as NumPyro distributions by variable; None if it is of another kind."""
    found = isinstance(base, Mapping) and any(
        isinstance(distribution, Distribution) for distribution in base.values()
    )
    return dict(base) if found else None


def _check_distributions(
    who: str, density: Density, distributions: dict[str, Distribution]
) -> None:
    shapes = {
        name: shape
        for name, shape in density.shapes().items()
        if not density.variables[name].discrete
    }
    if set(distributions) != set(shapes):
        raise ValueError(
            f"{who} was given base with distributions of {join_names(list(distributions))}; "
            "expected one for every continuous variable, "
            f"{join_names(list(shapes)) or 'but there is none'}; pass a dict by variable."
        )
    for name, distribution in distributions.items():
        found = (
            tuple(distribution.shape())
            if isinstance(distribution, Distribution)
            else type(distribution).__name__
        )
        if found != shapes[name]:
            raise ValueError(
                f"{who} was given a base of {name} with {found}; expected a distribution of "
                f"shape {shapes[name]}; use expand or to_event."
            )
        refuse_other_measure("base of", name, density.variables[name], distribution)
        density.variables[name].check(
            np.asarray(distribution.sample(make_key(0), (100,)), float), f"base of {name}"
        )


def user_distributions(distributions: dict[str, Distribution]) -> UserDistributions:
    """The distributions, with parameters cast to the default floating-point type."""
    dtype = jnp.result_type(float)

    def to_default(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return UserDistributions(jax.tree.map(to_default, distributions))


def check_draws(who: str, what: str, density: Density, given: Any, least: int) -> None:
    """Raise unless `given` holds enough draws of every variable."""
    draws = _draws(density, given)
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
    for name, value in _rows(density, _draws(density, given)).items():
        support = density.variables[name]
        inside = jnp.asarray(value if support.discrete else support.inward(value), dtype)
        positions[name] = inside if support.discrete else jax.vmap(support.unconstrain)(inside)
    return positions


def _draws(density: Density, given: Any) -> Mapping | None:
    """Draws by variable, (chain, draw, ...) or (n, ...); None if `given` is of another kind."""
    if not hasattr(given, "posterior"):
        return given if isinstance(given, Mapping) else None
    posterior = given.posterior.transpose("chain", "draw", ..., missing_dims="ignore")
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
    rows = _rows(density, _draws(density, given))
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
        modes = _distinct([(p.mean(0), np.atleast_2d(np.cov(p.T)), 0.0) for p in parts])
    return proposal_of_modes(view, modes, flat, logits=logits, counts=counts)


# -- Pathfinder ------------------------------------------------------------------------
@compiled(static_argnames=("draws", "steps"))
def _paths(
    view: Unconstrained, keys: jax.Array, draws: int, steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Means, covariances and evidence lower bounds of normal approximations along quasi-Newton
    paths.
    """

    def one(key):
        start, follow, spread = split_keys(key, 3)
        position = view.random_position(start, jnp.result_type(float))
        discrete = view.discrete(position)

        def value(flat):
            return view.log_density(view.split(flat) | discrete)

        found, _ = pathfinder.approximate(
            follow, value, view.flatten(position), draws, maxiter=steps
        )
        sample, _ = pathfinder.sample(spread, found, draws)
        return sample.mean(0), jnp.atleast_2d(jnp.cov(sample.T)), found.elbo

    return jax.lax.map(one, keys)


def pathfinder_modes(
    view: Unconstrained, key: jax.Array, paths: int = 8, draws: int = 200, steps: int = 30
) -> tuple[list[Mode], dict[str, int]]:
    """The distinct normal approximations at the ends of paths, and their evaluations.

    BlackJAX does not report evaluations of line searches beyond one per step; they are not counted.

    Args:
        view: of the density.
        key: of the starts and draws.
        paths: number of random starts.
        draws: number from each approximation, for its mean and covariance.
        steps: the largest number per path.

    References:
        Zhang, Carpenter, Gelman and Vehtari (2022), arXiv:2108.03782.
    """
    found = _paths(view, key_array(key, paths), draws, steps)
    means, covariances, bounds = (np.asarray(part, float) for part in found)
    good = np.isfinite(bounds) & np.isfinite(covariances).all((1, 2))
    modes = _distinct(list(zip(means[good], covariances[good], bounds[good], strict=True)))
    return modes, {"values": paths * steps * draws, "gradients": paths * steps}


def _distinct(normals: list[tuple[np.ndarray, np.ndarray, float]]) -> list[Mode]:
    """The distinct ones among normal distributions (mean, covariance, log mass)."""
    if not normals:
        return []
    size = len(normals[0][0])
    spread = [
        c + 1e-9 * np.trace(c) / size * np.eye(size) + 1e-30 * np.eye(size) for _, c, _ in normals
    ]
    if size > MIXTURE.max_dense_dimension:
        spread = [np.diag(np.diag(c)) for c in spread]
    heights = [
        mass - 0.5 * np.linalg.slogdet(c)[1]
        for (_, _, mass), c in zip(normals, spread, strict=True)
    ]
    return distinct_modes(
        np.array([mean for mean, *_ in normals]), np.array(heights), np.linalg.inv(np.array(spread))
    )


__all__ = [
    "FLOW", "PATHFINDER", "UserDistributions", "chains_in", "check_draws", "check_proposal",
    "distributions_in", "pathfinder_modes", "positions_of", "proposal_of_draws", "require_flowjax",
    "user_distributions",
]  # fmt: skip

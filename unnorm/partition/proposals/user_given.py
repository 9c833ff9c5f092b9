"""Proposals chosen by the user: Pathfinder, a flow, NumPyro distributions, draws of the density."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from unnorm.core.messages import join_names
from unnorm.core.method import method
from unnorm.core.random_keys import key_array, make_key
from unnorm.core.validation import refuse_other_measure, require_flowjax
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.partition.proposals.given_draws import check_draws, draws_by_name

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
    if draws_by_name(density, base) is None:
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
    if not density.covariates:  # whose values are not known here
        _refuse_narrow_support(who, density, distributions)


def _refuse_narrow_support(
    who: str,
    density: Density,
    distributions: dict[str, Distribution],
    draws: int = 256,
    below: float = 5.0,
) -> None:
    """Raise where a base has no density at places, at all distances from its draws, at which p̃ is
    large.
    """
    view = Unconstrained(density.on_chart().for_jit())
    position = view.random_position(make_key(0), jnp.result_type(float))
    inside = user_distributions(distributions)
    keys = key_array(make_key(1), draws)
    here = jax.vmap(lambda key: inside.draw(view, key_array(key, 2)))(keys)
    discrete = view.discrete(position)
    log_density = jax.jit(jax.vmap(lambda at: view.log_density(at | discrete)))
    highest = np.nanmax(np.asarray(log_density(here)))
    steps = jnp.geomspace(0.1, 100.0, draws)
    for name, distribution in distributions.items():
        part = here[name]
        spread = jnp.std(part, 0) * steps.reshape(-1, *[1] * (part.ndim - 1))
        for sign in (-1.0, 1.0):
            moved = part + sign * spread
            values = jax.vmap(view.supports[name].constrain)(moved)
            within = np.asarray(distribution.support(values)).reshape(draws, -1).all(1)
            heights = np.asarray(log_density(here | {name: moved}))
            wrong = np.flatnonzero(~within & (heights > highest - below))
            if len(wrong):
                value = np.array2string(np.asarray(values[wrong[0]]), precision=4)
                raise ValueError(
                    f"{who} was given a base of {name} by {type(distribution).__name__}, which has "
                    f"no mass at {name} = {value}, where the log-density is within {below:g} nats "
                    "of its highest at the base's draws; expected a base that is positive wherever "
                    "the density is; widen it."
                )


def user_distributions(distributions: dict[str, Distribution]) -> UserDistributions:
    """The distributions, with parameters cast to the default floating-point type."""
    dtype = jnp.result_type(float)

    def to_default(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return UserDistributions(jax.tree.map(to_default, distributions))


__all__ = [
    "FLOW",
    "PATHFINDER",
    "UserDistributions",
    "check_proposal",
    "distributions_in",
    "user_distributions",
]

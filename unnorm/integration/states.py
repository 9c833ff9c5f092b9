"""The joint states of discrete variables: how many, and their list."""

import math

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.density import Density
from unnorm.integration.options import ENUMERATION


def count_states(density: Density) -> int | None:
    """The number of joint states of the discrete variables (1 without any); None where it is
    infinite.
    """
    shapes, count = density.shapes(), 1
    for name, support in density.variables.items():
        if support.discrete:
            if support.states is None:
                return None
            count *= len(support.states) ** math.prod(support.free_shape(shapes[name]))
    return count


def states_at(density: Density, index: jax.Array) -> dict[str, jax.Array]:
    """The joint states of these numbers, an array (S, *shape) by variable; the first site changes
    slowest.
    """
    states: dict
    shapes, states = density.shapes(), {}
    for name, support in reversed([item for item in density.variables.items() if item[1].discrete]):
        free = support.free_shape(shapes[name])
        sites, base = math.prod(free), len(support.states)
        places = jnp.asarray([base**k for k in reversed(range(sites))])
        codes = (index[:, None] // places) % base
        values = jnp.asarray(support.states, jnp.result_type(float))
        states = {name: support.constrain(values[codes].reshape(-1, *free))} | states
        index = index // base**sites
    return states


def enumerate_states(density: Density) -> dict[str, jax.Array]:
    """Every state of a density of discrete variables, as events ``{name: (S, *shape)}``.

    Args:
        density: its variables are all discrete and can be listed; at most 2**20 joint states.

    Raises:
        ValueError: a variable is continuous, cannot be listed, or there are too many states.

    Example:
        >>> import unnorm as un
        >>> enumerate_states(un.Density(lambda x: 0.0 * x.sum(), {"x": un.Spin[2]}))["x"].tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    for name, support in density.variables.items():
        if not support.discrete:
            raise ValueError(
                f"Variable {name} is {support!r}, which has no states to enumerate; expected a "
                "discrete variable; use un.estimators.Quadrature or un.estimators.SMC."
            )
    return _all_states(density, enumerable_count(density))


@compiled(static_argnames="count")
def _all_states(density: Density, count: int) -> dict[str, jax.Array]:
    return states_at(density, jnp.arange(count))


def enumerable_count(
    density: Density, limit: int = ENUMERATION.max_states, besides: str = ""
) -> int:
    """The number of joint states, if they can be enumerated.

    Args:
        density: its shapes resolved.
        limit: the largest number.
        besides: continues the sentence about the limit.

    Raises:
        ValueError: a variable has infinitely many states, or there are too many.
    """
    count = count_states(density)
    discrete = {name: s for name, s in density.variables.items() if s.discrete}
    if count is None:
        name = next(name for name, support in discrete.items() if support.states is None)
        raise ValueError(
            f"Variable {name} is {discrete[name]!r}, whose states cannot be listed; expected "
            "finitely many states; use un.estimators.SMC."
        )
    if count > limit:
        shapes = density.shapes()
        name = max(discrete, key=lambda n: math.prod(shapes[n]))
        found = f"{count:,}" if count < 10**12 else f"about 10^{int(math.log10(count))}"
        raise ValueError(
            f"Density {density.name} has {found} states (variable {name} has the shape "
            f"{shapes[name]}); enumeration takes at most {limit:,}{besides}; use un.estimators.SMC."
        )
    return count

"""Warnings about a NumPyro model: data that became a variable, and factors with a hidden Z."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from unnorm.bridges.numpyro.sites import Call, inner_value, probe, signature_of
from unnorm.core.compilation.closed_over_arrays import replace_arrays
from unnorm.core.compilation.policy import compiled
from unnorm.core.messages import join_names


def warn_of_missing_data(call: Call, arguments: Mapping[str, Any], latent: Mapping) -> None:
    """Warn of sites that are observed once an argument that is None holds a value of theirs."""
    for argument in [name for name, value in arguments.items() if value is None]:
        found = [name for name, site in latent.items() if _is_data_of(call, argument, name, site)]
        if found:
            what = (
                f"{argument} is None, so that {join_names(found)} is a variable of the density, "
                f"and log Z an integral over it too; pass {argument}=... if it is data."
            )
            warnings.warn(what, stacklevel=3)


def _is_data_of(call: Call, argument: str, name: str, site: dict) -> bool:
    bound = signature_of(call.model).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    bound.arguments[argument] = inner_value(site, 0.0)
    try:
        sites = probe(Call(call.model, bound.args, bound.kwargs), 0.0)
    except Exception:  # the argument is something else than the data of this site
        return False
    return sites[name]["is_observed"] if name in sites else False


def warn_of_factors(
    call: Call, sites: Mapping, latent: Mapping, values: list[dict[str, jax.Array]]
) -> None:
    """Warn of `numpyro.factor` sites in which a latent site meets data.

    Such a factor is a likelihood, and its normalizing constant may depend on the latent site; the
    program cannot see it. Two latent values and two data values are compared: where the difference
    between the latent values changes with the data, the two meet.

    Args:
        call: the model.
        sites: all of its sites.
        latent: its continuous latent sites.
        values: two sets of values of all latent sites.
    """
    first, second = values
    factors = [n for n, s in sites.items() if s["type"] == "sample" and _is_factor(s)]
    if not factors:
        return
    moving = {name: first[name] for name in latent}
    still = {name: value for name, value in first.items() if name not in latent}
    leaves, structure = jax.tree.flatten((call.args, dict(call.kwargs)))
    data = {place: leaf for place, leaf in enumerate(leaves) if _is_data(leaf)}

    def values_of(model: Callable, data: dict, free: dict) -> dict[str, jax.Array]:
        given = [data.get(place, leaf) for place, leaf in enumerate(leaves)]
        args, kwargs = jax.tree.unflatten(structure, given)
        log_probs = Call(model, args, kwargs).log_probs({**still, **free})[0]
        return {name: jnp.sum(log_probs[name]) for name in factors}

    # Data are what the model is called with, and the arrays that it reads from elsewhere.
    other_model = replace_arrays(call.model, _perturb)
    closed, changed = (
        jax.make_jaxpr(functools.partial(values_of, model))(data, moving)
        for model in (call.model, other_model)
    )
    changed = ClosedJaxpr(changed.jaxpr, [_perturb(const) for const in changed.consts])
    both = (
        (compiled(jaxpr_as_fun(closed)), data),
        (compiled(jaxpr_as_fun(changed)), jax.tree.map(_perturb, data)),
    )

    def difference(name: str) -> list[np.ndarray]:
        """What another value of this latent site changes in the factors, with both data."""
        free = (moving, {**moving, name: second[name]})
        return [
            np.subtract(*(values(*jax.tree.leaves((given, one))) for one in free))
            for values, given in both
        ]

    differences = {name: difference(name) for name in latent}
    for place, factor in enumerate(sorted(factors)):
        met = [
            name
            for name, (one, other) in differences.items()
            if not np.isclose(one[place], other[place], rtol=1e-3, atol=1e-5, equal_nan=True)
        ]
        if met:
            what = (
                f"Factor {factor} depends on {join_names(met)} and on data: if it is the log of a "
                f"likelihood, its normalizing constant may depend on {join_names(met)}, which "
                "cannot be checked here and would make the posterior wrong; include it, or declare "
                "the likelihood with un.Density and use un.posterior."
            )
            warnings.warn(what, stacklevel=3)


def _is_factor(site: Mapping) -> bool:
    return type(getattr(site["fn"], "base_dist", site["fn"])).__name__ == "Unit"


def _is_data(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return isinstance(leaf, float) if dtype is None else jnp.issubdtype(dtype, jnp.floating)


def _perturb(leaf: Any) -> Any:
    """Floating numbers changed by a tenth of their size and a bit more; others as they are."""
    if not _is_data(leaf):
        return leaf
    step = 0.1 * np.abs(leaf) + 0.013 * np.cos(np.arange(np.size(leaf))).reshape(np.shape(leaf))
    return leaf + np.asarray(step, jnp.result_type(leaf))  # of its own dtype, as it was traced


__all__ = ["warn_of_factors", "warn_of_missing_data"]

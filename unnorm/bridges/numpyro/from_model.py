"""A NumPyro model as a Density over its continuous latent sites."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.bridges.numpyro.enumeration import (
    DiscreteSite,
    EnumerationOptions,
    check,
    dependencies,
    discrete_sites,
)
from unnorm.bridges.numpyro.joint import Joint
from unnorm.bridges.numpyro.model_checks import warn_of_factors, warn_of_missing_data
from unnorm.bridges.numpyro.sites import (
    DRAW_AXES,
    Call,
    axes_of,
    probe,
    signature_of,
    support_of,
)
from unnorm.core.messages import shown
from unnorm.declaration.density import Density


def from_numpyro(model: Callable, *args: Any, **kwargs: Any) -> Density:
    """Return the joint density of a NumPyro model as a Density over its latent sites.

    log p̃(z) = log p(z, y), with z the unobserved sample sites at constrained values and y the
    observed ones; so log Z is the log marginal likelihood log p(y).

    Discrete latent sites with finitely many states are summed out, element by element in a plate.
    Deterministic sites are carried into the draws. Masks, scales, factors and reparametrizations
    count as they do in NumPyro.

    Args:
        model: a NumPyro model; what is observed has `obs=` in it, or is conditioned on by a
            handler.
        *args: what the model is called with. Each argument becomes a constant under its own name:
            floating arrays are leaves, so that other values of them run the same compiled program,
            and integers are static.
        **kwargs: as `args`.

    Returns:
        The Density, its variables in the order of the model's sites. The axes of a plate carry the
        plate's name; `p.with_dimensions(school=[...])` labels them.

    Warns:
        UserWarning: an argument is None that would be the data of a site; a factor holds a latent
            site together with data, so that its normalizing constant may depend on that site; a
            deterministic site depends on a discrete one and is left out of the draws.

    Raises:
        ValueError: a discrete latent site with infinitely many states, or whose elements meet in
            one factor; a support without a bijection from R^n, or that depends on other sites;
            `numpyro.param` sites; `numpyro.prng_key()`; a plate that draws a subsample.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> import unnorm as un
        >>> def model(y):
        ...     mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        ...     numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> p = un.from_numpyro(model, 0.5)
        >>> p
        Density model(mu: Real)
        >>> round(float(p(mu=0.0)), 4)
        -1.9629

    References:
        Phan, Pradhan, Jankowiak (2019), Composable effects for flexible and accelerated
        probabilistic programming in NumPyro, arXiv:1912.11554.
    """
    if not callable(model):
        raise TypeError(
            f"from_numpyro was given {shown(model)}; expected a NumPyro model; pass the model's "
            "function."
        )
    _refuse_tables(args, kwargs)
    bound = signature_of(model).bind(*args, **kwargs)
    arguments = dict(bound.arguments)
    call = Call(model, args, kwargs)
    # Twice, at other values: what differs (a bound) depends on other sites.
    first, second = (probe(call, at) for at in (0.0, 0.7))
    latent = {
        name: site
        for name, site in first.items()
        if site["type"] == "sample" and not site["is_observed"]
    }
    discrete = discrete_sites(latent, EnumerationOptions())
    continuous = {n: site for n, site in latent.items() if not site["fn"].support.is_discrete}
    kept = _deterministic(first)
    taken = {*latent, *kept, *DRAW_AXES}
    variables = {n: support_of(site, second[n], taken) for n, site in continuous.items()}
    if not variables:
        raise ValueError(
            "The NumPyro model has no continuous latent sites; it must have at least one; leave "
            "out obs= of a continuous site."
        )
    values = [{name: sites[name]["value"] for name in latent} for sites in (first, second)]
    _refuse_missing_log_prob(first)
    bound.apply_defaults()
    warn_of_missing_data(call, bound.arguments, continuous)
    with jax.enable_x64(True):
        warn_of_factors(call, first, continuous, values)
    dependent: dict[str, tuple[int, ...]] = {}
    if discrete:
        dependent = _check_enumeration(call, values, discrete)
        kept = _without_discrete(call, values[0], kept, discrete)
    names = {
        argument: argument if argument not in variables else f"{argument}_argument"
        for argument in arguments
    }
    axes = {n: axes_of(site, np.shape(site["value"]), None, taken) for n, site in kept.items()}
    joint = Joint(
        model, tuple(variables), tuple(names.items()), discrete, tuple(dependent.items()),
        tuple(axes.items()),
    )  # fmt: skip
    density = Density(
        joint, variables, constants={names[name]: value for name, value in arguments.items()}
    )
    sizes = {
        frame.name: frame.size for site in latent.values() for frame in site["cond_indep_stack"]
    }
    return density.with_dimensions(
        **{name: size for name, size in sizes.items() if name in density.dimensions}
    )


def _refuse_tables(args: tuple, kwargs: dict) -> None:
    """A table inside the arguments is opaque to JAX, and its numbers could be no leaves."""
    for value in jax.tree.leaves((args, kwargs)):
        if hasattr(value, "to_numpy"):
            raise ValueError(
                f"from_numpyro was given a {type(value).__name__} for the model; expected arrays; "
                "pass its columns as NumPy arrays."
            )


def _deterministic(sites: Mapping[str, dict]) -> dict[str, dict]:
    """The deterministic sites that draws can hold."""
    found = {
        name: site
        for name, site in sites.items()
        if site["type"] == "deterministic" and np.asarray(site["value"]).dtype.kind in "fiub"
    }
    for name in DRAW_AXES:
        if name in found:
            raise ValueError(
                f"The name {name!r} is reserved for the axes of draws; expected another name; "
                "rename the deterministic site."
            )
    return found


def _refuse_missing_log_prob(sites: Mapping[str, dict]) -> None:
    """NumPyro has no log-density of some distributions, such as ProjectedNormal above 3-D."""
    for name, site in sites.items():
        if site["type"] != "sample":
            continue
        try:
            site["fn"].log_prob(site["value"])
        except NotImplementedError:
            raise ValueError(
                f"Site {name} is {type(site['fn']).__name__}, whose log_prob NumPyro does not "
                "implement here; expected a distribution with a log-density; reparametrize the "
                "site by numpyro.handlers.reparam."
            ) from None


def _check_enumeration(
    call: Call, values: list[dict[str, Any]], discrete: tuple[DiscreteSite, ...]
) -> dict[str, tuple[int, ...]]:
    """On which discrete sites each factor depends; raises where the sum by elements is wrong."""
    dependent = dependencies(call, values[0], discrete)
    with jax.enable_x64(True):
        for each in values:
            check(call, each, discrete, dependent, EnumerationOptions())
    return dependent


def _without_discrete(
    call: Call, values: dict[str, Any], kept: dict[str, dict], discrete: tuple[DiscreteSite, ...]
) -> dict[str, dict]:
    """Leave out, with a warning, the deterministic sites that depend on a discrete one."""
    from numpyro.ops.provenance import eval_provenance

    def computed(**states: Any) -> dict[str, Any]:
        sites = call.log_probs({**values, **states})[1]
        return {name: jnp.asarray(sites[name]["value"]) for name in kept}

    found = eval_provenance(computed, **{site.name: values[site.name] for site in discrete})
    for name in sorted(name for name, on in found.items() if on):
        what = (
            f"Deterministic site {name} depends on {', '.join(sorted(found[name]))}, which is "
            "summed out, and is left out of the draws."
        )
        warnings.warn(what, stacklevel=3)
    return {name: site for name, site in kept.items() if not found[name]}


__all__ = ["from_numpyro"]

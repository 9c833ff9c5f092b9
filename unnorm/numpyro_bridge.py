"""A NumPyro model as a Density over its latent sites."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import shown
from unnorm.declaration.density import Density
from unnorm.supports import Interval, Ordered, Positive, Real, Simplex, Support


def from_numpyro(model: Callable, *args: Any, **kwargs: Any) -> Density:
    """Return the joint density of a NumPyro model as a Density over its latent sites.

    log p̃(z) = log p(z, y), with z the unobserved sample sites at constrained values and y the
    observed ones; so log Z is the log marginal likelihood log p(y).

    Args:
        model: a NumPyro model. Its latent sites must be continuous; what is observed has `obs=` in
            the model, or is conditioned on by a handler.
        *args: what the model is called with. Each argument becomes a constant under its own name:
            floating arrays are leaves, so that other values of them run the same compiled program,
            and integers are static.
        **kwargs: as `args`.

    Returns:
        The Density, its variables in the order of the model's sites. The axes of a plate carry the
        plate's name.

    Raises:
        ValueError: a site that is discrete, that has a support unnorm does not know, or whose
            bounds depend on other sites; `numpyro.param` sites; a plate that draws a subsample.

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
    arguments = dict(inspect.signature(model).bind(*args, **kwargs).arguments)
    # Twice, at other values: what differs (a bound) depends on other sites.
    first, second = (_sites(model, args, kwargs, at) for at in (0.0, 0.7))
    latent = {
        name: site
        for name, site in first.items()
        if site["type"] == "sample" and not site["is_observed"]
    }
    variables = {name: _support(name, site, second[name], latent) for name, site in latent.items()}
    if not variables:
        raise ValueError(
            "The NumPyro model has no latent sites; leave at least one site without obs=."
        )
    names = {
        argument: argument if argument not in variables else f"{argument}_argument"
        for argument in arguments
    }
    joint = _Joint(model, tuple(variables), tuple(names.items()))
    density = Density(
        joint, variables, constants={names[name]: value for name, value in arguments.items()}
    )
    sizes = {
        frame.name: frame.size for site in latent.values() for frame in site["cond_indep_stack"]
    }
    return density.with_dimensions(
        **{name: size for name, size in sizes.items() if name in density.dimensions}
    )


@dataclass(frozen=True)
class _Joint:
    """The joint log-density of a model; equal for equal models, so that new data runs the same
    compiled program.
    """

    model: Callable
    variables: tuple[str, ...]
    arguments: tuple[
        tuple[str, str], ...
    ]  # the model's own name of each argument, and its name as a constant

    @property
    def __name__(self) -> str:
        return getattr(self.model, "__name__", "numpyro_model")

    def __call__(self, *values: jax.Array, **constants: Any) -> jax.Array:
        from numpyro.infer.util import log_density

        bound = inspect.signature(self.model).bind_partial()
        bound.arguments |= {own: constants[name] for own, name in self.arguments}
        sites = dict(zip(self.variables, values, strict=True))
        return log_density(self.model, bound.args, bound.kwargs, sites)[0]


def _refuse_tables(args: tuple, kwargs: dict) -> None:
    """A table inside the arguments is opaque to JAX, and its numbers could be no leaves."""
    for value in jax.tree.leaves((args, kwargs)):
        if hasattr(value, "to_numpy"):
            raise ValueError(
                f"from_numpyro was given a {type(value).__name__} for the model; expected arrays; "
                "pass its columns as NumPy arrays."
            )


def _sites(model: Callable, args: tuple, kwargs: dict, at: float) -> dict[str, dict]:
    """Run the model with every latent site at one unconstrained value: much quicker than drawing
    from it.
    """
    from numpyro import handlers
    from numpyro.distributions import biject_to

    def value(site: dict) -> jax.Array | None:
        if site["type"] != "sample" or site["is_observed"]:
            return None
        if site["fn"].support.is_discrete:
            raise ValueError(
                f"Site {site['name']} is discrete and latent; expected a continuous one; "
                "sum it out in the model, or observe it."
            )
        bijection = biject_to(site["fn"].support)
        return bijection(jnp.full(bijection.inverse_shape(site["fn"].shape()), at))

    seeded = handlers.seed(handlers.substitute(model, substitute_fn=value), 0)
    sites = handlers.trace(seeded).get_trace(*args, **kwargs)
    for name, site in sites.items():
        if site["type"] == "param":
            raise ValueError(
                f"Site {name} is a numpyro.param, which has no prior; expected sample sites; "
                "give it one with numpyro.sample."
            )
        if site["type"] == "plate" and len(site["value"]) < site["args"][0]:
            raise ValueError(
                f"Plate {name} draws a subsample of {len(site['value'])} out of {site['args'][0]}; "
                "expected all of it; leave out subsample_size."
            )
    return sites


def _support(name: str, site: dict, again: dict, latent: dict) -> Support:
    """The support of a site, with its axes: a plate's axis under the plate's name, the others by
    their sizes.
    """
    axes = list(np.shape(site["value"]))
    for frame in site["cond_indep_stack"]:
        taken = frame.name in latent or frame.name in ("chain", "draw")
        if not taken and axes[frame.dim - site["fn"].event_dim] == frame.size:
            axes[frame.dim - site["fn"].event_dim] = frame.name
    base = _base_support(name, site["fn"].support, again["fn"].support)
    return base[tuple(axes)] if axes else base


def _base_support(name: str, constraint: Any, again: Any) -> Support:
    from numpyro.distributions import constraints

    while isinstance(constraint, type(constraints.independent(constraints.real, 1))):
        constraint, again = constraint.base_constraint, again.base_constraint
    c, kind = constraints, type(constraint)  # the constraints themselves cannot be hashed
    for theirs, ours in ((c.real, Real), (c.simplex, Simplex), (c.ordered_vector, Ordered)):
        if kind is type(theirs):
            return ours
    if kind in (c.greater_than, c.greater_than_eq, type(c.positive), type(c.nonnegative)):
        if _bound(name, constraint.lower_bound, again.lower_bound) == 0:
            return Positive
    elif kind in (c.interval, c.open_interval, type(c.unit_interval)):
        return Interval(
            _bound(name, constraint.lower_bound, again.lower_bound),
            _bound(name, constraint.upper_bound, again.upper_bound),
        )
    raise ValueError(
        f"Site {name} has the support {constraint!r}; "
        "expected real numbers, positive ones, an interval, a simplex or an ordered vector; "
        "reparametrize the site."
    )


def _bound(name: str, bound: Any, again: Any) -> float:
    """One bound of a site, the same for every entry and whatever the other sites are."""
    values = np.unique(np.concatenate([np.ravel(np.asarray(one)) for one in (bound, again)]))
    if len(values) > 1:
        raise ValueError(
            f"Site {name} has bounds that differ between its entries or depend on other sites; "
            "expected one fixed interval; rescale the site to the unit interval."
        )
    return float(values[0])

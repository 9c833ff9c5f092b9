"""Running a NumPyro model: its sites, the support and the axes of each, and what is refused."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.supports import (
    Circle,
    ConstraintSupport,
    Interval,
    Ordered,
    Positive,
    Real,
    Simplex,
    Sphere,
)
from unnorm.supports.base import Axis, Support

DRAW_AXES = ("chain", "draw")


@dataclass(frozen=True)
class Call:
    """A model and what it is called with."""

    model: Callable
    args: tuple
    kwargs: Mapping[str, Any]

    def log_probs(self, values: Mapping[str, Any]) -> tuple[dict[str, jax.Array], dict[str, dict]]:
        """log p of each sample site, not summed over its batch, and all sites, at these values."""
        from numpyro.infer.util import compute_log_probs

        return compute_log_probs(self.model, self.args, self.kwargs, dict(values), False)


def probe(call: Call, at: float) -> dict[str, dict]:
    """Run the model with every latent site at fixed values: much quicker than drawing from it.

    Args:
        call: the model.
        at: where; other sites than these are refused if they differ from place to place.

    Returns:
        The sites by name, in the model's order.
    """
    from numpyro import handlers

    def value(site: dict) -> jax.Array | None:
        if site["type"] != "sample" or site["is_observed"]:
            return None
        return inner_value(site, at)

    model = _refusing_keys(call.model)
    seeded = handlers.seed(handlers.substitute(model, substitute_fn=value), 0)
    sites = handlers.trace(seeded).get_trace(*call.args, **call.kwargs)
    for site in sites.values():
        _refuse_site(site)
    return sites


def _refusing_keys(model: Callable) -> Callable:
    from numpyro.primitives import Messenger

    class RefuseKeys(Messenger):
        def process_message(self, msg: Any) -> None:
            if msg["type"] == "prng_key":
                raise ValueError(
                    "The NumPyro model calls numpyro.prng_key(), so that its density is random; "
                    "expected the same log-density at each call; pass the random numbers as an "
                    "argument."
                )

    return RefuseKeys(model)


def inner_value(site: dict, at: float) -> jax.Array:
    """A value inside the support of a latent site; of a discrete one, one of its states."""
    shape, constraint = site_shape(site), site["fn"].support
    if constraint.is_discrete:
        states = states_of(site)
        return jnp.broadcast_to(states[int(at > 0.5) % len(states)], shape)
    support = base_support(site["name"], constraint)
    free = support.free_shape(shape)
    spread = at + 0.1 * np.sin(1.0 + np.arange(int(np.prod(free))))  # no two entries alike
    return support.constrain(jnp.asarray(spread.reshape(free), float))


def site_shape(site: dict) -> tuple[int, ...]:
    """The shape of a value of a sample site."""
    return tuple(site["fn"].shape(site["kwargs"].get("sample_shape", ())))


def _refuse_site(site: dict) -> None:
    name, kind = site["name"], site["type"]
    if kind == "param":
        raise ValueError(
            f"Site {name} is a numpyro.param, which has no prior; expected sample sites only; "
            "give it a prior with numpyro.sample."
        )
    if kind == "plate" and len(site["value"]) < site["args"][0]:
        raise ValueError(
            f"Plate {name} draws a subsample of {len(site['value'])} out of {site['args'][0]}; "
            "expected the full plate; leave out subsample_size."
        )
    if kind in ("sample", "deterministic") and "/" in name:
        raise ValueError(
            f"Site {name} has '/' in its name, which draws cannot hold; expected a name without "
            "'/'; pass divider='_' to numpyro.handlers.scope."
        )


# -- supports --------------------------------------------------------------------------------------
def base_support(name: str, constraint: Any) -> Support:
    """The support of one entry, vector or matrix of a site."""
    from numpyro.distributions import biject_to, constraints

    c = constraints
    while isinstance(constraint, type(c.independent(c.real, 1))):
        constraint = constraint.base_constraint
    kind = type(constraint)  # the constraints themselves cannot be hashed
    own = (
        (c.real, Real), (c.simplex, Simplex), (c.ordered_vector, Ordered), (c.circular, Circle),
        (c.sphere, Sphere),
    )  # fmt: skip
    for theirs, ours in own:
        if kind is type(theirs):
            return ours
    if kind in (c.greater_than, c.greater_than_eq, type(c.positive), type(c.nonnegative)):
        if _one_number(constraint.lower_bound) == 0:
            return Positive
    elif kind in (c.interval, c.open_interval, type(c.unit_interval)):
        low, high = map(_one_number, (constraint.lower_bound, constraint.upper_bound))
        if low is not None and high is not None:
            return Interval(low, high)
    try:
        if kind is type(c.complex):
            raise NotImplementedError
        biject_to(constraint)
    except NotImplementedError:
        raise ValueError(
            f"Site {name} has the support {_shown(constraint)}, to which NumPyro has no bijection "
            "from real numbers; expected one of NumPyro's other constraints; reparametrize the "
            "site."
        ) from None
    return ConstraintSupport(constraint)


def _one_number(bound: Any) -> float | None:
    """The bound where it is the same for all entries."""
    values = np.unique(np.asarray(bound))
    return float(values[0]) if len(values) == 1 else None


def _shown(constraint: Any) -> str:
    return " ".join(repr(constraint).split())


def support_of(site: dict, again: dict, taken: Collection[str]) -> Support:
    """The support of a continuous site with its axes; `again`: the site at other values."""
    name, constraint = site["name"], site["fn"].support
    one, other = (jax.tree.leaves(each["fn"].support) for each in (site, again))
    if not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)):
        raise ValueError(
            f"Site {name} has bounds that depend on other sites; expected one fixed support; "
            "rescale the site to the unit interval."
        )
    if type(getattr(site["fn"], "base_dist", site["fn"])).__name__ == "Delta":
        raise ValueError(
            f"Site {name} is Delta, a point mass, which has no density; expected a distribution "
            "with a density; use numpyro.deterministic."
        )
    axes = axes_of(site, np.shape(site["value"]), site["fn"].event_dim, taken)
    base = base_support(name, constraint)
    return base[axes] if axes else base


def axes_of(
    site: dict, shape: tuple[int, ...], event_dim: int | None, taken: Collection[str]
) -> tuple[Axis, ...]:
    """The axes of a site's value: a plate's axis under the plate's name, others by their sizes.

    Args:
        site: of the model.
        shape: of its value.
        event_dim: how many axes follow those of plates; None: all beyond the plates'.
        taken: names that no axis may have.
    """
    frames = site["cond_indep_stack"]
    if event_dim is None:
        event_dim = max(len(shape) - max((-frame.dim for frame in frames), default=0), 0)
    axes: list[Axis] = list(shape)
    for frame in frames:
        place = frame.dim - event_dim
        if frame.name not in taken and -place <= len(axes) and axes[place] == frame.size:
            axes[place] = frame.name
    return tuple(axes)


def signature_of(model: Callable) -> inspect.Signature:
    """The signature of a model under its handlers, which pass arguments through."""
    while isinstance(getattr(model, "fn", None), Callable):  # type: ignore[arg-type]
        model = model.fn  # type: ignore[attr-defined]
    return inspect.signature(model)


# -- discrete sites --------------------------------------------------------------------------------
def states_of(site: dict) -> np.ndarray:
    """The states of one element of a discrete latent site: (states, *event shape)."""
    name, fn = site["name"], site["fn"]
    try:
        states = np.asarray(fn.enumerate_support(expand=False))
    except (NotImplementedError, ValueError, AttributeError, jax.errors.JAXTypeError):
        raise ValueError(
            f"Site {name} is {type(fn).__name__}, discrete and latent, without a finite list of "
            "states; expected a finite number of states; sum it out in the model, or observe it."
        ) from None
    events = fn.event_dim
    return states.reshape(len(states), *states.shape[states.ndim - events :])


__all__ = [
    "DRAW_AXES",
    "Call",
    "axes_of",
    "base_support",
    "inner_value",
    "probe",
    "signature_of",
    "site_shape",
    "states_of",
    "support_of",
]  # fmt: skip

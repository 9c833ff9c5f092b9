"""Reading the penalties and priors that a user gave, and the sentences where one does not fit."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.validation import refuse_other_measure
from unnorm.declaration.density import Density
from unnorm.declaration.slots import refuse_unknown
from unnorm.fitting.penalties.terms import L1, L2, Along, Penalties, free_entries, log_prior
from unnorm.supports import PyTreeSupport, Support


def read_penalties(p: Density, penalty: Any, prior: Any, rows: int) -> Penalties | None:
    """The penalties and priors of a fit, checked; None where there are none."""
    if penalty is None and prior is None:
        return None
    given = penalty.penalty if isinstance(penalty, Along) else penalty
    by_name = _by_parameter(p, given, "penalty", "un.L1(0.1)")
    terms = {name: _term(name, term) for name, term in by_name.items()}
    grid, moving = _grid(terms) if isinstance(penalty, Along) else (None, ())
    gamma = penalty.gamma if isinstance(penalty, Along) else 0.5
    lasso: dict = {}
    ridge: dict = {}
    for name, term in terms.items():
        if isinstance(term, L1):
            _refuse_bounded(name, p.supports[name], np.shape(p.parameters[name]))
        strength = _strength(p, name, L1(1.0) if name in moving else term)
        (lasso if isinstance(term, L1) else ridge)[name] = strength
    priors = dict(_by_parameter(p, prior, "prior", "numpyro.distributions.Normal(0, 1)"))
    for name, one in priors.items():
        check_prior(name, p.supports[name], p.parameters[name], one)
    return Penalties(lasso, ridge, priors, float(rows), grid, moving, gamma)


def _term(name: str, term: Any) -> Any:
    term = term() if term in (L1, L2) else term
    if not isinstance(term, L1 | L2):
        raise ValueError(
            f"The penalty on {name} is {term!r}; expected un.L1 or un.L2; pass, for example, "
            f"penalty={{{name!r}: un.L1(0.1)}}."
        )
    return term


def _grid(terms: dict[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The strengths of a path, largest first (empty: they are to be chosen), and the parameters
    that have them.
    """
    moving = {
        n: t
        for n, t in terms.items()
        if isinstance(t, L1) and (t.strength is None or np.ndim(t.strength) == 1)
    }
    if not moving:
        raise ValueError(
            "penalty of the path holds no un.L1 without a strength or with an array of them; "
            'expected at least one; pass, for example, penalty={"coupling": un.L1()}.'
        )
    grids = [() if term.strength is None else term.strength for term in moving.values()]
    try:
        grid = np.asarray(grids[0], float)
        same = all(np.array_equal(np.asarray(one, float), grid) for one in grids)
    except (TypeError, ValueError):
        same, grid = True, np.array([np.nan])
    if not same or not np.all(np.isfinite(grid) & (grid >= 0)):
        raise ValueError(
            f"The strengths of the path on {', '.join(moving)} are "
            f"{' and '.join(map(repr, grids))}; expected finite "
            "numbers of at least 0, the same for all of these parameters; pass one grid, or None."
        )
    return np.unique(grid)[::-1], tuple(moving)


def _by_parameter(p: Density, given: Any, what: str, example: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        name = next(iter(p.supports), "theta")
        raise ValueError(
            f"{what} is {given!r}; expected a dict by parameter; pass, for example, "
            f"{what}={{{name!r}: {example}}}."
        )
    refuse_unknown(what, "parameter", given, p.supports)
    return given


def _refuse_bounded(name: str, support: Support, shape: tuple[int, ...]) -> None:
    """L1 steps are taken in free coordinates, which must be the listed entries themselves."""
    free = jnp.linspace(-3.0, 3.0, max(int(np.prod(support.free_shape(shape))), 1)).reshape(
        support.free_shape(shape)
    )
    same = not isinstance(support, PyTreeSupport) and len(support.entries(shape)) == free.size
    if not same or not np.allclose(
        free_entries(support, support.constrain(free))[0], free.reshape(-1)
    ):
        raise ValueError(
            f"The penalty on {name} is L1 and {name} is {support!r}; expected a parameter without "
            "bounds, Real or Symmetric; use un.L2, or declare it otherwise."
        )


def _strength(p: Density, name: str, term: Any) -> np.ndarray:
    """The strengths as an array: of L1 in the shape of the free coordinates, of L2 one for each
    listed entry.
    """
    kind, support = type(term).__name__, p.supports[name]
    shape = np.shape(p.parameters[name]) if not isinstance(support, PyTreeSupport) else ()
    count = 1 if isinstance(support, PyTreeSupport) else len(support.entries(shape))
    try:
        strength = np.asarray(term.strength, float)
    except (TypeError, ValueError):
        strength = np.asarray(np.nan)
    if not np.all(np.isfinite(strength) & (strength >= 0)):
        found = " ".join(repr(term.strength).split())
        raise ValueError(
            f"The strength of {kind} on {name} is {found}; expected finite nonnegative numbers; "
            f"pass, for example, un.{kind}(0.1)."
        )
    if strength.shape == shape and shape:
        strength = np.asarray(free_entries(support, jnp.asarray(strength))[0])
    elif strength.shape not in ((), (count,)):
        raise ValueError(
            f"The strength of {kind} on {name} has the shape {strength.shape}; expected one "
            f"number, the shape {shape} "
            f"of {name}, or {count}, one for each entry that Fit.summary lists; reshape it."
        )
    if isinstance(support, PyTreeSupport):
        return strength
    strength = np.broadcast_to(strength, (count,))
    return strength.reshape(support.free_shape(shape)) if kind == "L1" else strength


def check_prior(name: str, support: Support, value: Any, prior: Any) -> None:
    """Refuse what is no distribution over this parameter, or leaves its present value out."""
    if not hasattr(prior, "log_prob"):
        raise ValueError(
            f"The prior of {name} is {prior!r}; expected a NumPyro distribution; pass, for "
            "example, numpyro.distributions.Normal(0, 1)."
        )
    refuse_other_measure("prior of", name, support, prior)
    event, batch = tuple(prior.event_shape), tuple(prior.batch_shape)
    if isinstance(support, PyTreeSupport):
        good, shape = event == () and batch == (), "one number"
    else:
        shape = np.shape(value)
        good = batch + event == shape or (event == () and batch == ())
    if not good:
        raise ValueError(
            f"The prior of {name} is over values of the shape {batch + event} and {name} has "
            f"{shape}; expected the same shape, or a scalar distribution, which then holds for "
            "every entry; reshape it with expand and to_event."
        )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # NumPyro's own of a value outside the support, which is refused below
        at_start = float(log_prior(prior, support, jax.tree.map(jnp.asarray, value)))
    if not np.isfinite(at_start):
        raise ValueError(
            f"The log-prior of {name} is {at_start} at the start of the fit; expected a finite "
            f"number; pass a start inside its support, or a prior for {support!r}."
        )

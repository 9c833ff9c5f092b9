"""What is added to the mean loss: L1 and L2 penalties, and minus the log of a prior over the number of rows.

Penalties are on the constrained values, each listed entry once: of a Symmetric matrix the entries above the diagonal
(with ``diagonal=True`` on it too), of a network all of its arrays.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.density import Density
from unnorm.methods import method, static
from unnorm.signature import refuse_unknown
from unnorm.supports import Support, _PyTree


@method
class L1:
    """The lasso's penalty strength · Σ |θ_j|, each listed entry once: ``penalty={"coupling": un.L1(0.1)}``.

    For parameters without bounds (Real, Symmetric), in objectives without a sampler. Entries come out as 0.0 exactly,
    and there are no standard errors.

    Args:
        strength: a number of at least 0, on the scale of the mean loss; or an array of them, one for each entry, in the
            parameter's own shape or in the order of `Fit.summary`. In `un.path`: a grid of them, or None for a default.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, m: m @ x - 0.5 * x @ x, {"x": un.Real[2]}, {"m": (un.Real[2], 0.0)})
        >>> data = np.array([[2.0, 0.3], [1.0, -0.1], [3.0, -0.5]])
        >>> fit = un.fit(p, data, "score_matching", penalty={"m": un.L1(0.5)}, progress=False)
        >>> fit.density.parameters["m"].round(4).tolist()  # the means 2 and -0.1, moved towards 0 by 0.5
        [1.5, 0.0]

    References:
        Tibshirani (1996), doi:10.1111/j.2517-6161.1996.tb02080.x.
    """

    strength: Any = None


@method
class L2:
    """The ridge's penalty strength / 2 · Σ θ_j², each listed entry once: ``penalty={"field": un.L2(0.1)}``.

    For every parameter and objective; of a network (`un.PyTree`) all arrays. The standard errors are then those of the
    penalised estimand: they do not count the bias.

    Args:
        strength: a number of at least 0, on the scale of the mean loss; or an array of them, one for each entry, in the
            parameter's own shape or in the order of `Fit.summary`.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, m: m * x - 0.5 * x**2, {"x": un.Real}, {"m": (un.Real, 0.0)})
        >>> fit = un.fit(p, [1.0, 2.0, 3.0], "score_matching", penalty={"m": un.L2(1.0)}, progress=False)
        >>> round(float(fit.density.parameters["m"]), 4)  # the mean 2, over 1 + strength
        1.0

    References:
        Hoerl and Kennard (1970), doi:10.1080/00401706.1970.10488634.
    """

    strength: Any = None


@method
class Penalties:
    """All that is added to the mean loss, as a pytree that goes along into the compiled loss.

    `lasso` holds the strengths of the free coordinates, by parameter and in their shape; `ridge` those of the listed
    entries (one number for a network); `priors` NumPyro distributions over the constrained values; `rows` is n. Along
    a path the strengths of the parameters in `moving` are 1, to be multiplied by those of the `grid` (None: no path;
    empty: one is chosen).
    """

    lasso: dict[str, Any]
    ridge: dict[str, Any]
    priors: dict[str, Any]
    rows: Any
    grid: Any = None
    moving: tuple[str, ...] = static(())

    def at(self, strength: Any) -> "Penalties":
        """The penalties at one strength of the path."""
        moved = {name: strength * jnp.ones_like(self.lasso[name]) for name in self.moving}
        return replace(self, lasso=self.lasso | moved, grid=None)

    def smooth(self, density: Density) -> jax.Array:
        """The part with a gradient: Σ strength θ² / 2 − log prior(θ) / n."""
        values, supports = density.parameters, density.supports
        total = jnp.zeros(())
        for name, strength in self.ridge.items():
            parts = _listed(supports[name], values[name])
            total += sum(0.5 * jnp.sum(strength * part**2) for part in parts)
        for name, prior in self.priors.items():
            total -= log_prior(prior, supports[name], values[name]) / self.rows
        return total

    def strengths(self, density: Density, learned: Any) -> jax.Array:
        """The lasso's strengths along the vector of all that is estimated (`optimise.parameters_of`)."""
        free = {
            name: jax.tree.map(jnp.zeros_like, value) if name not in self.lasso else self.lasso[name]
            for name, value in density.free().items()
        }
        return ravel_pytree((free, jax.tree.map(jnp.zeros_like, learned)))[0]

    def of_free(self, density: Density, free: Any) -> jax.Array:
        """The smooth part as a function of the free parameters."""
        return self.smooth(density.at(free))


class Along(NamedTuple):
    """The `penalty` of a path, as the user gave it: strengths of L1 are a grid, or to be chosen."""

    penalty: Any


@jax.jit
def slope_and_curvature(penalties: Penalties | None, density: Density) -> tuple[jax.Array, jax.Array]:
    """The gradient and the Hessian of the smooth part in the vector of free parameters; zeros without penalties."""
    vector, unravel = ravel_pytree(density.free())
    if penalties is None:
        return jnp.zeros_like(vector), jnp.zeros((vector.size,) * 2, vector.dtype)

    def added(vector):
        return penalties.of_free(density, unravel(vector))

    return jax.grad(added)(vector), jax.hessian(added)(vector)


def _listed(support: Support, value: Any) -> list[jax.Array]:
    """The listed entries of one parameter, as a vector; of a network its arrays."""
    if isinstance(support, _PyTree):
        return [leaf for leaf in jax.tree.leaves(value) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return [value[tuple(np.transpose(support.entries(value.shape)))].reshape(-1)]


def log_prior(prior: Any, support: Support, value: Any) -> jax.Array:
    """log prior of a value: a distribution of one number holds for every listed entry."""
    if isinstance(support, _PyTree):
        return sum(jnp.sum(prior.log_prob(leaf)) for leaf in _listed(support, value))
    logs = prior.log_prob(value)
    return jnp.sum(_listed(support, logs)[0]) if jnp.shape(logs) == jnp.shape(value) else jnp.sum(logs)


# -- reading what the user gave ----------------------------------------------------------------------------------------
def read_penalties(p: Density, penalty: Any, prior: Any, rows: int) -> Penalties | None:
    """The penalties and priors of a fit, checked; None where there are none."""
    if penalty is None and prior is None:
        return None
    given = penalty.penalty if isinstance(penalty, Along) else penalty
    terms = {name: _term(name, term) for name, term in _by_parameter(p, given, "penalty", "un.L1(0.1)").items()}
    grid, moving = _grid(terms) if isinstance(penalty, Along) else (None, ())
    lasso, ridge = {}, {}
    for name, term in terms.items():
        if isinstance(term, L1):
            _refuse_bounded(name, p.supports[name], np.shape(p.parameters[name]))
        strength = _strength(p, name, L1(1.0) if name in moving else term)
        (lasso if isinstance(term, L1) else ridge)[name] = strength
    priors = dict(_by_parameter(p, prior, "prior", "numpyro.distributions.Normal(0, 1)"))
    for name, one in priors.items():
        check_prior(name, p.supports[name], p.parameters[name], one)
    return Penalties(lasso, ridge, priors, float(rows), grid, moving)


def _term(name: str, term: Any) -> Any:
    term = term() if term in (L1, L2) else term
    if not isinstance(term, L1 | L2):
        raise ValueError(
            f"The penalty on {name} is {term!r}; expected un.L1 or un.L2; pass such as "
            f"penalty={{{name!r}: un.L1(0.1)}}."
        )
    return term


def _grid(terms: dict[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The strengths of a path, largest first (empty: they are to be chosen), and the parameters that have them."""
    moving = {n: t for n, t in terms.items() if isinstance(t, L1) and (t.strength is None or np.ndim(t.strength) == 1)}
    if not moving:
        raise ValueError(
            "penalty of the path holds no un.L1 without a strength or with an array of them; expected at least one; "
            'pass such as penalty={"coupling": un.L1()}.'
        )
    grids = [() if term.strength is None else term.strength for term in moving.values()]
    try:
        grid = np.asarray(grids[0], float)
        same = all(np.array_equal(np.asarray(one, float), grid) for one in grids)
    except (TypeError, ValueError):
        same, grid = True, np.array([np.nan])
    if not same or not np.all(np.isfinite(grid) & (grid >= 0)):
        raise ValueError(
            f"The strengths of the path on {', '.join(moving)} are {' and '.join(map(repr, grids))}; expected finite "
            "numbers of at least 0, the same for all of these parameters; pass one grid, or None."
        )
    return np.unique(grid)[::-1], tuple(moving)


def _by_parameter(p: Density, given: Any, what: str, example: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        name = next(iter(p.supports), "theta")
        raise ValueError(
            f"{what} is {given!r}; expected a dict by parameter; pass such as {what}={{{name!r}: {example}}}."
        )
    refuse_unknown(what, "parameter", given, p.supports)
    return given


def _refuse_bounded(name: str, support: Support, shape: tuple[int, ...]) -> None:
    """L1 steps are taken in free coordinates, which must be the listed entries themselves."""
    free = jnp.linspace(-3.0, 3.0, max(int(np.prod(support.free_shape(shape))), 1)).reshape(support.free_shape(shape))
    same = not isinstance(support, _PyTree) and len(support.entries(shape)) == free.size
    if not same or not np.allclose(_listed(support, support.constrain(free))[0], free.reshape(-1)):
        raise ValueError(
            f"The penalty on {name} is L1 and {name} is {support!r}; expected a parameter without bounds, Real or "
            "Symmetric; use un.L2, or declare it otherwise."
        )


def _strength(p: Density, name: str, term: Any) -> np.ndarray:
    """The strengths as an array: of L1 in the shape of the free coordinates, of L2 one for each listed entry."""
    kind, support = type(term).__name__, p.supports[name]
    shape = np.shape(p.parameters[name]) if not isinstance(support, _PyTree) else ()
    count = 1 if isinstance(support, _PyTree) else len(support.entries(shape))
    try:
        strength = np.asarray(term.strength, float)
    except (TypeError, ValueError):
        strength = np.asarray(np.nan)
    if not np.all(np.isfinite(strength) & (strength >= 0)):
        found = " ".join(repr(term.strength).split())
        raise ValueError(
            f"The strength of {kind} on {name} is {found}; expected finite numbers of at least 0; pass such as "
            f"un.{kind}(0.1)."
        )
    if strength.shape == shape and shape:
        strength = np.asarray(_listed(support, jnp.asarray(strength))[0])
    elif strength.shape not in ((), (count,)):
        raise ValueError(
            f"The strength of {kind} on {name} has the shape {strength.shape}; expected one number, the shape {shape} "
            f"of {name}, or {count}, one for each entry that Fit.summary lists; reshape it."
        )
    if isinstance(support, _PyTree):
        return strength
    strength = np.broadcast_to(strength, (count,))
    return strength.reshape(support.free_shape(shape)) if kind == "L1" else strength


def check_prior(name: str, support: Support, value: Any, prior: Any) -> None:
    """Refuse what is no distribution over this parameter, or leaves its present value out."""
    if not hasattr(prior, "log_prob"):
        raise ValueError(
            f"The prior of {name} is {prior!r}; expected a NumPyro distribution; pass such as "
            "numpyro.distributions.Normal(0, 1)."
        )
    event, batch = tuple(prior.event_shape), tuple(prior.batch_shape)
    if isinstance(support, _PyTree):
        good, shape = event == () and batch == (), "one number"
    else:
        shape = np.shape(value)
        good = batch + event == shape or event == () and batch == ()
    if not good:
        raise ValueError(
            f"The prior of {name} is over values of the shape {batch + event} and {name} has {shape}; expected the "
            "same, or a distribution of one number, which holds for every entry; reshape it with expand and to_event."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPyro's own of a value outside the support, which is refused below
        at_start = float(log_prior(prior, support, jax.tree.map(jnp.asarray, value)))
    if not np.isfinite(at_start):
        raise ValueError(
            f"The log-prior of {name} is {at_start} at the start of the fit; expected a finite number; pass a start "
            f"inside its support, or a prior for {support!r}."
        )

"""A Stan model as a Density over its unconstrained parameters, by BridgeStan."""

import functools
import importlib.util
import re
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import shown
from unnorm.declaration.density import Density
from unnorm.supports import Real
from unnorm.supports.base import Axis

_REJECTED = np.array(-np.inf)  # log p̃ where Stan rejects the parameters
VARIABLE, DIMENSION = "unconstrained", "coordinate"
_INDEXED = re.compile(r"(.*?)((?:\.\d+)*)(\.real|\.imag)?")


def from_stan(model: Any, data: Any = None) -> Density:
    """Return the density of a Stan model over its unconstrained parameters, constants included.

    log p̃(u) = log p(θ(u), y) + log |det ∂θ/∂u|, which Stan's compiled code evaluates and
    differentiates; so log Z is the log marginal likelihood. Draws carry the parameters θ and the
    transformed parameters by their own names.

    Args:
        model: the path of a Stan program or of its compiled library, or a `bridgestan.StanModel`.
        data: a dict, a JSON string, or the path of a JSON file; None: the program needs none, or
            the model has its data.

    Returns:
        The Density of one variable, `unconstrained`, a vector labelled by Stan's names.

    Raises:
        ImportError: BridgeStan is not installed.
        TypeError: what is neither a path nor a model.
        ValueError: a model without parameters.

    Example:
        >>> import unnorm as un
        >>> p = un.from_stan("eight_schools.stan", "data.json")  # doctest: +SKIP
        >>> draws = un.sample(p)  # doctest: +SKIP

    References:
        Roualdes, Ward, Carpenter, Seyboldt and Axen (2023), BridgeStan, Journal of Open Source
        Software 8(87), 5236, doi:10.21105/joss.05236.
    """
    stan = model if hasattr(model, "log_density_gradient") else _load(model, data)
    names = list(stan.param_unc_names())
    if not names:
        raise ValueError(
            "The Stan model has no parameters; expected at least one; declare it in the parameters "
            "block."
        )
    density = Density(StanFunction(stan), {VARIABLE: Real[DIMENSION]})
    return density.with_dimensions(**{DIMENSION: names})


def _load(model: Any, data: Any) -> Any:
    if not isinstance(model, str | PathLike):
        raise TypeError(
            f"from_stan was given {shown(model)}; expected the path of a Stan program or a "
            "bridgestan.StanModel; pass one of these."
        )
    if importlib.util.find_spec("bridgestan") is None:
        raise ImportError(
            "from_stan needs BridgeStan, which is not installed; run pip install 'unnorm[stan]'."
        )
    import bridgestan

    return bridgestan.StanModel(model, data)


class StanFunction:
    """log p̃ of the unconstrained parameters, with first and second derivatives by callbacks."""

    __name__ = "stan_model"

    def __init__(self, stan: Any) -> None:
        self.stan = stan
        self._value = _differentiable(stan)
        name = getattr(stan, "name", None)
        self.__name__ = str(name()) if callable(name) else "stan_model"

    def __call__(self, unconstrained: jax.Array) -> jax.Array:
        return self._value(unconstrained)

    @property
    def deterministic_axes(self) -> dict[str, tuple[Axis, ...]]:
        """The shapes of the parameters and the transformed parameters."""
        return {name: shape for name, (_, shape) in _places(self._names(True)).items()}

    def deterministics(self, unconstrained: jax.Array) -> dict[str, jax.Array]:
        """Parameters and transformed parameters at the unconstrained ones."""
        size = len(self._names(True))
        at = _over_rows(lambda row: self.stan.param_constrain(row, include_tp=True), np.zeros(size))
        values = at(unconstrained)
        return {
            name: values[..., np.array(entries)].reshape(shape, order="F")
            for name, (entries, shape) in _places(self._names(True)).items()
        }

    def events_of(self, draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draws of Stan's parameters, (chain, draw, ...), as draws of the unconstrained ones."""
        parts = _places(self._names(False))
        if VARIABLE in draws or any(name not in draws for name in parts):
            return dict(draws)
        chains, length = np.shape(next(iter(draws.values())))[:2]
        rows = np.empty((chains, length, len(self._names(False))))
        for name, (entries, shape) in parts.items():
            rows[..., entries] = _column_major(draws[name], shape)
        unconstrained = [
            self.stan.param_unconstrain(row) for row in rows.reshape(-1, rows.shape[-1])
        ]
        self._refuse_directions(unconstrained[0])
        return {VARIABLE: np.asarray(unconstrained).reshape(*rows.shape[:2], -1)}

    def _refuse_directions(self, at: np.ndarray) -> None:
        """A unit_vector has one unconstrained coordinate more than its values determine."""
        step = 1e-5
        ends = [
            self.stan.param_constrain(at + step * way) - self.stan.param_constrain(at - step * way)
            for way in np.eye(len(at))
        ]
        if np.linalg.matrix_rank(np.array(ends) / (2 * step), tol=1e-6) < len(at):
            raise ValueError(
                "draws are of a Stan model with a unit_vector, whose unconstrained coordinates "
                "they do not determine; expected draws of these coordinates; pass the result of "
                "un.sample."
            )

    def _names(self, transformed: bool) -> list[str]:
        return list(self.stan.param_names(include_tp=transformed))


def _places(names: list[str]) -> dict[str, tuple[list[int], tuple[int, ...]]]:
    """Where the entries of each quantity are in Stan's flat vector, and its shape.

    The last of `theta.1.2` and its like has the shape. A complex `w.1.real`, `w.1.imag` is two
    quantities, `w.real` and `w.imag`, whose entries alternate.
    """
    found: dict[str, tuple[list[int], tuple[int, ...]]] = {}
    for place, name in enumerate(names):
        base, index, part = _INDEXED.fullmatch(name).groups(default="")  # type: ignore[union-attr]
        entries = [*found.get(base + part, ([], ()))[0], place]
        found[base + part] = entries, tuple(map(int, index.split(".")[1:]))
    return found


def _column_major(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(chain, draw, *shape) as (chain, draw, entries), the first index the fastest."""
    rank = len(shape)
    turned = np.transpose(values, (0, 1, *range(1 + rank, 1, -1)))
    return turned.reshape(*values.shape[:2], -1)


# -- the callbacks ---------------------------------------------------------------------------------
def _differentiable(stan: Any) -> Callable[[jax.Array], jax.Array]:
    """log p̃ as a function that JAX can differentiate twice."""
    size = stan.param_unc_num()
    options = {"propto": False, "jacobian": True}
    density = _over_rows(lambda row: stan.log_density(row, **options), _REJECTED)
    # One vector of both: a climb or a trajectory asks for them together.
    both = _over_rows(
        lambda row: np.append(*reversed(stan.log_density_gradient(row, **options))),
        np.append(np.zeros(size), _REJECTED),
    )
    hessian = _over_rows(
        lambda row: stan.log_density_hessian(row, **options)[2], np.zeros((size, size))
    )

    @jax.custom_jvp
    def value_and_score(at: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = both(at)
        return found[-1], found[:-1]

    @value_and_score.defjvp
    def _(primals, tangents):  # type: ignore[no-untyped-def]
        found = value_and_score(*primals)
        return found, (found[1] @ tangents[0], hessian(*primals) @ tangents[0])

    @jax.custom_jvp
    def value(at: jax.Array) -> jax.Array:
        return density(at)

    @value.defjvp
    def _(primals, tangents):  # type: ignore[no-untyped-def]
        found, score = value_and_score(*primals)
        return found, score @ tangents[0]

    return value


def _over_rows(function: Callable, rejected: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """A function of one vector by a callback, over many rows at once under `vmap`.

    `rejected` is the result where Stan rejects the parameters.
    """
    shape = rejected.shape

    def one(row: np.ndarray) -> Any:
        try:
            return function(row)
        except RuntimeError:
            return rejected

    def rows(bits: np.ndarray, dtype: np.dtype) -> np.ndarray:
        at = _from_bits(np.asarray(bits), dtype)
        flat = np.ascontiguousarray(at.reshape(-1, at.shape[-1]), np.float64)
        values = np.asarray([one(row) for row in flat]).reshape((*at.shape[:-1], *shape))
        with np.errstate(over="ignore"):  # beyond single precision: infinite
            return _to_bits(values.astype(dtype))

    def call(at: jax.Array) -> jax.Array:
        # As bits: a callback runs in a thread of its own, where JAX has the process's precision
        # and would round what goes in and comes out of a double-precision context.
        at = jnp.asarray(at)
        dtype = np.dtype(at.dtype)
        result = jax.eval_shape(_bits, jax.ShapeDtypeStruct(shape, dtype))
        back = functools.partial(rows, dtype=dtype)
        found = jax.pure_callback(back, result, _bits(at), vmap_method="broadcast_all")
        return jax.lax.bitcast_convert_type(found, dtype)

    return call


def _bits(values: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(values, jnp.uint32)


def _to_bits(values: np.ndarray) -> np.ndarray:
    """What `_bits` gives: (..., 2) for double precision, (...) for single."""
    bits = np.ascontiguousarray(values[..., None]).view(np.uint32)
    return bits if bits.shape[-1] > 1 else bits[..., 0]


def _from_bits(bits: np.ndarray, dtype: np.dtype) -> np.ndarray:
    bits = bits if dtype.itemsize > bits.dtype.itemsize else bits[..., None]
    return np.ascontiguousarray(bits).view(dtype)[..., 0]


__all__ = ["StanFunction", "from_stan"]

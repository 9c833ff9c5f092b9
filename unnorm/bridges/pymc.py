"""A PyMC model as a Density over its unconstrained value variables, by PyTensor's JAX linker."""

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from unnorm.core.messages import shown
from unnorm.declaration.density import Density
from unnorm.supports import Real
from unnorm.supports.base import Axis, Support


def from_pymc(model: Any) -> Density:
    """Return the joint density of a PyMC model over its unconstrained value variables.

    log p̃(u) = log p(θ(u), y) + log |det ∂θ/∂u|, u the value variables such as `tau_log__`; so
    log Z is the log marginal likelihood. Draws carry the random variables θ and the model's
    Deterministics by their own names, dims and coords.

    Args:
        model: a `pymc.Model`.

    Returns:
        The Density; each variable is real, for PyMC transforms it to the real line.

    Raises:
        ImportError: PyMC is not installed.
        TypeError: what is no PyMC model.
        ValueError: a discrete random variable that is not observed.

    Example:
        >>> import unnorm as un
        >>> import pymc as pm  # doctest: +SKIP
        >>> with pm.Model() as model:  # doctest: +SKIP
        ...     pm.Normal("y", pm.Normal("mu"), observed=[0.5])
        >>> un.log_z(un.from_pymc(model))  # doctest: +SKIP

    References:
        Abril-Pla et al. (2023), PyMC: a modern and comprehensive probabilistic programming
        framework in Python, doi:10.7717/peerj-cs.1516.
    """
    if importlib.util.find_spec("pymc") is None:
        raise ImportError(
            "from_pymc needs PyMC, which is not installed; run pip install 'unnorm[pymc]'."
        )
    if not hasattr(model, "value_vars"):
        raise TypeError(
            f"from_pymc was given {shown(model)}; expected a pymc.Model; pass the model, not its "
            "trace."
        )
    if model.discrete_value_vars:
        raise ValueError(
            f"Random variable {model.discrete_value_vars[0].name} is discrete and not observed; "
            "expected continuous ones; marginalize it, or observe it."
        )
    function = PyMCFunction(model)
    variables = {name: _support(function, name) for name in function.shapes}
    density = Density(function, variables)
    coords = {name: list(values) for name, values in model.coords.items() if values is not None}
    sizes = {
        name: coords.get(name, int(length.eval()))
        for name, length in model.dim_lengths.items()
        if name in density.dimensions
    }
    return density.with_dimensions(**sizes)


def _support(function: "PyMCFunction", name: str) -> Support:
    axes = function.axes_of(function.random_variables[name], function.shapes[name])
    return Real[axes] if axes else Real


class PyMCFunction:
    """The joint log-density of the value variables, as JAX operations."""

    def __init__(self, model: Any) -> None:
        x64 = jax.config.jax_enable_x64  # type: ignore[attr-defined]  # set at run time
        from pymc.sampling.jax import get_jaxified_graph

        try:
            self.model, values = model, list(model.value_vars)
            start = model.initial_point()
            self.shapes = {var.name: np.shape(start[var.name]) for var in values}
            self.random_variables = {model.rvs_to_values[rv].name: rv.name for rv in model.free_RVs}
            self._log_density = get_jaxified_graph(inputs=values, outputs=[model.logp()])
            kept = [v for v in model.unobserved_value_vars if v.name not in self.shapes]
            self._names = [var.name for var in kept]
            self._rest = get_jaxified_graph(inputs=values, outputs=kept) if kept else None
        finally:  # PyTensor switches JAX to double precision; that is the user's choice
            jax.config.update("jax_enable_x64", x64)
        rest = jax.eval_shape(self.deterministics, *(np.zeros(s) for s in self.shapes.values()))
        self.deterministic_axes = {n: self.axes_of(n, r.shape) for n, r in rest.items()}
        self.__name__ = model.name or "pymc_model"

    def __call__(self, *values: jax.Array) -> jax.Array:
        with _single_precision_too():
            return self._log_density(*values)[0]

    def deterministics(self, *values: jax.Array) -> dict[str, jax.Array]:
        """The random variables at their own values, and the model's Deterministics."""
        with _single_precision_too():
            found = () if self._rest is None else self._rest(*values)
        return dict(zip(self._names, found, strict=True))

    def axes_of(self, name: str, shape: tuple[int, ...]) -> tuple[Axis, ...]:
        """The dims of a quantity by its name, where they fit its shape; sizes elsewhere."""
        dims = self.model.named_vars_to_dims.get(name, (None,) * len(shape))
        sizes = [None if dim is None else int(self.model.dim_lengths[dim].eval()) for dim in dims]
        if len(dims) != len(shape):
            return shape
        named = zip(dims, sizes, shape, strict=True)
        return tuple(dim if dim is not None and size == own else own for dim, size, own in named)

    def events_of(self, draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draws of random variables, (chain, draw, ...), as draws of the value variables."""
        found = dict(draws)
        for rv in self.model.free_RVs:
            transform, name = self.model.rvs_to_transforms[rv], self.model.rvs_to_values[rv].name
            if rv.name in draws:
                value = np.asarray(draws[rv.name])
                moved = value if transform is None else transform.forward(value, *rv.owner.inputs)
                found[name] = np.asarray(moved.eval() if hasattr(moved, "eval") else moved)
        return found


@contextlib.contextmanager
def _single_precision_too() -> Iterator[None]:
    """PyTensor asks for double precision by name, of which JAX warns in single precision."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Explicitly requested dtype")
        yield


__all__ = ["PyMCFunction", "from_pymc"]

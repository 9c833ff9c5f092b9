"""Draws that another run left, as chains of the density: read, checked, and evaluated."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.containers import to_numbers, transpose_to_axes
from unnorm.core.messages import join_names, shown
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.partition.annealing.chains import Chains
from unnorm.partition.annealing.tempered import log_target

KINDS = (
    "the result of un.sample, ArviZ's InferenceData or DataTree, a dict of arrays (chain, draw, "
    "...), NumPyro's MCMC or CmdStanMCMC"
)


def chains_of_draws(view: Unconstrained, given: Any) -> Chains:
    """Draws with known chains, and the log-density and its gradient at them.

    Args:
        view: of the density that they are draws of; its variables are continuous.
        given: ArviZ data with a posterior group, a dict of arrays (chain, draw, ...), NumPyro's
            MCMC, or what has `stan_variables()` or `draws_pd()` with its number of chains.

    Raises:
        TypeError, ValueError: something else, a variable that is missing, or of another shape.
    """
    events = _events(view.density, _by_name(given))
    chains, draws = next(iter(events.values())).shape[:2]
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in events.items()}
    positions = view.positions_of(flat)
    values, gradients = map(np.asarray, _evaluate(view, positions))
    points = np.asarray(jax.vmap(view.flatten)(positions), float)
    shape = (chains, draws, -1)
    return Chains(
        draws=points.reshape(shape),
        means=np.zeros((chains, draws, 0)),
        log_target=values.astype(float).reshape(chains, draws),
        log_proposal=np.zeros((chains, draws)),
        gradients=gradients.astype(float).reshape(shape),
        nonfinite=int(np.sum(~(values < np.inf))),
        evaluations={"values": 0, "gradients": chains * draws},
    )


@compiled
def _evaluate(view: Unconstrained, positions: Position) -> tuple[jax.Array, jax.Array]:
    flat = jax.vmap(view.flatten)(positions)
    value_and_gradient = jax.value_and_grad(lambda point: log_target(view, view.split(point)))
    return jax.lax.map(value_and_gradient, flat, batch_size=1024)


# -- the containers --------------------------------------------------------------------------------
def _by_name(given: Any) -> dict[str, Any]:
    """Draws by name with the axes (chain, draw, ...), from whatever holds them."""
    given = getattr(given, "posterior", given)
    if hasattr(given, "data_vars"):
        return {str(name): _leading(array, str(name)) for name, array in given.data_vars.items()}
    if isinstance(given, Mapping):
        held = given.get("posterior")
        return dict(held if isinstance(held, Mapping) else given)
    if hasattr(given, "get_samples"):  # NumPyro's MCMC
        return dict(given.get_samples(group_by_chain=True))
    if hasattr(given, "stan_variables"):  # CmdStanMCMC
        return {name: _split(given, value) for name, value in given.stan_variables().items()}
    if hasattr(given, "draws_pd"):
        return _of_table(given.draws_pd())
    raise TypeError(f"draws is {shown(given)}; expected {KINDS}; pass one of these.")


def _leading(array: Any, name: str) -> Any:
    missing = [axis for axis in ("chain", "draw") if axis not in array.dims]
    if missing:
        raise ValueError(
            f"draws of {name} have the axes {', '.join(map(str, array.dims))}; expected chain and "
            "draw among them; rename or add them."
        )
    return array.transpose("chain", "draw", ...)


def _split(given: Any, value: Any) -> np.ndarray:
    """Draws of all chains one after another, as (chain, draw, ...)."""
    value, chains = np.asarray(value), int(given.chains)
    return value.reshape(chains, len(value) // chains, *value.shape[1:])


def _of_table(table: Any) -> dict[str, np.ndarray]:
    """A table of Stan's columns `theta[1,2]`, with the chain of each row in `chain__`."""
    if "chain__" not in table:
        raise ValueError(
            "draws_pd() has no column chain__, so that the chains are not known; expected that "
            "column; pass a dict of arrays (chain, draw, ...)."
        )
    chain = np.asarray(table["chain__"])
    columns: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        if not column.partition("[")[0].endswith("__"):
            columns.setdefault(column.partition("[")[0], []).append(column)
    found = {}
    for name, own in columns.items():
        last = own[-1].partition("[")[2].rstrip("]")
        shape = tuple(int(size) for size in last.split(",")) if last else ()
        parts = [table.loc[chain == one, own].to_numpy() for one in np.unique(chain)]
        found[name] = np.stack([_column_major(part, shape) for part in parts])
    return found


def _column_major(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of entries in Stan's order, the first index the fastest, as (n, *shape)."""
    return rows.reshape(len(rows), *shape[::-1]).transpose(0, *range(len(shape), 0, -1))


# -- the events ------------------------------------------------------------------------------------
def _events(density: Density, draws: dict[str, Any]) -> dict[str, np.ndarray]:
    """The draws of each variable, (chain, draw, *event), inside its support."""
    convert = getattr(density.function, "events_of", None)
    if convert is not None and not set(density.variables) <= set(draws):
        draws = convert({name: np.asarray(value) for name, value in draws.items()})
    missing = [name for name in density.variables if name not in draws]
    if missing:
        raise ValueError(
            f"draws hold {join_names(list(draws)) or 'nothing'}, and {density.name} has the "
            f"variable {missing[0]} too; expected draws of every variable; add {missing[0]}, or "
            "draw with un.sample."
        )
    events, shapes = {}, density.shapes()
    for name, support in density.variables.items():
        what = f"draws of {name}"
        value = to_numbers(transpose_to_axes(draws[name], what, support.shape_axes), what)
        if value.ndim != 2 + len(shapes[name]) or value.shape[2:] != shapes[name]:
            raise ValueError(
                f"{what} have the shape {value.shape}; expected (chain, draw"
                f"{''.join(f', {size}' for size in shapes[name])}); reshape them, "
                f"with {name}[None] for one chain."
            )
        support.check(value, what)
        events[name] = value.astype(float)
    sizes = {value.shape[:2] for value in events.values()}
    if len(sizes) > 1:
        raise ValueError(
            f"draws have the leading shapes {sorted(sizes)}; expected the same (chain, draw) for "
            "all variables; make them agree."
        )
    return events


__all__ = ["KINDS", "chains_of_draws"]

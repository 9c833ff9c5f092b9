"""Where chains begin, and the probe that turns a bad density or start into a sentence before
anything is compiled.
"""

from functools import partial
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.containers import to_numbers, transpose_to_axes
from unnorm.core.random_keys import fold_in, key_array, make_key, split_keys
from unnorm.core.trace_errors import first_line
from unnorm.declaration.slots import refuse_unknown, unify
from unnorm.declaration.unconstrained import Unconstrained


def find_starts(
    target: Unconstrained, kernel: Any, start: dict | None, keys: jax.Array, dtype
) -> dict:
    """Return one checked position for every chain: finite log-density and, where it is needed,
    finite gradient.
    """
    if isinstance(start, str):
        return _pathfinder_starts(target, kernel, start, keys, dtype)
    positions = None if start is None else given_starts(target, start, len(keys), dtype)
    if positions is None:
        positions = _random_starts(target, kernel, keys, dtype)
    else:
        values, gradients = _probe(target, kernel, positions)
        _refuse_bad(target, positions, values, gradients)
    _refuse_flat(target, kernel, positions)
    return positions


def given_starts(target: Unconstrained, start: Any, count: int, dtype) -> dict:
    """The user's starts, one event for all chains or one for each, as positions."""
    density, shapes = target.density, target.density.shapes()
    if not isinstance(start, dict):
        start = {next(iter(shapes)): start} if len(shapes) == 1 else {}
    refuse_unknown("start", "variable", start, shapes)
    missing = [name for name in shapes if name not in start]
    if missing:
        raise ValueError(
            f"start has no value for {missing[0]}; expected one for every variable; pass a dict "
            f"with values of {', '.join(shapes)}."
        )
    positions = {}
    for name, support in target.supports.items():
        value = transpose_to_axes(start[name], f"start of {name}", support.shape_axes)
        value = to_numbers(value, f"start of {name}").astype(float)
        if value.ndim == len(shapes[name]) + 1 and len(value) != count:
            raise ValueError(
                f"start of {name} holds {len(value)} chains; expected {count} or a single event; "
                "make them agree."
            )
        unify({}, _slot(density, name), value.shape[value.ndim - len(shapes[name]) :])
        if value.shape[value.ndim - len(shapes[name]) :] != shapes[name]:
            raise ValueError(
                f"start of {name} has the shape {value.shape}; expected {shapes[name]}; reshape it."
            )
        support.check(value, f"start of {name}")
        value = support.inward(np.broadcast_to(value, (count, *shapes[name])))
        positions[name] = jax.vmap(support.unconstrain)(jnp.asarray(value, dtype))
    return positions


def _pathfinder_starts(
    target: Unconstrained, kernel: Any, start: str, keys: jax.Array, dtype
) -> dict:
    """A draw for each chain of the best normal approximation along its own optimisation path."""
    discrete = [name for name, support in target.supports.items() if support.discrete]
    if start != "pathfinder" or discrete:
        found = (
            f"start is {start!r}"
            if start != "pathfinder"
            else f"start is 'pathfinder', and {discrete[0]} discrete"
        )
        raise ValueError(
            f"{found}; expected 'pathfinder' on continuous variables, or values; pass one of the "
            "two."
        )
    positions = _random_starts(target, kernel, keys, dtype)
    positions = _pathfinder(target, positions, keys)
    values, gradients = _probe(target, kernel, positions)
    _refuse_bad(target, positions, values, gradients)
    return positions


def _slot(density, name):
    return next(slot for slot in density._structure.slots if slot.name == name)


def _random_starts(
    target: Unconstrained, kernel: Any, keys: jax.Array, dtype: Any, attempts: int = 100
) -> dict:
    """Random positions, drawn again for the chains whose log-density or gradient is not finite
    there; as often as in Stan.
    """
    positions = random_positions(target, keys, 0, dtype)
    values, gradients = _probe(target, kernel, positions)
    good = _finite(values, gradients)
    for attempt in range(1, attempts):
        if good.all() or np.isposinf(values).any():
            break
        again = random_positions(target, keys, attempt, dtype)
        positions = jax.tree.map(partial(_keep, good), positions, again)
        values, gradients = _probe(target, kernel, positions)
        good = _finite(values, gradients)
    _refuse_bad(target, positions, values, gradients)
    return positions


def _keep(good: np.ndarray, old: jax.Array, new: jax.Array) -> jax.Array:
    """The old values of the good chains and new ones for the others."""
    return jnp.where(good.reshape(good.shape + (1,) * (old.ndim - 1)), old, new)


def _finite(values: np.ndarray, gradients: dict) -> np.ndarray:
    good = np.isfinite(values)
    for gradient in gradients.values():
        good &= np.isfinite(gradient).reshape(len(values), -1).all(1)
    return good


def _probe(target: Unconstrained, kernel: Any, positions: dict) -> tuple[np.ndarray, dict]:
    """Values and gradients at the positions; what JAX cannot trace is said in a sentence."""
    name = target.density.name
    try:
        values = np.asarray(target.log_densities(positions))
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ValueError(
            f"Density {name} cannot be traced by JAX ({type(error).__name__}); expected jax.numpy "
            "operations in place of NumPy's and jnp.where in place of if; rewrite the function "
            "with these."
        ) from None
    if not kernel.needs_gradient or all(support.discrete for support in target.supports.values()):
        return values, {}
    try:
        return values, {n: np.asarray(g) for n, g in _gradients_at(target, positions).items()}
    except Exception as error:  # any failure of differentiation means the same to the user
        raise ValueError(
            f"Density {name} cannot be differentiated ({first_line(error)}), and "
            f"{type(kernel).__name__} needs its gradient; expected differentiable operations; use "
            "un.kernels.RandomWalkMH, or write the density with them."
        ) from error


def _refuse_bad(
    target: Unconstrained, positions: dict, values: np.ndarray, gradients: dict
) -> None:
    """Say which chain starts badly, where, and what was found."""
    name = target.density.name
    if not _finite(values, gradients).all():
        chain = int(np.argmin(_finite(values, gradients)))
        event = target.constrain(jax.tree.map(lambda leaf: leaf[chain], positions))
        place = ", ".join(
            f"{n} = {np.array2string(np.asarray(v), precision=4, threshold=6)}"
            for n, v in event.items()
        )
        place = " ".join(place.split())
        if not np.isfinite(values[chain]):
            raise ValueError(
                f"Density {name} is {values[chain]} at the start of chain {chain}, {place}; "
                "expected a finite "
                "log-density; pass start= inside the support, or correct the density there."
            )
        which = next(n for n, g in gradients.items() if not np.isfinite(g[chain]).all())
        raise ValueError(
            f"The gradient of {name} in {which} is not finite at the start of chain {chain}, "
            f"{place}; expected finite numbers; pass another start=, or correct the density there "
            "(a square root or division at 0 is the usual cause)."
        )


def _refuse_flat(target: Unconstrained, kernel: Any, positions: dict) -> None:
    """A density whose value moves while its gradient is zero at every start is a step function."""
    if not kernel.needs_gradient or any(support.discrete for support in target.supports.values()):
        return
    beside = jax.tree.map(
        lambda leaf: np.asarray(leaf) + np.asarray(leaf).dtype.type(0.37), positions
    )  # a start may be a mode, where the gradient is zero
    plain = _gradients_at(target.without_jacobian(), beside)
    flat = [name for name, gradient in plain.items() if not np.any(np.asarray(gradient))]
    if len(flat) == len(plain) and len(positions[flat[0]]) > 1:
        values = [target.without_jacobian().log_densities(at) for at in (positions, beside)]
        if np.ptp(np.concatenate(values)) > 0:
            raise ValueError(
                f"The gradient of {target.density.name} in {flat[0]} is zero at every start "
                f"although its value changes, and {type(kernel).__name__} needs one; expected a "
                "gradient other than zero; use un.kernels.RandomWalkMH, or replace rounding and "
                "comparisons."
            )


def probe_positions(
    target: Unconstrained, start: Any, seed: int, chains: int, points: int = 8
) -> dict[str, np.ndarray]:
    """Positions in single precision at which a run's precision is checked: starts that were given,
    and random ones.
    """
    with jax.enable_x64(False):
        target = target.in_precision(np.float32)
        # key i is the key with i folded in: threefry splits so
        keys = key_array(make_key(seed, always_threefry=True), points)
        positions = random_positions(target, keys, 0, np.dtype(np.float32))
        if start is not None and not isinstance(start, str):
            given = given_starts(target, start, chains, np.dtype(np.float32))
            positions = {
                name: value.at[: min(chains, points // 2)].set(given[name][: points // 2])
                for name, value in positions.items()
            }
        return jax.tree.map(np.asarray, positions)


# -- compiled --------------------------------------------------------------------------------------
@compiled(static_argnames="dtype")
def random_positions(target: Unconstrained, keys: jax.Array, attempt: int, dtype: Any) -> dict:
    """One random position for every key."""
    return jax.vmap(lambda key: target.random_position(fold_in(key, attempt), dtype))(keys)


@compiled
def _gradients_at(target: Unconstrained, positions: dict) -> dict:
    return jax.vmap(jax.grad(target.log_density))(positions)


@compiled
def _pathfinder(target: Unconstrained, positions: dict, keys: jax.Array) -> dict:
    """A draw of Pathfinder's approximation, from each position (Zhang et al., 2022,
    arXiv:2108.03782).
    """

    def one(position, key):
        approximate, draw = split_keys(key)
        state, _ = blackjax.vi.pathfinder.approximate(approximate, target.log_density, position)
        samples, _ = blackjax.vi.pathfinder.sample(draw, state, 1)
        return jax.tree.map(lambda leaf, was: leaf[0].astype(was.dtype), samples, position)

    return jax.lax.map(lambda given: one(*given), (positions, keys))

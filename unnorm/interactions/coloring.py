"""Changes of a log-density by single discrete sites, and colourings of the interaction graph."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, make_key, split_keys
from unnorm.core.trace_errors import about_derivatives
from unnorm.declaration.density import cast
from unnorm.interactions.options import COLOURING, ColouringOptions


class Changes(NamedTuple):
    """The log-density, and its change by every state of every site, ``{name: (sites, states)}``."""

    log_density: jax.Array
    by_state: dict[str, jax.Array]


class Colouring(NamedTuple):
    """A colour for every site, by variable; sites of one colour do not interact. Hashable."""

    colours: tuple[tuple[str, tuple[int, ...]], ...]
    linear: bool  # whether the gradient gives the changes exactly

    @property
    def count(self) -> int:  # type: ignore[override]  # replaces tuple.count
        """The number of colours."""
        return 1 + max(max(sites) for _, sites in self.colours)

    def of(self, name: str) -> np.ndarray:
        """The colours of a variable's sites."""
        return np.array(dict(self.colours)[name])


def discrete_names(target: Any) -> list[str]:
    """The discrete variables, in the order in which JAX flattens a dict of them."""
    return sorted(name for name, support in target.supports.items() if support.states is not None)


def changes_by_gradient(target: Any, position: dict) -> Changes:
    """∂f/∂x_i · (s − x_i) for every state s: exact if log p̃ is linear in each site."""
    supports = {name: target.supports[name] for name in discrete_names(target)}
    encoded = {name: support.encode(position[name]) for name, support in supports.items()}
    value, slope = jax.value_and_grad(lambda moved: target.log_density(position | moved))(encoded)
    by_state = {}
    for name, support in supports.items():
        # one-hot: the slope has an entry for every state
        if encoded[name].ndim > position[name].ndim:
            gains = slope[name].reshape(-1, len(support.states))
            now = jnp.sum(gains * encoded[name].reshape(gains.shape), -1, keepdims=True)
            by_state[name] = gains - now
        else:
            states = jnp.asarray(support.states, position[name].dtype)
            flat = position[name].reshape(-1, 1)
            by_state[name] = slope[name].reshape(-1, 1) * (states - flat)
    return Changes(value, by_state)


def changes_by_trial(target: Any, position: dict) -> Changes:
    """f(x with site i in state s) − f(x) for every site and state, by evaluating each."""
    value, by_state = target.log_density(position), {}
    for name in discrete_names(target):
        states = jnp.asarray(target.supports[name].states, position[name].dtype)
        flat = position[name].ravel()

        def change(site, state, name=name, flat=flat):
            moved = flat.at[site].set(state).reshape(position[name].shape)
            return target.log_density(position | {name: moved}) - value

        by_site = jax.vmap(jax.vmap(change, (None, 0)), (0, None))
        by_state[name] = by_site(jnp.arange(flat.size), states)
    return Changes(value, by_state)


# -- the search ------------------------------------------------------------------------------------
def find_colouring(
    target: Any, groups: str | None = None, options: ColouringOptions = COLOURING
) -> Colouring | None:
    """Sites that may be updated together, detected at random states; None if there are none.

    Interactions are the non-zero entries of the Hessian at random real points, which shows every
    interaction of an analytic function. Random joint moves within a colour then verify that the
    changes add up, which detects the others.

    Args:
        target: its log-density is evaluated in float64.
        groups: "variables" gives every variable one colour; None: greedy colouring of the
            interaction graph.
        options: limits and tolerance.
    """
    with jax.enable_x64(True):
        target = cast(target, jnp.float64)
        keys = [make_key(i) for i in range(options.states)]
        positions = [target.random_position(key, jnp.float64) for key in keys]
        if not all(np.isfinite(_value(target, position)) for position in positions):
            return None
        names = discrete_names(target)
        sizes = {name: positions[0][name].size for name in names}
        if sum(sizes.values()) > options.max_sites:
            return None
        try:
            if groups == "variables":
                flat = np.repeat(np.arange(len(sizes)), list(sizes.values()))
            else:
                flat = greedy_colours(interaction_matrix(target, positions, options))
                if flat.max() + 1 > options.max_colour_share * len(flat):
                    return None
        except Exception as error:
            if about_derivatives(error):  # it is sampled site by site
                return None
            raise
        positions += _likely_positions(target, positions[0], options)
        keys = [make_key(i) for i in range(len(positions))]
        parts = np.split(flat, np.cumsum(list(sizes.values()))[:-1])
        colours = _rank_colours(target, dict(zip(names, parts, strict=True)))
        verdicts = [
            _is_additive(target, position, colours, key, options)
            for position, key in zip(positions, keys, strict=True)
        ]
    additive, linear = (all(bool(verdict[i]) for verdict in verdicts) for i in range(2))
    return Colouring(colours, linear) if additive else None


def _likely_positions(target: Any, start: dict, options: ColouringOptions) -> list[dict]:
    """States where a term by `where` or `==`, which derivatives do not show, is likely to hold: all
    sites alike, and the ends of ascents.
    """
    names = discrete_names(target)
    most = max(len(target.supports[name].states) for name in names)
    alike = []
    for code in range(min(most, options.alike)):
        position = dict(start)
        for name in names:
            states = target.supports[name].states
            position[name] = jnp.full_like(start[name], states[code % len(states)])
        alike.append(position)
    keys = [make_key(100 + i) for i in range(options.ascents)]
    ends = [_ascend(target, target.random_position(key, jnp.float64)) for key in keys]
    return [at for at in alike + ends if np.isfinite(_value(target, at))]


@compiled
def _ascend(target: Any, position: dict) -> dict:
    """The state after moving, as often as there are sites, the site that gains most."""
    names = discrete_names(target)

    def step(_, position):
        gains = changes_by_trial(target, position).by_state
        best = jnp.stack([jnp.nanmax(gains[name]) for name in names])
        moved = dict(position)
        for i, name in enumerate(names):
            states = jnp.asarray(target.supports[name].states, position[name].dtype)
            site, code = jnp.divmod(jnp.nanargmax(gains[name]), len(states))
            flat = position[name].ravel()
            take = (best[i] > 0) & (best[i] == best.max())
            flat = flat.at[site].set(jnp.where(take, states[code], flat[site]))
            moved[name] = flat.reshape(position[name].shape)
        return moved

    count = sum(position[name].size for name in names)
    return jax.lax.fori_loop(0, count, step, position)


def _rank_colours(
    target: Any, colours: dict[str, np.ndarray]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The colours renumbered, so that they are visited in the order of declaration.

    With h latent and drawn given the data, a step of contrastive divergence that began with h would
    spend its first half on drawing h again.
    """
    declared = np.concatenate([colours[name] for name in target.supports if name in colours])
    values, first = np.unique(declared, return_index=True)
    rank = np.empty(values.max() + 1, int)
    rank[values[np.argsort(first)]] = np.arange(len(values))
    return tuple((name, tuple(map(int, rank[part]))) for name, part in colours.items())


@compiled
def _value(target: Any, position: dict) -> jax.Array:
    return target.log_density(position)


def interaction_matrix(
    target: Any, positions: list[dict], options: ColouringOptions = COLOURING
) -> np.ndarray:
    """Which sites interact: a boolean matrix with a diagonal of zeros."""
    names = discrete_names(target)
    owner: Any = []
    for name in names:
        states = len(target.supports[name].states)
        encoded = jnp.ndim(target.supports[name].encode(positions[0][name])) > jnp.ndim(
            positions[0][name]
        )
        owner.append(
            np.repeat(np.arange(positions[0][name].size), states if encoded else 1)
            + sum(map(_sites, owner))
        )
    owner = np.concatenate(owner)
    found = np.zeros((owner.max() + 1,) * 2, bool)
    for i, position in enumerate(positions):
        hessian = np.asarray(_hessian(target, position, make_key(i)))
        scale = max(1.0, np.nanmax(np.abs(hessian), initial=0))
        rows, columns = np.nonzero(~(np.abs(hessian) <= options.tolerance * scale))
        found[owner[rows], owner[columns]] = True
    np.fill_diagonal(found, False)
    return found | found.T


def _sites(owners: np.ndarray) -> int:
    return len(np.unique(owners))


@compiled
def _hessian(target: Any, position: dict, key: jax.Array) -> jax.Array:
    """The Hessian in the encoded sites at a real point near a state."""
    encoded = {
        name: target.supports[name].encode(position[name]) for name in discrete_names(target)
    }
    flat, unravel = ravel_pytree(encoded)
    flat = flat + jax.random.uniform(key, flat.shape, flat.dtype)
    slope = jax.grad(lambda moved: target.log_density(position | unravel(moved)))
    return jax.lax.map(
        lambda axis: jax.jvp(slope, (flat,), (axis,))[1], jnp.eye(flat.size), batch_size=64
    )


def greedy_colours(interacting: np.ndarray) -> np.ndarray:
    """A greedy colouring of a graph, by decreasing degree (Welsh and Powell, 1967)."""
    colours = np.full(len(interacting), -1)
    for site in np.argsort(-interacting.sum(1), kind="stable"):
        taken = set(colours[interacting[site]].tolist())
        colours[site] = next(colour for colour in range(len(interacting)) if colour not in taken)
    return colours


@compiled(static_argnums=(2, 4))
def _is_additive(
    target: Any, position: dict, colours: tuple, key: jax.Array, options: ColouringOptions
) -> tuple[jax.Array, jax.Array]:
    """Whether changes within each colour add up, and whether the gradient gives them."""
    exact = changes_by_trial(target, position)
    to_first_order = changes_by_gradient(target, position)
    scale = 1.0 + jnp.abs(exact.log_density)
    apart = [
        jnp.max(jnp.abs(exact.by_state[name] - to_first_order.by_state[name]))
        for name, _ in colours
    ]
    linear = jnp.stack(apart).max() <= options.tolerance * scale

    def joint_move(key, colour):
        moved: dict = dict(position)
        expected: Any = 0.0
        for one, (name, sites) in zip(key_array(key, len(colours)), colours, strict=True):
            states = jnp.asarray(target.supports[name].states)
            pick, choose = split_keys(one)
            code = jax.random.randint(pick, (len(sites),), 0, len(states))
            moving = (jnp.asarray(sites) == colour) & jax.random.bernoulli(
                choose, 0.5, (len(sites),)
            )
            flat = jnp.where(moving, states[code], position[name].ravel())
            moved[name] = flat.reshape(position[name].shape)
            gains = jnp.take_along_axis(exact.by_state[name], code[:, None], 1)[:, 0]
            expected += jnp.sum(jnp.where(moving, gains, 0.0))
        return jnp.abs(target.log_density(moved) - exact.log_density - expected)

    count = 1 + max(max(sites) for _, sites in colours)
    keys, moves = key_array(key, options.joint_moves), jnp.arange(options.joint_moves)
    errors = jax.lax.map(lambda move: joint_move(*move), (keys, moves % count))
    return jnp.max(errors) <= options.tolerance * scale, linear

"""How a log-density changes with single discrete sites, and which sites interact."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.trace_errors import about_derivatives
from unnorm.declaration.density import cast

MOST_SITES = 4096  # the probe holds a matrix of sites by sites
STATES, SUBSETS = (
    3,
    64,
)  # random states at which interactions are looked for, random joint moves that check them
TOLERANCE = 1e-8  # of the log-density's changes, in float64


class Changes(NamedTuple):
    """The log-density, and by how much each site's every state would change it: ``{name: (sites,
    states)}``.
    """

    log_density: jax.Array
    by_state: dict[str, jax.Array]


class Colouring(NamedTuple):
    """A colour for every site, by variable; sites of one colour do not interact. Hashable, for it
    is structure.
    """

    colours: tuple[tuple[str, tuple[int, ...]], ...]
    linear: bool  # whether a gradient gives the changes, or each site must be tried

    @property
    def count(self) -> int:  # type: ignore[override]  # a tuple's count is never wanted here
        return 1 + max(max(sites) for _, sites in self.colours)

    def of(self, name: str) -> np.ndarray:
        return np.array(dict(self.colours)[name])


def discrete_names(target: Any) -> list[str]:
    """In the order in which JAX flattens a dict of them."""
    return sorted(name for name, support in target.supports.items() if support.states is not None)


def changes_by_gradient(target: Any, position: dict) -> Changes:
    """∂f/∂x_i · (s − x_i) for every state s: exact where log p̃ is linear in each site, else to
    first order.
    """
    supports = {name: target.supports[name] for name in discrete_names(target)}
    encoded = {name: support.encode(position[name]) for name, support in supports.items()}
    value, slope = jax.value_and_grad(lambda moved: target.log_density(position | moved))(encoded)
    by_state = {}
    for name, support in supports.items():
        if (
            encoded[name].ndim > position[name].ndim
        ):  # one-hot: the slope has an entry for every state
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
        states, flat = (
            jnp.asarray(target.supports[name].states, position[name].dtype),
            position[name].ravel(),
        )

        def tried(site, state, name=name, flat=flat):
            moved = flat.at[site].set(state).reshape(position[name].shape)
            return target.log_density(position | {name: moved}) - value

        by_site = jax.vmap(jax.vmap(tried, (None, 0)), (0, None))
        by_state[name] = by_site(jnp.arange(flat.size), states)
    return Changes(value, by_state)


# -- the probe -------------------------------------------------------------------------------------
def find_colouring(target: Any, groups: str | None = None) -> Colouring | None:
    """Sites that may be updated together, found out at random states; None where there is nothing
    to gain.

    Interactions are the non-zero entries of the Hessian at random real points, which sees every
    interaction of an analytic function; random joint moves within a colour then check that the
    changes add up, which sees the others.

    Args:
        target: its log-density is probed in float64.
        groups: "variables" gives every variable one colour; None: greedy colouring of the
            interaction graph.
    """
    with jax.enable_x64(True):
        target = cast(target, jnp.float64)
        positions = [target.random_position(jax.random.key(i), jnp.float64) for i in range(STATES)]
        if not all(np.isfinite(_value(target, position)) for position in positions):
            return None
        names = discrete_names(target)
        sizes = {name: positions[0][name].size for name in names}
        if sum(sizes.values()) > MOST_SITES:
            return None
        try:
            apart = None if groups == "variables" else _interactions(target, positions)
        except Exception as error:
            if about_derivatives(error):  # it is sampled site by site
                return None
            raise
        if apart is None:
            flat = np.concatenate([np.full(size, i) for i, size in enumerate(sizes.values())])
        else:
            flat = greedy_colours(apart)
            if flat.max() + 1 > 0.5 * len(flat):
                return None
        cuts = np.cumsum(list(sizes.values()))[:-1]
        split = _in_declared_order(target, dict(zip(names, np.split(flat, cuts), strict=True)))
        colours = tuple(
            (name, tuple(map(int, part))) for name, part in zip(names, split, strict=True)
        )
        verdicts = [
            _adds_up(target, position, colours, jax.random.key(i))
            for i, position in enumerate(positions)
        ]
    additive, linear = (all(bool(verdict[i]) for verdict in verdicts) for i in range(2))
    return Colouring(colours, linear) if additive else None


def _in_declared_order(target: Any, colours: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The colours renamed, so that they are visited as the variables are declared: v before h, if v
    comes first.

    A step of contrastive divergence with h latent, drawn given the data, would spend its first half
    on drawing h again.
    """
    declared = np.concatenate([colours[name] for name in target.supports if name in colours])
    found, first = np.unique(declared, return_index=True)
    rank = np.empty(found.max() + 1, int)
    rank[found[np.argsort(first)]] = np.arange(len(found))
    return [rank[part] for part in colours.values()]


@jax.jit
def _value(target: Any, position: dict) -> jax.Array:
    return target.log_density(position)


def _interactions(target: Any, positions: list[dict]) -> np.ndarray:
    """Which sites interact: a boolean matrix without its diagonal."""
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
        hessian = np.asarray(_hessian(target, position, jax.random.key(i)))
        rows, columns = np.nonzero(
            ~(np.abs(hessian) <= TOLERANCE * max(1.0, np.nanmax(np.abs(hessian), initial=0)))
        )
        found[owner[rows], owner[columns]] = True
    np.fill_diagonal(found, False)
    return found | found.T


def _sites(owners: np.ndarray) -> int:
    return len(np.unique(owners))


@jax.jit
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
    """A colour for every node of a graph, busy ones first, such that neighbours differ (Welsh and
    Powell, 1967).
    """
    colours = np.full(len(interacting), -1)
    for site in np.argsort(-interacting.sum(1), kind="stable"):
        taken = set(colours[interacting[site]].tolist())
        colours[site] = next(colour for colour in range(len(interacting)) if colour not in taken)
    return colours


@functools.partial(jax.jit, static_argnums=2)
def _adds_up(
    target: Any, position: dict, colours: tuple, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Whether changes within each colour add up, and whether the gradient gives them."""
    tried = changes_by_trial(target, position)
    sloped = changes_by_gradient(target, position)
    scale = 1.0 + jnp.abs(tried.log_density)
    apart = [jnp.max(jnp.abs(tried.by_state[name] - sloped.by_state[name])) for name, _ in colours]
    linear = jnp.stack(apart).max() <= TOLERANCE * scale

    def joint_move(key, colour):
        moved: dict = dict(position)
        expected: Any = 0.0
        for one, (name, sites) in zip(jax.random.split(key, len(colours)), colours, strict=True):
            states = jnp.asarray(target.supports[name].states)
            pick, choose = jax.random.split(one)
            code = jax.random.randint(pick, (len(sites),), 0, len(states))
            moving = (jnp.asarray(sites) == colour) & jax.random.bernoulli(
                choose, 0.5, (len(sites),)
            )
            flat = jnp.where(moving, states[code], position[name].ravel())
            moved[name] = flat.reshape(position[name].shape)
            gains = jnp.take_along_axis(tried.by_state[name], code[:, None], 1)[:, 0]
            expected += jnp.sum(jnp.where(moving, gains, 0.0))
        return jnp.abs(target.log_density(moved) - tried.log_density - expected)

    count = 1 + max(max(sites) for _, sites in colours)
    keys = jax.random.split(key, SUBSETS)
    errors = jax.lax.map(lambda given: joint_move(*given), (keys, jnp.arange(SUBSETS) % count))
    return jnp.max(errors) <= TOLERANCE * scale, linear

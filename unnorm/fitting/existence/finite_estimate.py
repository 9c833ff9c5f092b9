"""Whether a finite estimate exists, or the loss falls ever on in some direction (Haberman, 1974;
Geyer, 2009).

Complete separation, or a pair of items that is never seen together, sends an optimiser far out,
where the loss is flat to rounding and a small gradient looks like a minimum. Where the margins of
the loss are affine in the parameters the directions of recession are found exactly (`recession`);
for other densities the loss is followed from the estimate.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.fitting.base import HasMargins, HasRecessionDirections, ObjectiveState, Stochastic
from unnorm.fitting.existence.margins import distinct_rows
from unnorm.fitting.existence.recession_directions import Cone, cone
from unnorm.fitting.loss import Loss, scores_and_curvature
from unnorm.fitting.row_normalizers import latent_variables


@dataclass(frozen=True)
class ExistenceOptions:
    """Tolerances of the search for directions in which the loss decreases for ever."""

    # Model-based standard errors that the loss is followed.
    errors: float = 3.0
    # Share of the rise that the curvature predicts there, below which there is none.
    flat: float = 0.01
    # Scaled eigenvalues below minus this are negative, not rounding.
    indefinite: float = 1e-6
    # Smallest scaled eigenvalue of the curvature above rounding.
    floor: float = 1e-13
    # A margin of this has a weight of 6e-6 in the gradient, which a minimum tells from 0.
    wide: float = 12.0
    # g'H⁻¹g of a minimum.
    at_rest: float = 1e-16
    # Of the matrix of margins.
    max_entries: int = 2**24
    # Random directions in which margins are tried.
    trials: int = 4
    # Relative curvature of an affine margin.
    affine: float = 1e-7
    # Scaled eigenvalues below it are 0: the covariance is refused there too.
    singular: float = 1e-11
    # Of a direction of length 1: less is rounding.
    part: float = 1e-4
    # Of a logarithm or a logit: e^20 is 5e8.
    far: float = 20.0
    # A margin that leaves 1e-13 of its weight.
    open_margin: float = 30.0
    # Newton steps in the limit.
    steps: int = 50
    # By how much margins are opened, to see the loss decrease.
    followed: tuple[float, ...] = (1.0, 8.0, 64.0)


EXISTENCE = ExistenceOptions()


class Runaways(NamedTuple):
    """Which coordinates of all that is estimated have no finite estimate: ±1 towards infinity, or
    undetermined.
    """

    signs: np.ndarray
    cone: Cone | None = None
    unidentified: np.ndarray | None = (
        None  # bool: the loss does not change in some direction that moves it
    )
    vector: np.ndarray | None = (
        None  # all that is estimated, at a minimum: near the limit in place of far out
    )

    def any(self) -> bool:
        """Whether there is no finite estimate."""
        return bool(self.signs.any()) or (self.cone is not None and self.cone.any())

    def near_limit(self, loss: Loss) -> Loss:
        """The loss brought back from where the optimizer went to where the limit is seen."""
        if self.vector is None:
            return loss
        return loss.at(jnp.asarray(self.vector, loss.vector.dtype))


def runaways(loss: Loss) -> Runaways:
    """What runs off to infinity, by the margins of the objective where they are affine, else by
    following the loss.

    References: Geyer (2009), doi:10.1214/08-EJS349 (directions of recession).
    """
    objective, density, state, events = loss
    vector = loss.vector
    none = np.zeros(vector.size, int)
    known = None
    if state.penalty is None and isinstance(objective, HasRecessionDirections):
        known = objective.recession_directions(density, state, events)
    if known is not None and np.any(known):
        return Runaways(np.asarray(known))
    psi, curvature = scores_and_curvature(loss)
    if state.penalty is None:
        found = by_margins(loss, _is_minimum(np.asarray(psi), np.asarray(curvature)))
        if found is not None and found.cone.any():
            near = _in_the_limit(loss, found)
            if _falls(loss, found, near):
                return Runaways(found.cone.signs, found.cone, found.cone.unidentified, near)
        elif found is not None and found.cone.unidentified.any():
            return Runaways(none, found.cone, found.cone.unidentified, np.asarray(vector))
    signs = np.asarray(_flat_on_one_side(loss, psi, curvature))
    level = None if signs.any() else _level(np.asarray(curvature))
    if level is not None:
        far = (
            level
            & (np.abs(np.asarray(vector)) > EXISTENCE.far)
            & _towards_bounds(density, vector.size)
        )
        signs = np.where(far, np.sign(np.asarray(vector)), 0).astype(int)
    return Runaways(signs, unidentified=None if signs.any() else level)


def runaways_by_margins(loss: Loss) -> Runaways:
    """The same where there is no minimum to follow the loss from (chains, training): by the margins
    alone.
    """
    none = Runaways(np.zeros(loss.vector.size, int))
    if loss.state.penalty is not None or not loss.has_few_parameters():
        return none
    if latent_variables(loss.density, loss.events):
        return none
    if isinstance(loss.objective, Stochastic):  # its margins are the likelihood's, each row needed once
        loss = loss._replace(events=distinct_rows(loss.events), state=ObjectiveState())
    found = by_margins(loss)
    return (
        none if found is None else Runaways(found.cone.signs, found.cone, found.cone.unidentified)
    )


# -- by the margins --------------------------------------------------------------------------------
class Found(NamedTuple):
    """The margins A θ + b of an objective, and the directions of recession."""

    cone: Cone
    matrix: np.ndarray
    offsets: np.ndarray


def by_margins(loss: Loss, is_minimum: bool = False) -> Found | None:
    """The cone of recession; None where the objective has no margins, or they are not affine in the
    parameters.
    """
    if not isinstance(loss.objective, HasMargins):
        return None
    size = loss.vector.size
    weighted = _with_weight(loss)
    margins = _margins(weighted)
    if margins is None:
        return None
    margins = np.asarray(margins)
    if (is_minimum and not (np.abs(margins) > EXISTENCE.wide).any()) or margins.size * size > EXISTENCE.max_entries:
        return None
    base, values, matrix, affine = map(np.asarray, _slopes(weighted))
    finite = np.isfinite(
        values
    )  # where the density is 0 whatever its parameters, nothing is asked of them
    matrix = matrix[:, finite].T
    if not affine[finite].all() or not np.isfinite(matrix).all():
        return None
    tight = (
        np.abs(margins[finite]) <= EXISTENCE.wide if is_minimum else np.zeros(finite.sum(), bool)
    )
    return Found(cone(matrix, tight), matrix, values[finite] - matrix @ base)


def _with_weight(loss: Loss) -> Loss:
    """The loss on the rows whose weight is not 0."""
    state = loss.state
    if state.weights is None or bool(np.all(np.asarray(state.weights) > 0)):
        return loss
    kept = np.asarray(state.weights) > 0
    rows = jax.tree.map(lambda leaf: leaf[kept], state.per_row)
    return loss._replace(
        events={name: value[kept] for name, value in loss.events.items()},
        state=state._replace(per_row=rows, weights=state.weights[kept]),
    )


@jax.jit
def _margins(loss: Loss) -> jax.Array | None:
    return loss.objective.margins(loss.density, loss.state, loss.events)


@jax.jit
def _slopes(loss: Loss) -> tuple[jax.Array, ...]:
    """θ, the margins there, their derivatives as (p, m), and whether each is affine: m(θ + 2u) + 2
    m(θ − u) = 3 m(θ).

    θ is near 0 where the estimate is far from it, for an affine function has one slope, which
    rounding hides far out.
    """
    vector = loss.vector
    start = jnp.where(jnp.abs(vector) < EXISTENCE.wide, vector, jnp.where(vector < 0, -1.0, 1.0))

    def at(vector):
        there = loss.at(vector)
        return there.objective.margins(there.density, there.state, there.events)

    def bend(step):
        parts = jax.lax.map(at, start + jnp.array([[2.0], [-1.0], [0.0]], start.dtype) * step)
        parts = parts * jnp.array([[1.0], [2.0], [-3.0]], start.dtype)
        return jnp.abs(parts.sum(0)) <= EXISTENCE.affine * (1 + jnp.max(jnp.abs(parts), 0))

    lengths = jnp.where(jnp.arange(EXISTENCE.trials) % 2 == 0, 1.0, 10.0).astype(start.dtype)
    steps = lengths[:, None] * jax.random.normal(
        jax.random.key(0), (EXISTENCE.trials, start.size), start.dtype
    )
    values, push = jax.linearize(at, start)
    matrix = jax.lax.map(push, jnp.eye(start.size, dtype=start.dtype), batch_size=8)
    return start, values, matrix, jnp.all(jax.lax.map(bend, steps), 0)


def _is_minimum(psi: np.ndarray, curvature: np.ndarray) -> bool:
    """Whether g'H⁺g is at rounding level."""
    gradient = psi.mean(0)
    if not (np.isfinite(gradient).all() and np.isfinite(curvature).all()):
        return False
    scale = np.sqrt(np.abs(np.diagonal(curvature)))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(curvature / np.outer(scale, scale))
    kept = values > EXISTENCE.floor * max(values[-1], 0.0)
    parts = vectors.T @ (gradient / scale)
    return bool(
        np.sum(parts[kept] ** 2 / values[kept]) < EXISTENCE.at_rest
        and np.abs(parts[~kept]).max(initial=0.0) < 1e-8
    )


def _towards_bounds(density, size: int) -> np.ndarray:
    """The coordinates whose parameters have a bound: there they are logarithms or logits, and 20 of
    those are far.
    """
    free, supports = density.free(), density.supports
    sizes = {
        name: sum(np.size(leaf) for leaf in jax.tree.leaves(free[name])) for name in sorted(free)
    }
    parts = [
        np.full(count, supports[name].score_matching == "generalized")
        for name, count in sizes.items()
    ]
    found = np.concatenate([*parts, np.zeros(0, bool)])
    return np.concatenate([found, np.zeros(size - len(found), bool)])


def _level(curvature: np.ndarray) -> np.ndarray | None:
    """Which coordinates move in the directions without curvature."""
    scale = np.sqrt(np.abs(np.diagonal(curvature)))
    if not np.isfinite(curvature).all():
        return None
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(curvature / np.outer(scale, scale))
    flat = np.abs(values) <= EXISTENCE.singular * max(abs(values[-1]), 1e-300)
    return np.abs(vectors[:, flat]).max(1, initial=0.0) > EXISTENCE.part


def _in_the_limit(loss: Loss, found: Found) -> np.ndarray:
    """Where the margins of recession are open, and what is determined all the same is at its
    minimum.
    """
    vector = loss.vector
    cone = found.cone
    basis = cone.limit @ np.linalg.inv(cone.limit.T @ cone.limit)
    at = np.nan_to_num(np.asarray(vector))
    at = basis @ (cone.limit.T @ at)
    opened, margins = (
        (found.matrix @ cone.direction)[cone.separated],
        found.matrix @ at + found.offsets,
    )
    at = at + cone.direction * max(0.0, np.max((EXISTENCE.open_margin - margins[cone.separated]) / opened))
    for _ in range(EXISTENCE.steps if basis.shape[1] else 0):
        psi, curvature = scores_and_curvature(loss.at(jnp.asarray(at, vector.dtype)))
        gradient, curvature = (
            basis.T @ np.asarray(psi).mean(0),
            basis.T @ np.asarray(curvature) @ basis,
        )
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        if not np.isfinite(step).all():
            break
        at = at - basis @ step / max(1.0, np.abs(step).max())
        if gradient @ step < EXISTENCE.at_rest * 1e-6:
            break
    return at


def _falls(loss: Loss, found: Found, near: np.ndarray) -> bool:
    """Whether the loss never rises along the direction, as far as it is a number."""
    dtype, step = loss.vector.dtype, found.cone.direction
    step = step / (found.matrix @ step)[found.cone.separated].max()
    places = [jnp.asarray(near + by * step, dtype) for by in (0.0, *EXISTENCE.followed)]
    values = np.asarray(_losses_at(loss, places))
    values = values[np.isfinite(values)]
    return len(values) < 2 or bool(np.all(values[1:] <= values[0] + 1e-7 * (1 + abs(values[0]))))


@jax.jit
def _losses_at(loss: Loss, vectors) -> jax.Array:
    return jax.lax.map(loss.penalized, jnp.stack(vectors))


# -- by following the loss -------------------------------------------------------------------------
@jax.jit
def _flat_on_one_side(loss: Loss, psi: jax.Array, curvature: jax.Array) -> jax.Array:
    """1 or −1 for each coordinate along which the loss does not rise on that side alone.

    Coordinate j is moved three of its model-based standard errors along H⁻¹e_j, the others
    following it: at a finite minimum the summed loss rises by about 9/2 on either side. A direction
    without rise on one side alone has no finite estimate; without rise on both it is not
    identified, which is another matter. A loss in units of the data (score matching's are 1/x²) is
    first divided by tr(H⁻¹J)/p, which is about 1 for a likelihood.
    """
    vector, function = loss.vector, loss.penalized
    rows, inverse = len(psi), _inverse(curvature)
    has_units = loss.objective.traits.in_data_units and not all(
        s.discrete for s in loss.density.variables.values()
    )
    unit = jnp.mean(jnp.sum((psi @ inverse) * psi, 1)) / vector.size if has_units else 1.0
    moves = EXISTENCE.errors * inverse * jnp.sqrt(unit / rows / jnp.diagonal(inverse))[:, None]
    here, foretold = function(vector), unit * EXISTENCE.errors**2 / 2 / rows
    flat = jax.lax.map(
        lambda move: function(vector + move) - here < EXISTENCE.flat * foretold,
        jnp.concatenate([moves, -moves]),
    )
    ahead, behind = jnp.split(flat, 2)
    return jnp.where(_saddle(curvature), 0, ahead.astype(int) - behind.astype(int))


def _scaled(curvature: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Eigenvalues and vectors of the curvature in units of its own diagonal, and those units."""
    scale = jnp.sqrt(jnp.abs(jnp.diagonal(curvature)))
    scale = jnp.where(scale > 0, scale, 1.0)
    return *jnp.linalg.eigh(curvature / jnp.outer(scale, scale)), scale


def _saddle(curvature: jax.Array) -> jax.Array:
    """Whether the loss curves down somewhere: the optimiser stopped on its way, and nothing is
    known of limits.
    """
    values = _scaled(curvature)[0]
    return values[0] < -EXISTENCE.indefinite * values[-1]


def _inverse(curvature: jax.Array) -> jax.Array:
    """H⁻¹, eigenvalues that rounding made of nothing replaced by a small one."""
    values, vectors, scale = _scaled(curvature)
    return (
        (vectors / jnp.maximum(values, EXISTENCE.floor * jnp.max(values)))
        @ vectors.T
        / jnp.outer(scale, scale)
    )

"""Whether a finite estimate exists, or the loss falls ever on in some direction (Haberman, 1974; Geyer, 2009).

Complete separation, or a pair of items that is never seen together, sends an optimiser far out, where the loss is flat
to rounding and a small gradient looks like a minimum.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.diagnostics.verdict import Finding
from unnorm.fitting.inference import entries, scores_and_curvature
from unnorm.fitting.optimise import parameters_of, whole_loss

_ERRORS = 3.0  # model-based standard errors that are looked ahead
_FLAT = 0.01  # of the rise that the curvature foretells there: less than this is none
_INDEFINITE = 1e-6  # scaled eigenvalues below minus this are negative, not rounded
_FLOOR = 1e-13  # smallest scaled eigenvalue of the curvature that is told from rounding


def runaways(objective, density, extra, events) -> np.ndarray:
    """1 or −1 for each coordinate of all that is estimated that runs off to infinity or minus infinity, 0 for others.

    Coordinate j is moved three of its model-based standard errors along H⁻¹e_j, the others following it: at a finite
    minimum the summed loss rises by about 9/2 on either side. A direction without rise on one side alone has no finite
    estimate; without rise on both it is not identified, which is another matter. A loss in units of the data (score
    matching's are 1/x²) is first divided by tr(H⁻¹J)/p, which is about 1 for a likelihood.

    References: Geyer (2009), doi:10.1214/08-EJS349 (directions of recession).
    """
    known = None if extra.penalty is not None else objective.recession(density, extra, events)
    if known is not None and np.any(known):
        return np.asarray(known)
    vector = parameters_of(density, extra)[0]
    psi, curvature = scores_and_curvature(objective, density, extra, events, vector)
    return np.asarray(_flat_on_one_side(objective, density, extra, events, psi, curvature))


@jax.jit
def _flat_on_one_side(objective, density, extra, events, psi, curvature) -> jax.Array:
    loss = functools.partial(whole_loss, objective, density, extra, events)
    vector = parameters_of(density, extra)[0]
    rows, inverse = len(psi), _inverse(curvature)
    has_units = objective.in_units_of_data and not all(s.discrete for s in density.variables.values())
    unit = jnp.mean(jnp.sum((psi @ inverse) * psi, 1)) / vector.size if has_units else 1.0
    moves = _ERRORS * inverse * jnp.sqrt(unit / rows / jnp.diagonal(inverse))[:, None]
    here, foretold = loss(vector), unit * _ERRORS**2 / 2 / rows
    flat = jax.lax.map(lambda move: loss(vector + move) - here < _FLAT * foretold, jnp.concatenate([moves, -moves]))
    ahead, behind = jnp.split(flat, 2)
    return jnp.where(_saddle(curvature), 0, ahead.astype(int) - behind.astype(int))


def _scaled(curvature: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Eigenvalues and vectors of the curvature in units of its own diagonal, and those units."""
    scale = jnp.sqrt(jnp.abs(jnp.diagonal(curvature)))
    scale = jnp.where(scale > 0, scale, 1.0)
    return *jnp.linalg.eigh(curvature / jnp.outer(scale, scale)), scale


def _saddle(curvature: jax.Array) -> jax.Array:
    """Whether the loss curves down somewhere: the optimiser stopped on its way, and nothing is known of limits."""
    values = _scaled(curvature)[0]
    return values[0] < -_INDEFINITE * values[-1]


def _inverse(curvature: jax.Array) -> jax.Array:
    """H⁻¹, eigenvalues that rounding made of nothing replaced by a small one."""
    values, vectors, scale = _scaled(curvature)
    return (vectors / jnp.maximum(values, _FLOOR * jnp.max(values))) @ vectors.T / jnp.outer(scale, scale)


def tell_runaways(fit, density, extra, signs: np.ndarray) -> None:
    """Name the parameters that run away, and put their limits into the table in place of large numbers."""
    if not signs.any():
        return
    vector, unravel = parameters_of(density, extra)
    estimates, jacobian = entries(density, lambda v: unravel(v)[0], vector)
    jacobian = jacobian()
    gone = np.abs(jacobian) @ np.abs(signs) > 0
    upwards = jacobian @ signs > 0
    limits = np.array([bounds[int(up)] for bounds, up in zip(fit._bounds(), upwards, strict=True)])
    fit._estimates = np.where(gone, limits, estimates)
    if fit._covariance is not None:
        hidden = np.where(np.logical_or.outer(gone, gone), np.nan, 0.0)
        fit._covariance = type(fit._covariance)(*(part + hidden for part in fit._covariance))
        fit._free_covariance = None  # log Z and the log-likelihood of other data have no error then
    if isinstance(fit.log_z, list):
        fit.log_z = [z and z._replace(sampling_error=np.nan) for z in fit.log_z]
    elif fit.log_z is not None:
        fit.log_z = fit.log_z._replace(sampling_error=np.nan)
    told = [f"{label} runs away to {limit:g}" for label, limit, g in zip(fit._labels(), limits, gone, strict=True) if g]
    fit.findings.insert(
        0,
        Finding(
            f"there is no finite estimate: {', '.join(told) or 'log Z runs away'}, the loss falling ever on, as where "
            "a pair is never observed together or an event always happens",
            "fix or penalise these parameters, leave them out, or pool the states that are never seen",
        ),
    )

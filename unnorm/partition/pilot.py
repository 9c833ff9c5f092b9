"""A pilot for densities of many dimensions: climbs that say where a base must reach."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.optimize import minimize

from unnorm.density import Density
from unnorm.diagnostics.verdict import Finding
from unnorm.partition.frame import FAR, Mode, distinct_modes, endless_line
from unnorm.partition.nodes import free_size
from unnorm.partition.quadrature import improper
from unnorm.partition.tempering import DENSE, Base, parts
from unnorm.sampling.base import Target

STARTS = 32
ITERATIONS = 100
POLISH = 3  # Newton steps after a climb, for BFGS may stop short of the mode that it is on
KEPT = 10.0  # and one more a dimension: nats below the heaviest mode, for a light one tells where others may be


@jax.jit
def climb(density: Density, key: jax.Array):
    """BFGS ascents from random starts, half near and half far: ends, heights, minus the Hessians, counts, runaways."""
    target, dtype = Target(density), jnp.result_type(float)

    def one(key, width):
        continuous, discrete = parts(density, target.random_position(key, dtype))
        start, unravel = ravel_pytree(continuous)

        def loss(flat):
            return -target.log_density(unravel(flat) | discrete)

        found = minimize(loss, width * start, method="BFGS", options={"maxiter": ITERATIONS})
        rose = jnp.isneginf(found.fun) | jnp.any(jnp.abs(found.x) > FAR) & (found.fun < loss(width * start))
        end = jnp.where(jnp.isfinite(found.fun), found.x, width * start)
        if end.size <= DENSE:
            end = jax.lax.fori_loop(0, POLISH, lambda _, flat: _uphill(loss, flat), end)
        curves = jax.hessian(loss)(end) if end.size <= DENSE else jnp.diag(1 / jnp.diag(found.hess_inv))
        return end, -loss(end), curves, found.nfev, rose

    widths = jnp.where(jnp.arange(STARTS) % 2 == 0, 1.0, 5.0).astype(dtype)
    return jax.vmap(one)(jax.random.split(key, STARTS), widths)


def _uphill(loss, flat: jax.Array) -> jax.Array:
    """One Newton step with |eigenvalues|, taken where it lowers the loss."""
    values, vectors = jnp.linalg.eigh(jax.hessian(loss)(flat))
    lengths = jnp.maximum(jnp.abs(values), 1e-8 * jnp.max(jnp.abs(values)))
    there = flat - vectors @ (vectors.T @ jax.grad(loss)(flat) / lengths)
    return jnp.where(loss(there) < loss(flat), there, flat)


@jax.jit
def heights_at(density: Density, key: jax.Array, points: jax.Array):
    """log p̃ in unconstrained coordinates at the points (S, D), the discrete variables at one random state."""
    target = Target(density)
    continuous, discrete = parts(density, target.random_position(key, points.dtype))
    _, unravel = ravel_pytree(continuous)
    return jax.vmap(lambda flat: target.log_density(unravel(flat) | discrete))(points)


class Pilot:
    """The base that climbs suggest, the modes they found, and what they cost."""

    def __init__(self, density: Density, key: jax.Array):
        ends, heights, curves, counts, rose = (np.asarray(part) for part in climb(density, key))
        self.evaluations = int(counts.sum())
        self.gradients = int(counts.sum()) + STARTS * min(ends.shape[1], DENSE)
        if ends.shape[1] <= DENSE:
            self.evaluations += STARTS * POLISH * 2
            self.gradients += STARTS * POLISH * (ends.shape[1] + 1)
        self.modes = distinct_modes(ends, heights, curves)
        best = max((mode.height for mode in self.modes), default=-np.inf)
        self.ran_away = bool(np.any(rose & ~(heights < best)))
        self.ridge = None
        if not self.ran_away:
            order = np.argsort(-np.nan_to_num(heights, nan=-np.inf), kind="stable")
            self.ridge = endless_line(self._heights(density, key), ends[order], curves[order])
        self.base = base_over(self.modes, ends.shape[1])

    def _heights(self, density: Density, key: jax.Array):
        def value(points):
            self.evaluations += len(points)
            return np.asarray(heights_at(density, key, jnp.asarray(points, jnp.result_type(float))), float)

        return value


def base_over(modes: list[Mode], size: int) -> Base:
    """The mean and the covariance of the modes, each with the same weight, so that the base reaches all of them."""
    if modes:
        best = max(mode.log_mass for mode in modes)
        modes = [mode for mode in modes if mode.log_mass > best - KEPT - size]
        places = np.array([mode.place for mode in modes])
        centre = places.mean(0)
        # Between modes only the variances: a handful of places would make a covariance flat in most directions.
        whole = np.mean([mode.covariance for mode in modes], axis=0) + np.diag(places.var(0))
    else:
        centre, whole = np.zeros(size), 4.0 * np.eye(size)
    factor = np.linalg.cholesky(whole) if size <= DENSE else np.sqrt(np.diag(whole))
    dtype = jnp.result_type(float)
    return Base(jnp.asarray(centre, dtype), jnp.asarray(factor, dtype))


def base_for(density: Density, key: jax.Array) -> tuple[Base, dict[str, int], Finding | None]:
    """A base that reaches the modes found by a pilot, what that cost, and a finding where Z is infinite."""
    if not free_size(density):
        return Base(*(jnp.zeros(0, jnp.result_type(float)),) * 2), {"values": 0, "gradients": 0}, None
    pilot = Pilot(density, key)
    endless = improper(density, [], pilot.ridge) if pilot.ran_away or pilot.ridge is not None else None
    return pilot.base, {"values": pilot.evaluations, "gradients": pilot.gradients}, endless

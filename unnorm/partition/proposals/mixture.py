"""A mixture of Student's t distributions about the modes of a density."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp

from unnorm.core.method import method
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.integration.quadrature.laplace import Mode
from unnorm.partition.options import MIXTURE, MixtureOptions
from unnorm.partition.proposals.base import IndependentStates, Proposal, uniform_logits


@method
class StudentMixture:
    """u = centre_k + factor_k t with probability exp(log_shares_k), t of Student's distribution.

    Attributes:
        log_shares: (K,), minus infinity for components that only fill up the arrays.
        centres: (K, D).
        factors: (K, D, D), lower triangular; (K, D) where D is large.
        inverse_factors: precomputed, because many small triangular systems are slow to solve.
        log_dets: (K,), of the factors.
        degrees_of_freedom: (K,), integers up to `largest_degrees_of_freedom` of the options, or
            infinite for a normal component.
    """

    log_shares: jax.Array
    centres: jax.Array
    factors: jax.Array
    inverse_factors: jax.Array
    log_dets: jax.Array
    degrees_of_freedom: jax.Array

    def draw(self, view: Unconstrained, keys: jax.Array) -> Position:
        return view.split(self.draw_flat(keys))

    def draw_flat(self, keys: jax.Array) -> jax.Array:
        choose, walk, radius = keys
        dtype = self.centres.dtype
        which = jax.random.categorical(choose, self.log_shares)
        normal = jax.random.normal(walk, self.centres.shape[1:], dtype)
        stretch = _stretch(radius, self.degrees_of_freedom[which])
        factor = self.factors[which]
        scaled = factor @ normal if factor.ndim == 2 else factor * normal
        return self.centres[which] + stretch * scaled

    def log_prob(self, view: Unconstrained, position: Position) -> jax.Array:
        return self.log_prob_flat(view.flatten(position))

    def log_prob_flat(self, flat: jax.Array) -> jax.Array:
        size = flat.size

        def component(centre, inverse_factor, log_det, freedom):
            apart = flat - centre
            z = inverse_factor @ apart if inverse_factor.ndim == 2 else inverse_factor * apart
            finite = jnp.where(jnp.isinf(freedom), 1.0, freedom)  # no NaN in the derivative
            constant = (
                gammaln((finite + size) / 2)
                - gammaln(finite / 2)
                - 0.5 * size * jnp.log(finite * math.pi)
            )
            student = constant - 0.5 * (finite + size) * jnp.log1p(z @ z / finite)
            normal = -0.5 * (z @ z + size * math.log(2 * math.pi))
            return jnp.where(jnp.isinf(freedom), normal, student) - log_det

        each = jax.vmap(component)(
            self.centres, self.inverse_factors, self.log_dets, self.degrees_of_freedom
        )
        return logsumexp(self.log_shares + each)

    def wider(self, scale: float) -> "StudentMixture":
        """Every component as many times as wide."""
        return replace(
            self,
            factors=scale * self.factors,
            inverse_factors=self.inverse_factors / scale,
            log_dets=self.log_dets + self.centres.shape[1] * math.log(scale),
        )

    def without_tails(self) -> "StudentMixture":
        """Normal components without the wide one: the end of trajectories from the density.

        Light tails bound their weights q/p̃, and such trajectories do not return to heavy tails in
        time.
        """
        real = int(jnp.isfinite(self.log_shares).sum())
        shares = self.log_shares.at[real - 1].set(-jnp.inf) if real > 1 else self.log_shares
        return replace(
            self,
            log_shares=shares - logsumexp(shares),
            degrees_of_freedom=jnp.full_like(self.degrees_of_freedom, jnp.inf),
        )


def _stretch(key: jax.Array, freedom: jax.Array, options: MixtureOptions = MIXTURE) -> jax.Array:
    """√(ν / χ²_ν): χ² as a sum of squares, because the sampler of a gamma compiles for seconds."""
    squares = jax.random.normal(key, (options.largest_degrees_of_freedom,), freedom.dtype) ** 2
    chosen = jnp.arange(len(squares)) < freedom
    stretch = jnp.sqrt(freedom / jnp.sum(jnp.where(chosen, squares, 0.0)))
    return jnp.where(jnp.isinf(freedom), 1.0, stretch)


def student_mixture(
    shares: list[float],
    centres: list[np.ndarray],
    covariances: list[np.ndarray],
    options: MixtureOptions = MIXTURE,
) -> StudentMixture:
    """A mixture of components, the last of which is the wide one.

    Args:
        shares: their probabilities.
        centres: (D,) each.
        covariances: (D, D) each.
        options: degrees of freedom, the limit of dense covariances, the sizes of the arrays.
    """
    if len(centres[0]) <= options.max_dense_dimension:
        factors = [np.linalg.cholesky(one) for one in covariances]
        inverses = [np.linalg.inv(one) for one in factors]
        log_dets = [np.log(np.diag(one)).sum() for one in factors]
    else:
        factors = [np.sqrt(np.diag(one)) for one in covariances]
        inverses, log_dets = [1 / one for one in factors], [np.log(one).sum() for one in factors]
    missing = next(k for k in options.capacities if k >= len(shares)) - len(shares)
    log_shares = np.concatenate([np.log(np.asarray(shares, float)), np.full(missing, -np.inf)])
    freedoms = [
        *[options.degrees_of_freedom] * (len(shares) - 1),
        options.wide_degrees_of_freedom,
    ]
    padded = (
        np.array([*part, *[part[-1]] * missing])
        for part in (centres, factors, inverses, log_dets, freedoms)
    )
    dtype = jnp.result_type(float)
    return StudentMixture(*(jnp.asarray(part, dtype) for part in (log_shares, *padded)))


def mixture_of_modes(
    size: int,
    modes: list[Mode],
    heavy: np.ndarray | None = None,
    options: MixtureOptions = MIXTURE,
) -> StudentMixture:
    """A component at every mode, weighted by Laplace's mass and equally, and a wide one over all.

    Where there are more modes than components, the wide one stands alone: a few narrow components
    would send particles to few of many modes.

    Args:
        size: the number of coordinates D.
        modes: of the density; none: one standard component.
        heavy: (N, D), points with importance weight that the wide component covers too: along a
            ridge the modes are only a part of the mass.
        options: see `MixtureOptions`.
    """
    if modes:
        best = max(mode.log_mass for mode in modes)
        modes = [mode for mode in modes if mode.log_mass > best - options.max_log_mass_gap - size]
        places = np.array([mode.place for mode in modes])
        centre, spread = places.mean(0), places.var(0)
        # variances only between modes: a few places would make a covariance singular
        if heavy is not None:
            spread = np.maximum(spread, np.mean((heavy - centre) ** 2, 0))
        whole = np.mean([mode.covariance for mode in modes], axis=0) + np.diag(spread)
    else:
        centre, whole = np.zeros(size), 4.0 * np.eye(size)
    if 0 < len(modes) < options.capacities[-1]:
        masses = np.exp([mode.log_mass - best for mode in modes])
        shares = 0.5 * masses / masses.sum() + 0.5 / len(modes)
        covariances = [mode.covariance for mode in modes]
    else:
        shares, places, covariances = np.ones(1), centre[None], [whole]
    shares = [*((1 - options.wide_share) * shares), options.wide_share]
    covariances = [*covariances, options.wide_scale**2 * whole]
    return student_mixture(shares, [*places, centre], covariances, options)


def proposal_of_modes(
    view: Unconstrained,
    modes: list[Mode],
    heavy: np.ndarray | None = None,
    *,
    logits: dict[str, jax.Array] | None = None,
    counts: dict[str, jax.Array] | None = None,
) -> Proposal:
    """`mixture_of_modes` for the continuous variables, independent discrete ones.

    Args:
        view: of the density.
        modes: see `mixture_of_modes`.
        heavy: see `mixture_of_modes`.
        logits: of the finite variables; None: all states alike.
        counts: of the counts, see `IndependentStates`.
    """
    size = view.dimension
    continuous = mixture_of_modes(size, modes, heavy) if size else None
    if logits is None:
        logits = uniform_logits(view.supports, view.density.shapes())
    discrete = IndependentStates(logits, counts or {})
    return Proposal(view, continuous, discrete, jnp.result_type(float))


__all__ = ["StudentMixture", "mixture_of_modes", "proposal_of_modes", "student_mixture"]

"""Where annealing starts: a normalized base, heavier in the tails than the density."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import gammaln, logsumexp

from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.quadrature.modes import Mode
from unnorm.interactions.ising import Couplings, position_of, signs_of
from unnorm.partition.proposals.sparse_ising import Thinned, drawn_signs, log_tilt
from unnorm.supports import Support

# of Student's t at a mode: heavier than the density, so that importance weights stay bounded
FREEDOM = 5.0
NORMAL = 1e4  # as good as a normal law
WIDE_FREEDOM = 2.0  # of the wide one, for densities with heavy tails of their own
DENSE = 200  # above so many coordinates covariances are kept diagonal
SIZES = (2, 8)  # components of the arrays, so that what is compiled serves most bases
# and one more a dimension: nats below the heaviest mode, for a light one tells where others may be
KEPT = 10.0
FLOW_SHARE = 0.5  # of a base with a flow; the rest keeps weights bounded where the flow is too thin
WIDE_SHARE, WIDER = (
    0.1,
    2.0,
)  # a component over all modes, this many times as wide, against what climbs did not see


class Base(NamedTuple):
    """A mixture of Student's t in unconstrained coordinates; independent discrete variables.

    u = centre_k + factor_k · t with probability exp(log_shares_k), t of freedoms_k degrees of
    freedom.
    """

    log_shares: jax.Array  # (K,)
    centres: jax.Array  # (K, D)
    factors: jax.Array  # (K, D, D), lower triangular; (K, D) where D is large
    whiteners: jax.Array  # their inverses: many small triangular systems are slow to solve
    log_dets: jax.Array  # (K,), of the factors
    freedoms: jax.Array  # (K,)
    states: dict[str, jax.Array]  # log-probabilities (*free shape, states) of finite variables
    counts: dict[str, jax.Array]  # mean and size (2, *shape) of the negative binomials of counts
    couplings: Couplings | None = None  # of the density that it leads to, for moves of clusters
    thinned: Thinned | None = None  # which of the couplings the base has too
    # unnorm.partition.proposals.normalizing_flow.Flow over the continuous coordinates, with the
    # mixture beside it
    flow: Any = None
    laws: dict[str, Any] | None = (
        None  # NumPyro distributions of the continuous variables, in place of the mixture
    )
    log_step: jax.Array | None = (
        None  # of moves, where it is known: a base near to the density leaves few to learn it
    )

    @property
    def dtype(self):
        return self.centres.dtype


def parts(density: Density, position: dict) -> tuple[dict, dict]:
    """The continuous and the discrete part of a position."""
    discrete = {name for name, support in density.variables.items() if support.discrete}
    return (
        {name: value for name, value in position.items() if name not in discrete},
        {name: value for name, value in position.items() if name in discrete},
    )


# -- drawing and weighing --------------------------------------------------------------
def draw(density: Density, base: Base, key: jax.Array) -> dict:
    """One position from the base, unconstrained where it is continuous."""
    choose, walk, radius, rest = jax.random.split(key, 4)
    discrete = _discrete_draw(density, base, rest)
    continuous, unravel = blank(density, base.dtype)
    if not continuous.size:
        return discrete
    if base.laws is not None:
        keys = dict(zip(base.laws, jax.random.split(walk, len(base.laws)), strict=True))
        values = {name: law.sample(keys[name]) for name, law in base.laws.items()}
        return {
            name: density.variables[name].unconstrain(value) for name, value in values.items()
        } | discrete
    which = jax.random.categorical(choose, base.log_shares)
    normal = jax.random.normal(walk, continuous.shape, base.dtype)
    freedom = base.freedoms[which]
    stretch = jnp.sqrt(freedom / (2 * jax.random.gamma(radius, freedom / 2, dtype=base.dtype)))
    factor = base.factors[which]
    scaled = factor @ normal if factor.ndim == 2 else factor * normal
    flat = base.centres[which] + stretch * scaled
    if base.flow is not None:
        from unnorm.partition.proposals.normalizing_flow import (
            draw_of_flow,  # flowjax, which is slow to import
        )

        bold, choose = jax.random.split(choose)
        flat = jnp.where(
            jax.random.bernoulli(choose, FLOW_SHARE), draw_of_flow(base.flow, bold), flat
        )
    return unravel(flat) | discrete


def log_base(density: Density, base: Base, position: dict) -> jax.Array:
    """The log-density of the base at a position, normalized."""
    continuous, discrete = parts(density, position)
    value = jnp.zeros((), base.dtype)
    for name, given in discrete.items():
        value = value + _log_discrete(density, base, name, given)
    if base.thinned is not None:
        value = value + log_tilt(base.couplings, base.thinned, signs_of(density, discrete))
    if not continuous:
        return value
    if base.laws is not None:
        return value + sum(
            _log_law(density.variables[name], base.laws[name], u) for name, u in continuous.items()
        )
    flat, _ = ravel_pytree(continuous)
    size = flat.size

    def one(centre, whitener, log_det, freedom):
        z = whitener @ (flat - centre) if whitener.ndim == 2 else whitener * (flat - centre)
        constant = (
            gammaln((freedom + size) / 2)
            - gammaln(freedom / 2)
            - 0.5 * size * jnp.log(freedom * math.pi)
        )
        return constant - log_det - 0.5 * (freedom + size) * jnp.log1p(z @ z / freedom)

    each = jax.vmap(one)(base.centres, base.whiteners, base.log_dets, base.freedoms)
    mixed = logsumexp(base.log_shares + each)
    if base.flow is not None:
        from unnorm.partition.proposals.normalizing_flow import log_flow

        mixed = jnp.logaddexp(
            math.log(FLOW_SHARE) + log_flow(base.flow, flat), math.log1p(-FLOW_SHARE) + mixed
        )
    return value + mixed


def _log_law(support: Support, law: Any, free: jax.Array) -> jax.Array:
    return jnp.sum(law.log_prob(support.constrain(free))) + support.log_det(free)


def blank(density: Density, dtype) -> tuple[jax.Array, object]:
    """Zeros for the continuous coordinates, and what makes a position of such a vector."""
    shapes = density.shapes()
    zeros = {
        n: jnp.zeros(s.free_shape(shapes[n]), dtype)
        for n, s in density.variables.items()
        if not s.discrete
    }
    return ravel_pytree(zeros)


def _discrete_draw(density: Density, base: Base, key: jax.Array) -> dict:
    if base.thinned is not None:
        like = {name: logits[..., 0] for name, logits in base.states.items()}
        return position_of(density, drawn_signs(base.thinned, key), like)
    drawn = {}
    for i, (name, logits) in enumerate(base.states.items()):
        states = jnp.asarray(density.variables[name].states, base.dtype)
        drawn[name] = states[jax.random.categorical(jax.random.fold_in(key, i), logits)]
    for i, (name, (mean, size)) in enumerate(base.counts.items()):
        rate, count = jax.random.split(jax.random.fold_in(key, 1000 + i))
        rates = jax.random.gamma(rate, size, dtype=base.dtype) * mean / size
        drawn[name] = jax.random.poisson(count, rates).astype(base.dtype)
    return drawn


def _log_discrete(density: Density, base: Base, name: str, value: jax.Array) -> jax.Array:
    support = density.variables[name]
    if name in base.counts:
        mean, size = base.counts[name]
        log_binomial = gammaln(value + size) - gammaln(size) - gammaln(value + 1)
        each = (
            log_binomial
            + size * jnp.log(size / (size + mean))
            + value * jnp.log(mean / (size + mean))
        )
        return jnp.sum(jnp.where(value >= 0, each, -jnp.inf))
    logits = base.states[name]
    if (
        logits.shape[-1] == 2 and value.ndim < logits.ndim
    ):  # linear in the value, as its Gibbs sweep makes use of
        low, high = support.states
        share = (value - low) / (high - low)
        return jnp.sum((1 - share) * logits[..., 0] + share * logits[..., 1])
    return jnp.sum(support.encode(value) * logits)


# -- making one ------------------------------------------------------------------------
def base_over(
    density: Density, modes: list[Mode], counts: dict | None = None, heavy: np.ndarray | None = None
) -> Base:
    """A component at every mode, by Laplace's mass and by equal shares, and a wide one over all of
    them.

    The wide one reaches over `heavy` (N, D) too, places that have weight: on a ridge the modes are
    a part of it. Where there are more modes than components, it stands alone: a few narrow ones
    would draw particles to few of many.
    """
    size, states = Unconstrained(density).dimension, flat_states(density)
    if modes:
        best = max(mode.log_mass for mode in modes)
        modes = [mode for mode in modes if mode.log_mass > best - KEPT - size]
        places = np.array([mode.place for mode in modes])
        centre = places.mean(0)
        # Between modes only the variances: a handful of places would make a covariance flat in most
        # directions.
        spread = (
            places.var(0)
            if heavy is None
            else np.maximum(places.var(0), np.mean((heavy - centre) ** 2, 0))
        )
        whole = np.mean([mode.covariance for mode in modes], axis=0) + np.diag(spread)
    else:
        centre, whole = np.zeros(size), 4.0 * np.eye(size)
    if 0 < len(modes) < SIZES[-1]:
        masses = np.exp([mode.log_mass - best for mode in modes])
        shares = 0.5 * masses / masses.sum() + 0.5 / len(modes)
        apart = [mode.covariance for mode in modes]
    else:
        shares, places, apart = np.ones(1), [centre], [whole]
    shares = [*((1 - WIDE_SHARE) * shares), WIDE_SHARE]
    return mixture(shares, [*places, centre], [*apart, WIDER**2 * whole], states, counts)


def mixture(shares, centres, covariances, states: dict, counts: dict | None = None) -> Base:
    """A base of components, lists of shares, centres (D,) and covariances (D, D); the last is the
    wide one.
    """
    dtype, size = jnp.result_type(float), len(centres[0])
    if size <= DENSE:
        factors = [np.linalg.cholesky(one) for one in covariances]
        whiteners = [np.linalg.inv(one) for one in factors]
        log_dets = [np.log(np.diag(one)).sum() for one in factors]
    else:
        factors = [np.sqrt(np.diag(one)) for one in covariances]
        whiteners, log_dets = [1 / one for one in factors], [np.log(one).sum() for one in factors]
    missing = next(k for k in SIZES if k >= len(shares)) - len(shares)
    log_shares = np.concatenate([np.log(np.asarray(shares, float)), np.full(missing, -np.inf)])
    freedoms = [*[FREEDOM] * (len(shares) - 1), WIDE_FREEDOM]
    padded = (
        np.array([*part, *[part[-1]] * missing])
        for part in (centres, factors, whiteners, log_dets, freedoms)
    )
    return Base(*(jnp.asarray(part, dtype) for part in (log_shares, *padded)), states, counts or {})


def lighter(base: Base) -> Base:
    """The base with normal components and without the wide one: where walks end that come from the
    density itself.

    Their weights q/p̃ are bounded by light tails, and walks do not come back to heavy ones in time.
    """
    real = int(jnp.isfinite(base.log_shares).sum())
    shares = base.log_shares.at[real - 1].set(-jnp.inf) if real > 1 else base.log_shares
    return base._replace(
        log_shares=shares - logsumexp(shares), freedoms=jnp.full_like(base.freedoms, NORMAL)
    )


def flat_states(density: Density) -> dict[str, jax.Array]:
    """Log-probabilities of the finite variables, all states alike."""
    shapes, dtype = density.shapes(), jnp.result_type(float)
    return {
        name: jnp.full(
            (*support.free_shape(shapes[name]), len(support.states)),
            -math.log(len(support.states)),
            dtype,
        )
        for name, support in density.variables.items()
        if support.states is not None
    }


__all__ = [
    "DENSE", "FREEDOM", "SIZES", "Base", "base_over", "blank", "draw", "flat_states", "lighter", "log_base", "mixture",
    "parts",
]  # fmt: skip

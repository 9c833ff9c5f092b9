"""Importance weights of the draws that stand for Z: log Z, the ESS, and the error of the score."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import compiled
from unnorm.integration.nodes import Plan


def log_z_ratio(density, plan: Plan) -> jax.Array:
    """log Z at the density's parameters minus log Z at those of the draws; traceable."""
    return logsumexp(energies(density, plan.events) + plan.log_weights)


@compiled
def energies(density, events: dict) -> jax.Array:
    """log p̃ of every event."""
    return jax.vmap(density.log_density)(events)


@compiled
def ess_fraction(density, plan: Plan) -> jax.Array:
    """Return (Σ w)² / (m Σ w²) of the draws' weights at these parameters."""
    logs = energies(density, plan.events) + plan.log_weights
    return jnp.exp(2 * logsumexp(logs) - logsumexp(2 * logs)) / len(logs)


@compiled(static_argnames="batches")
def _batch_means(density, plan: Plan, batches: int) -> jax.Array:
    """Means over each stretch of the chains of w (s − m), w normalised to mean 1 and m = mean w s:
    (batches, p).
    """
    vector, unravel = ravel_pytree(density.free())
    logs = energies(density, plan.events) + plan.log_weights
    weights = jax.nn.softmax(logs) * len(logs)
    cut = jax.tree.map(
        lambda leaf: leaf.reshape(batches, -1, *leaf.shape[1:]), (plan.events, weights)
    )

    def one(given):
        events, weights = given
        return jax.grad(lambda v: jnp.mean(weights * energies(density.at(unravel(v)), events)))(
            vector
        ), weights.mean()

    weighted, shares = jax.lax.map(one, cut)
    return weighted - shares[:, None] * weighted.mean(0)


@compiled(static_argnames="batches")
def score_moments(density, events: dict, batches: int) -> tuple[jax.Array, jax.Array]:
    """Means and variances of the scores over each stretch of the chains, (batches, p) each."""
    vector, unravel = ravel_pytree(density.free())
    cut = jax.tree.map(lambda leaf: leaf.reshape(batches, -1, *leaf.shape[1:]), events)

    def score(event):
        return jax.grad(lambda v: density.at(unravel(v)).log_density(event))(vector)

    def moments(stretch):
        scores = jax.vmap(score)(stretch)
        return scores.mean(0), scores.var(0, ddof=1)

    return jax.lax.map(moments, cut)


def long_run_variance(density, plan: Plan, chains: int) -> np.ndarray:
    """Return Γ / m, the covariance of mean w (s − m) over the draws, from half-chains; of graphs,
    whose chains change one tie at a time, from chains.
    """
    halves = 1 if "statistics" in plan.events else 2
    means = np.asarray(_batch_means(density, plan, halves * chains))
    return means.T @ means / (len(means) - 1) / len(means)


@compiled
def recession_directions(density, events: dict, plan: Plan) -> jax.Array:
    """±1 for each parameter in whose score the data's mean is beyond all draws, or level with the
    last of them.

    Then the likelihood rises for ever as the parameter goes that way (where all draws are alike,
    the way it came).

    References: Geyer (2009), doi:10.1214/08-EJS349.
    """
    vector, unravel = ravel_pytree(density.free())
    score = jax.vmap(
        jax.grad(lambda v, event: density.at(unravel(v)).log_density(event)), (None, 0)
    )
    drawn, mean = score(vector, plan.events), score(vector, events).mean(0)
    slack = 1e-9 * (jnp.abs(mean) + drawn.std(0))
    upwards, downwards = mean >= drawn.max(0) - slack, mean <= drawn.min(0) + slack
    return jnp.where(
        upwards & downwards, jnp.sign(vector), upwards.astype(int) - downwards.astype(int)
    ).astype(int)

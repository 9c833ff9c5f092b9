"""Swendsen-Wang: neighbours that are bonded flip together, so that both phases of a lattice are
visited.

A bond opens between neighbours whose signs agree with the sign of J with probability
1 − exp(−2 |J|); each cluster of open bonds then takes one of its two states with their conditional
probabilities.

References:
    Swendsen and Wang (1987), doi:10.1103/PhysRevLett.58.86; Edwards and Sokal (1988),
    doi:10.1103/PhysRevD.38.2009.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from unnorm.core.method import method
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.interactions.couplings import Couplings, fields_of, position_of, signs_of
from unnorm.partition.annealing.tempered import Particle, PathDensity
from unnorm.partition.annealing.transitions.base import SamplingAlgorithm, Tuning


@method
class SwendsenWang:
    """Clusters of two-state sites flip together; reversible.

    Attributes:
        couplings: the Ising form of the density.
    """

    couplings: Couplings
    discrete: ClassVar[bool] = True
    global_moves: ClassVar[bool] = True

    def build(self, tempered: PathDensity, tuning: Tuning) -> SamplingAlgorithm:
        path, inverse_temperature = tempered
        density, proposal = path.target.density, path.proposal.discrete

        def step(key: jax.Array, particle: Particle) -> tuple[Particle, jax.Array]:
            signs = swendsen_wang_step(
                self.couplings,
                fields_of(proposal.logits),
                inverse_temperature,
                signs_of(density, particle.position),
                key,
                proposal.kept_bonds,
            )
            there = path.evaluate(position_of(density, signs, particle.position))
            there = there._replace(nonfinite=particle.nonfinite + there.nonfinite)
            return there, jnp.ones((), particle.log_target.dtype)

        return SamplingAlgorithm(path.evaluate, step)

    def reverse(self) -> "SwendsenWang":
        return self

    def evaluations(self, view: Unconstrained) -> dict[str, int]:
        return {"values": 2, "gradients": 0}  # the clusters count as one


def swendsen_wang_step(
    couplings: Couplings,
    proposal_fields: jax.Array,
    inverse_temperature: jax.Array | float,
    signs: jax.Array,
    key: jax.Array,
    kept: jax.Array | None = None,
) -> jax.Array:
    """One Swendsen-Wang update of the signs (sites,), which leaves q^(1−λ) p̃^λ invariant.

    Args:
        couplings: the Ising form of p̃.
        proposal_fields: the fields of the proposal q (sites,).
        inverse_temperature: the inverse temperature λ.
        signs: the present signs.
        key: of the random numbers.
        kept: which bonds the proposal q has too (bonds,); None: it has none.

    Returns:
        The new signs.
    """
    bond_key, flip_key = jax.random.split(key)
    sites = len(signs)
    strengths = couplings.strengths * (
        inverse_temperature if kept is None else jnp.where(kept, 1.0, inverse_temperature)
    )
    fields = proposal_fields + inverse_temperature * (couplings.fields - proposal_fields)
    # one draw per bond, so that both ends agree; one more entry serves the padded rows
    chances = -jnp.expm1(-2 * jnp.abs(strengths))
    open_bonds = jax.random.uniform(bond_key, strengths.shape, strengths.dtype) < chances
    padded, orientation = jnp.append(open_bonds, False), jnp.append(jnp.sign(strengths), 0.0)
    neighbour_signs = jnp.append(signs, 0.0)[couplings.neighbours]
    agree = signs[:, None] * neighbour_signs * orientation[couplings.bonds] > 0
    bonded = padded[couplings.bonds] & agree
    labels = _cluster_labels(bonded, couplings.neighbours)
    # Σ h σ over a cluster: half the log-odds of its present state
    half_log_odds = jax.ops.segment_sum(fields * signs, labels, sites)
    chances = jax.nn.sigmoid(-2 * half_log_odds)
    flips = jax.random.uniform(flip_key, (sites,), strengths.dtype) < chances
    return jnp.where(flips[labels], -signs, signs)


def _cluster_labels(bonded: jax.Array, neighbours: jax.Array) -> jax.Array:
    """The smallest site of each site's cluster; the number of passes is logarithmic in its length.

    A site's label is a site of its cluster. In each pass the label's own label and the site's label
    fall to the smallest label among the neighbours, and the site then takes its label's label.

    References:
        Zhang, Azad and Hu (2020), doi:10.1137/1.9781611976137.5 (FastSV).
    """
    sites = len(bonded)

    def hook(carry):
        labels, _ = carry
        smallest = jnp.where(bonded, jnp.append(labels, sites)[neighbours], sites).min(1)
        lower = jnp.minimum(labels.at[labels].min(smallest), smallest)
        lower = lower[lower]
        return lower, jnp.any(lower != labels)

    start = jnp.arange(sites), jnp.asarray(True)
    return jax.lax.while_loop(lambda carry: carry[1], hook, start)[0]


__all__ = ["SwendsenWang", "swendsen_wang_step"]

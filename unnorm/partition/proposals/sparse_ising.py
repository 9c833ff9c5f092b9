"""A proposal of two-state sites close to its density: bonds are left out until the rest can be
summed, and sampled, exactly.

Sites enter one by one and leave when all kept bonds have been met; at most `width` are open at a
time, so that tables over them stay small. q ∝ exp(Σ h σ + Σ J σ σ over the kept bonds) is
normalized, and sampled backwards.

References:
    Hamze and de Freitas (2004), arXiv:1207.4149 (from fields to trees); Lauritzen and Spiegelhalter
    (1988), doi:10.1111/j.2517-6161.1988.tb01721.x (summing out).
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.method import method
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.interactions.couplings import Couplings, position_of, signs_of
from unnorm.partition.proposals.base import IndependentStates


class SparseTree(NamedTuple):
    """The conditional distributions of sites, each given a few that are sampled before it."""

    places: jax.Array  # (sites,), in the order in which they are drawn
    parents: jax.Array  # (sites, width), places; of no site in front where there are fewer
    log_odds: (
        jax.Array
    )  # (sites, 2^width) of +, by the parents' states, the last parent's the lowest digit
    kept: jax.Array  # (bonds,)
    log_mass: jax.Array  # log Σ exp(Σ J σ σ) over independent sites with the fields h


class Plan(NamedTuple):
    """Sites in the order in which they enter (True) and leave (False), and which bonds are kept."""

    steps: list[tuple[int, bool]]
    kept: np.ndarray


def sparse_tree(
    couplings: Couplings, seed: int = 0, width: int = 10, plans: int = 20
) -> SparseTree | None:
    """The tree of these couplings with bonds left out; None where none has to be.

    Args:
        couplings: of the density.
        seed: of ties among sites: another leaves out other bonds.
        width: how many sites may be open at a time: tables have 2^width entries.
        plans: of which the one is taken that leaves out least.
    """
    strengths = np.abs(np.asarray(couplings.strengths))
    beside = bonds_by_site(couplings)
    made = [
        plan_elimination(beside, strengths, width, np.random.default_rng([seed, k]))
        for k in range(plans)
    ]
    plan = max(made, key=lambda plan: strengths[plan.kept].sum())
    return None if plan.kept.all() else _sum_out(couplings, beside, plan, width)


def bonds_by_site(couplings: Couplings) -> list[dict[int, int]]:
    """The neighbours of every site, and by which bond."""
    pairs = zip(np.asarray(couplings.neighbours), np.asarray(couplings.bonds), strict=True)
    sites = len(couplings.fields)
    return [{int(s): int(b) for s, b in zip(*rows, strict=True) if s < sites} for rows in pairs]


def plan_elimination(
    beside: list[dict[int, int]], strengths: np.ndarray, width: int, rng: np.random.Generator
) -> Plan:
    """A greedy walk along the graph: the site enters next that lets most others leave.

    Where too many are open, the one leaves early whose bonds to come are weakest, and oldest of
    such.
    """
    coming, waiting, ties = (
        [dict(bonds) for bonds in beside],
        set(range(len(beside))),
        rng.random(len(beside)),
    )
    entered: dict
    steps, kept, entered = [], np.ones(len(strengths), bool), {}  # the open sites, oldest first

    def strength_to_come(site):
        return sum(strengths[bond] for bond in coming[site].values())

    def promise(site):
        others = [other for other in beside[site] if other in entered and site in coming[other]]
        leaving = sum(len(coming[other]) == 1 for other in others)
        strength = sum(strengths[beside[site][other]] for other in others)
        return -leaving, -strength, min(entered[other] for other in others), ties[site]

    def leave(site):
        kept[list(coming[site].values())] = False
        coming[site] = {}
        del entered[site]
        steps.append((site, False))

    while waiting:
        near = {site for other in entered for site in coming[other]}
        site = (
            min(near, key=promise)
            if near
            else min(waiting, key=lambda site: (strength_to_come(site), ties[site]))
        )
        waiting.discard(site)
        entered[site] = len(steps)
        steps.append((site, True))
        for other in beside[site]:
            coming[other].pop(site, None)
        for other in [other for other in entered if not coming[other]]:
            leave(other)
        while len(entered) > width:
            leave(min(entered, key=lambda other: (strength_to_come(other), entered[other])))
    return Plan(steps, kept)


def _sum_out(
    couplings: Couplings, beside: list[dict[int, int]], plan: Plan, width: int
) -> SparseTree:
    """The sums along a plan, whose tables are log-odds when they are read backwards."""
    fields, strengths = np.asarray(couplings.fields), np.asarray(couplings.strengths)
    entered: list
    signs, table, entered, left = np.array([-1.0, 1.0]), np.zeros(()), [], []
    for site, enters in plan.steps:
        if enters:
            rise = fields[site] * signs
            for axis, other in enumerate(entered):
                if other in beside[site] and plan.kept[beside[site][other]]:
                    pair = strengths[beside[site][other]] * np.outer(signs, signs)
                    rise = rise + np.expand_dims(
                        pair, [k for k in range(len(entered)) if k != axis]
                    )
            table, entered = table[..., None] + rise, [*entered, site]
        else:
            minus, plus = np.moveaxis(table, entered.index(site), 0)
            table, entered = (
                np.logaddexp(minus, plus),
                [other for other in entered if other != site],
            )
            left.append((site, entered, (plus - minus).ravel()))
    sites = len(fields)
    parents, log_odds = np.full((sites, width), sites), np.zeros((sites, 2**width))
    for row, (_, others, odds) in enumerate(reversed(left)):
        parents[row, width - len(others) :], log_odds[row, : len(odds)] = others, odds
    log_mass, dtype = table - np.logaddexp(fields, -fields).sum(), couplings.fields.dtype
    places = jnp.asarray([site for site, *_ in reversed(left)])
    return SparseTree(
        places,
        jnp.asarray(parents),
        jnp.asarray(log_odds, dtype),
        jnp.asarray(plan.kept),
        jnp.asarray(log_mass, dtype),
    )


@method
class SparseIsing:
    """The Ising model of the density's couplings on the kept bonds: `tree` sums and draws it."""

    couplings: Couplings
    tree: SparseTree
    logits: dict[str, jax.Array]

    @property
    def kept_bonds(self) -> jax.Array:
        """Which bonds of the density the proposal has too (bonds,)."""
        return self.tree.kept

    @property
    def counts(self) -> dict[str, jax.Array]:
        """There are none."""
        return {}

    def draw(self, view: Unconstrained, key: jax.Array) -> Position:
        like = {name: logits[..., 0] for name, logits in self.logits.items()}
        return position_of(view.density, sample_signs(self.tree, key), like)

    def log_prob(self, view: Unconstrained, position: Position) -> jax.Array:
        independent = IndependentStates(self.logits, {}).log_prob(view, position)
        return independent + log_tilt(self.couplings, self.tree, signs_of(view.density, position))

    def other_bonds(self, seed: int) -> "SparseIsing":
        """The same with other bonds left out."""
        tree = sparse_tree(self.couplings, seed)
        assert tree is not None
        return replace(self, tree=tree)


def sample_signs(tree: SparseTree, key: jax.Array) -> jax.Array:
    """One draw of the signs (sites,)."""
    sites, width = tree.parents.shape
    digits = 2 ** jnp.arange(width)[::-1]
    noise = jax.random.logistic(key, (sites,), tree.log_odds.dtype)

    def step(ups, given):
        place, parents, log_odds, noise = given
        return ups.at[place].set(log_odds[ups[parents] @ digits] > noise), None

    ups, _ = jax.lax.scan(
        step, jnp.zeros(sites + 1, int), (tree.places, tree.parents, tree.log_odds, noise)
    )
    return 2.0 * ups[:sites].astype(tree.log_odds.dtype) - 1


def log_tilt(couplings: Couplings, tree: SparseTree, signs: jax.Array) -> jax.Array:
    """log q of signs (sites,) minus that of independent sites with the fields h; only its first
    derivative is right.
    """
    strengths = jnp.append(couplings.strengths * tree.kept, 0.0)[couplings.bonds]
    neighbour_signs = jnp.append(signs, 0.0)[couplings.neighbours]
    # half of signs · mean field, because each bond is seen from both ends; written so that its
    # gradient, the mean field, needs no scatter
    mean_field = jax.lax.stop_gradient(jnp.sum(strengths * neighbour_signs, 1))
    return signs @ mean_field - 0.5 * jax.lax.stop_gradient(signs) @ mean_field - tree.log_mass


__all__ = ["SparseIsing", "SparseTree", "sparse_tree"]

"""A base of two-state sites near to its density: bonds are left out until the rest can be summed,
and drawn, exactly.

Sites enter one by one and leave when all bonds that are kept have been met; at most `WIDTH` are
open at a time, so that tables over them stay small. q ∝ exp(Σ h σ + Σ J σ σ over the kept bonds) is
normalized, and drawn backwards.

References:
    Hamze and de Freitas (2004), arXiv:1207.4149 (from fields to trees); Lauritzen and Spiegelhalter
    (1988), doi:10.1111/j.2517-6161.1988.tb01721.x (summing out).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.interactions.ising import Couplings

WIDTH = 10  # open sites: tables of 2^10
PLANS = 20  # of which the one is taken that leaves out least


class Thinned(NamedTuple):
    """The conditional laws of sites, each given at most `WIDTH` that are drawn before it."""

    places: jax.Array  # (sites,), in the order in which they are drawn
    parents: jax.Array  # (sites, WIDTH), places; of no site in front where there are fewer
    log_odds: (
        jax.Array
    )  # (sites, 2^WIDTH) of +, by the parents' states, the last parent's the lowest digit
    kept: jax.Array  # (bonds,)
    log_mass: jax.Array  # log Σ exp(Σ J σ σ) over independent sites with the fields h


class Plan(NamedTuple):
    """Sites in the order in which they enter (True) and leave (False), and which bonds are kept."""

    steps: list[tuple[int, bool]]
    kept: np.ndarray


def thinned(couplings: Couplings, seed: int = 0, width: int = WIDTH) -> Thinned | None:
    """A density of these couplings with bonds left out; None where none has to be.

    Args:
        couplings: of the density.
        seed: of ties among sites: another leaves out other bonds.
        width: how many sites may be open at a time.
    """
    strengths = np.abs(np.asarray(couplings.strengths))
    beside = bonds_of(couplings)
    plans = [
        planned(beside, strengths, width, np.random.default_rng([seed, k])) for k in range(PLANS)
    ]
    plan = max(plans, key=lambda plan: strengths[plan.kept].sum())
    return None if plan.kept.all() else _summed(couplings, beside, plan, width)


def bonds_of(couplings: Couplings) -> list[dict[int, int]]:
    """The neighbours of every site, and by which bond."""
    pairs = zip(np.asarray(couplings.neighbours), np.asarray(couplings.bonds), strict=True)
    sites = len(couplings.fields)
    return [{int(s): int(b) for s, b in zip(*rows, strict=True) if s < sites} for rows in pairs]


def planned(
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


def _summed(couplings: Couplings, beside: list[dict[int, int]], plan: Plan, width: int) -> Thinned:
    """The sums along a plan, whose tables are log-odds when they are read backwards."""
    fields, pulls = np.asarray(couplings.fields), np.asarray(couplings.strengths)
    signs, table, entered, left = np.array([-1.0, 1.0]), np.zeros(()), [], []
    for site, enters in plan.steps:
        if enters:
            rise = fields[site] * signs
            for axis, other in enumerate(entered):
                if other in beside[site] and plan.kept[beside[site][other]]:
                    pair = pulls[beside[site][other]] * np.outer(signs, signs)
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
    return Thinned(
        places,
        jnp.asarray(parents),
        jnp.asarray(log_odds, dtype),
        jnp.asarray(plan.kept),
        jnp.asarray(log_mass, dtype),
    )


def drawn_signs(base: Thinned, key: jax.Array) -> jax.Array:
    """One draw of the signs (sites,)."""
    sites, width = base.parents.shape
    digits = 2 ** jnp.arange(width)[::-1]
    noise = jax.random.logistic(key, (sites,), base.log_odds.dtype)

    def step(ups, given):
        place, parents, log_odds, noise = given
        return ups.at[place].set(log_odds[ups[parents] @ digits] > noise), None

    ups, _ = jax.lax.scan(
        step, jnp.zeros(sites + 1, int), (base.places, base.parents, base.log_odds, noise)
    )
    return 2.0 * ups[:sites].astype(base.log_odds.dtype) - 1


def log_tilt(couplings: Couplings, base: Thinned, signs: jax.Array) -> jax.Array:
    """log q of signs (sites,) less that of independent sites with the fields h; to be derived
    once.
    """
    pulls = jnp.append(couplings.strengths * base.kept, 0.0)[couplings.bonds]
    beside = jnp.append(signs, 0.0)[couplings.neighbours]
    # half of signs · pull, for each bond is seen from both ends; written so that its gradient,
    # pull, takes no scatter
    pull = jax.lax.stop_gradient(jnp.sum(pulls * beside, 1))
    return signs @ pull - 0.5 * jax.lax.stop_gradient(signs) @ pull - base.log_mass


__all__ = ["Thinned", "drawn_signs", "log_tilt", "thinned"]

"""The transitions that serve a density."""

from unnorm.declaration.unconstrained import Unconstrained
from unnorm.interactions.coloring import Colouring, find_colouring
from unnorm.interactions.couplings import Couplings
from unnorm.partition.annealing.transitions.base import Transitions
from unnorm.partition.annealing.transitions.count_walk import CountWalk
from unnorm.partition.annealing.transitions.gibbs import Gibbs
from unnorm.partition.annealing.transitions.hmc import HMC
from unnorm.partition.annealing.transitions.independence_move import IndependenceMove
from unnorm.partition.annealing.transitions.swendsen_wang import SwendsenWang
from unnorm.partition.proposals.base import count_names


def transitions_for(view: Unconstrained, couplings: Couplings | None = None) -> Transitions:
    """The transitions that serve a density; which of its sites do not interact is found by a probe.

    Args:
        view: of the density.
        couplings: its Ising form, for Swendsen-Wang transitions.
    """
    return compose(view, colouring_of(view), couplings)


def compose(
    view: Unconstrained, colouring: Colouring | None, couplings: Couplings | None = None
) -> Transitions:
    """The transitions that serve a density of a known colouring."""
    states = tuple(name for name, s in view.supports.items() if s.states is not None)
    counts = count_names(view.supports)
    return (
        *([HMC()] if view.dimension else []),
        *([CountWalk(counts)] if counts else []),
        *([Gibbs(states, colouring)] if states else []),
        *([] if couplings is None else [SwendsenWang(couplings)]),
    )


def colouring_of(view: Unconstrained) -> Colouring | None:
    """Of the sites that do not interact, where all variables have finitely many states."""
    finite = all(support.states is not None for support in view.supports.values())
    return find_colouring(view) if finite else None


def with_independence_moves(transitions: Transitions, moves: int) -> Transitions:
    """Independence moves after each trajectory of HMC, which is the first transition."""
    return (transitions[0], *[IndependenceMove()] * moves, *transitions[1:])


__all__ = ["colouring_of", "compose", "transitions_for", "with_independence_moves"]

"""Numerical policy of interactions and conditionals: each limit and tolerance, with its reason."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ColouringOptions:
    """The search for interactions of discrete sites at random states."""

    max_sites: int = 4096  # the interactions are a matrix of sites by sites
    states: int = 3  # random states at which the Hessian is evaluated
    alike: int = 8  # states that all sites take at once
    ascents: int = 4  # to the states where terms by `where` and `==` are likely to hold
    joint_moves: int = 64  # random moves of several sites at once, which verify the colouring
    tolerance: float = 1e-8  # of changes of the log-density in float64, relative
    max_colour_share: float = 0.5  # of the sites: with more colours nothing is gained


@dataclass(frozen=True)
class PairwiseOptions:
    """The decomposition of log p̃ into single sites and pairs, and its verification."""

    max_sites: int = 1024
    max_joint_states: int = 2**16  # of all pairs, where each is tried if derivatives miss some
    # random states, and as many likely ones, at which the parts must add up: an interaction that
    # one state of 125 shows is missed by 64 of them in a third of all cases
    states: int = 1024
    sweeps: int = 10  # of the Gibbs sampler that finds likely states
    tolerance: float = 1e-8  # of log p̃ at these states, relative
    rounding: float = 64 * float(np.finfo(np.float64).eps)  # of log p̃: smaller parts are zero
    block: int = 1024  # states evaluated at once: one shape, compiled once


@dataclass(frozen=True)
class CountTableOptions:
    """Tables of the conditionals of counts, which end where little mass is left."""

    tail: float = 1e-12  # mass of a conditional that may lie beyond its table
    min_states: int = 32
    doublings: int = 8  # of the table's length
    rows: int = 64  # of the data, evaluated at once


COLOURING = ColouringOptions()
PAIRWISE = PairwiseOptions()
COUNT_TABLES = CountTableOptions()

"""log p̃ of discrete sites as a sum over single sites and pairs, detected automatically.

log p̃(x) = c + Σ_i θ_i(x_i) + Σ_ij θ_ij(x_i, x_j): the parts are
differences of log p̃ from a reference state; at other states, likely ones among them, log p̃ must be
their sum.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import make_key
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.interactions.coloring import discrete_names, interaction_matrix
from unnorm.interactions.elimination_order import StructureError, elimination_order
from unnorm.interactions.options import COLOURING, PAIRWISE, PairwiseOptions


class Pairwise(NamedTuple):
    """log p̃ as a sum of parts.

    Attributes:
        constant: log p̃ where every site is in its first state.
        sites: of site i, (states,).
        pairs: of sites i < j, (states, states).
        order: in which sites are eliminated; empty if it was not asked for.
        evaluations: of log p̃ and its gradient that were spent.
    """

    constant: float
    sites: list[np.ndarray]
    pairs: dict[tuple[int, int], np.ndarray]
    order: list[int]
    evaluations: dict[str, int]

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """log p̃ of states (..., sites), as indices."""
        total = self.constant + sum(part[codes[..., i]] for i, part in enumerate(self.sites))
        return total + sum(
            part[codes[..., i], codes[..., j]] for (i, j), part in self.pairs.items()
        )


def pairwise_form(density: Density) -> Pairwise:
    """The parts of a density of discrete sites, verified, with an elimination order.

    Args:
        density: on its chart and hashable, as by `on_chart` and `for_jit`; evaluated in float64.

    Raises:
        StructureError: a variable has infinitely many states, there are too many sites, more than
            two sites interact at once, or a table would be too large.

    Example:
        >>> import unnorm as un
        >>> chain = un.Density(lambda x: 0.5 * jnp.sum(x[1:] * x[:-1]), {"x": un.Spin[50]})
        >>> len(pairwise_form(chain).pairs)
        49

    References:
        Besag (1974), doi:10.1111/j.2517-6161.1974.tb00999.x.
    """
    found = sum_of_pairs(density, for_elimination=True)
    counts = np.array([len(part) for part in found.sites])
    return found._replace(order=elimination_order(len(counts), list(found.pairs), counts))


def sum_of_pairs(
    density: Density,
    for_elimination: bool = False,
    max_degree: int | None = None,
    options: PairwiseOptions = PAIRWISE,
) -> Pairwise:
    """The parts of a density of discrete sites, verified.

    Args:
        density: as for `pairwise_form`.
        for_elimination: stop as soon as no elimination order is feasible.
        max_degree: the limit on a site's neighbours.
        options: limits and tolerances.
    """
    counts = _state_counts(density, options.max_sites)
    with jax.enable_x64(True):
        probe = _Probe(Unconstrained(cast(density, jnp.float64)), counts, options)
        pairs = probe.interacting_pairs(for_elimination)
        if max_degree is not None and pairs and np.bincount(np.ravel(pairs)).max() > max_degree:
            raise StructureError(f"a site has more than {max_degree} neighbours", probe.spent)
        found = probe.parts(pairs)
        contradiction = probe.contradiction(found)
        # derivatives do not show interactions by `where` and `==`
        if contradiction and _joint_states(counts) <= options.max_joint_states:
            found = probe.parts(list(itertools.combinations(range(len(counts)), 2)))
            contradiction = probe.contradiction(found)
    if contradiction:
        raise StructureError(contradiction, probe.spent)
    return found._replace(evaluations=probe.spent)


def _state_counts(density: Density, max_sites: int) -> np.ndarray:
    """The number of states of every site, in the order of `discrete_names`."""
    shapes = density.shapes()
    counts: list[int] = []
    for name in density.covariates:
        raise StructureError(f"each row has its own Z by the covariate {name}")
    for name, support in density.variables.items():
        if support.states is None:
            raise StructureError(f"the states of variable {name} ({support!r}) cannot be listed")
    for name in sorted(density.variables):
        support = density.variables[name]
        counts += [len(support.states)] * math.prod(support.free_shape(shapes[name]))
        if len(counts) > max_sites:
            raise StructureError(f"it has more than {max_sites:,} sites")
    return np.array(counts)


def _joint_states(counts: np.ndarray) -> int:
    """The joint states of all pairs of sites, by the sites' numbers of states."""
    return (int(counts.sum()) ** 2 - int((counts**2).sum())) // 2


class _Probe:
    """The log-density at states given as indices, (states, sites); evaluations are counted."""

    def __init__(self, target: Unconstrained, counts: np.ndarray, options: PairwiseOptions) -> None:
        self.target, self.counts, self.options = target, counts, options
        self.values, self.gradients = 0, 0

    @property
    def spent(self) -> dict[str, int]:
        return {"values": self.values, "gradients": self.gradients}

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        self.values += len(codes)
        size = self.options.block
        blocks = np.resize(codes, (-(-len(codes) // size), size, codes.shape[1]))
        values = np.concatenate([np.asarray(_at_codes(self.target, block)) for block in blocks])
        return values[: len(codes)]

    def interacting_pairs(self, for_elimination: bool) -> list[tuple[int, int]]:
        """The pairs of sites between which log p̃ has a second derivative at random real points."""
        pairs: list
        found, pairs = np.zeros((len(self.counts),) * 2, bool), []
        for seed in range(COLOURING.states):
            before = pairs
            position = self.target.random_position(make_key(seed), jnp.float64)
            found |= interaction_matrix(self.target, [position])
            # the cost of a Hessian: a derivative of the gradient for every state
            self.gradients += 2 * int(self.counts.sum())
            pairs = [(int(i), int(j)) for i, j in np.argwhere(np.triu(found, 1))]
            many = _joint_states(self.counts) > self.options.max_joint_states
            if for_elimination and pairs != before and many:  # raises early
                elimination_order(len(self.counts), pairs, self.counts)
        return pairs

    def parts(self, pairs: list[tuple[int, int]]) -> Pairwise:
        """Differences of log p̃ from every site's first state; pairs without any are omitted."""
        singles = [(i, s) for i, count in enumerate(self.counts) for s in range(1, count)]
        doubles = [
            (i, s, j, t)
            for i, j in pairs
            for s in range(1, self.counts[i])
            for t in range(1, self.counts[j])
        ]
        codes = np.zeros((1 + len(singles) + len(doubles), len(self.counts)), np.int32)
        for row, (i, s) in enumerate(singles, 1):
            codes[row, i] = s
        for row, (i, s, j, t) in enumerate(doubles, 1 + len(singles)):
            codes[row, [i, j]] = s, t
        constant, *values = self(codes)
        if not np.isfinite(constant):
            raise StructureError(
                f"its log-density is {constant} where every site is in its first state"
            )
        alone = [np.zeros(count) for count in self.counts]
        for (i, s), value in zip(singles, values, strict=False):
            alone[i][s] = value - constant
        together = {(i, j): np.zeros((self.counts[i], self.counts[j])) for i, j in pairs}
        for (i, s, j, t), value in zip(doubles, values[len(singles) :], strict=True):
            expected = constant + alone[i][s] + alone[j][t]
            # A state of probability zero by itself leaves nothing to its pairs.
            together[i, j][s, t] = value - expected if np.isfinite(expected) else 0.0
        largest = max(abs(value) for value in [constant, *values] if np.isfinite(value))
        rounding = self.options.rounding * (1 + largest)
        together = {
            pair: part for pair, part in together.items() if not np.max(np.abs(part)) <= rounding
        }
        return Pairwise(float(constant), alone, together, [], self.spent)

    def contradiction(self, found: Pairwise) -> str | None:
        """Where log p̃ is not the sum of its parts, at random and at likely states, or None."""
        rng = np.random.default_rng(0)
        random = rng.integers(0, self.counts, (self.options.states, len(self.counts)))
        alike = np.arange(self.counts.max())[:, None] % self.counts
        start = np.concatenate([alike, random])[: self.options.states]
        likely = _likely(found, start, rng, self.options.sweeps)
        states = np.concatenate([random, alike, likely])
        seen, summed = self(states), found(states)
        with np.errstate(invalid="ignore"):
            apart = np.where(seen == summed, 0.0, np.abs(seen - summed)) / (
                1 + np.abs(np.nan_to_num(seen))
            )
        if np.all(apart <= self.options.tolerance):
            return None
        at = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        return (
            f"its log-density is not a sum over single sites and pairs: {seen[at]:.8g} instead of "
            f"{summed[at]:.8g} at one of {len(states)} states"
        )


@compiled
def _at_codes(target: Unconstrained, codes: jax.Array) -> jax.Array:
    """log p̃ of states (S, sites), as indices."""
    shapes = target.density.shapes()

    def one(code):
        position, start = {}, 0
        for name in discrete_names(target):
            support = target.supports[name]
            shape = support.free_shape(shapes[name])
            part = code[start : start + math.prod(shape)]
            position[name] = jnp.asarray(support.states, jnp.result_type(float))[part].reshape(
                shape
            )
            start += math.prod(shape)
        return target.log_density(position)

    return jax.lax.map(one, codes, batch_size=64)


def _likely(
    found: Pairwise, codes: np.ndarray, rng: np.random.Generator, sweeps: int
) -> np.ndarray:
    """States after some sweeps of a Gibbs sampler of the parts, one chain per state."""
    beside: list[list] = [[] for _ in found.sites]
    for (i, j), part in found.pairs.items():
        beside[i].append((j, part.T))
        beside[j].append((i, part))
    codes = codes.copy()
    for _ in range(sweeps):
        for i, alone in enumerate(found.sites):
            logits = alone + sum(
                (part[codes[:, j]] for j, part in beside[i]), np.zeros((len(codes), 1))
            )
            noisy = logits + rng.gumbel(size=logits.shape)
            codes[:, i] = np.where(np.isfinite(logits).any(1), np.argmax(noisy, 1), codes[:, i])
    return codes


__all__ = ["Pairwise", "pairwise_form", "sum_of_pairs"]

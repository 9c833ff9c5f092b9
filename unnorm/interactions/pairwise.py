"""log p̃ of discrete sites as a sum over single sites and pairs, found out and not declared.

log p̃(x) = c + Σ_i θ_i(x_i) + Σ_ij θ_ij(x_i, x_j): differences of log p̃ from a reference state
give the parts, and at other states, likely ones among them, log p̃ must be their sum.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.interactions.coloring import STATES, _interactions, discrete_names
from unnorm.interactions.elimination_order import StructureError, elimination_order

MOST_SITES = 1024
ALL_PAIRS = (
    2**16
)  # joint states of two sites, up to which every pair is tried where derivatives do not tell
CHECKED, SWEEPS = (
    64,
    10,
)  # states of either kind at which the parts must add up; sweeps to the likely ones
TOLERANCE = 1e-8  # of log p̃ there, relative
_ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of log p̃: a difference below it is none
_BLOCK = 1024  # states that are evaluated at once: one shape, compiled once


class Pairwise(NamedTuple):
    """log p̃ as a sum of parts; `sites[i]` (states,) and `pairs[i, j]`, i < j, (states, states),
    and what it cost.
    """

    constant: float
    sites: list[np.ndarray]
    pairs: dict[tuple[int, int], np.ndarray]
    order: list[int] = []
    evaluations: dict[str, int] = {}

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """log p̃ of states (..., sites), given by number."""
        total = self.constant + sum(part[codes[..., i]] for i, part in enumerate(self.sites))
        return total + sum(
            part[codes[..., i], codes[..., j]] for (i, j), part in self.pairs.items()
        )


def pairwise_form(density: Density) -> Pairwise:
    """The parts of a density of discrete sites, checked, and an order to eliminate them in.

    Args:
        density: bare and charted; it is evaluated in float64.

    Raises:
        StructureError: a variable cannot be listed, too many sites, an interaction of more than two, or
            too large a table.

    Example:
        >>> import unnorm as un
        >>> chain = un.Density(lambda x: 0.5 * jnp.sum(x[1:] * x[:-1]), {"x": un.Spin[50]})
        >>> len(pairwise_form(chain).pairs)
        49

    References:
        Besag (1974), doi:10.1111/j.2517-6161.1974.tb00999.x.
    """
    found = sum_of_pairs(density, eliminated=True)
    bases = np.array([len(part) for part in found.sites])
    return found._replace(order=elimination_order(len(bases), list(found.pairs), bases))


def sum_of_pairs(
    density: Density, eliminated: bool = False, neighbours: int | None = None
) -> Pairwise:
    """The parts alone, checked; refused as soon as they cannot be `eliminated`, or a site has more
    `neighbours`.
    """
    bases = _bases(density)
    with jax.enable_x64(True):
        probe = _Probe(Unconstrained(cast(density, jnp.float64)), bases)
        pairs = probe.interacting(eliminated)
        if neighbours is not None and pairs and np.bincount(np.ravel(pairs)).max() > neighbours:
            raise StructureError(f"a site has more than {neighbours} neighbours", probe.spent)
        found = probe.parts(pairs)
        told = probe.contradiction(found)
        if (
            told is not None and _joint_states(bases) <= ALL_PAIRS
        ):  # derivatives see no `where` and no `==`
            found = probe.parts(_all_pairs(len(bases)))
            told = probe.contradiction(found)
    if told is not None:
        raise StructureError(told, probe.spent)
    return found._replace(evaluations=probe.spent)


def _bases(density: Density) -> np.ndarray:
    """The number of states of every site, in the order of `discrete_names`."""
    shapes, bases = density.shapes(), []
    for name in density.covariates:
        raise StructureError(f"each row has its own Z by the covariate {name}")
    for name, support in density.variables.items():
        if support.states is None:
            raise StructureError(f"the states of variable {name} ({support!r}) cannot be listed")
    for name in sorted(density.variables):
        support = density.variables[name]
        bases += [len(support.states)] * math.prod(support.free_shape(shapes[name]))
        if len(bases) > MOST_SITES:
            raise StructureError(f"it has more than {MOST_SITES:,} sites")
    return np.array(bases)


def _all_pairs(sites: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(sites) for j in range(i + 1, sites)]


def _joint_states(bases: np.ndarray) -> int:
    """Of all pairs of sites together."""
    return (int(bases.sum()) ** 2 - int((bases**2).sum())) // 2


class _Probe:
    """Looks at a target's log-density at states that are given by number, (states, sites), and
    counts.
    """

    def __init__(self, target: Unconstrained, bases: np.ndarray):
        self.target, self.bases, self.values, self.gradients = target, bases, 0, 0

    @property
    def spent(self) -> dict[str, int]:
        return {"values": self.values, "gradients": self.gradients}

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        self.values += len(codes)
        blocks = np.resize(codes, (-(-len(codes) // _BLOCK), _BLOCK, codes.shape[1]))
        return np.concatenate([np.asarray(_at_codes(self.target, block)) for block in blocks])[
            : len(codes)
        ]

    def interacting(self, eliminated: bool) -> list[tuple[int, int]]:
        """The pairs of sites between which log p̃ has a second derivative at random real points."""
        pairs: list
        found, pairs = np.zeros((len(self.bases),) * 2, bool), []
        for seed in range(STATES):
            before = pairs
            position = self.target.random_position(jax.random.key(seed), jnp.float64)
            found |= _interactions(self.target, [position])
            self.gradients += 2 * int(
                self.bases.sum()
            )  # a Hessian is so many derivatives of a gradient
            pairs = [(int(i), int(j)) for i, j in np.argwhere(np.triu(found, 1))]
            # refused as soon as it is clear
            if eliminated and pairs != before and _joint_states(self.bases) > ALL_PAIRS:
                elimination_order(len(self.bases), pairs, self.bases)
        return pairs

    def parts(self, pairs: list[tuple[int, int]]) -> Pairwise:
        """Differences of log p̃ from every site's first state; pairs that have none are left
        out.
        """
        singles = [(i, s) for i, base in enumerate(self.bases) for s in range(1, base)]
        doubles = [
            (i, s, j, t)
            for i, j in pairs
            for s in range(1, self.bases[i])
            for t in range(1, self.bases[j])
        ]
        codes = np.zeros((1 + len(singles) + len(doubles), len(self.bases)), np.int32)
        for row, (i, s) in enumerate(singles, 1):
            codes[row, i] = s
        for row, (i, s, j, t) in enumerate(doubles, 1 + len(singles)):
            codes[row, [i, j]] = s, t
        constant, *values = self(codes)
        if not np.isfinite(constant):
            raise StructureError(f"its log-density is {constant} where every site is in its first state")
        alone = [np.zeros(base) for base in self.bases]
        for (i, s), value in zip(singles, values, strict=False):
            alone[i][s] = value - constant
        together = {(i, j): np.zeros((self.bases[i], self.bases[j])) for i, j in pairs}
        for (i, s, j, t), value in zip(doubles, values[len(singles) :], strict=True):
            expected = constant + alone[i][s] + alone[j][t]
            # A state that is forbidden by itself leaves nothing to a pair of it.
            together[i, j][s, t] = value - expected if np.isfinite(expected) else 0.0
        rounding = _ROUNDING * (
            1 + max(abs(value) for value in [constant, *values] if np.isfinite(value))
        )
        together = {
            pair: part for pair, part in together.items() if not np.max(np.abs(part)) <= rounding
        }
        return Pairwise(float(constant), alone, together)

    def contradiction(self, found: Pairwise) -> str | None:
        """Where log p̃ is not the sum of its parts: at random states, and at states that the parts
        make likely.
        """
        rng = np.random.default_rng(0)
        random = rng.integers(0, self.bases, (CHECKED, len(self.bases)))
        alike = np.arange(self.bases.max())[:, None] % self.bases
        likely = _likely(found, np.concatenate([alike, random])[:CHECKED], rng)
        states = np.concatenate([random, alike, likely])
        seen, summed = self(states), found(states)
        with np.errstate(invalid="ignore"):
            apart = np.where(seen == summed, 0.0, np.abs(seen - summed)) / (
                1 + np.abs(np.nan_to_num(seen))
            )
        if np.all(apart <= TOLERANCE):
            return None
        at = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        return (
            f"its log-density is no sum over single sites and pairs of them: {seen[at]:.8g} in "
            "place of "
            f"{summed[at]:.8g} at one of {len(states)} states that were tried"
        )


@jax.jit
def _at_codes(target: Unconstrained, codes: jax.Array) -> jax.Array:
    """log p̃ of states (S, sites), given by number."""
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


def _likely(found: Pairwise, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """States after some sweeps of Gibbs' sampler over the parts, many chains at once."""
    beside: list[list] = [[] for _ in found.sites]
    for (i, j), part in found.pairs.items():
        beside[i].append((j, part.T))
        beside[j].append((i, part))
    codes = codes.copy()
    for _ in range(SWEEPS):
        for i, alone in enumerate(found.sites):
            logits = alone + sum(
                (part[codes[:, j]] for j, part in beside[i]), np.zeros((len(codes), 1))
            )
            noisy = logits + rng.gumbel(size=logits.shape)
            codes[:, i] = np.where(np.isfinite(logits).any(1), np.argmax(noisy, 1), codes[:, i])
    return codes


__all__ = ["Pairwise", "pairwise_form", "sum_of_pairs"]

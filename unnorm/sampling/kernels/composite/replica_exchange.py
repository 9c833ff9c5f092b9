"""Replica exchange (parallel tempering) over any kernel."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.method import look_up, method, option, static
from unnorm.declaration.density import Density
from unnorm.sampling.adaptation import NoAdaptation, strategy
from unnorm.sampling.base import KERNELS, Options, SamplingAlgorithm


class ReplicaState(NamedTuple):
    """The state of the replicas of a chain."""

    position: dict  # of the coldest replica, which follows the density
    logdensity: jax.Array
    replicas: dict  # (temperatures, ...) by variable
    turn: jax.Array


class ReplicaInfo(NamedTuple):
    """What a step reports."""

    inner: Any  # the infos of the inner kernels, by temperature
    swap_chances: jax.Array  # of each pair of neighbours, whether it was its turn or not
    swap_rate: jax.Array


class LadderState(NamedTuple):
    """The state of the adaptation of the temperatures."""

    inner: Any
    log_powers: jax.Array
    rejections: jax.Array  # summed over the round, of each pair
    steps: jax.Array | int
    round_length: jax.Array | int


class _Ladder(NoAdaptation):
    """Powers at which all pairs reject swaps equally often, and the inner kernel's own strategy at
    each.
    """

    windows = True
    first_round = 25  # steps before the ladder is first updated; each round is twice as long

    def begin(self, kernel, tuning, positions):
        inner = kernel.inner
        states = self._each(kernel, lambda given: strategy(inner).begin(inner, given, positions))(
            tuning["inner"]
        )
        logs = tuning["log_powers"]
        return LadderState(states, logs, jnp.zeros(logs.size - 1, logs.dtype), 0, self.first_round)

    def current(self, kernel, state, tuning, chain):
        inner = kernel.inner
        now = self._each(kernel, lambda s, t: strategy(inner).current(inner, s, t, chain))(
            state.inner, tuning["inner"]
        )
        return {"log_powers": state.log_powers, "inner": now}

    def advance(self, kernel, state, positions, info, stage):
        inner = kernel.inner
        # Each temperature learns from its own replicas.
        moved = jax.vmap(
            lambda s, p, i: strategy(inner).advance(inner, s, p, i, stage), in_axes=(0, 1, 1)
        )(state.inner, info.inner[1], info.inner[0])
        rejections = state.rejections + (1 - jnp.nan_to_num(info.swap_chances)).mean(0)
        steps = state.steps + 1
        ends = steps >= state.round_length
        logs = jnp.where(
            ends, equal_rejections(state.log_powers, rejections / steps), state.log_powers
        )
        return LadderState(
            moved,
            logs,
            jnp.where(ends, 0.0, rejections),
            jnp.where(ends, 0, steps),
            jnp.where(ends, 2 * state.round_length, state.round_length),
        )

    def finish(self, kernel, state, tuning):
        inner = kernel.inner
        last = self._each(kernel, lambda s, t: strategy(inner).finish(inner, s, t))(
            state.inner, tuning["inner"]
        )
        return {"log_powers": state.log_powers, "inner": last}

    @staticmethod
    def _each(kernel, function) -> Any:
        """Over the temperatures, whose number no argument may tell."""
        return jax.vmap(function, axis_size=kernel.temperatures)


def equal_rejections(log_powers: jax.Array, rejections: jax.Array) -> jax.Array:
    """New powers between the same ends that cut the communication barrier, Σ rejections, into equal
    parts.
    """
    barrier = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.maximum(rejections, 1e-3))])
    wanted = jnp.linspace(0.0, 1.0, log_powers.size) * barrier[-1]
    return jnp.interp(wanted, barrier, log_powers).astype(log_powers.dtype)


@method
class ReplicaExchange(Options):
    """Replica exchange: chains at p^β b^(1 − β), 1 = β_1 > ... > β_K, each by the inner kernel;
    neighbours swap.

    A swap of neighbours is accepted with min(1, exp((β_k − β_{k+1}) (ℓ(x_{k+1}) − ℓ(x_k)))), ℓ =
    log p̃ − log b; even and odd pairs take turns. During warm-up the ladder is set such that all
    pairs swap equally often. What is kept is the replica at β = 1.

    Args:
        inner: a kernel or its name; its step size is adapted at each temperature by itself.
        temperatures: how many, K.
        hottest: the smallest β. With a flat base on an unbounded support it must be above 0.
        base: b, a normalizable density of the same variables; None: flat in the variables
            themselves.

    Example:
        >>> import jax.numpy as jnp
        >>> import unnorm as un
        >>> two = un.Density(lambda x: jnp.logaddexp(-0.5 * (x - 5) ** 2, -0.5 * (x + 5) ** 2),
        ...     {"x": un.Real})
        >>> kernel = ReplicaExchange(un.kernels.RandomWalkMH(), temperatures=4)
        >>> un.sample(two, kernel, draws=10, chains=2, seed=0, progress=False).posterior["x"].shape
        (2, 10)

    References:
        Geyer (1991), Markov chain Monte Carlo maximum likelihood; Syed et al. (2022),
        doi:10.1111/rssb.12464 (alternating pairs, the ladder).
    """

    inner: Any
    temperatures: int = static(default=8, at_least=2)
    hottest: float = option(default=0.02, at_least=0, below=1)
    base: Density | None = None
    adapts = _Ladder()
    composed = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", look_up(self.inner, KERNELS, "kernel", "build"))
        if (
            isinstance(self.temperatures, bool)
            or not isinstance(self.temperatures, int)
            or self.temperatures < 2
        ):
            raise ValueError(
                f"temperatures is {self.temperatures!r}; it must be an integer of at least 2; "
                "raise it."
            )
        if not 0 <= self.hottest < 1:
            raise ValueError(
                f"hottest is {self.hottest!r}; it must be at least 0 and below 1; correct it."
            )

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        return self.inner.needs_gradient

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self.inner.exact

    @property
    def bias(self) -> str:
        return self.inner.bias

    def serves(self, support) -> bool:
        # Asked of the class by the list of alternatives, where there is no inner kernel yet.
        return not isinstance(self, type) and self.inner.serves(support)

    def prepare(self, target) -> Any:
        open_ended = [name for name, support in target.supports.items() if support.states is None]
        if self.base is None and not self.hottest > 0 and open_ended:
            raise ValueError(
                f"hottest is 0 with a flat base, which has no integral over {open_ended[0]}; "
                "expected a positive inverse temperature, or a normalizable density; raise "
                "hottest, or pass base=."
            )
        if self.base is not None and self.base.variables != target.density.variables:
            raise ValueError(
                f"ReplicaExchange's base has the variables {self.base.variables}; expected those "
                f"of {target.density.name}, {target.density.variables}; declare it over the same "
                "variables."
            )
        if hasattr(self.inner, "warm_up"):
            raise ValueError(
                f"ReplicaExchange was given {self.inner!r}, whose warm-up adapts to a whole "
                "density; expected a kernel adapted step by step; use un.kernels.NUTS or MALA."
            )
        base = None if self.base is None else self.base.resolved(target.density.shapes()).for_jit()
        return dataclasses.replace(self, inner=self.inner.prepare(target), base=base)

    def initial_tuning(self, size) -> dict[str, Any]:
        count = self.temperatures
        powers = np.geomspace(1.0, max(float(np.asarray(self.hottest)), 1e-3), count)
        powers[-1] = np.asarray(self.hottest)
        inner = self.inner.initial_tuning(size)
        with np.errstate(divide="ignore"):
            logs = np.maximum(
                np.log(powers), -60.0
            )  # a power of 0 but for rounding, so that the ladder interpolates
        return {
            "log_powers": jnp.asarray(logs),
            "inner": jax.tree.map(
                lambda leaf: jnp.stack([jnp.asarray(leaf, float)] * count), inner
            ),
        }

    def build(self, target, tuning) -> SamplingAlgorithm:
        powers, count = jnp.exp(tuning["log_powers"]), self.temperatures

        def height(position):
            """ℓ = log p̃ − log b of one replica."""
            event = target.constrain(position)
            value = target.density.log_density(event)
            return value if self.base is None else value - self.base.log_density(event)

        def init(position, key=None):
            replicas = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), position)
            return ReplicaState(
                position, target.log_density(position), replicas, jnp.zeros((), jnp.int32)
            )

        def move(power, tuning, position, key):
            begin, go = jax.random.split(key)
            algorithm = self.inner.build(target.temper(power, self.base), tuning)
            noise = go if self.inner.noise is None else self.inner.noise(go, position)
            state, info = algorithm.step(noise, algorithm.init(position, begin))
            return target.canonical(state.position), info

        def step(key, state):
            swap, *keys = jax.random.split(key, 1 + count)
            replicas, info = jax.vmap(move)(
                powers, tuning["inner"], state.replicas, jnp.stack(keys)
            )
            heights = jax.vmap(height)(replicas)
            chances = jnp.exp(
                jnp.minimum(0.0, (powers[:-1] - powers[1:]) * (heights[1:] - heights[:-1]))
            )
            on_turn = jnp.arange(count - 1) % 2 == state.turn % 2
            uniforms = jax.random.uniform(swap, chances.shape, chances.dtype)
            swapped = on_turn & (uniforms < jnp.nan_to_num(chances))
            order = jnp.arange(count)
            order = order + jnp.append(swapped, False) - jnp.insert(swapped, 0, False)
            after = jax.tree.map(lambda leaf: leaf[order], replicas)
            cold = jax.tree.map(lambda leaf: leaf[0], after)
            rate = jnp.sum(jnp.where(on_turn, chances, 0)) / jnp.maximum(jnp.sum(on_turn), 1)
            new = ReplicaState(cold, target.log_density(cold), after, state.turn + 1)
            return new, ReplicaInfo((info, replicas), chances, rate)

        return SamplingAlgorithm(init, step)

    def stats(self, info) -> dict[str, Any]:
        """The coldest replica's, and how often neighbours swapped."""
        own = self.inner.stats(jax.tree.map(lambda leaf: leaf[0], info.inner[0]))
        return own | {"swap_rate": info.swap_rate}

"""A kernel for each variable."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.method import look_up
from unnorm.sampling.adaptation import NoAdaptation, strategy
from unnorm.sampling.base import KERNELS, Options, SamplingAlgorithm


class BlockwiseState(NamedTuple):
    """The state of a chain."""

    position: dict
    logdensity: jax.Array


class _EachBlock(NoAdaptation):
    """Every block's own strategy, on its own variables."""

    windows = True

    def begin(self, kernel, tuning, positions):
        return {
            label: strategy(inner).begin(inner, tuning[label], part)
            for label, inner, part in kernel.parts_of(positions)
        }

    def current(self, kernel, state, tuning, chain):
        return {
            label: strategy(inner).current(inner, state[label], tuning[label], chain)
            for label, inner in kernel.kernels.items()
        }

    def advance(self, kernel, state, positions, info, stage):
        return {
            label: strategy(inner).advance(inner, state[label], part, info[label], stage)
            for label, inner, part in kernel.parts_of(positions)
        }

    def finish(self, kernel, state, tuning):
        return {
            label: strategy(inner).finish(inner, state[label], tuning[label])
            for label, inner in kernel.kernels.items()
        }


class Blockwise(Options):
    """A kernel for each variable, or group of variables, one after another; each is moved given the
    others.

    Args:
        groups: ``{("mu", "tau"): kernel}`` for variables that are moved together.
        kernels: ``x=kernel, theta=kernel``, objects or registry names.

    Raises:
        ValueError: a variable with two kernels.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda s, x: -0.5 * (x - s) ** 2, {"s": un.Spin, "x": un.Real})
        >>> kernel = Blockwise(s="gibbs", x=un.kernels.MALA())
        >>> un.sample(p, kernel, draws=10, chains=2, seed=0, progress=False).posterior["s"].shape
        (2, 10)

    References:
        Tierney (1994), doi:10.1214/aos/1176325750.
    """

    adapts = _EachBlock()
    composed = True

    def __init__(self, groups: Mapping[Any, Any] | None = None, **kernels: Any) -> None:
        blocks = {
            (name,) if isinstance(name, str) else tuple(name): k
            for name, k in (groups or {}).items()
        }
        blocks |= {(name,): kernel for name, kernel in kernels.items()}
        names = [name for block in blocks for name in block]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise ValueError(
                f"Blockwise was given {f'two kernels for {twice[0]}' if twice else 'no kernel'}; "
                "expected one for "
                "each variable; pass x=kernel, or {('x', 'y'): kernel} for a group."
            )
        self.blocks = tuple(blocks)
        self.kernels = {
            "_".join(block): look_up(kernel, KERNELS, "kernel", "build")
            for block, kernel in blocks.items()
        }

    def __repr__(self) -> str:
        kernels = ", ".join(f"{label}={kernel!r}" for label, kernel in self.kernels.items())
        return f"Blockwise({kernels})"

    def parts_of(self, position: dict) -> Any:
        """Each block's label, kernel and part of a position."""
        for block, (label, kernel) in zip(self.blocks, self.kernels.items(), strict=True):
            yield label, kernel, {name: position[name] for name in block}

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        return any(kernel.needs_gradient for kernel in self.kernels.values())

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return all(kernel.exact for kernel in self.kernels.values())

    @property
    def bias(self) -> str:
        return "; ".join(kernel.bias for kernel in self.kernels.values() if not kernel.exact)

    def serves(self, support) -> bool:
        return True  # each block's own kernel is asked in `prepare`, where the variables are known

    def prepare(self, target) -> Any:
        covered = {name for block in self.blocks for name in block}
        wrong = sorted(covered ^ set(target.supports))
        if wrong:
            found = "a kernel for" if wrong[0] in covered else "no kernel for"
            raise ValueError(
                f"Blockwise has {found} {wrong[0]}; expected one for each variable of "
                f"{target.density.name} ({', '.join(target.supports)}); pass these."
            )
        start = target.random_position(jax.random.key(0), jnp.float32)
        new = object.__new__(Blockwise)
        new.blocks, new.kernels = self.blocks, {}
        for label, kernel, part in self.parts_of(start):
            for name in part:
                if not kernel.serves(target.supports[name]):
                    raise ValueError(
                        f"{type(kernel).__name__} cannot move {name}, which is "
                        f"{target.supports[name]!r}; expected a kernel that can; give Blockwise "
                        f"another one for {name}."
                    )
            if hasattr(kernel, "warm_up"):
                raise ValueError(
                    f"Blockwise was given {kernel!r} for {label}, whose warm-up adapts to a whole "
                    "density; expected a kernel adapted step by step; use un.kernels.NUTS or "
                    "MCLMC(adjusted=True)."
                )
            # A colouring is found at one value of the other variables, and need not hold at the
            # next.
            coloured = hasattr(kernel, "colouring")
            others = {name: value for name, value in start.items() if name not in part}
            new.kernels[label] = kernel if coloured else kernel.prepare(target.holding(others))
        return new

    def initial_tuning(self, size) -> dict[str, Any]:
        raise NotImplementedError  # `initial_tunings` is asked

    def initial_tunings(self, position) -> Any:
        return {
            label: kernel.initial_tuning(sum(leaf.size for leaf in part.values()))
            for label, kernel, part in self.parts_of(position)
        }

    def build(self, target, tuning) -> SamplingAlgorithm:
        def init(position, key=None):
            return BlockwiseState(position, target.log_density(position))

        def step(key, state):
            position, infos = dict(state.position), {}
            for label, kernel, part in self.parts_of(position):
                key, begin, move = jax.random.split(key, 3)
                others = {name: value for name, value in position.items() if name not in part}
                algorithm = kernel.build(target.holding(others), tuning[label])
                noise = move if kernel.noise is None else kernel.noise(move, part)
                inner, infos[label] = algorithm.step(noise, algorithm.init(part, begin))
                position |= inner.position
            return BlockwiseState(position, inner.logdensity), infos

        return SamplingAlgorithm(init, step)

    def stats(self, info) -> dict[str, Any]:
        """Each block's, its label behind the name; flags also for all together."""
        all_stats = {label: kernel.stats(info[label]) for label, kernel in self.kernels.items()}
        out = {
            f"{name}_{label}": value
            for label, stats in all_stats.items()
            for name, value in stats.items()
        }
        for flag in ("nan_proposal", "inf_proposal", "diverging"):
            seen = [stats[flag] for stats in all_stats.values() if flag in stats]
            if seen:
                out = {name: value for name, value in out.items() if not name.startswith(flag)}
                out[flag] = jnp.stack(seen).any()
        return out


jax.tree_util.register_pytree_with_keys(
    Blockwise,
    lambda kernel: (
        [(jax.tree_util.DictKey(label), inner) for label, inner in kernel.kernels.items()],
        (Blockwise, kernel.blocks, tuple(kernel.kernels)),
    ),
    lambda aux, children: _rebuilt(aux, children),
)


def _rebuilt(aux, children) -> Blockwise:
    new = object.__new__(Blockwise)
    new.blocks, new.kernels = aux[1], dict(zip(aux[2], children, strict=True))
    return new

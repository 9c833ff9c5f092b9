"""How much the compiler works on each program: the one place of that policy.

XLA takes most of the time of a first answer. A program that runs once, with little work, gains
nothing from machine code that is fast; a long loop gains much. `compiled` is `jax.jit` with this
choice made. On a GPU, and inside another program that is being traced, it is `jax.jit` as it is.

On CPU, in seconds to compile and to run, JAX 0.10.2:

| program | quick | balanced | JAX's own |
| --- | --- | --- | --- |
| Newton loop, 500 rows of 8 | 0.25, 0.003 | 0.40, 0.001 | 0.80, 0.002 |
| Newton loop, 50,000 rows of 8 | 0.29, 0.12 | 0.51, 0.048 | 1.0, 0.052 |
| 50 elementwise steps on 100,000 | 0.24, 1.7 | 0.42, 0.27 | 1.1, 0.26 |

Every program on CPU is compiled without the wrong fusions of jaxlib 0.10.2 (`jax_compat`).
"""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from unnorm.core.interrupts import raise_pending
from unnorm.core.jax_compat import is_tracing, without_wrong_fusions

Work = Literal["once", "loop"]
# Level 0 does not vectorize; these emitters take half of the compiler's time and return none of it.
# A program split for parallel code generation, and passes of LLVM whose work level 0 does not use,
# take a third of what is left (5.3 and 3.6 s for 80 programs of fits by score matching).
_QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_llvm_disable_expensive_passes": True,
}
_BALANCED = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
_NARROW = {"xla_cpu_use_fusion_emitters": False}


@dataclass(frozen=True)
class CompilationOptions:
    """From how much work on a program is worth better machine code.

    Attributes:
        small_elements: the most numbers in the state of a loop that is compiled at LLVM's level 1.
            NUTS with 4 chains took as long afterwards in 5 and 25 dimensions (its compilation 13 to
            14 s, at level 1 9 to 11), and 1.2 times as long in 100.
        narrow_elements: the most numbers in the state of a loop that is compiled without the fusion
            emitters. These save calls on long arrays and cost some on short ones: NUTS with 4
            chains in 20 dimensions took 0.25 s without and 0.35 with them, MALA with 1,024 chains
            0.10 and 0.085, and their compilation 12 and 19 s, 2.6 and 4.2.
        quick_elements: the most numbers that a program computes and is compiled quickly. Without
            vectorization a number takes 2 ns more on average; a quick compilation saves from half
            a second to five.
        balanced_elements: the most numbers that a loop computes in a call and is compiled at
            LLVM's level 1. Training a network of 3 layers of 64 (50 calls of 8 steps, 2e7 numbers
            each) took 5.3 s after 9.1 s of compilation, and at level 1 5.8 after 3.8.
        passes: how often the body of a loop of unknown length is counted.
        signatures: how many of a function's signatures are remembered with their count.
    """

    small_elements: int = 600
    narrow_elements: int = 4_000
    quick_elements: int = 1_000_000_000
    balanced_elements: int = 100_000_000
    passes: int = 10
    signatures: int = 500


# Of a loop that runs once or a few times in its process: with 4e8 numbers annealing took as long
# afterwards (0.9 s), and half of 7 s to compile.
RUN_ONCE = CompilationOptions(balanced_elements=1_000_000_000)


def compiled(
    function: Callable | None = None,
    *,
    work: Work = "once",
    sized_by: str = "",
    options: CompilationOptions = CompilationOptions(),
    **jit_options: Any,
) -> Any:
    """Compile a function by its work; a drop-in for `jax.jit`, also as a decorator.

    Args:
        function: what `jax.jit` takes.
        work: "once" for probes, searches and set-up, compiled quickly where they compute few
            numbers; "loop" for what runs long, compiled well.
        sized_by: the argument of a loop whose numbers are counted; all arguments by default.
            Programs whose bits must agree between calls (chunks of one run) name one that these
            calls share.
        options: when small is small.
        **jit_options: those of `jax.jit`, such as static_argnames.

    Example:
        >>> @compiled(static_argnames="times")
        ... def repeat(x, times):
        ...     return x * times
        >>> float(repeat(2.0, times=3))
        6.0
    """
    if function is None:
        return functools.partial(
            compiled, work=work, sized_by=sized_by, options=options, **jit_options
        )
    return Compiled(function, work, sized_by, options, jit_options)


class Compiled:
    """A function whose programs are compiled by its work."""

    def __init__(
        self,
        function: Callable,
        work: Work,
        sized_by: str,
        options: CompilationOptions,
        jit_options: dict,
    ) -> None:
        functools.update_wrapper(self, function)
        self._work, self._sized_by, self._options = work, sized_by, options
        # where the argument stands
        self._place = (
            list(inspect.signature(function).parameters).index(sized_by) if sized_by else 0
        )
        self._jit = functools.partial(jax.jit, function, **jit_options)
        self._inside = self._jit()  # the outermost program's options hold for all that it calls
        self._by_options: dict[tuple, Any] = {}
        self._efforts: dict[tuple, str] = {}  # of signatures that were seen

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, compiled for these arguments."""
        if is_tracing():
            return self._inside(*args, **kwargs)
        raise_pending()
        return self._program(args, kwargs)(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """What `jax.jit(function).lower` returns, with the options of such a call."""
        return self._program(args, kwargs).lower(*args, **kwargs)

    def _cache_size(self) -> int:
        """How many programs were compiled, as `jax.jit` counts them."""
        return sum(program._cache_size() for program in self._by_options.values())

    def _program(self, args: tuple, kwargs: dict) -> Any:
        options = _compiler_options(self._effort(args, kwargs))
        if options not in self._by_options:
            self._by_options[options] = self._jit(compiler_options=dict(options) or None)
        return self._by_options[options]

    def _effort(self, args: tuple, kwargs: dict) -> str:
        if _platform() != "cpu":
            return "platform"
        if self._sized_by:
            sized = args[self._place] if len(args) > self._place else kwargs[self._sized_by]
            return self._effort_of_loop(sized)
        leaves, structure = jax.tree.flatten((args, kwargs))
        signature = (structure, *map(_kind, leaves))
        if signature not in self._efforts:
            traced = self._inside.trace(*args, **kwargs).jaxpr.jaxpr  # JAX keeps it for the call
            if len(self._efforts) >= self._options.signatures:
                self._efforts.clear()
            elements = count_elements(traced, self._options.passes)
            self._efforts[signature] = self._effort_for(elements, leaves)
        return self._efforts[signature]

    def _effort_for(self, elements: int, leaves: list) -> str:
        """The effort for a program that computes so many numbers."""
        if self._work == "once":
            return "quick" if elements <= self._options.quick_elements else "balanced"
        few = elements <= self._options.balanced_elements
        return "balanced" if few else self._effort_of_loop(leaves)

    def _effort_of_loop(self, sized: Any) -> str:
        elements = sum(map(np.size, jax.tree.leaves(sized)))
        if elements <= self._options.small_elements:
            return "balanced"
        return "narrow" if elements <= self._options.narrow_elements else "wide"


def _kind(leaf: Any) -> Any:
    """What decides of an argument which program is traced."""
    if isinstance(leaf, np.ndarray | np.generic | jax.Array):
        return leaf.shape, leaf.dtype
    return type(leaf) if isinstance(leaf, float | complex) else leaf


def count_elements(program: Any, passes: int) -> int:
    """How many numbers a traced program computes; bodies of unknown loops count `passes` times.

    Example:
        >>> count_elements(jax.make_jaxpr(lambda x: (x * x).sum())(np.zeros(10)).jaxpr, 10)
        11
    """
    total = 0
    for equation in program.eqns:
        inner = sum(count_elements(part, passes) for part in _parts(equation.params))
        own = sum(int(np.prod(np.shape(out.aval))) for out in equation.outvars)
        times = {"scan": equation.params.get("length", 1), "while": passes}
        total += times.get(equation.primitive.name, 1) * inner or own
    return total


def _parts(params: dict) -> list:
    """The programs within an equation."""
    parts = [jax.tree.leaves(value, is_leaf=_is_program) for value in params.values()]
    return [getattr(one, "jaxpr", one) for group in parts for one in group if _is_program(one)]


def _is_program(value: Any) -> bool:
    return isinstance(value, Jaxpr | ClosedJaxpr)


def _platform() -> str:
    device = jax.config.jax_default_device  # type: ignore[attr-defined]  # set at run time
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


@functools.cache
def _compiler_options(effort: str) -> tuple[tuple[str, Any], ...]:
    """The options of an effort that the installed compiler knows."""
    efforts: dict[str, dict[str, Any]] = {
        "quick": _QUICK, "balanced": _BALANCED, "narrow": _NARROW,
    }  # fmt: skip
    wanted = efforts.get(effort, {})
    chosen = os.environ.get("XLA_FLAGS", "")  # by the user: it stays
    wanted = {name: value for name, value in wanted.items() if f"--{name}=" not in chosen}
    if effort != "platform":
        wanted = wanted | without_wrong_fusions()
    return tuple(known_options(wanted).items())


def known_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that this version of JAX knows, tried on a trivial program.

    Example:
        >>> known_options({"xla_backend_optimization_level": 0, "xla_no_such_option": 1})
        {'xla_backend_optimization_level': 0}
    """
    trivial = jax.jit(lambda: 0).lower()

    def works(tried: dict[str, Any]) -> bool:
        try:
            trivial.compile(tried)
        except Exception:  # JAX raises errors of its runtime, of several classes by version
            return False
        return True

    if not options or works(options):
        return options
    return {name: value for name, value in options.items() if works({name: value})}


__all__ = ["RUN_ONCE", "CompilationOptions", "Compiled", "compiled", "known_options"]

"""The forward Laplacian: value, gradient and a sum of second derivatives in one forward pass.

Every intermediate u carries its derivatives along directions d_k and L u = Σ_k d_k' ∇²u d_k + b·∇u.
The chain rule for u = φ(v) needs φ alone, and all directions share one L, so that one pass replaces
one pass per direction.

References:
    Li, Ye, Wang, et al. (2024), A computational framework for neural network-based variational
    Monte Carlo with Forward Laplacian, arXiv:2307.08214.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from unnorm.numerics.matrix_products import products

_CALLS = ("jit", "pjit", "closed_call")  # primitives that call another traced function
_ENTRYWISE = (
    "tanh", "logistic", "exp", "exp2", "expm1", "log", "log1p", "sqrt", "rsqrt", "cbrt", "square",
    "integer_pow", "sin", "cos", "tan", "erf",
)  # fmt: skip


class LaplacianTuple(NamedTuple):
    """A value with its first derivatives along the directions and its second-order term.

    The first derivatives are separate arrays, because XLA slices and joins arrays slowly.
    """

    value: jax.Array
    slopes: tuple[jax.Array, ...]  # the derivative along each direction
    second: jax.Array  # L of the value


def forward_laplacian(
    function: Callable, x: jax.Array, directions: jax.Array, drift: jax.Array
) -> LaplacianTuple:
    """A scalar function at x, its derivatives along the directions (k, d), and L of it; traceable.

    Example:
        >>> import jax.numpy as jnp
        >>> x, axes = jnp.array([1.0, 2.0]), jnp.eye(2)
        >>> found = forward_laplacian(lambda x: x @ x, x, axes, jnp.zeros(2))
        >>> float(found.value), [float(slope) for slope in found.slopes], float(found.second)
        (5.0, [2.0, 4.0], 4.0)
    """
    closed = jax.make_jaxpr(function)(x)
    (found,) = _through(closed.jaxpr, closed.consts, [LaplacianTuple(x, tuple(directions), drift)])
    if isinstance(found, LaplacianTuple):
        return found
    none = jnp.zeros((), x.dtype)  # constant in x
    return LaplacianTuple(found, (none,) * len(directions), none)


def _through(jaxpr: Any, constants: list, inputs: list) -> list:
    """The outputs of a traced function; those that depend on x are tuples."""
    known: dict[Any, Any] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True)
    )

    def read(variable):
        return variable.val if isinstance(variable, core.Literal) else known[variable]

    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr") if equation.primitive.name in _CALLS else None
        if inner is not None:  # followed inside, so that linear operations stay cheap
            outputs = _through(
                inner.jaxpr, inner.consts, [read(variable) for variable in equation.invars]
            )
        elif _by_large_matrix(equation, values := [read(variable) for variable in equation.invars]):
            outputs = [_matrix_product(equation.params, *values)]
        else:
            given = list(
                dict.fromkeys(v for v in equation.invars if not isinstance(v, core.Literal))
            )
            # the operation alone, as a function that JAX evaluates by its own rules
            alone = jaxpr.replace(
                constvars=[], invars=given, outvars=equation.outvars, eqns=[equation]
            )
            operation = core.jaxpr_as_fun(core.ClosedJaxpr(alone, []))
            smooth = [
                i
                for i, out in enumerate(equation.outvars)
                if jnp.issubdtype(out.aval.dtype, jnp.inexact)
            ]
            carry = _entrywise if equation.primitive.name in _ENTRYWISE else _carry
            outputs = _step(operation, carry, smooth, [read(variable) for variable in given])
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _step(operation: Callable, carry: Callable, smooth: list[int], given: list) -> list:
    """One primitive operation, by its own derivative rules, so all operations are supported."""
    moving = [place for place, one in enumerate(given) if isinstance(one, LaplacianTuple)]
    values = [one.value if isinstance(one, LaplacianTuple) else one for one in given]
    outputs = list(operation(*values))
    if not moving or not smooth:
        return outputs

    def apply(*moved):
        mixed = list(values)
        for place, value in zip(moving, moved, strict=True):
            mixed[place] = value
        results = operation(*mixed)
        return [results[place] for place in smooth]

    for place, carried in zip(
        smooth, carry(apply, [given[place] for place in moving]), strict=True
    ):
        outputs[place] = carried
    return outputs


def _carry(apply: Callable, inputs: list[LaplacianTuple]) -> list[LaplacianTuple]:
    """The chain rule: L φ(v) = φ'(v) L v + Σ_k φ''(v)[d_k v, d_k v]."""
    at, second = tuple(one.value for one in inputs), tuple(one.second for one in inputs)
    values, pushed = jax.jvp(apply, at, second)

    def along(slopes):
        return jax.jvp(lambda *moved: jax.jvp(apply, moved, slopes)[1], at, slopes)

    bent = [along(slopes) for slopes in zip(*(one.slopes for one in inputs), strict=True)]
    firsts, bends = (list(zip(*part, strict=True)) for part in zip(*bent, strict=True))
    return [
        LaplacianTuple(value, first, sum(bend, push))
        for value, first, push, bend in zip(values, firsts, pushed, bends, strict=True)
    ]


def _entrywise(apply: Callable, inputs: list[LaplacianTuple]) -> list[LaplacianTuple]:
    """The chain rule for entrywise φ: φ' and φ'' are arrays that all directions share."""
    ((value, slopes, second),) = inputs
    one = (jnp.ones_like(value),)
    (moved, first), (_, bend) = jax.jvp(
        lambda v: jax.jvp(lambda w: apply(w)[0], (v,), one), (value,), one
    )
    squares = sum(slope * slope for slope in slopes)
    return [
        LaplacianTuple(
            moved, tuple(first * slope for slope in slopes), first * second + bend * squares
        )
    ]


def _by_large_matrix(equation: Any, values: list, large: int = 1024) -> bool:
    """Whether it is a product with a constant matrix of so many entries.

    One product of several vectors then takes half the time of one product for each.
    """
    still = [one for one in values if not isinstance(one, LaplacianTuple)]
    return equation.primitive.name == "dot_general" and len(still) == 1 and still[0].size >= large


def _matrix_product(params: dict, left: Any, right: Any) -> LaplacianTuple:
    """A product is linear in its one variable factor: value, slopes and L are multiplied alike."""
    first = isinstance(left, LaplacianTuple)
    moving, still = (left, right) if first else (right, left)
    value, *slopes, second = products(
        still, [moving.value, *moving.slopes, moving.second], first, params
    )
    return LaplacianTuple(value, tuple(slopes), second)

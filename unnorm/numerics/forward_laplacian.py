"""The forward Laplacian: value, first derivatives and a sum of second derivatives in one pass
through a function.

Every intermediate u carries its derivatives along directions d_k and L u = Σ_k d_k' ∇²u d_k + b·∇u.
Through u = φ(v) they follow from φ alone, and all directions share one L: one pass in place of one
for each direction.

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

_CALLS = ("jit", "pjit", "closed_call")  # what merely calls another traced function
_ENTRYWISE = (
    "tanh", "logistic", "exp", "exp2", "expm1", "log", "log1p", "sqrt", "rsqrt", "cbrt", "square", "integer_pow",
    "sin", "cos", "tan", "erf",
)  # fmt: skip
# entries of a matrix: one product of several vectors then takes half the time of one for each
_LARGE = 1024


class Carried(NamedTuple):
    value: jax.Array
    slopes: tuple[
        jax.Array, ...
    ]  # the derivative along each direction; apart, for XLA is slow to cut and join arrays
    second: jax.Array  # L of the value


def forward_laplacian(
    function: Callable, x: jax.Array, directions: jax.Array, drift: jax.Array
) -> Carried:
    """A scalar function at x, its derivatives along the directions (k, d), and L of it; traceable.

    Example:
        >>> import jax.numpy as jnp
        >>> found = forward_laplacian(lambda x: x @ x, jnp.array([1.0, 2.0]), jnp.eye(2), jnp.zeros(2))
        >>> float(found.value), [float(slope) for slope in found.slopes], float(found.second)
        (5.0, [2.0, 4.0], 4.0)
    """
    closed = jax.make_jaxpr(function)(x)
    (found,) = _through(closed.jaxpr, closed.consts, [Carried(x, tuple(directions), drift)])
    if isinstance(found, Carried):
        return found
    none = jnp.zeros((), x.dtype)  # constant in x
    return Carried(found, (none,) * len(directions), none)


def _through(jaxpr: Any, constants: list, inputs: list) -> list:
    """The outputs of a traced function, what depends on x being carried."""
    known: dict[Any, Any] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True)
    )

    def read(variable):
        return variable.val if isinstance(variable, core.Literal) else known[variable]

    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr") if equation.primitive.name in _CALLS else None
        if inner is not None:  # look inside, so that what is linear there stays cheap
            outputs = _through(
                inner.jaxpr, inner.consts, [read(variable) for variable in equation.invars]
            )
        elif _by_large_matrix(equation, values := [read(variable) for variable in equation.invars]):
            outputs = [_multiplied(equation.params, *values)]
        else:
            given = list(
                dict.fromkeys(v for v in equation.invars if not isinstance(v, core.Literal))
            )
            # the operation alone, as a function that JAX evaluates in its own way
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
    """One primitive operation; its own derivative rules are used, so that all of JAX's operations
    are served.
    """
    moving = [place for place, one in enumerate(given) if isinstance(one, Carried)]
    values = [one.value if isinstance(one, Carried) else one for one in given]
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


def _carry(apply: Callable, inputs: list[Carried]) -> list[Carried]:
    """The chain rule: L φ(v) = φ'(v) L v + Σ_k φ''(v)[d_k v, d_k v]."""
    at, second = tuple(one.value for one in inputs), tuple(one.second for one in inputs)
    values, pushed = jax.jvp(apply, at, second)

    def along(slopes):
        return jax.jvp(lambda *moved: jax.jvp(apply, moved, slopes)[1], at, slopes)

    bent = [along(slopes) for slopes in zip(*(one.slopes for one in inputs), strict=True)]
    firsts, bends = (list(zip(*part, strict=True)) for part in zip(*bent, strict=True))
    return [
        Carried(value, first, sum(bend, push))
        for value, first, push, bend in zip(values, firsts, pushed, bends, strict=True)
    ]


def _entrywise(apply: Callable, inputs: list[Carried]) -> list[Carried]:
    """The same where an entry depends on its own entry alone: φ' and φ'' are arrays, and all
    directions share them.
    """
    ((value, slopes, second),) = inputs
    one = (jnp.ones_like(value),)
    (moved, first), (_, bend) = jax.jvp(
        lambda v: jax.jvp(lambda w: apply(w)[0], (v,), one), (value,), one
    )
    squares = sum(slope * slope for slope in slopes)
    return [
        Carried(moved, tuple(first * slope for slope in slopes), first * second + bend * squares)
    ]


def _by_large_matrix(equation: Any, values: list) -> bool:
    still = [one for one in values if not isinstance(one, Carried)]
    return equation.primitive.name == "dot_general" and len(still) == 1 and still[0].size >= _LARGE


def _multiplied(params: dict, left: Any, right: Any) -> Carried:
    """A product with one moving factor is linear in it: the value, its slopes and L of it pass
    alike.
    """
    first = isinstance(left, Carried)
    moving, still = (left, right) if first else (right, left)
    value, *slopes, second = products(
        still, [moving.value, *moving.slopes, moving.second], first, params
    )
    return Carried(value, tuple(slopes), second)

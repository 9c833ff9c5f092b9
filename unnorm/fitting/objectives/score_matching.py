"""Score matching, exact by automatic differentiation; the form is the support's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.fitting.base import Extra, PerExample
from unnorm.fitting.drawn import refuse_one_row
from unnorm.messages import choose_from
from unnorm.methods import method, static

WEIGHTS: dict[str, Callable] = {
    "min": lambda u: jnp.minimum(u, 1.0),
    "linear": lambda u: u,
    "square": lambda u: u**2,
    "log1p": jnp.log1p,
}


@method
class ScoreMatching(PerExample):
    """Minimise mean_i Σ_j h_j' ∂_j + h_j (∂_jj + ½ ∂_j²) of log p̃ at x_i: no Z is needed.

    On Real h = 1 (Hyvärinen, 2005). On Positive and Interval, h_j = h(distance to the nearest bound / s_j) vanishes at
    the bounds, with s_j the column's standard deviation (generalized score matching).

    Args:
        h: "min" (min(u, 1), the default), "linear", "square", "log1p", or a function of the scaled distance u.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], ScoreMatching(h="linear"), seed=0, progress=False)
        >>> round(float(fit.density.parameters["rate"]), 4)  # h = x: Σ 1 / Σ x
        0.5

    References:
        Hyvärinen (2005), JMLR 6, 695-709; Hyvärinen (2007), doi:10.1016/j.csda.2006.09.003; Yu, Drton and Shojaie
        (2019), arXiv:1812.10551.
    """

    h: Any = static("min")
    target = "the minimum of the Fisher divergence (the maximum likelihood estimate only if the model is true)"

    def refuse(self, density):
        for name, support in density.variables.items():
            if support.score_matching is None:
                return (
                    f"ScoreMatching has no form yet for {name}, which is {support!r}; use un.objectives.NCE, "
                    "ContrastiveDivergence or MaximumLikelihood"
                )
        return None

    def _weight(self) -> Callable:
        if callable(self.h):
            return self.h
        if self.h not in WEIGHTS:
            raise ValueError(f"h is {self.h!r}, which is no weight function; {choose_from(str(self.h), WEIGHTS)}.")
        return WEIGHTS[self.h]

    def prepare(self, density, events, key):
        refuse_one_row(self, events)
        self._weight()
        scales = {name: jnp.std(jnp.asarray(events[name]), 0) for name in density.variables}
        constant = [name for name, scale in scales.items() if density.variables[name].score_matching == "generalized"
                    and not bool(jnp.all(scale > 0))]  # fmt: skip
        if constant:
            raise ValueError(
                f"{constant[0]} has a column that never changes in the data; expected some spread; drop it, or pass "
                "more rows."
            )
        return Extra(shared={"scales": scales})

    def loss_i(self, density, extra, event, key):
        moving = {name: event[name] for name in density.variables}
        point, unravel = ravel_pytree(moving)

        def log_density(x):
            return density.log_density(event | unravel(x))

        weight, slope = self._weights(density, extra.shared["scales"], moving)
        gradient, second = gradient_and_curvature(log_density, point)
        return jnp.sum(slope * gradient + weight * (second + 0.5 * gradient**2))

    def _weights(self, density, scales, event) -> tuple[jax.Array, jax.Array]:
        """h and h' for every coordinate of the event; 1 and 0 where there is no bound."""
        weights, slopes = {}, {}
        for name, support in density.variables.items():
            x, scale = event[name], scales[name]

            def of(value, support=support, scale=scale):
                return self._weight()(support.boundary_distance(value) / scale)

            if support.score_matching == "plain":
                weights[name], slopes[name] = jnp.ones_like(x), jnp.zeros_like(x)
            else:
                weights[name], slopes[name] = jax.jvp(of, (x,), (jnp.ones_like(x),))
        return ravel_pytree(weights)[0], ravel_pytree(slopes)[0]


def gradient_and_curvature(function: Callable, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradient and the diagonal of the Hessian at x: the gradient linearised once, pushed along each axis."""
    gradient, push = jax.linearize(jax.grad(function), x)
    return gradient, jnp.diagonal(jax.vmap(push)(jnp.eye(x.size, dtype=x.dtype)))

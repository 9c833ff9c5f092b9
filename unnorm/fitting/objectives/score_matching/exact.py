"""Score matching, exact by automatic differentiation; the form is the support's."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.findings import Finding
from unnorm.core.messages import choose_from
from unnorm.core.method import method, static
from unnorm.core.random_keys import make_key
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.checks.boundary_weight import boundary_findings, needs_square_weight
from unnorm.fitting.checks.integration_by_parts import smoothness_findings
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.existence.margins import conditional_margins
from unnorm.fitting.loss import Loss
from unnorm.fitting.objectives.auxiliary_noise import refuse_one_row
from unnorm.fitting.objectives.score_matching.forms import FORMS
from unnorm.fitting.solvers import least_squares
from unnorm.numerics.hessian_trace import TRACES
from unnorm.numerics.newton import Minimum

WEIGHTS: dict[str, Callable] = {
    "min": lambda u: jnp.minimum(u, 1.0),
    "linear": lambda u: u,
    "square": lambda u: u**2,
    "log1p": jnp.log1p,
}


class FormState(NamedTuple):
    """What the forms prepared, by variable; whether h = u² was chosen, None where h is given or has
    no part; and the loss as a quadratic function, where many penalties share it.
    """

    scales: dict[str, Any]
    square: jax.Array | None = None
    quadratic: Any = None


@method
class ScoreMatching(LossObjective):
    """Minimise mean_i Σ_j h_j' ∂_j + h_j (∂_jj + ½ ∂_j²) of log p̃ at x_i: no Z is needed.

    On Real h = 1 (Hyvärinen, 2005). On Positive and Interval, h_j = h(distance to the nearest bound
    / s_j) vanishes at the bounds, with s_j the column's standard deviation, which the standard
    errors take as given (generalized score matching). On Simplex it weighs the moves of mass
    between parts, on Circle and Sphere the derivatives are the surface's. Count has the form of
    ordinal data; Binary, Spin, Categorical and Graph have ratio matching, or the concrete form,
    which has no minimum where neighbours of observed states are never observed. The losses of
    several variables add up. A density whose score is linear in its parameters is detected
    automatically, and fitted by one linear solve.

    Args:
        h: "min" (min(u, 1)), "linear", "square", "log1p", or a function of the scaled distance u;
            None: "min", or "square" where the data speak for a density that is infinite, or nearly
            so, at a bound (a gamma density with a shape below 1), for then the boundary condition h
            p ∂ log p̃ → 0 fails for "min". One that is named is not replaced, and a finding says
            where it fails.
        trace: how second derivatives are taken, exactly in every case: "auto", "jacobian" (the
            gradient linearised), "forward_laplacian" (one forward pass for several directions),
            "low_memory" (one direction after the other).
        states: "ratio" or "concrete": what is matched where entries have finitely many states.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], ScoreMatching(h="linear"), seed=0, progress=False)
        >>> round(float(fit.density.parameters["rate"]), 4)  # h = x: Σ 1 / Σ x
        0.5

    References:
        Hyvärinen (2005), JMLR 6, 695-709; Hyvärinen (2007), doi:10.1016/j.csda.2006.09.003; Yu,
        Drton and Shojaie (2019), arXiv:1812.10551; Mardia, Kent and Laha (2016), arXiv:1604.08470
        (directions); Scealy and Wood (2023), arXiv:2012.12461 (the simplex); Xu, Scealy, Wood and
        Zou (2022), arXiv:2203.09864 (counts); Lyu (2009), arXiv:1205.2629 (categories); Meng, Choi,
        Song and Ermon (2022), arXiv:2211.00802 (the concrete form).
    """

    h: Any = static(default=None)
    trace: str = static(default="auto", choices=("auto", *TRACES))
    states: str = static(default="ratio", choices=("ratio", "concrete"))
    traits = Traits(in_data_units=True, uses_second_derivatives=True, is_deviance=True)
    target = (
        "the minimum of the Fisher divergence (the maximum likelihood estimate only if the model "
        "is true)"
    )

    def refuse(self, density) -> str | None:
        if self.h is not None and not callable(self.h) and self.h not in WEIGHTS:
            return (
                f"h is {self.h!r}, which is no weight function; {choose_from(str(self.h), WEIGHTS)}"
            )
        for name, support in density.variables.items():
            if support.score_matching is None:
                return (
                    f"ScoreMatching has no form for {name}, which is {support!r}; use "
                    "un.objectives.NCE, ContrastiveDivergence or MaximumLikelihood"
                )
        return None

    @property
    def weight(self) -> Callable:
        """Return h as a function."""
        return self.h if callable(self.h) else WEIGHTS["min" if self.h is None else self.h]

    def _form(self, support):
        name = support.score_matching
        return FORMS[self.states if name == "ratio" else name]

    def prepare(self, density, events, key) -> ObjectiveState:
        refuse_one_row(self, events)
        scales = {
            name: self._form(support).prepare(name, support, jnp.asarray(events[name]), self)
            for name, support in density.variables.items()
        }
        if self.h is not None:
            return ObjectiveState(shared=FormState(scales))
        safe = dataclasses.replace(self, h="square")
        square = needs_square_weight(safe, WEIGHTS["min"], density, events, key)
        chosen = None if square is None else jnp.asarray(square)
        return ObjectiveState(shared=FormState(scales, chosen))

    def _with_weight(self, state: ObjectiveState) -> "ScoreMatching":
        """This objective with the h that was chosen."""
        square = state.shared.square
        if square is None:
            return self
        return dataclasses.replace(self, h=lambda u: jnp.where(square, u**2, jnp.minimum(u, 1.0)))

    def terms(self, density, state: ObjectiveState, event: dict) -> tuple[jax.Array, jax.Array]:
        """Return the loss of one row as a pair (a, r), which stands for a + r'r/2."""
        parts, options = [], self._with_weight(state)
        for name, support in density.variables.items():
            scales, form = state.shared.scales[name], self._form(support)
            of_variable = partial(_with_value, density, event, name)
            parts.append(form.terms(of_variable, event[name], support, scales, options))
        return sum(affine for affine, _ in parts), jnp.concatenate(
            [residual for _, residual in parts]
        )

    def loss_i(self, density, state, event, key) -> jax.Array:
        affine, residual = self.terms(density, state, event)
        return affine + 0.5 * residual @ residual

    def margins(self, density, state, events) -> jax.Array | None:
        return conditional_margins(density, events)

    def findings(self, density, state, events) -> list[Finding]:
        return [
            *boundary_findings(self, density, state.shared.square, events),
            *smoothness_findings(density, events, type(self).__name__),
        ]

    def closed_form_minimum(self, density, state, events) -> Minimum | None:
        # Slopes are evaluated more often than traces, and each follows from the gradient alone.
        objective = dataclasses.replace(self, trace="jacobian")
        loss = Loss(objective, density, state, events)
        return least_squares.closed_form_minimum(loss, state.shared.quadratic)

    def prepare_path(self, density, state, events) -> ObjectiveState:
        found = least_squares.quadratic(Loss(self, density, state, events))
        return state._replace(shared=state.shared._replace(quadratic=found))


def _with_value(density, event: dict, name: str, value: jax.Array) -> jax.Array:
    """log p̃ with one variable at a value and the others at the event."""
    return density.log_density(event | {name: value})


def score_matching_start(density, events: dict) -> Any:
    """The density at its score matching estimate; None where that is no linear solve.

    A start of 0 and 1 for data around 10^6, or of the size 10^-8, is so far from every minimum that
    the loss is flat or overflows on the way. Where log p̃ is linear in the parameters, score
    matching is one linear solve from anywhere.

    Args:
        density: bare, in the dtype of the fit.
        events: the data by name.
    """
    objective = ScoreMatching()
    discrete = any(support.discrete for support in density.variables.values())
    if discrete or latent_variables(density.variables, events):
        return None
    loss = Loss(objective, density, ObjectiveState(), events)
    if objective.refuse(density) is not None or not loss.has_few_parameters():
        return None
    try:
        loss = loss._replace(state=objective.prepare(density, events, make_key(0)))
    except ValueError:  # one row, or a column that never changes
        return None
    found = objective.closed_form_minimum(density, loss.state, events)
    return None if found is None else loss.at(found.vector).density

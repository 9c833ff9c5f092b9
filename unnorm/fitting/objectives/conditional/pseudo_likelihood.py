"""Pseudo-likelihood: the conditionals of single entries, or of blocks of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.method import method, static
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.existence.margins import conditional_margins
from unnorm.interactions.conditionals import groups_of, log_odds, not_enumerable, wrong_blocks
from unnorm.interactions.count_states import (
    has_counts,
    largest_tail,
    states_of_data,
    sufficient_states,
)
from unnorm.interactions.options import COUNT_TABLES
from unnorm.interactions.tie_statistics import (
    TieDesign,
    has_tie_statistics,
    tie_design,
    tie_regressions,
)
from unnorm.numerics.newton import Minimum


@method
class PseudoLikelihood(LossObjective):
    """Minimise −mean_i Σ_b log p(x_ib | x_i,−b): each conditional sums over a block's joint states,
    and needs no Z.

    For Binary, Spin, Categorical, Graph (its ties) and Count variables, also together. The sums
    over counts end where a mass below 1e-12 is left, at these parameters. The standard errors are
    the sandwich's, for the inverse curvature alone is too small; one observed lattice or graph is
    one row, whose errors come from the parametric bootstrap. A graph whose density declares what a
    tie changes is a logistic regression of its ties on the changes of the statistics.

    Args:
        blocks: None: every entry is a block of its own (Besag's pseudo-likelihood). Otherwise a
            tuple of tuples of entry numbers, counted from 0 through the variables in declared order
            (a matrix row by row, a graph's ties above the diagonal row by row). Blocks may overlap;
            an entry in none is only conditioned on. One block of everything is the likelihood.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, field: field * x.sum(),
        ...     {"x": un.Binary["d"]},
        ...     {"field": (un.Real, 0.0)},
        ... )
        >>> data = np.array([[1, 0], [1, 1], [1, 1], [0, 1]])
        >>> fit = un.fit(p, data, un.objectives.PseudoLikelihood(), progress=False)
        >>> round(float(fit.density.parameters["field"]), 4)  # the logit of 6/8
        1.0986

    References:
        Besag (1975), doi:10.2307/2987782; Lindsay (1988), doi:10.1090/conm/080/999014 (blocks);
        Varin, Reid and Firth (2011), Statistica Sinica 21, 5-42 (standard errors).
    """

    blocks: tuple[tuple[int, ...], ...] | None = static(default=None)

    traits = Traits(is_deviance=True, bootstraps_single_row=True)
    target = (
        "the maximum pseudo-likelihood estimate (the maximum likelihood estimate only if the model "
        "is true)"
    )

    def __post_init__(self) -> None:
        if isinstance(self.blocks, list | tuple):  # lists become tuples, for structure is hashed
            blocks = tuple(
                tuple(block) if isinstance(block, list) else block for block in self.blocks
            )
            object.__setattr__(self, "blocks", blocks)

    def refuse(self, density) -> str | None:
        refusal = not_enumerable("PseudoLikelihood", density)
        return refusal or (None if self.blocks is None else wrong_blocks(density, self.blocks))

    def prepare(self, density, events, key) -> ObjectiveState:
        if self._is_regression(density):
            return ObjectiveState(per_row=tie_design(density, events))
        if not has_counts(density):
            return ObjectiveState()
        least = states_of_data(density, events)
        # The sum need not converge at the start: `refresh` checks it again at the estimate.
        return ObjectiveState(
            shared=_counts(sufficient_states(density, events, least) or 2 * least)
        )

    def _is_regression(self, density) -> bool:
        return self.blocks is None and has_tie_statistics(density)

    def rows_of(self, density, state, events) -> Any:
        return tie_design(density, events) if self._is_regression(density) else ()

    def prepare_path(self, density, state, events) -> ObjectiveState:
        return state

    def closed_form_minimum(self, density, state, events) -> Minimum | None:
        """The minimum by Newton's method on the design matrix of the ties, where there is one."""
        if not self._is_regression(density) or state.penalty is not None:
            return None
        design, weights = jax.tree.map(np.asarray, (state.per_row, state.weights))
        if weights is not None:
            weights = np.broadcast_to(weights[:, None], design.ties.shape).ravel()[None]
        fits, rows = tie_regressions(design, (1, -1), weights), len(design.ties)
        if not fits.regular[0]:  # separated ties perhaps
            return None
        loss = jnp.asarray(fits.loss[0] / rows, design.ties.dtype)
        vector = jnp.asarray(fits.coefficients[0], design.ties.dtype)
        return Minimum(vector, loss, fits.decrement[0] / rows, 1, loss[None])

    def refit_together(self, density, drawn) -> tuple[np.ndarray, np.ndarray] | None:
        """The estimates of data sets (replicates, rows, ...), and which of them surely are finite;
        None where each needs a fit of its own.
        """
        if not self._is_regression(density):
            return None
        replicates = len(next(iter(drawn.values())))
        flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in drawn.items()}
        design = jax.tree.map(np.asarray, tie_design(density, flat))
        fits = tie_regressions(design, (replicates, -1))
        return fits.coefficients, fits.regular

    def refresh(self, density, state, events) -> ObjectiveState | None:
        if not has_counts(density):
            return None
        count = len(state.shared)
        if float(largest_tail(density, events, count)) < COUNT_TABLES.tail:
            return None
        needed = sufficient_states(density, events, 2 * count)
        if needed is None:
            raise ValueError(
                f"The conditionals of {density.name} have a mass above {COUNT_TABLES.tail:g} "
                f"beyond a count of {count} at the estimate, however far the sum goes; expected "
                "sums over 0, 1, 2, ... that converge; restrict the parameters (a support such "
                "as un.Positive), or use another objective."
            )
        return state._replace(shared=_counts(needed))

    def loss_i(self, density, state, event, key) -> jax.Array:
        if isinstance(state.per_row, TieDesign):
            return jnp.sum(jnp.logaddexp(0.0, -state.per_row.log_odds(_vector(density))))
        groups = groups_of(density, self.blocks, len(state.shared))
        # −log p(x_b | x_−b) = log Σ_s p̃(x with state s at b) / p̃(x), the own state's term being 1
        padded = (jnp.pad(odds, ((0, 0), (1, 0))) for odds in log_odds(density, event, groups))
        return jnp.asarray(sum(jnp.sum(jax.nn.logsumexp(odds, axis=1)) for odds in padded))

    def margins(self, density, state, events) -> jax.Array | None:
        if isinstance(state.per_row, TieDesign):
            return state.per_row.log_odds(_vector(density)).ravel()
        return conditional_margins(density, events, self.blocks)


def _counts(count: int) -> jax.Array:
    """The counts to sum over: an array, because its length is known to compiled code."""
    return jnp.arange(count)


def _vector(density) -> jax.Array:
    return ravel_pytree(density.free())[0]

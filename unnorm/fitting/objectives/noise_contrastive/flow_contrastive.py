"""Flow contrastive estimation: the noise is a normalizing flow that learns against the energy."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.flow_distribution import (
    data_points,
    events_of,
    fit_to_data,
    fit_to_points,
    log_prob_of_event,
    read_flow,
    refuse_flow,
)
from unnorm.fitting.objectives.noise_contrastive.contrast import LogisticContrast
from unnorm.fitting.objectives.noise_contrastive.flow_folds import (
    cross_fit,
    mean_log_likelihoods,
    with_fresh_noise,
)
from unnorm.fitting.objectives.noise_contrastive.flow_game import (
    GAME,
    FlowStatistics,
    Game,
    flow_optimizer,
    flow_step,
    loss_and_error,
    play_round,
)
from unnorm.fitting.objectives.noise_contrastive.noise import importance_log_z
from unnorm.fitting.objectives.noise_contrastive.noise_checks import (
    refuse_covariates,
    refuse_uncovered,
)


@method
class FlowContrastive(LogisticContrast):
    """Tell the data from a normalizing flow, which learns to be taken for the data.

    min over (θ, c) and max over φ of mean_i softplus(−G(x_i)) + Σ_k softplus(G(y_ik)), G = log p̃ −
    c − log q − log ν: noise contrastive estimation (`NCE`) with a noise q that is a flow φ and
    moves against the energy. Against the best energy the flow's loss is the Jensen-Shannon
    divergence from the data, so that the noise stays hard to tell from them, and log Z = c is
    learned well where a fixed noise would have no overlap.

    The flow starts at maximum likelihood. Half of the noise are draws of the flow, half of the
    support's default noise, for its tails.

    - Few parameters: the rows are split into two folds, and the noise of each is made from the rows
      of the other alone. The energy is minimised to convergence, then the flows take 100 steps
      (draws by reparametrisation) against it, in turns. The game ends when a round no longer raises
      the energy's loss by two of its standard errors, or after four. Then the flows are frozen,
      fresh noise is drawn and the energy is fitted to that: standard errors are those of `NCE` with
      a given noise.
    - Networks, and fits by steps: in the first third of the steps the flow is held, in the second
      it takes a step before each of the energy's, unless the energy's loss on the batch is above
      that of chance; in the last third it is frozen, and the energy learns on fresh draws of it.

    The standard errors take the flows as given. Where the model is true that is right, for the
    scores of a fold's rows have mean zero against any noise that was made without them (only the
    energy's few parameters, in the game, come from all rows). Else their target is the minimum
    against these flows, and how these vary with the data is not counted.

    Args:
        flow: a flowjax distribution, or a bijection around a standard normal, over the
            unconstrained coordinates of the variables (concatenated in alphabetical order); None: a
            masked autoregressive flow of four layers of rational quadratic splines, a coupling flow
            beyond eight dimensions.
        noise_ratio: ν, noise points per data point.

    Raises:
        ValueError: a discrete variable, a circle or a sphere, or a covariate; a flow of another
            shape; fewer than ten rows.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import unnorm as un
        >>> from flowjax.bijections import Affine
        >>> p = un.Density(
        ...     lambda x, *, rate: -0.5 * rate * x**2, {"x": un.Real}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> data = np.random.default_rng(0).normal(size=500)
        >>> objective = un.objectives.FlowContrastive(Affine(jnp.zeros(1)))
        >>> fit = un.fit(p, data, objective, seed=0, progress=False)
        >>> bool(abs(fit.density.parameters["rate"] - 1 / data.var()) < 0.1)
        True
        >>> bool(abs(float(fit.log_z) - 0.5 * np.log(2 * np.pi * data.var())) < 0.1)
        True

    References:
        Gao, Nijkamp, Kingma, Xu, Dai and Wu (2020), arXiv:1912.00589; Gutmann and Hyvärinen (2012),
        JMLR 13, 307-361.
    """

    flow: Any = static(default=None)
    noise_ratio: int = static(default=10, kw_only=True, at_least=1)
    noise: ClassVar[None] = None  # type: ignore[misc]  # the flow's place; no option
    target = (
        "the maximum likelihood estimate as the noise ratio grows, and a fixed point of its own "
        "before"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "flow", read_flow(self.flow))

    def refuse(self, density) -> str | None:
        found = super().refuse(density) or refuse_covariates("FlowContrastive", density)
        return found or refuse_flow("FlowContrastive", density, self.flow)

    # -- the noise ---------------------------------------------------------------------------------
    def log_noise(self, density, statistics: FlowStatistics, event: dict) -> jax.Array:
        share = GAME.default_share
        default = super().log_noise(density, statistics.default, event)
        flow = log_prob_of_event(density, statistics.flow, event)
        return jnp.logaddexp(jnp.log(share) + default, jnp.log1p(-share) + flow)

    def sample_noise(self, density, statistics: FlowStatistics, size, dtype, key) -> dict:
        flow_key, default_key, key = split_keys(key, 3)
        points = statistics.flow.sample(flow_key, (int(np.prod(size)),))
        from_flow, _ = events_of(density, points)
        default = super().sample_noise(density, statistics.default, size, dtype, default_key)
        chosen = jax.random.bernoulli(key, GAME.default_share, size)

        def choose(one, other):
            other = jnp.asarray(other, dtype).reshape(one.shape)
            return jnp.where(chosen.reshape(size + (1,) * (one.ndim - len(size))), one, other)

        return {name: choose(default[name], from_flow[name]) for name in density.variables}

    def score_correction(self, density, state, events) -> None:
        """Return None: the flows are taken as given."""

    # -- preparation -------------------------------------------------------------------------------
    def prepare(self, density, events, key) -> ObjectiveState:
        events = {name: jnp.asarray(value) for name, value in events.items()}
        flow_key, key, draw_key = split_keys(key, 3)
        noise = FlowStatistics(
            self.fit_noise(density, events)[0],
            fit_to_data("FlowContrastive", density, events, self.flow, flow_key),
        )
        zero, moments = jnp.zeros((), int), flow_optimizer().init(noise.flow.parameters)
        none, no = jnp.zeros((), noise.flow.centre.dtype), jnp.zeros((), bool)
        game = Game(noise, moments, key, zero, zero, zero, none, no)
        state = self._with_new_noise(density, ObjectiveState(shared=game), events, draw_key)
        log_z = importance_log_z(self, density, state, events)
        return state._replace(nuisance={"log_z": log_z})

    def _with_new_noise(self, density, state, events, key) -> ObjectiveState:
        state = with_fresh_noise(self, density, state, events, key)
        refuse_uncovered(np.asarray(state.per_row.on_data), np.asarray(state.per_row.on_noise))
        return state

    def noise_from(self, density, events: dict, key: jax.Array) -> FlowStatistics:
        """Return the noise at maximum likelihood on these rows."""
        default, _ = self.fit_noise(density, events)
        return FlowStatistics(default, fit_to_points(data_points(density, events), self.flow, key))

    # -- the game ----------------------------------------------------------------------------------
    def with_run_length(self, state, steps: int) -> ObjectiveState:
        return state._replace(shared=state.shared._replace(steps=jnp.asarray(steps)))

    def adversary_step(self, density, state, events, key) -> ObjectiveState:
        game = state.shared
        share = game.step / jnp.maximum(game.steps, 1)
        moved = jax.lax.cond(
            (share >= GAME.start) & (share < GAME.end),
            lambda game: flow_step(self, density, state._replace(shared=game), events, key),
            lambda game: game,
            game,
        )
        return state._replace(shared=moved._replace(step=game.step + 1))

    def refresh(self, density, state, events) -> ObjectiveState | None:
        game = state.shared
        if bool(game.frozen):
            return None
        round_key, draw_key, key = split_keys(game.key, 3)
        if game.folds is None:
            game = game._replace(folds=cross_fit(self, density, events, round_key), key=key)
            state = state._replace(shared=game)
            return self._with_new_noise(density, state, events, draw_key)
        loss, error = loss_and_error(self, density, state, events)
        rises = int(game.rounds) == 0 or bool(loss - game.loss > GAME.rise * error)
        if rises and int(game.rounds) < GAME.rounds:
            game = play_round(self, density, state, events, round_key)
            game = game._replace(rounds=game.rounds + 1, loss=loss)
        else:
            game = game._replace(frozen=jnp.ones((), bool))
        state = state._replace(shared=game._replace(key=key))
        return with_fresh_noise(self, density, state, events, draw_key)

    # -- findings ----------------------------------------------------------------------------------
    def findings(self, density, state, events) -> list[Finding]:
        energy, flow = (float(v) for v in mean_log_likelihoods(self, density, state, events))
        folds = state.shared.folds
        which = "flow" if folds is None else "flow fitted to other rows"
        what = (
            f"the noise was a {which}: mean log q is {flow:.4f} at the data, and mean log p "
            f"{energy:.4f}, with the learned log Z"
        )
        noted = Finding(what, "", NOTE, FindingCode.CHOSEN_METHOD)
        found = [*super().findings(density, state, events), noted]
        return found if folds is None else [*found, _flows_taken_as_given()]


def _flows_taken_as_given() -> Finding:
    """Of a training there are no standard errors."""
    what = (
        "standard errors take the flows as given: they may be too small where the model is wrong, "
        "for how the flows vary with the data is not counted"
    )
    advice = "compare with un.objectives.NCE, or use the bootstrap"
    return Finding(what, advice, WARNING, FindingCode.OBJECTIVE_CONDITIONS)


__all__ = ["FlowContrastive"]

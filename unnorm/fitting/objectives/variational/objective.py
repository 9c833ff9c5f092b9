"""Maximum likelihood of latent variable models by the evidence lower bound."""

import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.core.random_keys import key_array, make_key, split_keys
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.data.latent_variables import latent_density
from unnorm.fitting.objectives.auxiliary_noise import draw_directions, refuse_one_row
from unnorm.fitting.objectives.variational.draws import (
    Drawn,
    RowNormals,
    draw,
    normals,
    upper_log_probs,
)
from unnorm.fitting.objectives.variational.encoder import ENCODER, Encoder, start_encoder
from unnorm.fitting.objectives.variational.entropy import (
    ScoreNetwork,
    sliced_loss,
    start_score_network,
    stein_scores,
)
from unnorm.fitting.objectives.variational.observed import (
    Inputs,
    log_joint,
    log_z_of,
    refuse_latents,
)

SCORE_MATCHING, GAUSSIAN, STEIN = "score_matching", "gaussian", "stein"


class Shared(NamedTuple):
    """How inputs are standardised, and the score network with the state of its optimizer."""

    inputs: Inputs
    network: ScoreNetwork | None = None
    moments: Any = None


@method
class EvidenceLowerBound(LossObjective):
    """Maximise E_q[log p(x, z) − log q(z | x)], a lower bound of log p(x), over p and an encoder q.

    z are the variables that the data do not bring, and log Z must be declared: a variational
    autoencoder is a density of (x, z) with `log_z=0.0` whose network decodes z. Rows share the
    encoder, whose network comes with the objective. Where it is a Gaussian, its entropy is exact.
    Where it is implicit, z = m(x, ε) + s(x, ε) ξ with standard normal ε and ξ, its entropy H has
    the gradient −E[∇_z log q(z | x) ∂z], and ∇_z log q is estimated

    - by a network h(z, x) that sliced score matching fits to the encoder's draws, a step before
      each step of the parameters ("score_matching"), or
    - from 32 draws of each row by Stein's identity in a kernel's space ("stein"), with a bias that
      falls with their number.

    The loss that is shown, and held out, takes an upper bound of log q(z | x) by draws of ε, one of
    which z came from: it bounds −log p(x) from above for every encoder.
    Training on mini-batches gives no standard errors. `un.log_z(fit.density, un.estimators.AIS(),
    over={"x": rows})` estimates log p(x) itself, with its error.

    Args:
        encoder: "score_matching", "gaussian" or "stein".
        draws: of z for every row of a batch, at which p is evaluated.
        noise_dimension: of ε; None: that of z.
        width: of the hidden layers of the encoder, and of the score network.
        depth: hidden layers of the encoder before the noise enters.

    Raises:
        ValueError: no variable is latent, or a discrete one is; log Z is not declared; fewer than
            two rows.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import optax
        >>> import unnorm as un
        >>> @un.density(log_z=0.0)  # x is normal with variance loading² + 1
        ... def factor(x: un.Real, z: un.Real, *, loading: un.Positive = 0.5):
        ...     return -0.5 * z**2 - 0.5 * (x - loading * z) ** 2 - jnp.log(2 * jnp.pi)
        >>> data = {"x": np.random.default_rng(0).normal(0, 5**0.5, 500)}
        >>> objective = un.objectives.EvidenceLowerBound("gaussian", width=16, depth=1)
        >>> adam = optax.adam(optax.cosine_decay_schedule(1e-2, 1000))
        >>> options = {"optimizer": adam, "steps": 1000, "seed": 0, "progress": False}
        >>> fit = un.fit(factor, data, objective, **options)
        >>> 1.7 < float(fit.density.parameters["loading"]) < 2.3  # about 2
        True

    References:
        Kingma and Welling (2014), arXiv:1312.6114; Song, Garg, Shi and Ermon (2019),
        arXiv:1905.07088 (score matching); Li and Turner (2018), arXiv:1705.07107 (Stein); Yin and
        Zhou (2018), arXiv:1805.11183 (such encoders); Sobolev and Vetrov (2019), arXiv:1905.03290
        (the bound).
    """

    encoder: str = static(default=SCORE_MATCHING, choices=(SCORE_MATCHING, GAUSSIAN, STEIN))
    draws: int = static(default=1, at_least=1)
    noise_dimension: int | None = static(default=None, at_least=1)
    width: int = static(default=128, at_least=1)
    depth: int = static(default=2, at_least=1)
    traits: ClassVar[Traits] = Traits(supports_weights=False, is_game=True, bounds_likelihood=True)
    target = "the maximum of the evidence lower bound, not of the likelihood"

    def refuse(self, density) -> str | None:
        if density._structure.log_z is None:
            return (
                f"EvidenceLowerBound needs log Z of all variables in closed form, and "
                f"{density.name} declares none; declare it, log_z=0.0 where the density is "
                "normalized, or use un.objectives.ContrastiveDivergence"
            )
        return None

    def refuse_latent(self, density, events) -> str | None:
        return refuse_latents(density, events)

    # -- the bound ---------------------------------------------------------------------------------
    def prepare(self, density, events, key) -> ObjectiveState:
        refuse_one_row(self, events)
        latent = Unconstrained(latent_density(density, events)).dimension
        if not latent:
            raise ValueError(
                "data has values for every variable, and EvidenceLowerBound integrates over latent "
                "ones; leave them out of the data, or use un.objectives.MaximumLikelihood."
            )
        inputs, size = Inputs.fit_to(density, events)
        dtype = inputs.centre.dtype
        encoder_key, score_key, key = split_keys(key, 3)
        noise = 0 if self.encoder == GAUSSIAN else self.noise_dimension or latent
        encoder = start_encoder(encoder_key, size, latent, noise, self.width, self.depth, dtype)
        shared = Shared(inputs)
        if self.encoder == SCORE_MATCHING:
            network = start_score_network(score_key, self.width, latent, self.width, dtype)
            shared = Shared(inputs, network, score_optimizer().init(network))
        state = ObjectiveState({"encoder": encoder}, shared=shared)
        return state._replace(per_row=self.resample_noise(density, state, events, key))

    def resample_noise(self, density, state, events, key) -> jax.Array:
        encoder: Encoder = state.nuisance["encoder"]
        rows, dtype = len(next(iter(events.values()))), encoder.noise.dtype
        return normals(key, rows, self._shapes(encoder), dtype)

    def _shapes(self, encoder: Encoder) -> list[tuple[int, ...]]:
        """Of the random numbers of a row."""
        stein = self.encoder == STEIN
        return RowNormals.shapes(self.draws, stein, encoder, ENCODER.samples)

    def losses(self, density, state, events) -> jax.Array:
        encoder: Encoder = state.nuisance["encoder"]
        features = encoder.features(state.shared.inputs(density, events))
        given = RowNormals.of(self._shapes(encoder), state.per_row)
        drawn = draw(encoder, features, given.draws)
        log_joints, log_z = log_joint(density, events, drawn.z), log_z_of(density, events)
        if self.encoder == GAUSSIAN:
            return log_z - (log_joints + drawn.components.entropy()).mean(1)
        score = jax.lax.stop_gradient(self._scores(encoder, state, features, drawn, given.others))
        # of the right gradient, and of another value than the bound
        surrogate = log_z + (jnp.sum(score * drawn.z, -1) - log_joints).mean(1)
        log_q = upper_log_probs(encoder, features, drawn, given.bound)
        value = log_z + (log_q - log_joints).mean(1)
        return surrogate + jax.lax.stop_gradient(value - surrogate)

    def _scores(
        self, encoder: Encoder, state, features: jax.Array, drawn: Drawn, others: jax.Array
    ) -> jax.Array:
        """∇_z log q(z | x) at the draws, (n, draws, D)."""
        centre, scale = (part[:, None] for part in encoder.location(features))
        u = (drawn.z - centre) / scale
        if self.encoder == SCORE_MATCHING:
            return state.shared.network(u, features) / scale
        more = (draw(encoder, features, others).z - centre) / scale
        scores = stein_scores(jnp.concatenate([u, more], 1), ENCODER.ridge)
        return scores[:, : self.draws] / scale

    # -- the score network -------------------------------------------------------------------------
    def with_run_length(self, state, steps: int) -> ObjectiveState:
        return state

    def adversary_step(self, density, state, events, key) -> ObjectiveState:
        """The state after the score network's steps on draws of the encoder at a batch."""
        if self.encoder != SCORE_MATCHING:
            return state
        encoder: Encoder = state.nuisance["encoder"]
        features = encoder.features(state.shared.inputs(density, events))
        centre, scale = (part[:, None] for part in encoder.location(features))

        def step(carry, key):
            network, moments = carry
            noise_key, key = split_keys(key)
            shape = (ENCODER.score_draws, encoder.noise_dimension + centre.shape[-1])
            given = normals(noise_key, len(features), [shape], centre.dtype).reshape(
                len(features), *shape
            )
            u = (draw(encoder, features, given).z - centre) / scale
            directions = draw_directions("rademacher", key, u.shape, u.dtype)
            slope = jax.grad(sliced_loss)(network, u, features, directions)
            update, later = score_optimizer().update(slope, moments)
            moved = optax.apply_updates(network, update), later
            finite = jnp.isfinite(ravel_pytree(slope)[0]).all()
            return jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, carry), None

        start = state.shared.network, state.shared.moments
        (network, moments), _ = jax.lax.scan(step, start, key_array(key, ENCODER.score_steps))
        return state._replace(shared=Shared(state.shared.inputs, network, moments))

    # -- findings ----------------------------------------------------------------------------------
    def findings(self, density, state, events) -> list[Finding]:
        rows = len(next(iter(events.values())))
        most = min(rows, ENCODER.bound_rows)
        chosen = np.linspace(0, rows - 1, most).round().astype(int)
        some = {name: jnp.asarray(value)[chosen] for name, value in events.items()}
        each = np.asarray(_bounds(density, state, some), float)
        error = float(np.sqrt(each.var(1, ddof=1).sum() / each.shape[1]) / len(each))
        of = "rows" if most == rows else f"{most:,} of the rows"
        what = (
            f"the mean log-likelihood of the {of} is at least {each.mean():.4f} (Monte Carlo error "
            f"{error:.2g}), the evidence lower bound; that is a bound and no estimate"
        )
        advice = (
            "run un.log_z(fit.density, un.estimators.AIS(), over={...: rows}) for the "
            "log-likelihood of rows"
        )
        return [Finding(what, advice, NOTE, FindingCode.LIKELIHOOD_BOUND)]


@compiled(work="loop", static_argnames="block")
def _bounds(density: Any, state: ObjectiveState, events: dict, block: int = 20) -> jax.Array:
    """The lower bound of log p(x) by every draw of each row, (n, draws)."""
    encoder: Encoder = state.nuisance["encoder"]
    shapes = RowNormals.shapes(ENCODER.bound_draws, False, encoder, ENCODER.bound_samples)

    def one(given):
        event = jax.tree.map(lambda leaf: leaf[None], given[0])
        flat = normals(given[1], 1, shapes, encoder.noise.dtype)
        parts = RowNormals.of(shapes, flat)
        features = encoder.features(state.shared.inputs(density, event))
        drawn = draw(encoder, features, parts.draws)
        log_q = upper_log_probs(encoder, features, drawn, parts.bound)
        return (log_joint(density, event, drawn.z) - log_q - log_z_of(density, event))[0]

    keys = key_array(make_key(1), len(next(iter(events.values()))))
    return jax.lax.map(one, (events, keys), batch_size=block)


@functools.cache
def score_optimizer() -> optax.GradientTransformation:
    """Adam on clipped gradients."""
    return optax.chain(optax.clip_by_global_norm(ENCODER.clip), optax.adam(ENCODER.learning_rate))


__all__ = ["EvidenceLowerBound"]

"""Adversarial maximum likelihood: a generator stands in for draws of the density."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import Finding
from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.loss import parameters_of
from unnorm.fitting.objectives.adversarial.bound import (
    ADVERSARY,
    Generated,
    distance_findings,
    likelihood_bound,
)
from unnorm.fitting.objectives.adversarial.generators import (
    GivenModule,
    prepare_generator,
    refuse_generator,
)
from unnorm.fitting.objectives.auxiliary_noise import at_draws, refuse_one_row
from unnorm.fitting.objectives.flow_distribution import events_of, read_flow
from unnorm.numerics.newton import NewtonOptions


class Adversary(NamedTuple):
    """The generator, and the state of its optimizer."""

    generator: Any
    moments: Any


@method
class Adversarial(LossObjective):
    """Maximise over the parameters what a generator q minimises: a bound of the log-likelihood.

    max over θ and min over φ of L = mean_i f(x_i) − E_q[f] − H(q), f = log p̃. Since log Z ≥ E_q[f]
    + H(q), L is an upper bound of the mean log-likelihood for every q, and touches it at q = p: the
    generator's own aim is the divergence KL(q, p), and at its minimum the gradient in θ is that of
    maximum likelihood. L is reported as a bound; it is no estimate of the log-likelihood, and the
    fit's log Z is not its by-product.

    Parameters and generator take a step each in turn (always by training: `steps`, `optimizer`,
    `batch_size`). There are no standard errors: how far the estimate is from maximum likelihood
    depends on the generator. With few parameters that distance is estimated, by the generator's
    draws with importance weights, and reported where it is more than .3 standard errors and its own
    Monte Carlo error.

    Args:
        generator: a flowjax distribution, or a bijection around a standard normal, over the
            unconstrained coordinates, whose entropy is exact; an Equinox module from noise
            (noise_dimension,) to these coordinates (D,), standardised by the data, for an implicit
            generator; None: the default flow of `FlowContrastive`. A flow starts at maximum
            likelihood.
        noise_dimension: of an implicit generator's standard normal noise. Normal noise of a learned
            scale is added to its output; the gradient of its entropy is estimated by 50 draws of
            the noise behind each output (VERA), with a bias that their number leaves.
        draws: of the generator for every row of a batch.

    Raises:
        ValueError: a discrete variable, a circle or a sphere, or a covariate; a generator of
            another shape; fewer than ten rows.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import optax
        >>> import unnorm as un
        >>> from flowjax.bijections import Affine
        >>> p = un.Density(
        ...     lambda x, *, rate: -0.5 * rate * x**2, {"x": un.Real}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> data = np.random.default_rng(0).normal(0, 0.8, size=500)
        >>> objective = un.objectives.Adversarial(Affine(jnp.zeros(1)))
        >>> adam = optax.adam(optax.cosine_decay_schedule(1e-2, 1000))
        >>> fit = un.fit(p, data, objective, optimizer=adam, steps=1000, seed=0, progress=False)
        >>> bool(abs(fit.density.parameters["rate"] * np.mean(data**2) - 1) < 0.1)
        True

    References:
        Song and Kingma (2021), arXiv:2101.03288; Grathwohl et al. (2021), arXiv:2010.04230 (VERA);
        Kim and Bengio (2016), arXiv:1606.03439.
    """

    generator: Any = static(default=None)
    noise_dimension: int | None = static(default=None, at_least=1)
    draws: int = static(default=1, at_least=1)
    traits = Traits(supports_weights=False, is_game=True)
    target = "the maximum likelihood estimate, as far as the generator follows the density"

    def __post_init__(self) -> None:
        given = read_flow(self.generator)
        if given is self.generator and given is not None and self.noise_dimension is not None:
            given = GivenModule(given) if not isinstance(given, GivenModule) else given
        object.__setattr__(self, "generator", given)

    def refuse(self, density) -> str | None:
        return refuse_generator(density, self.generator, self.noise_dimension)

    # -- the energy's side -------------------------------------------------------------------------
    def prepare(self, density, events, key) -> ObjectiveState:
        refuse_one_row(self, events)
        events = {name: jnp.asarray(value) for name, value in events.items()}
        generator_key, key = split_keys(key)
        generator = prepare_generator(
            density, events, self.generator, self.noise_dimension, generator_key
        )
        adversary = Adversary(generator, generator_optimizer().init(generator.parameters))
        state = ObjectiveState(shared=adversary)
        return state._replace(per_row=self.resample_noise(density, state, events, key))

    def resample_noise(self, density, state, events, key) -> Generated:
        rows = len(next(iter(events.values())))
        points, log_prob = state.shared.generator.draw(key, rows * self.draws)
        drawn, log_det = events_of(density, points)
        log_prob = jnp.zeros_like(log_det) if log_prob is None else log_prob - log_det
        dtype = jnp.result_type(*(events[name] for name in density.variables))
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, dtype).reshape(rows, self.draws, *leaf.shape[1:]),
            Generated(drawn, log_prob),
        )

    def losses(self, density, state, events) -> jax.Array:
        on_data = jax.vmap(density.log_density)(events)
        drawn = state.per_row
        on_draws = at_draws(lambda event, y: density.log_density(event | y), events, drawn.events)
        return (on_draws - drawn.log_prob).mean(1) - on_data

    # -- the generator's side ----------------------------------------------------------------------
    def with_run_length(self, state, steps: int) -> ObjectiveState:
        return state

    def adversary_step(self, density, state, events, key) -> ObjectiveState:
        adversary, rows = state.shared, len(next(iter(events.values())))
        generator = adversary.generator

        def loss(parameters):
            moved = generator.with_parameters(parameters)
            points, negative_entropy = moved.points_and_entropy_term(key, rows * self.draws)
            drawn, log_det = events_of(density, points)
            return negative_entropy - (jax.vmap(density.log_density)(drawn) + log_det).mean()

        slope = jax.grad(loss)(generator.parameters)
        update, moments = generator_optimizer().update(slope, adversary.moments)
        moved = optax.apply_updates(generator.parameters, update)
        finite = jnp.isfinite(ravel_pytree(slope)[0]).all()  # a draw may have no gradient
        parameters, moments = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (moved, moments), (generator.parameters, adversary.moments),
        )  # fmt: skip
        return state._replace(shared=Adversary(generator.with_parameters(parameters), moments))

    # -- findings ----------------------------------------------------------------------------------
    def findings(self, density, state, events) -> list[Finding]:
        bound = likelihood_bound(self, density, state, events)
        found = [bound.finding()]
        if len(parameters_of(density, state)[0]) <= NewtonOptions.parameters:
            found += distance_findings(density, events, bound)
        return found


@functools.cache
def generator_optimizer() -> optax.GradientTransformation:
    """Adam on clipped gradients."""
    clip = optax.clip_by_global_norm(ADVERSARY.clip)
    return optax.chain(clip, optax.adam(ADVERSARY.learning_rate))


__all__ = ["Adversarial"]

"""Approximate draws of a fitted density, one from each of many chains: started at data rows, or
annealed from a wide proposal.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.density import cast
from unnorm.declaration.noise_levels import LEVEL
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.fitting.chain_kernels import initial_tuning, prepare_kernel, select_kernel
from unnorm.fitting.data.latent_variables import covariates_of
from unnorm.fitting.simulation.data_sets import data_sets, is_listed
from unnorm.partition.annealing.adaptive_run import run_adaptive
from unnorm.partition.annealing.tempered import AnnealingPath
from unnorm.partition.annealing.transitions.selection import transitions_for
from unnorm.partition.options import PilotOptions
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.proposals.given_draws import proposal_of_draws
from unnorm.partition.proposals.mixture import student_mixture
from unnorm.sampling.kernels.annealed_langevin import AnnealedLangevin
from unnorm.sampling.short_runs import run_rounds


@dataclass(frozen=True)
class DrawOptions:
    """Lengths and sizes of the runs."""

    steps: int = 30  # of adaptation, and as many of the chains from the data
    # Discrete sites beyond which chains take fewer sweeps: a sweep evaluates each state of each.
    sites: int = 64
    min_rounds: int = 4
    particles: int = 1_600  # of the annealed population
    moves: int = 4  # of every particle at each temperature
    level_steps: int = 100  # of annealed Langevin at each noise level, as in Song and Ermon (2019)
    # Components of the proposal: standard deviations relative to the data's, and their weights.
    scales: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    shares: tuple[float, ...] = (0.4, 0.2, 0.2, 0.2)

    def rounds(self, density) -> int:
        """Return the kernel steps of a chain from the data."""
        shapes, variables = density.shapes(), density.variables.items()
        sites = sum(int(np.prod(shapes[name])) for name, s in variables if s.discrete)
        return max(self.min_rounds, self.steps * self.sites // max(sites, self.sites))


DEFAULT = DrawOptions()


def draws_from_data(
    density, starts: dict, key: jax.Array, options: DrawOptions = DEFAULT
) -> dict[str, jax.Array]:
    """Return the ends of chains from rows of the data, after the adaptation of the step size."""
    target, own = Unconstrained(density), covariates_of(density, starts)
    positions = target.positions_of(starts)
    kernel = prepare_kernel(select_kernel(None, density), density, own)
    adapt_key, key = split_keys(key)
    rounds, tuning = options.rounds(density), initial_tuning(kernel, positions)
    adapted = run_rounds(
        kernel, target, tuning, positions, adapt_key, 1.0, own, rounds=rounds, steps=1
    )
    run = run_rounds(
        kernel, target, adapted.tuning, positions, key, 0.0, own, rounds=rounds, steps=1
    )
    return target.events_at(run.positions) | own


def annealed_draws(
    density, rows: dict, count: int, key: jax.Array, options: DrawOptions = DEFAULT
) -> dict[str, jax.Array]:
    """Return exact draws where all states can be listed, else particles annealed from a wide
    proposal.
    """
    if is_listed(density):
        return {name: value[0] for name, value in data_sets(density, rows, key, 1, count).items()}
    proposal = _wide_proposal(Unconstrained(density), rows, options)
    pilot_key, key = split_keys(key)
    path, transitions = AnnealingPath(proposal.view, proposal), transitions_for(proposal.view)
    pilot = PilotOptions(repeats=options.moves)
    _, population, _ = run_adaptive(path, transitions, pilot_key, options.particles, pilot)
    return proposal.view.events_at(_some(population.particles.position, key, count))


@compiled(static_argnames="count")
def _some(positions: Position, key: jax.Array, count: int) -> Position:
    """So many distinct positions."""
    particles = len(jax.tree.leaves(positions)[0])
    chosen = jax.random.choice(key, particles, (count,), replace=False)
    return jax.tree.map(lambda leaf: leaf[chosen], positions)


def level_draws(
    density, rows: dict, levels: np.ndarray, key: jax.Array, options: DrawOptions = DEFAULT
) -> dict[str, jax.Array]:
    """Return as many draws as rows of a noise-conditional density, by annealed Langevin from a
    normal distribution with the moments of the rows at the highest level.
    """
    target, sigma = Unconstrained(density), (levels[-1], levels[0], len(levels))
    kernel = AnnealedLangevin(sigma=sigma)
    start_key, key = split_keys(key)
    flat = jax.vmap(target.flatten)(target.positions_of(rows))
    spread = jnp.sqrt(jnp.var(flat, 0) + levels[0] ** 2)
    flat = flat.mean(0) + spread * jax.random.normal(start_key, flat.shape, flat.dtype)
    positions = jax.vmap(target.split)(flat)
    for level, one in zip(levels, key_array(key, len(levels)), strict=True):
        tuning = {"step_size": kernel.step_size, LEVEL: float(level)}
        tuning = cast(tuning, flat.dtype)
        run = run_rounds(
            kernel, target, tuning, positions, one, 0.0, rounds=1, steps=options.level_steps
        )
        positions = run.positions
    return target.events_at(positions)


def _wide_proposal(target: Unconstrained, rows: dict, options: DrawOptions) -> Proposal:
    """Return Student's t at several scales; discrete variables by their observed frequencies."""
    draws = {name: np.asarray(value) for name, value in rows.items()}
    proposal = proposal_of_draws(target, draws)
    if not target.dimension:
        return proposal
    flat = np.asarray(jax.vmap(target.flatten)(target.positions_of(rows)), float)
    covariance = np.atleast_2d(np.cov(flat.T))
    covariance += (1e-6 * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    centres = [flat.mean(0)] * len(options.scales)
    covariances = [scale**2 * covariance for scale in options.scales]
    mixture = student_mixture(list(options.shares), centres, covariances)
    return replace(proposal, continuous=mixture)


def add_noise(density, events: dict, level: float, key: jax.Array) -> dict[str, jax.Array]:
    """Return the events with normal noise in unconstrained coordinates."""
    target = Unconstrained(density)
    positions, keys = target.positions_of(events), key_array(key, len(density.variables))
    noisy = {
        name: value + level * jax.random.normal(one, value.shape, value.dtype)
        for one, (name, value) in zip(keys, positions.items(), strict=True)
        if not density.variables[name].discrete
    }
    return events | target.events_at(noisy)


__all__ = ["add_noise", "annealed_draws", "draws_from_data", "level_draws"]

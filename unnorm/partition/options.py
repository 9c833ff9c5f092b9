"""The numbers that decide verdicts and budgets of log Z, as frozen option classes with reasons.

An instance is hashable, so that it may be static under `jax.jit`. Every function that needs one
takes it as an argument with the default instance.
"""

import math
from dataclasses import dataclass, field

from unnorm.statistics.mcmc import ConvergenceCriteria


@dataclass(frozen=True)
class WeightCriteria:
    """When the mean of independent importance weights is reliable.

    A Pareto shape is known to ±.15 from a thousand weights, so that one in twenty runs on a funnel
    shows an acceptable shape while log Z is .2 to .4 too low; the ESS fractions refuse these.
    """

    min_ess: float = 50.0  # with fewer, their spread does not estimate the error of the mean
    # Pareto shape up to which the variance is finite (funnels: k̂ = .5 to .65, log Z .36 too low)
    finite_variance_shape: float = 0.5
    # with a lower ESS fraction the tail does not show what it misses (a funnel: ESS = 83 of 10,000)
    min_ess_fraction: float = 0.01
    # of annealed weights: below it their logs have a standard deviation above 1 (Neal, 2001)
    min_ess_fraction_annealed: float = math.exp(-1)
    # of unbounded weights (k̂ > 0): on a funnel 2 of 1,000 runs with ESS fraction .02 were .23 low
    min_ess_fraction_unbounded: float = 0.05
    log_zero: float = -1e29  # log weights below are zero weights (annealing holds −1e30)


@dataclass(frozen=True)
class AgreementCriteria:
    """When two estimates of log Z agree, and when their mean is precise enough."""

    standard_errors: float = 3.3  # of the difference: exceeded by chance once in 1,000
    tolerance: float = 1e-3  # nats, always allowed on top
    max_error_ratio: float = 2.0  # of the standard error to its target; above, not "ok"


@dataclass(frozen=True)
class PilotOptions:
    """The adaptive run that finds the temperatures, the step sizes and the covariances."""

    ess_fraction: float = 0.5  # of the particles from one stage to the next: equal divergences
    repeats: int = 2  # transitions of every particle at each stage
    target_acceptance: float = 0.8
    step_size_gain: float = 0.5  # of log step size per unit of excess acceptance
    min_final_acceptance: float = 0.4  # below, the last stage is repeated ...
    max_final_repeats: int = 20  # ... at most so often
    max_stages: int = 300
    bisections: int = 40  # for the next temperature
    independence_moves: int = 4  # after each trajectory, where a margin has two modes
    flow_particles: int = 2000  # that the flow of base="flow" is fitted to
    flow_layers: int = 2


@dataclass(frozen=True)
class ResamplingOptions:
    """When an annealed population is resampled."""

    min_ess_fraction: float = 0.5


@dataclass(frozen=True)
class RunCriteria:
    """When an annealed run, chains, or nested points are reliable."""

    min_acceptance: float = 0.02
    max_nonfinite_fraction: float = 0.01  # of evaluations that are NaN or +infinity
    stein_level: float = 1e-3  # of the test of Stein's identities on independent particles
    stein_level_dependent: float = 1e-4  # on chains and nested points
    # of a few hundred draws per chain: R-hat of 1.01 would be noise
    convergence: ConvergenceCriteria = field(default=ConvergenceCriteria(max_r_hat=1.02))
    min_bridge_ess: float = 100.0  # of the bridge function
    min_contrast_ess: float = 100.0  # of draws and of noise, in noise contrastive estimation
    min_overlap: float = 0.02  # of forward and reverse works in Bennett's acceptance ratio
    max_population_error: float = 0.3  # relative, of the mean of the populations' estimates
    # standard errors (and .01 nats) between thermodynamic integration and stepping stones
    max_quadrature_errors: float = 1.0


@dataclass(frozen=True)
class NestedCriteria:
    """When a nested-sampling run ends, and when it is reliable."""

    log_live_fraction: float = -5.0  # of Z in the live points at the end; these are counted too
    max_depth: int = 400  # nats of compression
    batches: int = 10  # a tenth of the live points is replaced per compiled step
    simulations: int = 200  # of the prior mass, whose spread is a part of the standard error
    uniform_level: float = 1e-4  # of the test that the ranks of new points are uniform
    min_moved: float = 0.9  # of the slices
    negligible_weight: float = 1e-8  # relative to the largest
    evaluations_per_slice: float = 5.5  # on average
    min_live_ess: float = 50.0  # live points that the estimate rests on


@dataclass(frozen=True)
class BudgetOptions:
    """What `estimator="auto"` spends, and in which order.

    The population sizes and numbers of temperatures are few, because each size compiles.
    """

    draws: int = 10_000  # of importance sampling
    control_draws: int = 2000  # of importance sampling beside a base that is given
    repeated_draws: int = 160_000  # where importance sampling stands against estimates that agree
    chains: int = 8
    chain_draws: int = 400
    pilot: int = 300
    particles: tuple[int, ...] = (
        500, 700, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000, 16000, 24000, 32000
    )  # fmt: skip
    temperatures: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    temperatures_per_stage: int = 3  # at least: a stage halves the ESS
    max_variance: float = 1.5  # of a relative weight: beyond, their spread misjudges the error
    error_share: float = 0.5  # of the target that a size aims at: particles mix slowly
    error_share_swendsen_wang: float = 0.7  # the same where clusters flip: particles mix fast
    confirming_error: float = 1.5  # target errors that suffice to confirm a reliable estimate
    contradictions: int = 3  # annealed estimates are repeated so often while estimates disagree
    nested_share: float = 0.5  # of what is left, at most
    wider: float = 1.5  # scale of the proposal of a second annealed estimate
    max_evaluations: int = 3_000_000  # for events of up to `small_event` numbers ...
    min_evaluations: int = 500_000  # ... then in inverse proportion, but at least this
    small_event: int = 200


@dataclass(frozen=True)
class MixtureOptions:
    """The mixture of Student's t distributions that particles start from."""

    degrees_of_freedom: int = 5  # tails heavier than the density's keep weights bounded
    wide_degrees_of_freedom: int = 2  # of the wide component, for heavy-tailed densities
    largest_degrees_of_freedom: int = 8  # that a component may have, unless it is normal
    wide_share: float = 0.1  # of a wide component over all modes, against modes not found
    wide_scale: float = 2.0
    max_dense_dimension: int = 200  # above, covariances are diagonal
    # numbers of components that arrays have room for, so that a compiled program serves most
    capacities: tuple[int, ...] = (2, 8)
    # nats below the heaviest mode (and one more per dimension): light modes hint at others
    max_log_mass_gap: float = 10.0


@dataclass(frozen=True)
class RowOptions:
    """How log Z of many rows is annealed in one program."""

    starts: int = 32  # of the search for modes: the origin, and normal ones
    widest_start: float = 64.0  # their standard deviations go from 1 to this, geometrically
    newton_steps: int = 25  # of each; beyond them a mode is near enough for a proposal
    max_lone_mass: float = 0.1  # of modes that one start alone reached: so much may be unseen
    radius: float = 1.0  # of the first step
    min_precision: float = 1e-2  # of a component: flat directions are at most ten units wide
    stages: int = 16  # of each row's pilot; a proposal at the modes needs about five
    particles: int = 4_000  # of rows that run together, so that memory stays bounded
    chains: int = 200  # where the user names no estimator ...
    temperatures: int = 20
    pilot: int = 50
    named: int = 5  # unreliable rows that a finding names


WEIGHTS, AGREEMENT, PILOT, RESAMPLING = (
    WeightCriteria(), AgreementCriteria(), PilotOptions(), ResamplingOptions(),
)  # fmt: skip
RUN, NESTED, BUDGET, MIXTURE, ROWS = (
    RunCriteria(), NestedCriteria(), BudgetOptions(), MixtureOptions(), RowOptions(),
)  # fmt: skip

__all__ = [
    "AGREEMENT", "BUDGET", "MIXTURE", "NESTED", "PILOT", "RESAMPLING", "ROWS", "RUN", "WEIGHTS",
    "AgreementCriteria", "BudgetOptions", "MixtureOptions", "NestedCriteria", "PilotOptions",
    "ResamplingOptions", "RowOptions", "RunCriteria", "WeightCriteria",
]  # fmt: skip

"""Criteria of `diagnose`: when draws fail, and how much each check may cost."""

from dataclasses import dataclass

from unnorm.statistics.mcmc import ConvergenceCriteria


@dataclass(frozen=True)
class SamplerCriteria:
    """The statistics that a sampler keeps of its steps."""

    stuck_acceptance: float = 0.01  # below, a chain hardly moves
    low_acceptance: float = 0.05
    high_acceptance: float = 0.95  # of a random walk: its steps are too short
    low_bfmi: float = 0.3  # Betancourt (2016), arXiv:1604.00695
    max_tree_depth: int = 10  # where the draws do not record their limit
    saturated_share: float = 0.01  # of trajectories at the largest tree depth
    few_divergences: float = 1e-3  # share of trajectories that is only a warning: 10 in 10,000
    places: int = 2  # entries by which the location of divergences is described


@dataclass(frozen=True)
class DuplicateCriteria:
    """Chains that repeat each other's draws."""

    max_chains: int = 64  # compared pairwise; of more, an even selection is taken
    min_moves: int = 10  # in common
    shared: float = 0.2  # of a chain's draws, found in another in any order
    false_alarm: float = 1e-6  # for chains of few states
    lags: tuple[int, ...] = (7, 31, 101, 211)  # at which agreement by chance is estimated


@dataclass(frozen=True)
class SteinCriteria:
    """Stein's identity and its discrete counterparts."""

    z_limit: float = 4.0  # standard errors that a mean may lie off zero
    false_alarm: float = 1e-3  # over all coordinates (Bonferroni); may raise the limit
    certain: float = 5.0  # standard errors above which chance over all coordinates is excluded
    batch: int = 64  # gradients at once: bounds the memory where an event involves much data
    max_evaluations: int = 200_000  # of the density, per discrete check: draws are thinned to it
    min_draws: int = 100  # per chain, whatever they cost
    max_sites: int = 64  # of a discrete variable
    rare_count: float = 10.0  # visits of a state below which no normal approximation holds
    max_joint_states: int = 4096  # that are enumerated, and held against the draws one by one
    top_states: int = 20  # the most probable ones, whose frequencies are checked
    # of the law of one count: the shares above these of its quantiles are checked
    count_levels: tuple[float, ...] = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
    segments: int = 256  # along which jumps are searched for, one standard deviation long
    segment_points: int = 65  # on each
    max_gap: float = 0.1  # of the integrated slope from the rise along a segment, relative


@dataclass(frozen=True)
class PairCriteria:
    """Stein's identities of pairs of coordinates."""

    batches: int = 40  # whose means give the standard errors, by Student's t
    min_length: int = 20  # draws in a batch: fewer would depend on their neighbours
    most: int = 100  # coordinates: the pairs are quadratic in them


@dataclass(frozen=True)
class ModeCriteria:
    """The search for modes that no chain has visited."""

    max_dimension: int = 50  # beyond, the Hessians cost too much
    max_draws: int = 4000
    from_draws: int = 8  # ascents that start at draws
    far: int = 24  # ascents that start far away in all directions
    random: int = 8
    mirrored: int = 4  # at draws mirrored at the origin
    farthest: float = 1e4  # standard deviations of the draws
    lost: float = 1e8  # standard deviations: an ascent that ends farther out has escaped
    ascent_steps: int = 200
    newton_steps: int = 20
    candidates: int = 4  # ends of ascents that are examined, the highest first
    same: float = 0.3  # standard deviations within which two ascents have one end
    min_share: float = 0.01  # of the draws' mass, for a mode to matter
    min_curvature: float = 1e-12  # of the largest: below, a mode is singular in double precision
    visited: float = 0.05  # of the draws that a mode of its mass should hold


CONVERGENCE = ConvergenceCriteria()
SAMPLER = SamplerCriteria()
DUPLICATES = DuplicateCriteria()
STEIN = SteinCriteria()
PAIRS = PairCriteria()
MODES = ModeCriteria()

"""Numerical policy of exact sums and integrals: each budget and tolerance, with its reason.

A tuple of three holds the values for 1, 2 and 3 continuous dimensions.
"""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EnumerationOptions:
    """Enumeration of the joint states of discrete variables."""

    max_states: int = 2**20  # of a plan: a fit evaluates all of them at every step
    batch: int = 2**14  # more events than this are evaluated in blocks, which bounds the memory


@dataclass(frozen=True)
class GridOptions:
    """Range and refinement of the trapezoidal rule in t, u = centre + factor · sinh(t)."""

    block: int = 4096  # points per call of the compiled integrand: one program for every grid
    max_range: float = math.asinh(1e150)  # of |t|: squares of u still fit into float64
    max_search_points: tuple[int, ...] = (4096, 512, 96)  # per axis while the range is searched for
    first_points: tuple[int, ...] = (65, 33, 33)  # per axis at the first level
    widest_step: float = 0.25  # of t while the range is searched for
    negligible: float = 41.0  # nats below the total: e^-41 is below the rounding of float64
    max_rise: float = 1.0  # e-folds over the outer half of the range: more is no decay at a bound
    finite_fall: float = 2.0  # e-folds, likewise: a slab that falls less shows an infinite integral
    rounding_change: float = 0.5  # nats by which rounding of a node's place may change its value
    rounding: float = 64.0  # machine epsilons by which two levels may differ at any resolution

    def decays(self, fall: float) -> bool:
        """Whether a tail that falls by so many e-folds belongs to a finite integral."""
        return fall >= self.finite_fall


@dataclass(frozen=True)
class CenteringOptions:
    """Newton ascents to the modes, and the proof that an integral is infinite."""

    ladders: tuple[tuple[float, ...], ...] = (  # starting values per coordinate, near and far
        (0.0, *(2.0**k for k in range(-3, 15))),
        (0.0, 1.0, 5.0, 30.0, 200.0, 1500.0),
        (0.0, 2.0, 20.0, 500.0),
    )
    corrections: int = 12  # of the scale
    min_resolved: int = 6  # slabs towards a bound: with fewer the scale is too wide
    ascents: int = 24  # run together
    steps: int = 40  # of each ascent
    far: float = 1e6  # an ascent that ends beyond, above all modes, shows an infinite mass
    max_scans: int = 3  # modes about which points are scattered
    max_further_ascents: int = 48  # from each scan
    distances: tuple[float, ...] = (1.0, 1e6, 1e8)  # widths at which a direction must not fall
    decades: float = 13.0  # over which it is then followed; farther out, oblique directions round
    min_rise: int = 5  # finite values, in half decades, before numbers overflow
    depth: float = 1e4  # nats below the mode: a rise that starts lower belongs to another mass


@dataclass(frozen=True)
class TailOptions:
    """The power law fitted beyond the last node at which rounding resolves the variable."""

    fit_from: float = 20.0  # e-folds of the distance to the bound, before the last resolved node
    fit_to: float = 6.0  # likewise; here the closed form takes over
    fade_width: float = 1.5  # e-folds over which the sum over nodes is faded out
    min_nodes: int = 4  # on either half of the fitted stretch
    negligible: float = 1e-10  # share of the total below which nothing is added
    equal_rates: float = 1e-3  # rates that differ by less are taken as equal
    noise: float = 4.0  # standard errors of slopes, by rounding, within which two are alike
    lasting_bend: float = 0.75  # share of the change of rates that the outer half still shows
    flat: float = 1e-6  # a lower rate is no fall over the numbers that floating point resolves
    unresolved_share: float = 1e-3  # of a slab, by the other axes' margins, that is tolerated
    power_law: float = 0.1  # relative difference of two stretches' rates that refutes a power law


@dataclass(frozen=True)
class ScanOptions:
    """Points over five orders of magnitude about a mode, which must not hold unseen mass."""

    # over the distance and the angles: two points per width of a basin
    shapes: tuple[tuple[int, ...], ...] = ((2**14,), (360, 182), (144, 24, 76))
    min_points: int = 2**12  # where many discrete states make each point expensive
    max_evaluations: int = 2**22
    near: float = 4.0  # half of the points lie within sinh(4) = 27 scales
    far: float = math.asinh(1e5)
    negligible: float = 30.0  # nats below the highest point, beyond which NaN does no harm
    max_excess: float = 5.0  # standard errors by which the scan may exceed the rule
    slack: float = 0.02  # nats besides: values rounded onto a bound are off by as much


@dataclass(frozen=True)
class SplitOptions:
    """One rule for each mode where no single grid resolves all of them."""

    power: float = 6.0  # of the partition of unity
    overlap: float = 9.0  # scales within which the part of a mode resolves narrower modes
    max_parts: int = 12
    cheap_nodes: tuple[int, ...] = (2**16, 2**19, 2**19)  # a single rule with more nodes is split


@dataclass(frozen=True)
class QuadratureOptions:
    """Options of adaptive quadrature, by stage."""

    grid: GridOptions = field(default_factory=GridOptions)
    centering: CenteringOptions = field(default_factory=CenteringOptions)
    tails: TailOptions = field(default_factory=TailOptions)
    scan: ScanOptions = field(default_factory=ScanOptions)
    split: SplitOptions = field(default_factory=SplitOptions)


@dataclass(frozen=True)
class PlanOptions:
    """Plans, on which a fit differentiates log Z."""

    max_dimensions: int = 3
    max_nodes: int = 2**20  # a fit evaluates all of them at every step
    reach: float = 40.0  # scales that a plan covers where the caller knows where the mass is
    min_points: tuple[int, ...] = (401, 129, 65)  # per axis
    batch: int = 2**16  # evaluations at once over rows with covariates, which bounds the memory
    max_row_evaluations: int = 2**26  # of all rows of one data set together
    representative_rows: int = 8  # at which the location of the nodes is determined

    def max_states(self, size: int) -> int:
        """The largest number of discrete states beside so many continuous dimensions."""
        return self.max_nodes // self.min_points[size - 1] ** size if size else self.max_nodes


@dataclass(frozen=True)
class CountOptions:
    """The sum over one count."""

    dense: int = 2**14  # every count below is evaluated: a narrow second mode may lie there
    per_octave: int = 224  # rungs of the ladder beyond: modes wider than 1/300 of their place show
    block: int = 4096  # counts per call of the compiled terms: one program for any number
    max_refined: int = 64  # local maxima refined per round
    inserted: int = 64  # rungs about each of them
    rounds: int = 12
    shape_shown: float = 0.5  # nats between neighbouring rungs below which a maximum is resolved
    negligible: float = 40.0  # nats below the total: a cell that holds less is left out
    tail: float = 1e-12  # share of Z that may be left out
    smooth: float = 0.05  # nats: second differences below which a count may stand for neighbours
    phase_error: float = 1e-4  # of log Z between multiples of a stride and places between them
    stride_error: float = 1e-4  # of log Z between a stride and its triple, to accept the stride
    min_plan_states: int = 2**10  # so that a plan also serves other parameters
    max_plan_states: int = 2**16  # unless the density is rough; below, a plan begins at 0


ENUMERATION = EnumerationOptions()
QUADRATURE = QuadratureOptions()
PLAN = PlanOptions()
COUNTS = CountOptions()

"""The mass that rounding at bounds hides from sampled estimates of log Z, in any dimension.

Particles in the unconstrained coordinate u move on where a value has rounded onto its bound. There
the density no longer depends on the distance to the bound: four independent Beta(.1, .1) lose 5% of
their mass. The lost share f_i along one coordinate, given draws of the others, is computed as in
quadrature (`tails`), and Z = Z' E[1 + f_i]. The draws come from Gibbs sampling on grids of the
conditionals.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.frame import Frame
from unnorm.integration.nodes import coordinate_names, grid_points
from unnorm.integration.options import ENUMERATION
from unnorm.integration.quadrature.integrand import Integrand
from unnorm.integration.quadrature.tails import TailMass, tail_mass
from unnorm.integration.states import count_states
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.supports import RealSupport


@dataclass(frozen=True)
class BoundOptions:
    """How the mass at bounds is sampled, when it is added, and when it is unreliable."""

    chains: int = 16  # independent draws of the other coordinates
    sweeps: int = 4  # of Gibbs sampling before each draw
    max_coordinates: int = 32  # at bounds
    min_gain: float = 1e-4  # nats: less is not added
    max_error: float = 0.02  # nats, of the added mass; above, the estimate is unreliable


BOUNDS = BoundOptions()
T = np.linspace(-7.3, 7.3, 801)  # u = sinh(t), up to the smallest floats


def add_mass_at_bounds(density: Density, found: LogZ) -> LogZ:
    """The estimate plus the mass lost to rounding at bounds, with its error.

    Args:
        density: on a chart and ready for jit, its arrays in the dtype of the estimate.
        found: an estimate from particles or draws in unconstrained coordinates.
    """
    view, most = Unconstrained(density), ENUMERATION.max_states
    at_bounds = _coordinates_at_bounds(view)
    states = count_states(density)
    if not at_bounds or states is None or states > most or not math.isfinite(found.value):
        return found
    integrand = Integrand(view, most)
    places = np.zeros((1, view.dimension))
    if not any(_conditional(integrand, places[0], i)[1].tails for i in at_bounds):
        return _count_evaluations(found, integrand)
    losses = [
        _lost(integrand, at_bounds, np.random.default_rng(seed)) for seed in range(BOUNDS.chains)
    ]
    gains, errors = (np.array([[pair[k] for pair in loss] for loss in losses]) for k in (0, 1))
    mean = np.exp(gains).mean(0)
    total = float(np.log(mean).sum())
    if abs(total) < BOUNDS.min_gain:
        return _count_evaluations(found, integrand)
    spread = np.exp(gains).std(0) / mean
    # the product of the factors is exact where the coordinates are independent
    error = float(
        np.linalg.norm(spread) / math.sqrt(BOUNDS.chains)
        + errors.mean(0).sum()
        + spread.sum() * (mean - 1).sum()
    )
    names = coordinate_names(view)
    worst = names[at_bounds[int(np.argmax(mean))]]
    what = (
        f"{-math.expm1(-total):.1e} of the mass lies where values round onto a bound, most of it "
        f"of {worst}; it was added by a power law fitted there, with an error of {error:.1e}"
    )
    finding = Finding(
        what,
        "for more digits, write the density in the logarithm of the distance to its bound",
        NOTE,
    )
    rough = []
    if not error < BOUNDS.max_error:
        advice = "rescale the variable so that the bound where the mass lies is 0"
        what = f"{what}; the density there is not a product of power laws"
        rough = [Finding(what, advice, code=FindingCode.MASS_NOT_SEEN)]
    return _count_evaluations(
        dataclasses.replace(
            found,
            value=found.value + total,
            standard_error=math.hypot(found.standard_error, error),
            verdict="unreliable" if rough else found.verdict,
            findings=[*rough, *found.findings, *([] if rough else [finding])],
        ),
        integrand,
    )


def _count_evaluations(found: LogZ, integrand: Integrand) -> LogZ:
    cost = {"values": integrand.evaluations, "gradients": integrand.gradients}
    return dataclasses.replace(found, evaluations=total_evaluations(found.evaluations, cost))


def _coordinates_at_bounds(view: Unconstrained) -> list[int]:
    """The unconstrained coordinates of variables with bounds, 32 at most."""
    numbers: list
    numbers, start = [], 0
    for name, shape in view.free_shapes.items():
        size = math.prod(shape)
        if not isinstance(view.supports[name], RealSupport):
            numbers += range(start, start + size)
        start += size
    return numbers[: BOUNDS.max_coordinates]


def _conditional(
    integrand: Integrand, place: np.ndarray, i: int
) -> tuple[np.ndarray, TailMass, float]:
    """The conditional along coordinate i: the log mass of the resolved nodes, the tails, and the
    log ratio of both to the mass that particles see.
    """
    points = np.repeat(place[None], len(T), axis=0)
    u, log_weights = grid_points(Frame(np.zeros(1), np.eye(1)), [T])
    points[:, i] = u[:, 0]
    values, resolved = integrand(points)
    seen = np.where(np.isfinite(values), values, -np.inf) + log_weights
    kept = np.where(resolved, seen, -np.inf)
    beyond = tail_mass([T], kept, resolved, np.ones(1))
    return (
        kept,
        beyond,
        float(logsumexp(kept) + beyond.added - logsumexp(seen)) if beyond.tails else 0.0,
    )


def _lost(
    integrand: Integrand, at_bounds: list[int], rng: np.random.Generator
) -> list[tuple[float, float]]:
    """The gain of log Z along each coordinate at a bound, and its error, given one draw of the
    others.
    """
    place = np.zeros(integrand.view.dimension)
    for _ in range(BOUNDS.sweeps):
        for i in range(len(place)):
            kept = _conditional(integrand, place, i)[0]
            chances = np.exp(kept - logsumexp(kept))
            place[i] = np.sinh(rng.choice(T, p=chances / chances.sum()))
    found = [_conditional(integrand, place, i) for i in at_bounds]
    rough = [any(not tail.follows_power_law for tail in beyond.tails) for _, beyond, _ in found]
    return [
        (gain, beyond.error + (sum(tail.share for tail in beyond.tails) if bad else 0.0))
        for (_, beyond, gain), bad in zip(found, rough, strict=True)
    ]


__all__ = ["add_mass_at_bounds"]

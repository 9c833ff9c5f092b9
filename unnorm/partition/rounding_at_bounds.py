"""What rounding at bounds hides from sampled estimates of log Z, in any number of dimensions.

Walkers in the unconstrained coordinate u go on where a value has rounded onto its bound, and there
meet a density that no longer knows how near it is: four independent Beta(.1, .1) lose 5% of their
mass. Along one coordinate, the others at draws from the density, the lost share f_i is found as
quadrature finds it (`tails`), and Z = Z' E[1 + f_i]. The draws are made by Gibbs sampling on the
grids of the conditionals themselves.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.nodes import Frame, coordinate_names, count_states, grid_points
from unnorm.integration.options import ENUMERATION
from unnorm.integration.quadrature.integrand import Integrand
from unnorm.integration.quadrature.tails import TailMass, tail_mass
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.supports import RealSupport


@dataclass(frozen=True)
class BoundOptions:
    """How the mass at bounds is sampled, and when it is added or not reliable."""

    chains: int = 16  # draws of the other coordinates
    sweeps: int = 4  # how often each is drawn before
    max_coordinates: int = 32  # at bounds
    min_gain: float = 1e-4  # nats: less is not added
    max_error: float = 0.02  # nats, of what was added: with more the estimate is unreliable


BOUNDS = BoundOptions()
T = np.linspace(-7.3, 7.3, 801)  # of u = sinh(t): to where the smallest floats end


def add_mass_at_bounds(density: Density, found: LogZ) -> LogZ:
    """The estimate with the mass that rounding at bounds has hidden from it, and its error.

    Args:
        density: bare and charted, its arrays in the dtype of the estimate.
        found: an estimate from walkers or draws in unconstrained coordinates.
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
    # the product of the factors is exact where they do not depend on each other
    error = float(
        np.linalg.norm(spread) / math.sqrt(BOUNDS.chains)
        + errors.mean(0).sum()
        + spread.sum() * (mean - 1).sum()
    )
    names = coordinate_names(view)
    worst = names[at_bounds[int(np.argmax(mean))]]
    what = (
        f"{-math.expm1(-total):.1e} of the mass lies where values round onto a bound, most of it "
        f"of {worst}; it was "
        f"added by the power law of the density there, with an error of {error:.1e}"
    )
    finding = Finding(
        what,
        "write the density in the logarithm of the distance to its bound for more digits",
        NOTE,
    )
    rough = []
    if not error < BOUNDS.max_error:
        advice = "rescale the variable so that the bound where the mass lies is 0"
        rough = [Finding(f"{what}, which is no power law, or not one of independent coordinates", advice,
                         code=FindingCode.MASS_NOT_SEEN)]  # fmt: skip
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
    """The unconstrained coordinates of variables whose values have a bound, 32 at most."""
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
    """Along coordinate i from a place: the log mass of the resolved nodes, the tails, and what
    walkers lack of both.
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
    """For each coordinate at a bound the gain of log Z along it, and its error, at one draw of the
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

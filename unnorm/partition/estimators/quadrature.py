"""log Z by adaptive quadrature, for densities of at most three continuous dimensions."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.frame import Frame
from unnorm.integration.nodes import coordinate_names, require_low_dimension
from unnorm.integration.plan import rounding_tolerance
from unnorm.integration.quadrature.centering import Location, locate_mass
from unnorm.integration.quadrature.grid import (
    Grid,
    HeavyTail,
    heavy_tails,
    integrate,
    mass_range,
    widen_range,
)
from unnorm.integration.quadrature.integrability import (
    direction_of,
    improper_direction,
    not_normalizable,
)
from unnorm.integration.quadrature.integrand import Integrand
from unnorm.integration.quadrature.laplace import Mode
from unnorm.integration.quadrature.modes import Part, split_by_mode
from unnorm.integration.quadrature.unseen_mass import estimate_from_scans
from unnorm.partition.base import LogZ, measures


@method
class Quadrature:
    """log Z by the trapezoidal rule after a double-exponential map, doubled until two levels agree.

    Z = ∫ p̃(x(u)) |det J(u)| du with u = c + A sinh(t), summed over the states of discrete
    variables. The centre c and scale A are found from the modes and corrected by quantiles; the
    range of t is widened until its ends hold no mass. Where they hold mass at every width, the
    density is reported as not normalizable.

    Args:
        tolerance: of log Z between two successive levels.
        max_nodes: the largest number of evaluations of one level.

    Example:
        >>> import unnorm as un
        >>> cauchy = un.Density(lambda x: -jax.numpy.log1p(x**2), {"x": un.Real})
        >>> round(un.log_z(cauchy, Quadrature(), seed=0).value, 6)  # log π
        1.14473

    References:
        Takahasi and Mori (1974), doi:10.2977/prims/1195192451; Trefethen and Weideman (2014),
        doi:10.1137/130932132.
    """

    tolerance: float = static(default=1e-8, above=0)
    max_nodes: int = static(default=2**22, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        view = Unconstrained(density)
        size = require_low_dimension(view)
        if not size:
            raise ValueError(
                f"Density {density.name} has no continuous variable to integrate over; expected "
                "at least one; use un.estimators.Exact."
            )
        integrand = Integrand(view, self.max_nodes // 2 ** (5 * size))
        location = locate_mass(integrand, far=True)
        frame, steps, modes, *_ = location
        parts = split_by_mode(integrand, frame, steps, modes, self.max_nodes)
        ranges = [widen_range(part.integrand, part.frame, part.steps, part.sides) for part in parts]
        pairs = list(zip(parts, ranges, strict=True))
        with_mass = [(part, first) for part, first in pairs if np.isfinite(first.total)]
        if not with_mass:
            return self._result(integrand, math.nan, math.nan, [_no_mass(density, ranges[0])])
        tolerance = max(self.tolerance, rounding_tolerance(integrand))
        direction = _improper_direction(integrand, modes) if size > 1 and modes else None
        tails = [
            tail
            for _, first in with_mass
            for tail in heavy_tails(integrand, first, tolerance, rounded=False)
        ]
        if location.escaped or direction is not None or _diverges(integrand, tails):
            return self._infinite(integrand, tails, direction)
        most = self.max_nodes // len(with_mass)
        levels = [
            (
                part,
                *integrate(
                    part.integrand, part.frame, part.steps, _range(part, first), tolerance, most
                ),
            )
            for part, first in with_mass
        ]
        return self._assess(integrand, location, levels, tolerance)

    def _assess(
        self,
        integrand: Integrand,
        location: Location,
        done: list[tuple[Part, Grid, float]],
        tolerance: float,
    ) -> LogZ:
        view, levels = integrand.view, [level for _, level, _ in done]
        name = view.density.name
        tails = [tail for level in levels for tail in heavy_tails(integrand, level, tolerance)]
        for part, level, _ in done:
            wrong = _not_finite(view, part, level) or _rounded(integrand, part, level)
            if wrong:
                return self._result(integrand, math.nan, math.nan, [wrong])
        if wrong := _between_nodes(integrand, location, levels):
            return self._result(integrand, math.nan, math.nan, [wrong])
        if any(level.infinite.any() for level in levels) or _diverges(integrand, tails):
            return self._infinite(integrand, tails)
        totals = np.array([level.total for level in levels])
        value = float(np.logaddexp.reduce(totals))
        shares = np.exp(totals - value)
        difference = float(shares @ [error for *_, error in done])
        beyond = float(shares @ [level.beyond.error for level in levels])
        hidden = float(shares @ [part.hidden for part, *_ in done])
        error = difference + beyond + hidden + sum(tail.beyond for tail in tails)
        shape = " and ".join(" x ".join(str(len(axis)) for axis in level.axes) for level in levels)
        findings = [_heavy_tail(view, tail) for tail in tails]
        findings += [_mass_at_bounds(view, level) for level in levels if level.beyond.added]
        if not difference <= max(tolerance, beyond) and not tails:
            findings.append(_levels_differ(difference, shape, tolerance))
        if tolerance > self.tolerance:
            what = f"the tolerance is {tolerance:.0e}, the rounding error of this dtype"
            advice = "use dtype float64 for more digits"
            findings.append(Finding(what, advice, WARNING, code=FindingCode.PRECISION))
        findings += _mass_not_seen(name, location, value)
        what = f"{shape} nodes; the last two levels differ by {difference:.1e}"
        findings.append(Finding(what, "", NOTE))
        return self._result(integrand, value, error, findings)

    def _infinite(
        self, integrand: Integrand, tails: list[HeavyTail], direction: np.ndarray | None = None
    ) -> LogZ:
        finding = not_normalizable(integrand.view, tails, direction, integrand.options)
        return self._result(integrand, math.inf, math.nan, [finding])

    def _result(
        self,
        integrand: Integrand,
        value: float,
        error: float,
        findings: list[Finding],
    ) -> LogZ:
        return LogZ(
            value=value,
            standard_error=error,
            evaluations={"values": integrand.evaluations, "gradients": integrand.gradients},
            verdict="unreliable" if any(f.severity == ERROR for f in findings) else "ok",
            measure=measures(integrand.view.density),
            estimator="quadrature",
            findings=findings,
        )


def _improper_direction(integrand: Integrand, modes: list[Mode]) -> np.ndarray | None:
    places, precisions = (
        np.array(column) for column in zip(*(mode[:2] for mode in modes), strict=True)
    )
    return improper_direction(integrand.values_at, places, precisions)


def _diverges(integrand: Integrand, tails: list[HeavyTail]) -> bool:
    return not all(integrand.options.grid.decays(tail.fall) for tail in tails)


def _range(part: Part, first: Grid) -> np.ndarray:
    """The range that holds all but a negligible mass, and every mode: the first grid may miss a
    narrow one.
    """
    needed = mass_range(first, part.integrand.options.grid.negligible)
    low, high = (
        np.minimum(needed[:, 0], part.modes[:, 0]),
        np.maximum(needed[:, 1], part.modes[:, 1]),
    )
    return np.stack([low, high], 1)


# -- findings ----------------------------------------------------------------------------
def _heavy_tail(view: Unconstrained, tail: HeavyTail) -> Finding:
    return Finding(
        f"about {tail.beyond:.1e} of the mass of density {view.density.name} lies beyond the range "
        f"of floating-point numbers as {direction_of(view, tail)}",
        "use lighter tails or another parametrization",
        code=FindingCode.MASS_NOT_SEEN,
    )


def _mass_at_bounds(view: Unconstrained, level: Grid) -> Finding:
    share = -math.expm1(-level.beyond.added)
    names = coordinate_names(view)
    at = " and ".join(sorted({names[tail.axis] for tail in level.beyond.tails}))
    return Finding(
        f"{share:.1e} of the mass lies where values of {at} round onto their bound; it was added "
        f"by a power law fitted there, with an error of {level.beyond.error:.1e}",
        "for more digits, write the density in the logarithm of the distance to its bound",
        NOTE,
    )


def _levels_differ(difference: float, shape: str, tolerance: float) -> Finding:
    return Finding(
        f"the last two levels differ by {difference:.1e} at {shape} nodes; the tolerance is "
        f"{tolerance:.0e}",
        "raise max_nodes, rescale or smooth the density, or use un.estimators.SMC",
        code=FindingCode.NOT_CONVERGED,
    )


def _not_finite(view: Unconstrained, part: Part, level: Grid) -> Finding | None:
    """A finding if the log-density is NaN at a node, or infinite at isolated ones."""
    name, infinite = view.density.name, level.infinite
    if level.nan.any():
        where = _place(view, part.frame, level, np.argwhere(level.nan)[0])
        what = f"the log-density of {name} is NaN at {where}"
        return Finding(what, "correct the function there", code=FindingCode.NOT_FINITE)
    if infinite.any() and not level.rises_to_infinity:
        where = _place(view, part.frame, level, np.argwhere(infinite)[0])
        what = f"the log-density of {name} is infinite at {where}, so that Z was not computed"
        advice = (
            "declare the variable on one side of that place, as un.Positive or un.Interval, which "
            "are integrated up to a pole at their bound, or bound the function there"
        )
        return Finding(what, advice, code=FindingCode.NOT_FINITE)
    return None


def _between_nodes(integrand: Integrand, location: Location, levels: list[Grid]) -> Finding | None:
    """A finding if the log-density is NaN or infinite beside points that have mass, and no node
    lies there.
    """
    negligible, name = integrand.options.scan.negligible, integrand.view.density.name
    walls = any((np.isneginf(level.log_mass) & level.resolved).any() for level in levels)
    for scan in location.scans:
        kinds = [("NaN or +infinity", scan.broken)]
        kinds += [] if walls else [("-infinity", scan.empty)]
        for kind, wanted in kinds:
            place = scan.amid_mass(wanted, negligible)
            if place is None:
                continue
            what = (
                f"the log-density of {name} is {kind} at {_event(integrand.view, place)}, beside "
                "points that hold mass and between the nodes"
            )
            advice = "correct the function there, or use un.estimators.SMC for a density with holes"
            return Finding(what, advice, code=FindingCode.NOT_FINITE)
    return None


def _rounded(integrand: Integrand, part: Part, level: Grid) -> Finding | None:
    """A finding if moving the heaviest node by a rounding error changes the log-density."""
    index = np.unravel_index(int(np.argmax(level.log_mass)), level.log_mass.shape)
    place = _node(part.frame, level, np.array(index))
    step = 8 * np.finfo(float).eps * np.diag(1 + np.abs(place))
    here, *beside = integrand.values_at(np.concatenate([place[None], place + step, place - step]))
    sides = np.abs(np.reshape(beside, (2, -1)) - here)
    change = float(sides.min(0).max())  # a wall changes one side alone
    if not change > integrand.options.grid.rounding_change:
        return None
    where = _place(integrand.view, part.frame, level, np.array(index))
    what = (
        f"the log-density of {integrand.view.density.name} changes by {change:.2g} within the "
        f"rounding error of its variables at {where}"
    )
    advice = "declare bounds in the units of its mass, or shift and rescale its variables"
    return Finding(what, advice, code=FindingCode.PRECISION)


def _mass_not_seen(name: str, location: Location, value: float) -> list[Finding]:
    """A finding if points at all scales hold more mass than the nodes."""
    if not location.scans:
        return []
    points = estimate_from_scans(location.scans)
    if not points.exceeds(value):
        return []
    what = (
        f"points spread over five orders of magnitude about the modes of {name} give "
        f"log Z = {points.value:.4g} ± {points.error:.2g}, above the {value:.4g} of the nodes, "
        "which miss a part of the mass"
    )
    advice = "use un.estimators.SMC, or rescale the density"
    return [Finding(what, advice, code=FindingCode.MASS_NOT_SEEN)]


def _no_mass(density: Density, grid: Grid) -> Finding:
    seen = "NaN" if grid.nan.any() else "minus infinity"
    return Finding(
        f"the log-density of {density.name} is {seen} wherever it was evaluated",
        "check the function and its values",
        code=FindingCode.NOT_FINITE,
    )


def _place(view: Unconstrained, frame: Frame, level: Grid, index: np.ndarray) -> str:
    return _event(view, _node(frame, level, index))


def _event(view: Unconstrained, u: np.ndarray) -> str:
    event = view.event_at(jnp.asarray(u, jnp.result_type(float)))[0]
    return ", ".join(
        f"{name} = {np.array2string(np.asarray(value), precision=4)}"
        for name, value in event.items()
    )


def _node(frame: Frame, level: Grid, index: np.ndarray) -> np.ndarray:
    """The unconstrained coordinates of a node."""
    t = np.array([axis[i] for axis, i in zip(level.axes, index, strict=True)])
    return frame.centre + frame.factor @ np.sinh(t)

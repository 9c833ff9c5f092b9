"""log Z by adaptive quadrature, for densities of at most three continuous dimensions."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.integration.adaptive_grid import Cells, Integrand, Leak, leaks, range_of, reach
from unnorm.integration.centering import Found, endless_line, find_frame
from unnorm.integration.modes import Part, parts_of
from unnorm.integration.nodes import Frame, constrained, coordinate_names, dimensions_within_reach
from unnorm.integration.quadrature import ROUNDING, VANISHING, direction_of, improper, integrate
from unnorm.integration.unseen_mass import sampled
from unnorm.partition.base import LogZ, measures


@method
class Quadrature:
    """log Z by the trapezoidal rule after a double-exponential map, doubled until two levels agree.

    Z = ∫ p̃(x(u)) |det J(u)| du with u = c + A sinh(t), summed over the states of discrete
    variables. Centre c and scale A are found from the modes and corrected by quantiles; the range
    of t is widened until no mass is left at its ends. Where mass is left however far it goes, the
    density is said not to be normalizable.

    Args:
        tolerance: of log Z between two successive levels.
        max_nodes: evaluations of one level at most.

    Example:
        >>> import unnorm as un
        >>> cauchy = un.Density(lambda x: -jax.numpy.log1p(x**2), {"x": un.Real})
        >>> round(un.log_z(cauchy, Quadrature(), seed=0).value, 6)  # log π
        1.14473

    References:
        Takahasi and Mori (1974), doi:10.2977/prims/1195192451; Trefethen and Weideman (2014),
        doi:10.1137/130932132.
    """

    tolerance: float = static(1e-8, above=0)
    max_nodes: int = static(2**22, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        size = dimensions_within_reach(density)
        if not size:
            raise ValueError(
                f"Density {density.name} has no continuous variable to integrate over; use "
                "un.estimators.Exact."
            )
        integrand = Integrand(density, self.max_nodes // 2 ** (5 * size))
        found = find_frame(integrand, far=True)
        parts = parts_of(integrand, found, self.max_nodes)
        firsts = [reach(part.integrand, part.frame, part.steps, part.sides) for part in parts]
        parts = [
            (part, first)
            for part, first in zip(parts, firsts, strict=True)
            if np.isfinite(first.total)
        ]
        if not parts:
            return self._result(integrand, math.nan, math.nan, [_nothing(density, firsts[0])])
        tolerance = max(self.tolerance, ROUNDING * float(jnp.finfo(jnp.result_type(float)).eps))
        ridge = None
        if size > 1 and found.modes:
            places, precisions = [m.place for m in found.modes], [m.precision for m in found.modes]
            ridge = endless_line(integrand.resolved_values, np.array(places), np.array(precisions))
        ends = [end for _, first in parts for end in leaks(first, tolerance, rounded=False)]
        if found.ran_away or ridge is not None or _endless(ends):
            return self._result(integrand, math.inf, math.nan, [improper(density, ends, ridge)])
        most = self.max_nodes // len(parts)
        done = [
            (
                part,
                *integrate(
                    part.integrand, part.frame, part.steps, _range(part, first), tolerance, most
                ),
            )
            for part, first in parts
        ]
        return self._judged(integrand, found, done, tolerance)

    def _judged(
        self,
        integrand: Integrand,
        found: Found,
        done: list[tuple[Part, Cells, float]],
        tolerance: float,
    ) -> LogZ:
        density, levels = integrand.density, [level for _, level, _ in done]
        ends = [end for level in levels for end in leaks(level, tolerance)]
        for part, level, _ in done:
            if level.nan.any():
                where = _place(density, part.frame, level, np.argwhere(level.nan)[0])
                finding = Finding(
                    f"the log-density of {density.name} is NaN at {where}",
                    "correct the function there",
                    code=FindingCode.NOT_FINITE,
                )
                return self._result(integrand, math.nan, math.nan, [finding])
        if max(level.log_mass.max() for level in levels) >= 1e299 or _endless(ends):
            return self._result(integrand, math.inf, math.nan, [improper(density, ends)])
        totals = np.array([level.total for level in levels])
        value = float(np.logaddexp.reduce(totals))
        shares = np.exp(totals - value)
        apart = float(shares @ [error for *_, error in done])
        beyond = float(shares @ [level.beyond.error for level in levels])
        hidden = float(shares @ [part.hidden for part, *_ in done])
        error = apart + beyond + hidden + sum(end.beyond for end in ends)
        findings = [_heavy(density, end) for end in ends]
        findings += [_added(density, level) for level in levels if level.beyond.added]
        shape = " and ".join(" x ".join(str(len(axis)) for axis in level.axes) for level in levels)
        if not apart <= max(tolerance, beyond) and not ends:
            findings.append(
                Finding(
                    f"levels of quadrature still differ by {apart:.1e} at {shape} nodes; asked "
                    f"for: {tolerance:.0e}",
                    "raise max_nodes, rescale or smooth the density, or use un.estimators.SMC",
                    code=FindingCode.NOT_CONVERGED,
                )
            )
        if tolerance > self.tolerance:
            findings.append(
                Finding(
                    f"the tolerance is {tolerance:.0e}, the rounding of this dtype",
                    "use dtype float64 for more",
                    WARNING,
                    code=FindingCode.PRECISION,
                )
            )
        findings += _missed(density, found, value)
        findings.append(
            Finding(
                f"{shape} nodes; the last two levels differ by {apart:.1e}",
                "",
                NOTE,
            )
        )
        return self._result(integrand, value, error, findings)

    def _result(
        self,
        integrand: Integrand,
        value: float,
        error: float,
        findings: list[Finding],
        verdict: str = "ok",
    ) -> LogZ:
        return LogZ(
            value=value,
            standard_error=error,
            evaluations={"values": integrand.evaluations, "gradients": integrand.gradients},
            verdict="unreliable" if any(f.severity == ERROR for f in findings) else verdict,
            measure=measures(integrand.density),
            estimator="quadrature",
            findings=findings,
        )


def _endless(ends: list[Leak]) -> bool:
    return any(end.fall < VANISHING for end in ends)


def _range(part: Part, first: Cells) -> np.ndarray:
    """What holds all but a negligible mass, and every mode: a narrow one may have slipped through
    the first grid.
    """
    wanted = range_of(first)
    return np.stack(
        [np.minimum(wanted[:, 0], part.modes[:, 0]), np.maximum(wanted[:, 1], part.modes[:, 1])], 1
    )


def _heavy(density: Density, end: Leak) -> Finding:
    return Finding(
        f"about {end.beyond:.1e} of the mass of density {density.name} lies beyond "
        "floating-point numbers as "
        f"{direction_of(density, end)}",
        "use lighter tails or another parametrization",
        code=FindingCode.MASS_NOT_SEEN,
    )


def _added(density: Density, level: Cells) -> Finding:
    share = -math.expm1(-level.beyond.added)
    names = coordinate_names(density)
    at = " and ".join(sorted({names[tail.axis] for tail in level.beyond.tails}))
    what = (
        f"{share:.1e} of the mass lies where values of {at} round onto their bound; it was added "
        "by the power law of "
        f"the density there, with an error of {level.beyond.error:.1e}"
    )
    return Finding(
        what,
        "write the density in the logarithm of the distance to its bound for more digits",
        NOTE,
    )


def _missed(density: Density, found: Found, value: float) -> list[Finding]:
    """Whether points over all scales hold more mass than the rule."""
    if not found.looks:
        return []
    points = sampled(found.looks)
    if not points.exceeds(value):
        return []
    what = (
        f"points spread over five orders of magnitude about the modes of {density.name} hold "
        f"{points.value:.4g} ± "
        f"{points.error:.2g}, more than the {value:.4g} of the nodes: these miss a part of the mass"
    )
    return [
        Finding(
            what, "use un.estimators.SMC, or rescale the density", code=FindingCode.MASS_NOT_SEEN
        )
    ]


def _nothing(density: Density, found: Cells) -> Finding:
    seen = "NaN" if found.nan.any() else "minus infinity"
    return Finding(
        f"the log-density of {density.name} is {seen} wherever it was looked at",
        "check the function and its values",
        code=FindingCode.NOT_FINITE,
    )


def _place(density: Density, frame: Frame, level: Cells, index: np.ndarray) -> str:
    t = np.array([axis[i] for axis, i in zip(level.axes, index, strict=True)])
    u = frame.centre + frame.factor @ np.sinh(t)
    event = constrained(density, jnp.asarray(u, jnp.result_type(float)))[0]
    return ", ".join(
        f"{name} = {np.array2string(np.asarray(value), precision=4)}"
        for name, value in event.items()
    )

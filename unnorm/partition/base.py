"""An estimate of log Z, and the contract of an estimator."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import jax
from scipy import stats

from unnorm.core.display import Card
from unnorm.core.findings import Finding, Result
from unnorm.declaration.density import Density

VERDICTS = ("exact", "ok", "disagree", "unreliable")  # from the best to the worst


@dataclass(frozen=True, repr=False, eq=False)
class LogZ(Result):
    """An estimate of log Z, Z = ∫ p̃(x) dx (or the sum over states), with its error and verdict.

    Attributes:
        value: log Z, in nats.
        standard_error: of `value`; 0 for an enumeration; for quadrature the difference of the last
            two levels plus the error of extrapolation.
        evaluations: ``{"values": n, "gradients": n}``, of the log-density, pilots included.
        verdict: "exact", "ok", "disagree" (two parts of one run contradict each other) or
            "unreliable".
        measure: the reference measure that Z is taken against, per variable.
        estimator: the registry name of the estimator.
        seed: reproduces the run.
        findings: errors and warnings with advice, and notes.
        degrees: degrees of freedom of `standard_error` where it comes from few replicates; None:
            the normal distribution serves.
        bounds: (lower, upper) where the estimator gives stochastic bounds, else None.

    Example:
        >>> import unnorm as un
        >>> z = un.log_z(un.Density(lambda x: -0.5 * x**2, {"x": un.Real}), seed=0)
        >>> round(float(z), 6)
        0.918939
    """

    value: float
    standard_error: float
    evaluations: dict[str, int]
    verdict: str
    measure: str
    estimator: str
    seed: int | None = None
    findings: list[Finding] = field(default_factory=list)
    degrees: float | None = None
    bounds: tuple[float, float] | None = None

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return (lower, upper): value ± t · standard_error, Student's t where the error comes from
        few replicates.

        Args:
            level: the coverage, between 0 and 1.

        Raises:
            ValueError: the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(
                f"level is {level}; it must be between 0 and 1; pass, for example, 0.95."
            )
        distribution = stats.norm if self.degrees is None else stats.t(self.degrees)
        half = float(distribution.ppf(0.5 + level / 2)) * self.standard_error
        return (self.value - half, self.value + half)

    def __float__(self) -> float:
        return float(self.value)

    def __sub__(self, other: "LogZ") -> "LogZ":
        """log(Z₁/Z₂) of two independent estimates; the errors add in squares."""
        if not isinstance(other, LogZ):
            return NotImplemented
        return LogZ(
            value=self.value - other.value,
            standard_error=math.hypot(self.standard_error, other.standard_error),
            evaluations={k: n + other.evaluations.get(k, 0) for k, n in self.evaluations.items()},
            verdict=max(self.verdict, other.verdict, key=VERDICTS.index),
            measure=self.measure
            if self.measure == other.measure
            else f"{self.measure} / {other.measure}",
            estimator=f"{self.estimator} - {other.estimator}",
            findings=[*self.findings, *other.findings],
            degrees=_welch_degrees(self, other),
        )

    def __repr__(self) -> str:
        return (
            f"LogZ({self.value:.10g} ± {self.standard_error:.2g}, {self.estimator}, "
            f"{'passed' if self.passed else 'FAILED'}: {self.verdict})"
        )

    def _facts(self) -> dict[str, str]:
        lower, upper = self.interval()
        return {
            "log Z": f"{self.value:.10g}",
            "standard error": f"{self.standard_error:.3g}",
            "95% interval": f"{lower:.10g} to {upper:.10g}",
            "verdict": self.verdict,
            "estimator": self.estimator,
            "measure": self.measure,
            "evaluations": ", ".join(f"{n:,} {kind}" for kind, n in self.evaluations.items()),
            "seed": f"{self.seed}",
        }

    def _card(self) -> Card:
        return Card(f"log Z = {self.value:.6g}", self.verdict, self._facts())

    def __str__(self) -> str:
        rows = self._facts()
        table = "\n".join(f"{name:<15} {text}" for name, text in rows.items())
        return f"{table}\n{self._findings_text()}" if self.findings else table


def _welch_degrees(one: LogZ, other: LogZ) -> float | None:
    """Welch and Satterthwaite's degrees of freedom of the difference of two means."""
    parts = [
        (z.standard_error**2, z.degrees)
        for z in (one, other)
        if z.degrees is not None and z.standard_error > 0
    ]
    if not parts:
        return None
    whole = (one.standard_error**2 + other.standard_error**2) ** 2
    return whole / sum(variance**2 / degrees for variance, degrees in parts)


def measures(density: Density) -> str:
    """The reference measure of every variable, in one line."""
    return "; ".join(f"{name}: {support.measure}" for name, support in density.variables.items())


class Estimator(Protocol):
    """The contract of an estimator of log Z: how to add one.

    Write a class of options with the decorator `unnorm.core.method.method` (numbers are traced,
    `static(...)` marks structure) in a file of `estimators/`, give it `__call__`, and add the class
    to `ESTIMATORS` of `estimators/registry.py`. The density arrives with all values bound and cast
    to one dtype. Pass it to jitted functions defined at module level and never close over it, so
    that new parameter values do not recompile. Count every evaluation. A result that may be wrong
    must carry a finding of severity "error" and the verdict "unreliable". Where Z is provably
    infinite, raise `NotNormalizableError`.
    """

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        """Return the estimate of log Z of a density with all values bound."""


class NotNormalizableError(ArithmeticError):
    """Raised where Z is provably infinite; `un.log_z` returns an unreliable result."""

    def __init__(self, finding: Finding, evaluations: dict[str, int]) -> None:
        super().__init__(finding.sentence)
        self.finding, self.evaluations = finding, evaluations

    def result(self, density: Density, estimator: str) -> LogZ:
        """log Z = +infinity, unreliable."""
        return LogZ(
            math.inf,
            math.nan,
            self.evaluations,
            "unreliable",
            measures(density),
            estimator,
            findings=[self.finding],
        )


def total_evaluations(*spent: dict[str, int]) -> dict[str, int]:
    """The sum of several counts of evaluations."""
    return {kind: sum(one[kind] for one in spent) for kind in ("values", "gradients")}


__all__ = ["VERDICTS", "Estimator", "LogZ", "NotNormalizableError", "measures", "total_evaluations"]

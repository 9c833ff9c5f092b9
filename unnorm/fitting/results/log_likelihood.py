"""log Z at a fit, where it is at hand exactly, and the log-likelihood of held-out data."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, Finding, FindingCode
from unnorm.core.messages import pluralize, significant
from unnorm.core.random_keys import make_key
from unnorm.declaration.density import cast
from unnorm.declaration.noise_levels import LEVEL
from unnorm.fitting.data import read_data, refuse_latent
from unnorm.fitting.results.flow_likelihood import flow_log_densities, mean_log_density
from unnorm.fitting.row_normalizers import (
    covariates_of,
    data_location,
    declares_log_z,
    log_evidence,
    log_z_of_events,
    log_z_on_plan,
    plan_for_latent,
    plan_for_log_z,
)
from unnorm.integration.conditional import spread_rows
from unnorm.integration.nodes import Plan
from unnorm.integration.plan import has_plan, plan_for
from unnorm.integration.quadrature.integrability import vanishes_from
from unnorm.partition.base import LogZ
from unnorm.partition.driver import log_z as estimated
from unnorm.partition.estimators.exact import Exact
from unnorm.sampling.driver import sample

_ROWS_CHECKED, _APART = (
    4,
    1e-6,
)  # rows whose log Z is checked at the end of a fit; by how much two routes may differ


class BitsPerDimension(NamedTuple):
    """Bits per entry of an event, and their standard error."""

    value: float
    standard_error: float

    def __float__(self) -> float:
        return self.value


class LogLikelihood(NamedTuple):
    """The log-likelihood of a data set: its sum, the standard error of the sum, and each row's
    part.

    `monte_carlo_error` is that of n log Z at this estimate, `sampling_error` that of the rows and
    of the parameters; `standard_error` is both together. `entries` is the number of entries of one
    event. `findings` say how the value may be off beyond its error.
    """

    value: float
    standard_error: float
    pointwise: np.ndarray
    monte_carlo_error: float = 0.0
    sampling_error: float = np.nan
    entries: int = 1
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        """One line, however many rows there are."""
        return (
            f"log-likelihood = {significant(float(self.value))} (standard error "
            f"{significant(float(self.standard_error))}, {pluralize(len(self.pointwise), 'row')})"
        )

    @property
    def bits_per_dimension(self) -> BitsPerDimension:
        """−value / (n · entries · log 2), with its standard error: the unit in which image models
        are compared.
        """
        scale = 1 / (len(self.pointwise) * self.entries * np.log(2))
        return BitsPerDimension(float(-self.value * scale), float(self.standard_error * scale))


def exact_log_z(
    density, vector, unravel, events, findings: list[Finding], plan: Plan | None = None
) -> tuple[Any, np.ndarray | None, float | None]:
    """Where the nodes lie, d log Z / d vector, log Z; None where Z is not at hand exactly, or
    infinite (a finding).

    A declared closed form needs no nodes. With covariates there is no one log Z, and only where the
    nodes lie is reported; `plan` are the nodes of the fit, which are checked.
    """
    if density.covariates:
        return _of_some_rows(density, events, findings, plan), None, None
    if declares_log_z(density):
        return None, *_declared(density, vector, unravel, findings)
    if not has_plan(density):
        return None, None, None
    where, other = data_location(density, events), _another_route(density)
    why = None if other is None else _improper(density, other, where)
    if why is None:
        plan = plan_for(density, *where)
        value, gradient = _value_and_slope(density, unravel, vector, plan)
        if np.isfinite(value):
            findings += _apart(density, float(value), other)
            return where, np.asarray(gradient), float(value)
        why = f"its log Z is {float(value)}"
    findings.append(_no_z(density, why))
    return None, None, None


def _of_some_rows(density, events, findings: list[Finding], plan: Plan | None) -> tuple | None:
    """Where the nodes lie for the log Z of every row, which is held against another exact route at
    a few rows.
    """
    if not declares_log_z(density) and not has_plan(density):
        return None
    where = None if declares_log_z(density) else data_location(density, events)
    rows = {name: jnp.asarray(value) for name, value in covariates_of(density, events).items()}
    if not declares_log_z(density) and all(
        support.states is not None for support in density.variables.values()
    ):
        return where
    for row in spread_rows(rows, _ROWS_CHECKED):
        one = {name: value[row] for name, value in rows.items()}
        found = Exact()(density._at_row(one), make_key(0))
        if found.verdict == "disagree" or not np.isfinite(found.value):
            what = next(finding.what for finding in found.findings if finding.severity == ERROR)
            findings.append(_no_z(density, f"at the covariates of row {row}, {what}"))
            return None
        value = found.value if plan is None else float(log_z_on_plan(density._at_row(one), plan))
        if abs(value - found.value) > _APART * (1 + abs(found.value)):
            what = (
                f"log Z at the covariates of row {row} is {value:.8g} on the nodes of all rows, "
                f"and {found.value:.8g} "
                "on nodes of its own"
            )
            advice = (
                "pass a start= nearer to the data, or another objective: a row's density is narrow "
                "beside all data"
            )
            findings.append(Finding(what, advice, code=FindingCode.MASS_NOT_SEEN))
    return where


def _no_z(density, why: str) -> Finding:
    return Finding(
        f"{density.name} cannot be normalized at the estimate: {why}",
        "restrict the parameters (a support such as un.PositiveDefinite or un.Positive), or use "
        "another objective",
        code=FindingCode.NOT_NORMALIZABLE,
    )


@compiled
def _value_and_slope(density, unravel: Partial, vector, plan: Plan | None):
    """log Z on the nodes, and its gradient in the vector."""
    return jax.value_and_grad(lambda v: log_z_on_plan(density.at(unravel(v)[0]), plan))(vector)


def _declared(
    density, vector, unravel, findings: list[Finding]
) -> tuple[np.ndarray | None, float | None]:
    """d log Z / d vector and log Z by the closed form; None where a sum or an integral contradicts
    it (a finding).
    """
    found = Exact()(density, make_key(0))
    if found.verdict == "disagree":
        findings.append(found.findings[0])
        return None, None
    value, gradient = _value_and_slope(density, unravel, vector, None)
    if np.isfinite(value):
        return np.asarray(gradient), float(value)
    findings.append(_no_z(density, f"its declared log Z is {float(value)}"))
    return None, None


def _another_route(density) -> LogZ | None:
    """log Z by nodes that are found anew, without the data; None where every state is summed."""
    if all(support.states is not None for support in density.variables.values()):
        return None
    return Exact()(density, make_key(0))


def _improper(density, found: LogZ, where: tuple) -> str | None:
    """Why Z is infinite or no number; the nodes of a plan end somewhere, and a rising density looks
    finite on them.

    What `Exact` says of distances in the density's own units is held against a look in the units of
    the data.
    """
    if np.isfinite(found.value) or vanishes_from(density, *where):
        return None
    what = next(finding.what for finding in found.findings if finding.severity == ERROR)
    return what.partition("normalized: ")[2] or what


def _apart(density, value: float, other: LogZ | None) -> list[Finding]:
    """A finding where the nodes of the fit and those found anew give another log Z."""
    if other is None or not np.isfinite(other.value):
        return []
    if abs(value - other.value) <= _APART * (1 + abs(other.value)) + 5 * other.standard_error:
        return []
    what = (
        f"log Z of {density.name} at the estimate is {value:.8g} on the nodes of the fit, and "
        f"{other.value:.8g} on nodes placed again: one of the two misses a part of the mass"
    )
    advice = (
        "declare log_z=, or use an objective without log Z, such as un.objectives.ScoreMatching or "
        "NCE"
    )
    return [Finding(what, advice, code=FindingCode.MASS_NOT_SEEN)]


def log_likelihood(fit, data: Any, log_z: Any = None) -> LogLikelihood:
    """The log-likelihood of data at a fit: with log Z exactly, or as estimated, or as given; of a
    noise-conditional density by its probability flow.
    """
    if fit._path is not None:
        return _by_flow(fit, data) if log_z is None else _at_lowest_level(fit, data, log_z)
    fitted = fit.density
    _, events = read_data(fitted, data)
    exact = log_z is None and (declares_log_z(fitted) or fit._location is not None)
    if not exact:
        refuse_latent(fitted, events, "log_likelihood without an exact log Z")
    z, error = (0.0, 0.0) if exact else _value_and_error(_believed(fit) if log_z is None else log_z)
    drawn = None if exact or fit._free_covariance is None else _drawn(fit)
    with jax.enable_x64(True):
        density, rows = cast((fitted.for_jit(), events), jnp.float64)
        if exact:
            values, d = _normalized(density, rows, fit._location, fit._free_covariance is not None)
        else:
            values = np.asarray(_log_densities(density, rows)) - z
            d = (
                None
                if drawn is None
                else _slope(density, rows) - _slope(density, cast(drawn, jnp.float64))
            )
    n = len(values)
    spread = np.nan if d is None else n**2 * d @ fit._free_covariance @ d
    sampling, simulation = float(np.sqrt(n * values.var() + spread)), n * error
    return LogLikelihood(
        float(values.sum()),
        float(np.hypot(sampling, simulation)),
        values,
        simulation,
        sampling,
        _entries(fitted, events),
    )


def _entries(fitted, events) -> int:
    """The number of entries of one event."""
    shapes = fitted.resolved({name: event.shape[1:] for name, event in events.items()}).shapes()
    return sum(
        len(s.entries(shapes[name])) for name, s in fitted.variables.items() if name in events
    )


# -- noise-conditional densities -------------------------------------------------------
def _by_flow(fit, data: Any) -> LogLikelihood:
    """The log-likelihood by the probability-flow ODE from the lowest to the highest level."""
    fitted, path = fit.density.given(**{LEVEL: fit._path.low}), fit._path
    _, events = read_data(fitted, data)
    refuse_latent(fitted, events, "log_likelihood by the probability flow")
    with jax.enable_x64(True):
        density, rows = cast((fitted.for_jit(), events), jnp.float64)
        values, solver, trace, findings = flow_log_densities(density, rows, path, fit.seed)
        spread = 0.0
        if fit._free_covariance is not None:
            vector, unravel = ravel_pytree(density.free())
            slope = jax.grad(lambda v: mean_log_density(density.at(unravel(v)), rows, path))(vector)
            slope = np.asarray(slope)
            spread = len(values) ** 2 * slope @ fit._free_covariance @ slope
    sampling = float(np.sqrt(len(values) * values.var() + spread))
    simulation = float(np.hypot(solver.sum(), np.sqrt((trace**2).sum())))
    return LogLikelihood(
        float(values.sum()),
        float(np.hypot(sampling, simulation)),
        values,
        simulation,
        sampling,
        _entries(fitted, events),
        tuple(findings),
    )


def _at_lowest_level(fit, data: Any, log_z: Any) -> LogLikelihood:
    """The log-likelihood of the density at the lowest level, by its log Z."""
    fitted = fit.density.given(**{LEVEL: fit._path.low})
    return log_likelihood(dataclasses.replace(fit, density=fitted, _path=None), data, log_z)


def _normalized(density, rows, where, slope: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """log p of every row where log Z is exact, and its mean gradient in the free parameters, if
    asked for.
    """
    plans = plan_for_log_z(density, rows, where), plan_for_latent(density, rows)
    vector, unravel = ravel_pytree(density.free())

    def pointwise(v):
        moved = density.at(unravel(v))
        return log_evidence(moved, rows, plans[1]) - log_z_of_events(moved, plans[0], rows)

    return np.asarray(pointwise(vector)), np.asarray(
        jax.grad(lambda v: pointwise(v).mean())(vector)
    ) if slope else None


@compiled
def _log_densities(density, rows) -> jax.Array:
    return jax.vmap(density.log_density)(rows)


def _slope(density, rows) -> np.ndarray:
    """The mean gradient of log p̃ in the free parameters."""
    return np.asarray(_mean_score(density, rows))


@compiled
def _mean_score(density, rows) -> jax.Array:
    vector, unravel = ravel_pytree(density.free())
    return jax.grad(lambda v: jnp.mean(jax.vmap(density.at(unravel(v)).log_density)(rows)))(vector)


# -- where log Z is not at hand exactly ------------------------------------------------
def _believed(fit) -> LogZ:
    """log Z of the fitted density by `un.log_z` with its defaults, or a sentence where its verdict
    is not to use it.
    """
    if fit.density.covariates:
        raise ValueError(
            f"{fit.density.name} has the covariate {next(iter(fit.density.covariates))}, so that "
            "each row has its own "
            "Z, and no log-likelihood; expected none, or a declared log_z; compare such fits by "
            "score matching."
        )
    z = estimated(fit.density, seed=fit.seed, progress=False)
    if z.verdict not in ("exact", "ok"):
        why = next(
            (finding.what for finding in z.findings if finding.severity == ERROR),
            "its parts contradict",
        )
        raise ValueError(
            f"The log Z of {fit.density.name} is {z.verdict} by {z.estimator}: {why}; expected a "
            "reliable estimate; make it by un.log_z(fit.density, ...) with other options and "
            "pass it as log_z=."
        )
    return z


def _value_and_error(z: Any) -> tuple[float, float]:
    """log Z and its Monte Carlo error, of a `LogZ`, a fit's log Z, or a number."""
    error = getattr(z, "monte_carlo_error", getattr(z, "standard_error", 0.0))
    try:
        value = float(z)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(
            f"log_z is {z!r}; expected a finite LogZ or number; pass un.log_z(fit.density, ...)."
        )
    return value, float(error)


def _drawn(fit) -> dict[str, np.ndarray]:
    """Draws of the fitted density by `un.sample` with its defaults, for the mean of ∇ log p̃ under
    it.
    """
    posterior = sample(fit.density, seed=fit.seed, progress=False).posterior
    flat = {name: posterior[name].to_numpy() for name in fit.density.variables}
    return {name: value.reshape(-1, *value.shape[2:]).astype(float) for name, value in flat.items()}

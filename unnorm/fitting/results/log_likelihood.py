"""The log-likelihood of data at a fit."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, Finding
from unnorm.core.messages import pluralize, significant
from unnorm.declaration.density import cast
from unnorm.declaration.noise_levels import LEVEL
from unnorm.fitting.data.read import read_data, refuse_latent
from unnorm.fitting.results.flow_likelihood import flow_log_densities, mean_log_density
from unnorm.fitting.row_normalizers import (
    declares_log_z,
    log_evidence,
    log_z_of_events,
    plan_for_latent,
    plan_for_log_z,
)
from unnorm.partition.base import LogZ
from unnorm.partition.driver import log_z as estimated
from unnorm.sampling.driver import sample


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
            "each row has its own Z, and no log-likelihood; expected none, or a declared log_z; "
            "compare such fits by score matching."
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

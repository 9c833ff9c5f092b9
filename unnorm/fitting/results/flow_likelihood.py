"""The likelihood of a noise-conditional density by its probability-flow ODE.

dx/dσ = −σ ∇log p_σ(x) carries a row at the lowest noise level to the highest, where the smoothed
data are nearly normal: log p(x) = log N(x_high) + ∫ −σ Δ log p_σ(x_σ) dσ.

References:
    Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021), Score-based generative modeling
    through stochastic differential equations, arXiv:2011.13456 (section 4.3 and appendix D.2).
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp
from jax.scipy.stats import multivariate_normal

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.core.random_keys import make_key
from unnorm.declaration.noise_levels import LEVEL
from unnorm.numerics.hessian_trace import Field, by_forward_laplacian


@dataclass(frozen=True)
class FlowOptions:
    """How the ODE is solved, and what is reported.

    Attributes:
        tolerance: of the adaptive solver, relative and absolute.
        looser: factor on the tolerance of a second solution, whose distance is the solver's error.
        exact_dimensions: up to which the Laplacian is exact: it costs one pass for each dimension.
        probes: random directions for it beyond.
        max_steps: of the solver for one row.
        rows_at_once: solved together; memory grows with it.
        prior_draws: by which the density at the highest level is normalized.
        mismatch: nats a row above which the distance from that density to the normal distribution
            is a warning.
    """

    tolerance: float = 1e-5
    looser: float = 10.0
    exact_dimensions: int = 20
    probes: int = 16
    max_steps: int = 4096
    rows_at_once: int = 512
    prior_draws: int = 4_000
    mismatch: float = 0.05


OPTIONS = FlowOptions()


class NoisePath(NamedTuple):
    """The levels of a fit, and the moments of the data that set the distribution at the highest."""

    levels: np.ndarray  # from the highest to the lowest
    mean: np.ndarray  # (d,), the variables in alphabetical order
    covariance: np.ndarray  # (d, d)

    @property
    def low(self) -> float:
        return float(self.levels[-1])

    @property
    def high(self) -> float:
        return float(self.levels[0])


class FlowEnd(NamedTuple):
    """Rows at the highest level, and the divergence integrated on their way, by direction."""

    flat: jax.Array  # (n, d)
    divergence: jax.Array  # (n, k)
    succeeded: jax.Array  # (n,)


def noise_path(levels: np.ndarray | None, density: Any, events: dict, weights: Any) -> Any:
    """Return the path of a fit by noise levels, with the moments of its data; None of others."""
    if levels is None:
        return None
    flat = np.asarray(_flatten(density, events), float)
    covariance = np.atleast_2d(np.cov(flat.T, aweights=weights))
    return NoisePath(levels, np.average(flat, 0, weights), covariance)


def flow_log_densities(
    density: Any, rows: dict, path: NoisePath, seed: int, options: FlowOptions = OPTIONS
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Finding]]:
    """Return log p of every row, the solver's and the trace's error of each, and findings.

    Args:
        density: for jit, at a level; its supports are Real.
        rows: events (n, ...), in the precision to compute in.
        path: the noise levels and the normal distribution at the highest.
        seed: of random directions and of draws at the highest level.
        options: of the solver.
    """
    _refuse_other_supports(density)
    flat = _flatten(density, rows)
    n, d = flat.shape
    random = d > options.exact_dimensions
    directions = jnp.broadcast_to(jnp.eye(d, dtype=flat.dtype), (n, d, d))
    if random:
        shape = (n, options.probes, d)
        directions = jax.random.rademacher(make_key(seed), shape, flat.dtype)
    solve = functools.partial(_solve_rows, density, rows, directions, path, random, options)
    fine, coarse = solve(options.tolerance), solve(options.tolerance * options.looser)
    if not bool(fine.succeeded.all()):
        failed = int((~np.asarray(fine.succeeded)).sum())
        raise ValueError(
            f"The probability-flow ODE was not solved for {failed} of {n} rows in "
            f"{options.max_steps:,} steps; expected a smooth density at every noise level; pass "
            "log_z=un.log_z(fit.density.given(sigma=...)) for the density at one level."
        )
    values, rough = (np.asarray(_log_p(path, one, random)) for one in (fine, coarse))
    traces = np.zeros(n)
    if random:
        traces = np.asarray(fine.divergence).std(1, ddof=1) / np.sqrt(options.probes)
    findings = _mismatch(density, rows, fine.flat, path, seed, options)
    return values, np.abs(values - rough), traces, findings


def mean_log_density(density: Any, rows: dict, path: NoisePath, options=OPTIONS) -> jax.Array:
    """The mean of log p over the rows, differentiable in the parameters; exact Laplacian."""
    flat = _flatten(density, rows)
    directions = jnp.broadcast_to(
        jnp.eye(flat.shape[1], dtype=flat.dtype), (*flat.shape, flat.shape[1])
    )
    found = _solve_rows(density, rows, directions, path, False, options, options.tolerance)
    return _log_p(path, found, False).mean()


# -- the ODE ---------------------------------------------------------------------------------------
def _solve_rows(density, rows, directions, path, random, options, tolerance) -> FlowEnd:
    ends = jnp.log(jnp.asarray([path.low, path.high], directions.dtype))
    return _solve_all(density, rows, directions, ends, tolerance, random=random, options=options)


@compiled(static_argnames=("random", "options"))
def _solve_all(density, rows, directions, ends, tolerance, *, random, options) -> FlowEnd:
    def one(given):
        event, probes = given
        return _solve(density, event, probes, ends, tolerance, random, options)

    return jax.lax.map(one, (rows, directions), batch_size=options.rows_at_once)


def _solve(density, event, directions, ends, tolerance, random: bool, options) -> FlowEnd:
    """One row from the lowest to the highest level, over t = log σ."""
    import diffrax

    point, unravel = ravel_pytree({name: event[name] for name in density.variables})

    def velocity(t, state, args):
        sigma = jnp.exp(t)

        def log_density(x):
            return density.log_density(event | unravel(x) | {LEVEL: sigma})

        score, curvature = _derivatives(log_density, state[0], directions, random)
        return -(sigma**2) * score, -(sigma**2) * curvature

    count = len(directions) if random else 1
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Tsit5(),
        ends[0],
        ends[1],
        None,
        (point, jnp.zeros(count, point.dtype)),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=options.max_steps,
        throw=False,
    )
    flat, divergence = jax.tree.map(lambda leaf: leaf[-1], found.ys)
    good = (found.result == diffrax.RESULTS.successful) & jnp.isfinite(divergence).all()
    return FlowEnd(flat, divergence, good)


def _derivatives(log_density, x, directions, random: bool) -> tuple[jax.Array, jax.Array]:
    """The score, and v'∇²v by direction; the Laplacian where the directions are the axes."""
    if random:
        score, push = jax.linearize(jax.grad(log_density), x)
        return score, jnp.sum(directions * jax.vmap(push)(directions), -1)
    curvature, slopes = by_forward_laplacian(log_density, x, Field(directions, jnp.zeros_like(x)))
    return slopes, curvature[None]


def _log_p(path: NoisePath, found: FlowEnd, random: bool) -> jax.Array:
    total = found.divergence.mean(1) if random else found.divergence[:, 0]
    return _log_prior(path, found.flat) + total


# -- the distribution at the highest level ---------------------------------------------------------
def _prior_covariance(path: NoisePath) -> np.ndarray:
    return path.covariance + path.high**2 * np.eye(len(path.mean))


def _log_prior(path: NoisePath, flat: jax.Array) -> jax.Array:
    found = multivariate_normal.logpdf(flat, path.mean, _prior_covariance(path))
    return jnp.asarray(found)


def _mismatch(density, rows, ends, path, seed, options: FlowOptions) -> list[Finding]:
    """By how much the normal distribution at the highest level changes log p of a row."""
    about = f"the flow starts from a normal distribution at sigma = {path.high:.4g}"
    advice = "raise the highest noise level"
    if density.covariates:
        what = f"{about}, which was not compared with the density of each row's covariates there"
        return [Finding(what, "", NOTE, FindingCode.FLOW_PRIOR)]
    rng = np.random.default_rng(seed)
    draws = rng.multivariate_normal(path.mean, _prior_covariance(path), options.prior_draws)
    excess = functools.partial(_excess, density, path, sigma=path.high)
    log_weights = np.asarray(excess(jnp.asarray(draws, ends.dtype)))
    log_z = float(logsumexp(log_weights) - np.log(len(log_weights)))
    gain = float(np.mean(np.asarray(excess(ends))) - log_z)
    what = f"{about}; the fitted density there would change the log-likelihood by {gain:+.2g} a row"
    if abs(gain) <= options.mismatch:
        return [Finding(what, "", NOTE, FindingCode.FLOW_PRIOR)]
    return [Finding(what, advice, WARNING, FindingCode.FLOW_PRIOR)]


def _excess(density, path: NoisePath, flat: jax.Array, *, sigma: float) -> jax.Array:
    """log p̃ at the highest level minus the log of the normal distribution."""
    return _log_densities_at(density, flat, sigma) - _log_prior(path, flat)


@compiled
def _log_densities_at(density, flat, sigma) -> jax.Array:
    shapes = density.shapes()
    _, unravel = ravel_pytree({n: jnp.zeros(shapes[n], flat.dtype) for n in density.variables})
    return jax.vmap(lambda x: density.log_density(unravel(x) | {LEVEL: sigma}))(flat)


# -- events ----------------------------------------------------------------------------------------
def _flatten(density, rows: dict) -> jax.Array:
    """The variables of every row as one vector, (n, d)."""
    own = {name: jnp.asarray(rows[name]) for name in density.variables}
    return jax.vmap(lambda one: ravel_pytree(one)[0])(own)


def _refuse_other_supports(density) -> None:
    for name, support in density.variables.items():
        if support.score_matching != "plain":
            raise ValueError(
                f"log_likelihood by the probability-flow ODE needs variables on the whole line, "
                f"and {name} is {support!r}; expected Real; pass "
                "log_z=un.log_z(fit.density.given(sigma=...)) for the density at one level."
            )


__all__ = ["NoisePath", "flow_log_densities", "mean_log_density", "noise_path"]

"""log Z by bridge sampling between chains of the density and a normal distribution fitted to
them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from scipy.special import logsumexp

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.messages import shown
from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.core.validation import Range, problem
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.chains import Chains
from unnorm.partition.annealing.particles import nonfinite_findings
from unnorm.partition.annealing.saved_draws import chains_of_draws
from unnorm.partition.annealing.target_chains import run_chains
from unnorm.partition.annealing.tempered import log_target
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.partition.combine import compare_with_draws
from unnorm.partition.importance_weights import assess_draws, log_weights
from unnorm.partition.options import RUN
from unnorm.partition.proposals.automatic import make_proposal
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.weight_checks import estimate, refuse_discrete
from unnorm.statistics.mcmc import effective_sample_size


@method
class Bridge:
    """log Z by bridge sampling between p̃ and a normal distribution fitted to draws of its own
    chains, or to saved draws.

    Ẑ solves Z = E_g[p̃ h] / E_p[g h], h = 1/(s₁ p̃ + s₂ Z g), the optimal bridge of Meng and Wong.
    The normal distribution g has the mean and covariance of half of the draws; the other half
    estimate Z. With "warp3" both densities are first made symmetric about the mean, which removes
    skewness. The standard error counts the ESS of the bridge function. The method is local: mass in
    regions that no chain visits appears neither in the error nor, perhaps, in R-hat over chains
    from dispersed starts. So log Z is also compared with importance sampling from the pilot's
    proposal: a bridge estimate well below it is unreliable.

    Args:
        chains: from dispersed starts.
        draws: of each chain, after the warm-up; or saved draws of the density, whose chains are
            known: the result of `un.sample`, ArviZ's InferenceData or DataTree, a dict of arrays
            (chain, draw, ...), NumPyro's MCMC, or CmdStanMCMC.
        proposal: "warp3" or "normal".

    Example:
        >>> import unnorm as un
        >>> identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=identity)
        >>> z = un.log_z(p, un.estimators.Bridge(), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, draws=500, warmup=200, seed=0, progress=False)
        >>> z = un.log_z(normal, "bridge", draws=draws, seed=0, progress=False)
        >>> abs(z.value - 0.9189) < 4 * z.standard_error  # log sqrt(2 pi)
        True

    References:
        Meng and Wong (1996), Statistica Sinica 6, 831-860; Meng and Schilling (2002),
        doi:10.1198/106186002457 (warp III); Frühwirth-Schnatter (2004),
        doi:10.1111/j.1368-423X.2004.00125.x (the standard error).
    """

    chains: int = static(default=8, at_least=2)
    draws: Any = static(default=1000)
    proposal: str = static(default="warp3", choices=("warp3", "normal"))

    def __post_init__(self) -> None:
        if isinstance(self.draws, int | float | bool | np.number) or self.draws is None:
            expected = problem(self.draws, (int,), Range(at_least=100))
            if expected is not None:
                raise ValueError(
                    f"draws is {shown(self.draws)} in Bridge; expected {expected}, or saved "
                    "draws; pass, for example, draws=1000."
                )

    def __call__(self, density: Density, key: jax.Array, control_draws: int = 4096) -> LogZ:
        refuse_discrete("Bridge", density)
        saved = None if isinstance(self.draws, int | np.integer) else self._read(density)
        pilot_key, control_key, key = split_keys(key, 3)
        proposal, spent = make_proposal(density, pilot_key)
        spent = total_evaluations(spent, {"values": control_draws, "gradients": 0})
        control = assess_draws(density, log_weights(proposal, control_key, control_draws), spent)
        if saved is not None:
            return compare_with_draws(control, bridge_of_chains(self, proposal, saved, key, spent))
        return compare_with_draws(control, bridge_estimate(self, proposal, key, spent))

    def _read(self, density: Density) -> Chains:
        view = Unconstrained(density)
        chains = chains_of_draws(view, self.draws)
        count, least = chains.log_target.size, 4 * (view.dimension + 1)
        if count < least or chains.log_target.shape[1] < 4:
            raise ValueError(
                f"draws hold {count:,} draws of {view.dimension} coordinates in "
                f"{len(chains.draws)} chains; expected at least {least:,}, and 4 of each chain; "
                "pass more draws."
            )
        return chains


def bridge_estimate(
    options: Bridge, proposal: Proposal, key: jax.Array, spent: dict[str, int]
) -> LogZ:
    """The bridge from chains of the density, after the evaluations `spent`."""
    walk_key, draw_key = split_keys(key)
    chains = run_chains(proposal, walk_key, options.chains, options.draws)
    return bridge_of_chains(options, proposal, chains, draw_key, spent)


def bridge_of_chains(
    options: Bridge, proposal: Proposal, chains: Chains, draw_key: jax.Array, spent: dict[str, int]
) -> LogZ:
    """The bridge from the draws of chains: one half fits the normal distribution."""
    view, density = proposal.view, proposal.view.density
    spent = total_evaluations(spent, chains.evaluations)
    half = chains.draws.shape[1] // 2
    fitting, bridging = chains.draws[:, :half], chains.draws[:, half:]
    centre = fitting.reshape(-1, fitting.shape[-1]).mean(0)
    factor = _cholesky(np.atleast_2d(np.cov(fitting.reshape(-1, fitting.shape[-1]).T)))
    findings = chains.findings(density.name)
    if factor is None or not np.isfinite(chains.log_target).all():
        what = "the chains' draws have no covariance of full rank"
        findings.append(Finding(what, "use un.estimators.SMC", code=FindingCode.STUCK_CHAIN))
        return estimate(density, "bridge", math.nan, math.nan, spent, findings)
    count = bridging.shape[0] * bridging.shape[1]
    normals = _normals(draw_key, (count, len(centre)), jnp.result_type(float))
    whitened = np.linalg.solve(factor, (bridging.reshape(count, -1) - centre).T).T
    warp, dtype = options.proposal == "warp3", jnp.result_type(float)
    at_draws, at_normals = (
        np.asarray(
            _log_ratios(view, *(np.asarray(a, dtype) for a in (points, centre, factor)), warp),
            float,
        )
        for points in (whitened, np.asarray(normals))
    )
    spent = total_evaluations(spent, {"values": 2 * count * (1 + warp), "gradients": 0})
    findings += nonfinite_findings(density.name, int(np.sum(~(at_normals < np.inf))), count)
    at_draws, at_normals = (
        np.where(ratios < np.inf, ratios, -np.inf) for ratios in (at_draws, at_normals)
    )
    value, error, ess = _bridge(at_draws.reshape(bridging.shape[:2]), at_normals)
    what = f"ESS of the bridge function = {ess:,.0f} of {count:,} draws"
    if ess >= RUN.min_bridge_ess:
        findings.append(Finding(what, "", NOTE))
    else:
        findings.append(Finding(what, "raise draws", code=FindingCode.LOW_ESS))
    return estimate(density, "bridge", value, error, spent, findings)


def _cholesky(covariance: np.ndarray) -> np.ndarray | None:
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return None


@compiled(static_argnames=("shape", "dtype"))
def _normals(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    return jax.random.normal(key, shape, dtype)


@compiled(static_argnames="warp")
def _log_ratios(
    view: Unconstrained, points: jax.Array, centre: jax.Array, factor: jax.Array, warp: bool
) -> jax.Array:
    """log p̃ − log g at whitened points (N, D); warped: the mean of p̃ over a point and its mirror
    image.
    """
    log_det = jnp.sum(jnp.log(jnp.diag(factor)))

    def one(point):
        here = log_target(view, view.split(centre + factor @ point))
        if warp:
            mirrored = log_target(view, view.split(centre - factor @ point))
            here = jnp.logaddexp(here, mirrored) - math.log(2)
        return here + log_det - norm.logpdf(point).sum()

    return jax.lax.map(one, points, batch_size=1024)


def _bridge(
    at_draws: np.ndarray, at_normals: np.ndarray, rounds: int = 1000, tolerance: float = 1e-10
) -> tuple[float, float, float]:
    """log Ẑ, its standard error, and the ESS of the draws, from log p̃/g at both."""
    flat, other = at_draws.ravel(), at_normals
    ess = float(len(flat))
    value = float(np.median(flat))
    for _ in range(2):  # the shares s₁, s₂ depend on the ESS of the draws
        ours = math.log(ess / (ess + len(other)))
        theirs = math.log(len(other) / (ess + len(other)))
        for _ in range(rounds):
            top = logsumexp(other - np.logaddexp(ours + other, theirs + value))
            bottom = logsumexp(-np.logaddexp(ours + flat, theirs + value))
            top, bottom = top - math.log(len(other)), bottom - math.log(len(flat))
            value, before = top - bottom, value
            if abs(value - before) < tolerance:
                break
        function = np.exp(theirs + value - np.logaddexp(ours + at_draws, theirs + value))
        found = effective_sample_size(function, "mean")
        ess = min(found, len(flat)) if np.isfinite(found) else 1.0
    at_other = np.exp(other - np.logaddexp(ours + other, theirs + value))
    relative = at_other.var(ddof=1) / at_other.mean() ** 2 / len(other)
    relative += function.var(ddof=1) / function.mean() ** 2 / ess
    return float(value), math.sqrt(relative), ess


__all__ = [
    "Bridge",
    "bridge_estimate",
]

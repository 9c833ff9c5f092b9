"""log Z by bridge sampling between chains of the density and a normal law fitted to them."""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import OF_CHAINS, numberless
from unnorm.partition.annealing.stein_checks import chains_off_balance
from unnorm.partition.annealing.target_chains import Chains, chains_of, steps_of
from unnorm.partition.annealing.transitions import cost_of, height_of, moves_for
from unnorm.partition.base import LogZ, added
from unnorm.partition.combine import agree
from unnorm.partition.estimators.importance_sampling import judged_by_tail, log_weights
from unnorm.partition.proposals.automatic import base_for
from unnorm.partition.proposals.mixture import Base, blank
from unnorm.partition.weight_checks import infinite, refuse_discrete, refuse_small, settled
from unnorm.statistics.mcmc import ConvergenceCriteria, effective_sample_size, r_hat

# A few hundred draws per chain: at 1.01 the noise of R-hat would reject chains that have converged.
CRITERIA = ConvergenceCriteria(max_r_hat=1.02)
LOOKS = 4096  # draws from the pilot's base: is there mass where no chain came?
MISSED = "use un.estimators.SMC, ImportanceSampling or 'auto'"
ROUNDS, SETTLED = 1000, 1e-10


@method
class Bridge:
    """log Z by bridge sampling: p̃ against a normal law with the draws' mean and covariance.

    Ẑ solves Z = E_g[p̃ h] / E_p[g h], h = 1/(s₁ p̃ + s₂ Z g), the optimal bridge of Meng and Wong.
    Half of the draws fit g, the other half bridge. With "warp3" both are first made symmetric about
    the mean, which takes skewness out. The standard error counts the effective number of draws of
    the bridge function. All of it is local: where no chain comes, nothing is missed by these
    errors, and R-hat over chains from starts apart may not see it either. So log Z is held against
    importance sampling from the pilot's base too: a bridge well below it is unreliable.

    Args:
        chains: from starts apart.
        draws: of each chain, after the warm-up.
        proposal: "warp3" or "normal".

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, un.estimators.Bridge(), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Meng and Wong (1996), Statistica Sinica 6, 831-860; Meng and Schilling (2002),
        doi:10.1198/106186002457 (warp III); Frühwirth-Schnatter (2004),
        doi:10.1111/j.1368-423X.2004.00125.x (the standard error).
    """

    chains: int = static(8, at_least=2)
    draws: int = static(1000, at_least=100)
    proposal: str = static("warp3", choices=("warp3", "normal"))

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small("Bridge", chains=(self.chains, 2), draws=(self.draws, 100))
        if self.proposal not in ("warp3", "normal"):
            raise ValueError(
                f"Bridge was given proposal={self.proposal!r}; expected 'warp3' or 'normal'; "
                "pass one."
            )
        refuse_discrete("Bridge", density)
        pilot_key, look_key, key = jax.random.split(key, 3)
        base, cost, endless = base_for(density, pilot_key)
        if endless:
            return infinite(density, "bridge", cost, endless)
        cost = added(cost, {"values": LOOKS, "gradients": 0})
        look = judged_by_tail(density, log_weights(density, base, look_key, LOOKS), cost)
        return held_against(look, bridged(self, density, base, key, cost))


def held_against(look: LogZ, found: LogZ) -> LogZ:
    """What chains found, unreliable where draws of the pilot's base, if these are healthy, found
    more mass.
    """
    if not look.passed or look.value < found.value or agree(look, found):
        return found
    what = f"the chains missed mass: draws from the pilot's base find log Z = {look.value:.6g}"
    return replace(
        found,
        verdict="unreliable",
        findings=[*found.findings, Finding(what, MISSED, code=FindingCode.MASS_NOT_SEEN)],
    )


def bridged(
    options: Bridge, density: Density, base: Base, key: jax.Array, cost: dict[str, int]
) -> LogZ:
    """The bridge from chains of the density, at a cost so far."""
    moves = moves_for(density)
    walk_key, draw_key = jax.random.split(key)
    chains = chains_of(density, base, moves, walk_key, options.chains, options.draws)
    cost = added(cost, cost_of(density, moves, steps_of(options.chains, options.draws)))
    half = options.draws // 2
    fitting, bridging = chains.draws[:, :half], chains.draws[:, half:]
    centre = fitting.reshape(-1, fitting.shape[-1]).mean(0)
    factor = _root(np.atleast_2d(np.cov(fitting.reshape(-1, fitting.shape[-1]).T)))
    findings = health(density, chains)
    if factor is None or not np.isfinite(chains.log_target).all():
        findings.append(
            Finding(
                "the chains' draws have no covariance of full rank",
                "use un.estimators.SMC",
                code=FindingCode.STUCK_CHAIN,
            )
        )
        return settled(density, "bridge", math.nan, math.nan, cost, findings)
    count = bridging.shape[0] * bridging.shape[1]
    proposals = np.asarray(
        jax.random.normal(draw_key, (count, len(centre)), jnp.result_type(float))
    )
    ours = np.linalg.solve(factor, (bridging.reshape(count, -1) - centre).T).T
    warp = options.proposal == "warp3"
    at_draws, at_proposals = (
        _ratios(density, base, jnp.asarray(points), jnp.asarray(centre), jnp.asarray(factor), warp)
        for points in (ours, proposals)
    )
    cost = added(cost, {"values": 2 * count * (1 + warp), "gradients": 0})
    at_draws, at_proposals = (np.asarray(ratios, float) for ratios in (at_draws, at_proposals))
    findings += numberless(density, int(np.sum(~(at_proposals < np.inf))), count)
    at_draws, at_proposals = (
        np.where(ratios < np.inf, ratios, -np.inf) for ratios in (at_draws, at_proposals)
    )
    value, error, effective = _bridge(at_draws.reshape(bridging.shape[:2]), at_proposals)
    if not effective >= CRITERIA.min_ess / 4:
        findings.append(
            Finding(
                f"the bridge function's draws are worth {effective:.0f}",
                "raise draws",
                code=FindingCode.LOW_ESS,
            )
        )
    else:
        what = f"the bridge function's {count:,} draws are worth {effective:,.0f} independent ones"
        findings.append(Finding(what, "", NOTE))
    return settled(density, "bridge", value, error, cost, findings)


def _root(covariance: np.ndarray) -> np.ndarray | None:
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return None


@functools.partial(jax.jit, static_argnames="warp")
def _ratios(density: Density, base: Base, points, centre, factor, warp: bool) -> jax.Array:
    """log p̃ − log g at whitened points (N, D); warped: the mean of p̃ over a point and its mirror
    image.
    """
    from jax.scipy.stats import norm

    _, unravel = blank(density, base.dtype)
    log_det = jnp.sum(jnp.log(jnp.diag(factor)))

    def one(point):
        here = height_of(density, unravel(centre + factor @ point))
        if warp:
            here = jnp.logaddexp(
                here, height_of(density, unravel(centre - factor @ point))
            ) - math.log(2)
        return here + log_det - norm.logpdf(point).sum()

    return jax.lax.map(one, points, batch_size=1024)


def _bridge(at_draws: np.ndarray, at_proposals: np.ndarray) -> tuple[float, float, float]:
    """log Ẑ, its standard error, and the effective number of draws, from log p̃/g at both."""
    flat, other = at_draws.ravel(), at_proposals
    effective = float(len(flat))
    value = float(np.median(flat))
    for _ in range(2):  # the shares s₁, s₂ rest on the effective number of draws
        ours, theirs = (
            math.log(effective / (effective + len(other))),
            math.log(len(other) / (effective + len(other))),
        )
        for _ in range(ROUNDS):
            top = logsumexp(other - np.logaddexp(ours + other, theirs + value)) - math.log(
                len(other)
            )
            bottom = logsumexp(-np.logaddexp(ours + flat, theirs + value)) - math.log(len(flat))
            value, before = top - bottom, value
            if abs(value - before) < SETTLED:
                break
        function = np.exp(theirs + value - np.logaddexp(ours + at_draws, theirs + value))
        found = effective_sample_size(function, "mean")
        effective = min(found, len(flat)) if np.isfinite(found) else 1.0
    at_other = np.exp(other - np.logaddexp(ours + other, theirs + value))
    relative = at_other.var(ddof=1) / at_other.mean() ** 2 / len(other)
    relative += function.var(ddof=1) / function.mean() ** 2 / effective
    return float(value), math.sqrt(relative), effective


def health(density: Density, chains: Chains) -> list[Finding]:
    """What speaks against chains: between them, within each, and at the density's own
    identities.
    """
    findings, columns = (
        [],
        np.concatenate([chains.draws, chains.means, chains.log_target[..., None]], -1),
    )
    columns = np.moveaxis(columns, -1, 0)
    worst, effective = (
        np.max([r_hat(one) for one in columns]),
        np.min([effective_sample_size(one) for one in columns]),
    )
    if not worst <= CRITERIA.max_r_hat:
        what = f"the chains disagree: R-hat is {worst:.3g}"
        findings.append(
            Finding(
                what, "there may be modes apart: use un.estimators.SMC", code=FindingCode.NOT_MIXED
            )
        )
    if not effective >= CRITERIA.min_ess:
        findings.append(
            Finding(
                f"the chains are worth {effective:.0f} independent draws",
                "raise draws",
                code=FindingCode.LOW_ESS,
            )
        )
    if (
        chains.draws.shape[-1]
        and (level := chains_off_balance(chains.draws, chains.pulls)) < OF_CHAINS
    ):
        findings.append(
            Finding(
                f"the chains do not balance (Stein's identities, p = {level:.1e})",
                "reparametrize",
                code=FindingCode.STEIN_MISMATCH,
            )
        )
    return findings + numberless(density, chains.bad, chains.log_target.size)


__all__ = ["Bridge", "bridged", "health", "held_against"]

"""log Z by sequential Monte Carlo: adaptive tempering from a normalized base, replicated."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from unnorm.density import Density
from unnorm.diagnostics.verdict import ERROR, NOTE, WARNING, Finding
from unnorm.methods import method, static
from unnorm.partition.base import LogZ, measures
from unnorm.partition.nodes import free_size
from unnorm.partition.pilot import base_for
from unnorm.partition.tempering import (
    LEAPFROGS,
    MOST_TEMPERATURES,
    OUTSIDE,
    Base,
    Outcome,
    Record,
    refuse_unmovable,
    run,
)
from unnorm.partition.weighted import refuse_small

WIDENINGS = (1.0, 2.0)  # replicates start from the base and from one twice as wide, in turn: the answers must agree
WIDE_SPREAD = 0.5  # nats between replicates, above which a mean of eight tells little
LEAST_ACCEPTANCE = 0.02
STICKY = 0.95
DISAGREEMENT = 0.001  # level of the test that the two bases give one answer


@method
class SMC:
    """log Z by adaptive tempered sequential Monte Carlo (BlackJAX's), the mean of Z over independent replicates.

    Particles go from a normalized base q to p̃ through q^(1−λ) p̃^λ; log Z is the sum of the logs of the mean weights.
    q is Student's t about the modes that a pilot finds, uniform on discrete states; the moves are HMC in unconstrained
    coordinates, scaled by the particles' covariance, and Gibbs sweeps. The standard error comes from the replicates,
    which measure variance and not a bias that they share.

    Args:
        particles: of each replicate.
        replicates: independent runs, at least 2; half of them start from a base twice as wide, as a check.
        moves: moves of each particle at each temperature.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[5]})
        >>> z = un.log_z(p, SMC(particles=200), seed=0)
        >>> abs(z.value - 4.5947) < 4 * z.standard_error
        True

    References:
        Del Moral, Doucet and Jasra (2006), doi:10.1111/j.1467-9868.2006.00553.x; Cabezas et al. (2024), BlackJAX,
        arXiv:2402.10797.
    """

    particles: int = static(1000)
    replicates: int = static(8)
    moves: int = static(5)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small("SMC", particles=(self.particles, 10), replicates=(self.replicates, 2), moves=(self.moves, 1))
        refuse_unmovable("SMC", density)
        pilot_key, key = jax.random.split(key)
        base, cost, endless = base_for(density, pilot_key)
        if endless:
            return self._result(density, math.inf, math.nan, cost, [endless])
        size = free_size(density)
        rough_key, key = jax.random.split(key)
        rough = None
        if size:
            rough = self._run(density, base, rough_key)
            if np.all(np.isfinite(rough.mean)) and np.all(np.isfinite(rough.spread)):
                base = _base_from(rough)
        told = self._run(density, base, key)
        return self._judged(density, told.record, rough and rough.record, cost)

    def _run(self, density: Density, base: Base, key: jax.Array) -> Outcome:
        return jax.tree.map(np.asarray, replicate(self, density, base, jax.random.split(key, self.replicates)))

    def _cost(self, density: Density, told: Record, before: dict[str, int]) -> dict[str, int]:
        """What there was before, and two evaluations a particle and temperature besides those of the moves."""
        rounds = int(told.temperatures.max())  # the compiled loop waits for the slowest replicate
        steps = rounds * self.replicates * self.particles
        sites = sum(math.prod(density.shapes()[n]) for n, s in density.variables.items() if s.discrete)
        moved = self.moves * (sites + 1) if sites else 0
        leaps = self.moves * (LEAPFROGS + 1) if free_size(density) else 0
        return {"values": before["values"] + steps * (2 + moved), "gradients": before["gradients"] + steps * leaps}

    def _judged(self, density: Density, told: Record, rough: Record | None, cost: dict[str, int]) -> LogZ:
        for record in filter(None, (rough, told)):
            cost = self._cost(density, record, cost)
        logs = told.log_z.astype(float)
        if not np.all(np.isfinite(logs)) or logs.max() < OUTSIDE / 2:
            return self._result(density, math.nan, math.nan, cost, [_lost(density, logs)])
        # The mean of Z, not of log Z: SMC's Z is unbiased (but for adaptation), its log too low by half a variance.
        scaled = np.exp(logs - logs.max())
        value = float(logs.max() + np.log(scaled.mean()))
        error = float(scaled.std(ddof=1) / scaled.mean() / math.sqrt(len(logs)))
        findings = [finding for finding in self._findings(density, told, rough, logs) if finding]
        return self._result(density, value, error, cost, findings)

    def _findings(self, density: Density, told: Record, rough: Record | None, logs: np.ndarray):
        if rough is not None:
            yield _clash("the first base", rough.log_z.astype(float), logs)
            yield _clash("a base twice as wide", logs[1::2], logs[0::2])
        if logs.std(ddof=1) > WIDE_SPREAD:
            what = f"the replicates' log Z spread by {logs.std(ddof=1):.2g} nats (standard deviation)"
            yield Finding(what, "raise particles or moves, or rescale the variables")
        if told.reached.min() < 1:
            what = f"tempering stopped at {told.reached.min():.3g} of 1 after {MOST_TEMPERATURES} temperatures"
            yield Finding(what, "raise moves, or rescale the variables")
        if told.least_acceptance.min() < LEAST_ACCEPTANCE and free_size(density):
            what = f"as few as {told.least_acceptance.min():.1%} of the moves were accepted at some temperature"
            yield Finding(what, "rescale or smooth the density")
        if told.least_ess.min() < 0.1:
            what = f"the effective sample size fell to {told.least_ess.min():.1%} of the particles at some temperature"
            yield Finding(what, "raise particles", WARNING)
        if told.stickiness.max() > STICKY:
            what = f"particles stayed correlated by {told.stickiness.max():.2f} with where they were before their moves"
            yield Finding(what, "raise moves", WARNING)
        steps = f"{int(told.temperatures.max())} temperatures, {int(told.ancestors.min())} or more first ancestors left"
        yield Finding(f"{len(logs)} replicates of {self.particles} particles, {steps}", "nothing is to be done", NOTE)

    def _result(self, density: Density, value: float, error: float, cost: dict, findings: list[Finding]) -> LogZ:
        errors = [finding for finding in findings if finding.severity == ERROR]
        clash = len(errors) == 1 and errors[0].what.startswith("replicates from")
        return LogZ(
            value=value,
            standard_error=error,
            evaluations=cost,
            verdict="disagree" if clash else "unreliable" if errors else "ok",
            measure=measures(density),
            estimator="smc",
            findings=findings,
            degrees=self.replicates - 1,
        )


@jax.jit
def replicate(options: SMC, density: Density, base: Base, keys: jax.Array) -> Outcome:
    """Independent runs, mapped; compiled once for a structure of the density and sizes of the run."""
    widenings = jnp.asarray([WIDENINGS[i % 2] for i in range(len(keys))], jnp.result_type(base.centre))
    return jax.vmap(lambda key, wide: run(density, base, wide, key, options.particles, options.moves))(keys, widenings)


def _base_from(rough: Outcome) -> Base:
    """The base that the last particles of rough runs suggest, pooled over the runs."""
    mean, spread = rough.mean.mean(0), rough.spread.mean(0)
    between = rough.mean.var(0)
    factor = np.linalg.cholesky(spread + np.diag(between)) if spread.ndim == 2 else np.sqrt(spread + between)
    return Base(jnp.asarray(mean), jnp.asarray(factor))


def _clash(what: str, other: np.ndarray, logs: np.ndarray) -> Finding | None:
    """Whether the replicates from another base contradict these (Welch's test)."""
    if min(len(other), len(logs)) < 2 or not np.all(np.isfinite(other)):
        return None
    if not stats.ttest_ind(other, logs, equal_var=False).pvalue < DISAGREEMENT:
        return None
    return Finding(
        f"replicates from {what} give log Z {other.mean():.6g} and these {logs.mean():.6g}",
        "one of them misses mass: raise particles and moves, or check that the density can be normalized",
    )


def _lost(density: Density, logs: np.ndarray) -> Finding:
    if np.isnan(logs).any() or np.isposinf(logs).any():
        lost = int((~np.isfinite(logs)).sum())
        what = f"the log-density of {density.name} was NaN or +infinity at a particle in {lost} replicates"
        return Finding(what, "correct the function where it overflows or leaves its domain")
    what = f"the log-density of {density.name} was minus infinity at every one of the first particles"
    return Finding(what, "declare the variables with the supports that the density has")


__all__ = ["SMC"]

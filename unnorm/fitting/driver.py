"""`un.fit`: data in, a fitted density with its errors and findings out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.density import Density, cast
from unnorm.diagnostics.verdict import ERROR, NOTE, WARNING, Finding
from unnorm.fitting import simulated, stochastic
from unnorm.fitting.data import read_data
from unnorm.fitting.door import check_options, probe, started
from unnorm.fitting.inference import Covariance, NoCovariance, entries, sandwich
from unnorm.fitting.likelihood import exact_log_z, likelihood_of
from unnorm.fitting.objectives import NCE, OBJECTIVES, MaximumLikelihood, ScoreMatching
from unnorm.fitting.optimise import NEWTON_LIMIT, lbfgs, newton, parameters_of
from unnorm.fitting.result import Fit, FitLogZ
from unnorm.methods import look_up, registry_name
from unnorm.progress import bar
from unnorm.supports import _PyTree

_ROUNDS = 10  # how often an objective may renew what it prepared (quadrature nodes)


def fit(
    p: Density,
    data: Any,
    objective: Any = None,
    *,
    start: dict[str, Any] | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    progress: bool = True,
    dtype: Any = None,
    strict: bool = False,
) -> Fit:
    """Estimate the parameters of a density from data, with standard errors.

    Args:
        p: the density; parameters start at their bound or declared values.
        data: an array (n, ...), DataFrame, xarray object, or a dict by variable; exactly one leading axis.
        objective: an object of `un.objectives`, its registry name, or None: maximum likelihood where Z is at hand
            exactly, else score matching where the supports have a form of it, else noise contrastive estimation.
        start: ``{parameter: value}`` to start from.
        steps: iterations of a stochastic objective at most; None: until its Monte Carlo error is small.
        batch_size: rows per iteration of a stochastic objective; None: all.
        seed: a whole number; None draws one and records it.
        dtype: float64 unless the density has PyTree parameters.
        strict: raise where the fit did not pass.

    Returns:
        `Fit`: `density`, `summary()`, `covariance`, `log_z`, `log_likelihood(data)`, `converged`, `findings`.

    Raises:
        ValueError: data outside the support, with NaN or of the wrong shape; an objective that does not serve the
            density; a log-density, a gradient or a loss that is not finite at the start.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> @un.density
        ... def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
        ...     return -rate * x
        >>> data = np.array([0.5, 1.0, 2.5, 0.2])
        >>> fitted = un.fit(exponential, data, un.objectives.MaximumLikelihood(), progress=False)
        >>> round(float(fitted.density.parameters["rate"]), 4)  # one over the mean
        0.9524

    References:
        van der Vaart (1998), Asymptotic Statistics, ch. 5, doi:10.1017/CBO9780511802256.
    """
    check_options(p, steps=steps, batch_size=batch_size, seed=seed, dtype=dtype)
    p, events = read_data(started(p, start), data)
    findings: list[Finding] = []
    objective = _chosen(p, objective, findings)
    seed = int(np.random.SeedSequence().entropy % 2**31) if seed is None else seed
    has_tree = any(isinstance(support, _PyTree) for support in p.supports.values())
    dtype = np.dtype(dtype or (jnp.result_type(float) if has_tree else np.float64))
    if not p.supports:
        raise ValueError(
            f"Density {p.name} has no parameters to fit; declare some as keyword-only arguments with a support."
        )
    with jax.enable_x64(dtype == np.float64), bar(f"{type(objective).__name__}", 1.0, progress) as shown:
        problem = cast(objective, dtype), cast(p.bare(), dtype), cast(events, dtype)
        probe(*problem[1:])
        run = _run_stochastic if objective.stochastic else _run_deterministic
        return _finished(run(p, *problem, seed, findings, shown, steps, batch_size), strict)


def _finished(result: Fit, strict: bool) -> Fit:
    if strict:
        result.raise_unless_passed()
    return result


def _chosen(p: Density, objective: Any, findings: list[Finding]) -> Any:
    if objective is None:
        options = (MaximumLikelihood(), ScoreMatching(), NCE())
        objective = next((option for option in options if option.refuse(p) is None), options[-1])
        name = type(objective).__name__
        what = f"{name} was chosen, the first of maximum likelihood, score matching and NCE that serves {p.name}"
        findings.append(Finding(what, "name an objective to change it", NOTE))
    objective = look_up(objective, OBJECTIVES, "objective", "loss_i|gradient")
    refusal = objective.refuse(p)
    if refusal:
        raise ValueError(f"{refusal}.")
    return objective


def _run_deterministic(p, objective, density, events, seed, findings, shown, steps, batch_size) -> Fit:
    """Minimise, renew what was prepared until it holds at the minimum, then the sandwich."""
    extra = objective.prepare(density, events, jax.random.key(seed))
    density = density.at(extra.shared.get("start", density.free()))  # where the objective brought the parameters near
    minimise = newton if parameters_of(density, extra)[0].size <= NEWTON_LIMIT else lbfgs
    for _ in range(_ROUNDS):
        found = minimise(objective, density, extra, events)
        if not np.isfinite(found.loss):
            raise ValueError(
                f"The loss of {type(objective).__name__} is {float(found.loss)} at the start of the fit of {p.name}; "
                "expected a finite number; pass start= parameters at which the density and its derivatives are finite "
                "on the data."
            )
        free, learned = parameters_of(density, extra)[1](found.vector)
        density, extra = density.at(free), extra._replace(learned=learned)
        shown.step(0.1, f"loss {float(found.loss):.6g}")
        renewed = objective.refreshed(density, extra, events)
        if renewed is None:
            break
        extra = renewed
    converged = bool(np.isfinite(found.decrement)) and renewed is None
    findings += objective.findings(density, extra, events)
    covariance = None
    if minimise is lbfgs:
        findings.append(Finding("there are too many parameters for a covariance", "use the bootstrap for errors", NOTE))
    else:
        covariance = _or_finding(lambda: sandwich(objective, density, extra, events), findings)
    if not converged:
        findings.append(
            Finding(
                f"the optimiser stopped after {int(found.steps)} steps without reaching a minimum",
                "look for parameters that run away (an empty cell, a flat direction), fix them or pass another start",
            )
        )
    history = np.asarray(found.history)
    return _result(p, objective, density, extra, events, covariance, converged, history, seed, findings)


def _run_stochastic(p, objective, density, events, seed, findings, shown, steps, batch_size) -> Fit:
    """Average iterates until their error is small; then the theory's covariance, and where the fixed point lies."""
    rows = len(next(iter(events.values())))
    if batch_size is not None and batch_size >= rows:
        batch_size = None
    key, chains_key, check_key = jax.random.split(jax.random.key(seed), 3)
    extra = objective.prepare(density, events, key)
    unravel = jax.flatten_util.ravel_pytree(density.free())[1]

    def at(vector, extra):
        return density.at(unravel(jnp.asarray(vector)))

    reasons: list[Finding] = []

    def covariance_at(vector, extra):
        return _or_finding(
            lambda: simulated.covariance(objective, at(vector, extra), extra, events, check_key), reasons
        )

    def errors_at(vector, extra):
        found = covariance_at(vector, extra)
        if (
            found is None and vector.size <= NEWTON_LIMIT
        ):  # no theory for this kernel: maximum likelihood's as the scale
            run = simulated.run_long(at(vector, extra), events, check_key)
            return np.sqrt(np.diagonal(np.linalg.pinv(run.information)) / rows)
        return None if found is None else np.sqrt(np.diagonal(found.total))

    settled = stochastic.settle(objective, density, extra, events, chains_key, errors_at, shown, steps, batch_size)
    reasons.clear()
    covariance = covariance_at(settled.vector, settled.extra)
    findings += reasons
    if covariance is not None:
        drawn = np.diag(settled.error**2)
        covariance = covariance._replace(total=covariance.total + drawn, simulation=drawn)
    density = at(settled.vector, settled.extra)
    findings += _told_of(objective, settled)
    findings += objective.findings(density, settled.extra, events, check_key)
    if settled.vector.size <= NEWTON_LIMIT:
        findings += simulated.fixed_point_finding(objective, density, settled.extra, events, check_key)
    converged = settled.approached and (settled.converged or steps is not None and covariance is None)
    extra = extra._replace(learned={})
    return _result(p, objective, density, extra, events, covariance, converged, settled.history, seed, findings)


def _told_of(objective, settled) -> list[Finding]:
    findings = []
    if not settled.approached:
        findings.append(Finding(f"the parameters were still moving after {settled.steps} steps", "raise steps"))
    elif not settled.converged:
        what = f"after {settled.steps} steps the Monte Carlo error is above {stochastic.ENOUGH} standard errors"
        findings.append(Finding(what, "raise steps, or use a kernel that mixes faster", WARNING))
    if settled.acceptance and settled.acceptance < 0.1:
        what = f"the negative chains accept {settled.acceptance:.0%} of their proposals"
        findings.append(Finding(what, "give a smaller step_size to the kernel", WARNING))
    return findings


def _or_finding(compute, findings: list[Finding]) -> Covariance | None:
    """The covariance, or why there is none as a finding."""
    try:
        return compute()
    except NoCovariance as reason:
        findings.append(Finding(str(reason), reason.advice, WARNING))
        return None


def _result(p, objective, density, extra, events, covariance, converged, history, seed, findings) -> Fit:
    """Everything in the user's terms: listed entries, their covariance by the delta method, log Z with its errors."""
    vector, unravel = parameters_of(density, extra)
    estimates, jacobian = entries(density, lambda v: unravel(v)[0], vector)
    listed = None
    if covariance is not None:
        listed = Covariance(*(jacobian @ part @ jacobian.T for part in covariance))
    values = {name: jax.tree.map(np.asarray, value) for name, value in density.parameters.items()}
    fitted = p.bind(**values)
    plan, gradient, exact = exact_log_z(density, vector, unravel, events, findings)
    if "log_z" in extra.learned:
        at = _position_of_log_z(extra, unravel, vector)
        total, drawn = (np.nan, np.nan) if covariance is None else (part[at, at] for part in covariance[:2])
        log_z = FitLogZ(float(extra.learned["log_z"]), float(np.sqrt(drawn)), float(np.sqrt(max(total - drawn, 0.0))))
    elif exact is not None:
        spread = np.nan if covariance is None else float(np.sqrt(gradient @ covariance.total @ gradient))
        log_z = FitLogZ(exact, 0.0, spread)
    else:
        log_z = None
    improper = any(f.severity == ERROR and "normalized" in f.what for f in findings)
    if log_z is None and not improper:
        findings.append(Finding("the method gives no log Z here", "run un.log_z(fit.density) for it", NOTE))
    if len(next(iter(events.values()))) <= len(vector):
        findings.append(
            Finding("there are no more rows than parameters", "read the standard errors with care", WARNING)
        )
    return Fit(
        density=fitted,
        objective=registry_name(type(objective)),
        target=objective.target,
        converged=converged and not improper,
        log_z=log_z,
        history=history[~np.isnan(history)],
        seed=seed,
        rows=len(next(iter(events.values()))),
        findings=findings,
        likelihood=isinstance(objective, MaximumLikelihood),
        _estimates=estimates,
        _covariance=listed,
        _likelihood=None if plan is None else likelihood_of(fitted, density, plan, covariance, vector, unravel),
    )


def _position_of_log_z(extra, unravel, vector) -> int:
    """Where log Z stands in the vector of all that was estimated."""
    marks = jax.vmap(lambda unit: unravel(unit)[1]["log_z"])(jnp.eye(len(vector)))
    return int(jnp.argmax(marks))

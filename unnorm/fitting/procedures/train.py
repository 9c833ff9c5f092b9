"""Fits by first-order training: many parameters, mini-batches, an optimizer of the user's."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.interrupts import interrupt_served
from unnorm.core.random_keys import make_key, split_keys
from unnorm.fitting.base import HasAdversary, ReportsFindings, SamplesPower, Stochastic
from unnorm.fitting.checks.held_out_draws import Rows, draws_findings, split_rows
from unnorm.fitting.checks.kinks import kink_findings
from unnorm.fitting.existence.finite_estimate import divergent_by_margins
from unnorm.fitting.loss import Loss
from unnorm.fitting.problem import Outcome, Problem
from unnorm.fitting.procedures.checkpoints import checkpoints
from unnorm.fitting.procedures.monitor import Monitor
from unnorm.fitting.solvers import sgd


def fit_by_training(problem: Problem) -> Outcome:
    """Train in chunks, from checkpoint to checkpoint, and compare draws of a network with rows kept
    out of training.
    """
    whole, (problem, compared) = problem, _split(problem)
    objective, findings = problem.objective, problem.findings
    key, run_key, look_key = split_keys(make_key(problem.seed), 3)
    loss = problem.loss(key)
    steps = problem.steps or sgd.DEFAULTS.steps
    if isinstance(objective, Stochastic | HasAdversary):
        loss = loss._replace(state=objective.with_run_length(loss.state, steps))
    monitor, walk, done, ended = _run(whole, problem, loss, run_key, look_key, steps)
    end, weights = loss.at(monitor.estimate(walk)), loss.state.weights
    state = walk.state._replace(nuisance=end.state.nuisance, weights=weights)
    loss = end._replace(state=state)
    converged = _is_converged(problem, done, ended, monitor)
    given = (loss.density, loss.state, problem.events)
    if isinstance(objective, Stochastic):
        findings += objective.chain_findings(*given, look_key)
    elif isinstance(objective, ReportsFindings):
        compared_with = problem.events
        if problem.objective.traits.bounds_likelihood and problem.held_out is not None:
            compared_with = problem.held_out
        found = objective.findings(loss.density, loss.state, compared_with)
        findings += found
        far = FindingCode.FAR_FROM_MAXIMUM_LIKELIHOOD
        converged = converged and not any((f.code, f.severity) == (far, ERROR) for f in found)
    if problem.has_network and ended in ("", "held_out"):
        density = loss.density
        density = (
            objective.sampling_target(density) if isinstance(objective, SamplesPower) else density
        )
        found = _network_findings(problem, density, compared, look_key)
        findings += found
        converged = converged and not any(finding.severity == ERROR for finding in found)
    gone = divergent_by_margins(loss) if problem.batches is None else None
    converged = converged and not (gone and gone.any())
    losses = np.concatenate(monitor.losses) if monitor.losses else np.zeros(0)
    return Outcome(problem, loss, converged, losses, divergent=gone)


def _run(
    whole: Problem, problem: Problem, loss: Loss, run_key, look_key, steps: int
) -> tuple[Monitor, sgd.Walk, int, str]:
    """Train to the end: the monitor, the last walk, the number of steps, and why it ended early."""
    optimizer = problem.optimizer or sgd.default_optimizer(steps)
    chunk = -(-steps // sgd.DEFAULTS.chunks)
    walk, done, ended = sgd.begin(optimizer, loss.density, loss.state), 0, ""
    monitor = Monitor(problem, walk, look_key)
    with checkpoints(whole, steps) as saved:
        try:
            for part in range(-(-steps // chunk)):
                if saved.has(part):
                    walk, losses = saved.carry(part, (walk, jnp.zeros(chunk, walk.vector.dtype)))
                    _skip_batches(problem, chunk)
                else:
                    walk, losses = _chunk(problem, walk, run_key, done, optimizer, chunk)
                    saved.save(part, (walk, losses), ())
                done += len(losses)
                walk, ended = monitor.take(done, walk, losses)
                if ended:
                    break
        except KeyboardInterrupt:
            interrupt_served()
            ended = "interrupt"
        except StopIteration:
            ended = "batches"
    return monitor, walk, done, ended


def _split(problem: Problem) -> tuple[Problem, Rows]:
    """The problem of the rows that are trained on, and the rows that draws of a network are
    compared with.
    """
    rows = Rows(problem.events, problem.weights)
    if not problem.has_network or problem.batches is not None:
        return problem, rows
    if problem.held_out is not None:
        return problem, Rows(problem.held_out, None)
    parts = split_rows(problem.rows, problem.seed)
    if parts is None:
        return problem, rows

    def at(part, leaf):
        return None if leaf is None else leaf[part]

    def events(part):
        return {name: value[part] for name, value in problem.events.items()}

    train, keep = parts
    weights = at(train, problem.weights)
    training = dataclasses.replace(
        problem,
        events=events(train),
        weights=None if weights is None else weights / weights.mean(),
        clusters=at(train, problem.clusters),
        given=problem.events,
    )
    what = (
        f"{len(keep):,} of {problem.rows:,} rows were kept out of training, to be compared with "
        "draws of the fit"
    )
    problem.findings.append(Finding(what, "pass held_out= to train on all rows", NOTE))
    return training, Rows(events(keep), at(keep, problem.weights))


def _network_findings(problem: Problem, density, compared: Rows, key) -> list[Finding]:
    """What the density itself, and draws of it, say against a network."""
    found = kink_findings(problem.objective, density, problem.events, key)
    rows = Rows(problem.events, problem.weights)
    kept = compared.events is not problem.events
    return found + draws_findings(problem.objective, density, rows, compared, kept, problem.seed)


def _chunk(problem: Problem, walk, key, first: int, optimizer, steps: int):
    """One chunk of steps: compiled as a whole, or batch by batch where the user brings them."""
    if problem.batches is None:
        return sgd.run(
            problem.objective,
            problem.density,
            problem.events,
            walk,
            key,
            first,
            optimizer=optimizer,
            average=problem.average,
            batch_size=min(problem.batch_size or sgd.DEFAULTS.batch_size, problem.rows),
            steps=steps,
        )
    walk = walk._replace(
        gradient_sum=jnp.zeros_like(walk.gradient_sum),
        gradient_squares=jnp.zeros_like(walk.gradient_squares),
    )
    losses = []
    for step in range(first, first + steps):
        batch = next(problem.batches)
        walk, loss = sgd.one_batch(
            problem.objective,
            problem.density,
            batch,
            walk,
            key,
            jnp.asarray(step),
            optimizer=optimizer,
            average=problem.average,
        )
        losses.append(loss)
    return walk, jnp.stack(losses)


def _skip_batches(problem: Problem, steps: int) -> None:
    """The user's batches that a stored chunk was trained on."""
    if problem.batches is not None:
        for _ in range(steps):
            next(problem.batches)


def _blow_up_finding(monitor: Monitor, done: int, ended: str) -> Finding:
    """Why training went back to an earlier chunk, and whether it could go on from there."""
    seen, last = "; ".join(monitor.blow_ups), monitor.last_healthy
    advice = (
        "give a smaller learning rate by optimizer=; for a network, spectral_norm=True, and for "
        "contrastive divergence more steps k or noise="
    )
    if ended == "diverged":
        what = f"training diverged {monitor.recoveries} times ({seen}) and stopped at step {done}"
        what += f"; the parameters are those of step {last}, the last finite chunk"
        return Finding(what, advice, ERROR, FindingCode.TRAINING_DIVERGED)
    what = f"training diverged ({seen}) and continued from the last finite chunk"
    what += f" with steps {2**monitor.recoveries} times shorter"
    return Finding(what, advice, WARNING, FindingCode.TRAINING_DIVERGED)


def _is_converged(problem: Problem, done: int, ended: str, monitor: Monitor) -> bool:
    """What is to be said of the end of training; returns whether it had come to rest."""
    what = "training on batches gives no standard errors"
    advice = "leave out optimizer, batch_size and steps where parameters are few"
    if problem.objective.traits.is_game:
        what = "training against another player gives no standard errors"
        advice = "use un.objectives.FlowContrastive or MaximumLikelihood where parameters are few"
    problem.findings.append(Finding(what, advice, NOTE, FindingCode.NO_STANDARD_ERRORS))
    if ended in ("interrupt", "batches", "callback"):
        why = {
            "interrupt": "was interrupted",
            "batches": "ran out of batches",
            "callback": "was stopped by callback",
        }
        what = f"training {why[ended]} after {done} steps"
        problem.findings.append(
            Finding(what, "run it again, or on", WARNING, FindingCode.NOT_CONVERGED)
        )
        return False
    if monitor.recoveries:
        problem.findings.append(_blow_up_finding(monitor, done, ended))
    if ended == "diverged":
        return False
    if ended == "held_out":
        loss, step, _ = monitor.best
        what = (
            f"training stopped after {done} steps: the held-out loss was best at step {step}, "
            f"{loss:.6g}"
        )
        problem.findings.append(Finding(what, severity=NOTE))
        return True
    ratio = monitor.drift.ratio
    if ratio <= sgd.DEFAULTS.stationary:
        return True
    what = (
        f"after {done} steps training had not come to rest: the squared mean gradient of the last "
        f"{monitor.drift.steps:,} steps is {ratio:.3g} times what noise alone would make it"
    )
    advice = "raise steps, or give another learning rate by optimizer="
    problem.findings.append(Finding(what, advice, WARNING, FindingCode.NOT_CONVERGED))
    return False

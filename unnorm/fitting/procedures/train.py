"""Fits by first-order training: many parameters, mini-batches, an optimizer of the user's."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.fitting.base import ReportsFindings, ResamplesNoise, Stochastic
from unnorm.fitting.checks.held_out_draws import Rows, draws_findings, has_network, split_rows
from unnorm.fitting.checks.kinks import kink_findings
from unnorm.fitting.existence.finite_estimate import divergent_by_margins
from unnorm.fitting.loss import Loss
from unnorm.fitting.problem import Outcome, Problem
from unnorm.fitting.procedures.checkpoints import checkpoints
from unnorm.fitting.solvers import sgd


class _Monitor:
    """What is recorded between chunks of training: losses, the held-out loss and its best vector,
    and how far each chunk went.
    """

    def __init__(self, problem: Problem, state: Any, key: jax.Array, start: jax.Array) -> None:
        self.problem, self.vector = problem, start
        self.lengths: list[float] = []
        self.losses: list[np.ndarray] = []
        self.drift = sgd.Drift(problem.steps or sgd.DEFAULTS.steps)
        self.best: tuple[float, int, jax.Array | None] = (np.inf, 0, None)
        if problem.held_out is not None:
            objective, given = problem.objective, (problem.density, problem.held_out)
            self.held_rows = (
                objective.resample_noise(given[0], state, given[1], key)
                if isinstance(objective, ResamplesNoise)
                else objective.prepare(*given, key).per_row
            )

    def take(self, step: int, walk: sgd.Walk, losses: Any) -> bool:
        """Record the walk after a chunk; return whether to stop."""
        problem, losses = self.problem, np.asarray(losses)
        if isinstance(problem.objective, Stochastic):
            problem.objective.refuse_nan(problem.density, walk.state)
        if not np.isfinite(np.asarray(walk.vector)).all():
            raise ValueError(
                f"The parameters of {problem.p.name} became NaN or infinite under "
                f"{type(problem.objective).__name__} "
                f"before step {step}; expected finite numbers; give a smaller learning rate by "
                "optimizer=, or start= "
                "nearer to the data."
            )
        self.losses.append(losses)
        self.drift.add(walk, step, len(losses))
        self.lengths.append(float(jnp.linalg.norm(walk.vector - self.vector)))
        self.vector = walk.vector
        seen = {"step": step, "loss": float(losses.mean())}
        if problem.held_out is not None:
            seen["held_out"], vector = self._held_out(walk)
            if seen["held_out"] < self.best[0]:
                self.best = seen["held_out"], step, vector
        words = "" if np.isnan(seen["loss"]) else f", loss {seen['loss']:.4g}"
        problem.shown.step(1 / sgd.DEFAULTS.chunks, f"step {step}{words}")
        stop = problem.callback is not None and problem.callback(seen) is True
        return stop or (
            step - self.best[1] > sgd.DEFAULTS.patience * max(1, len(losses))
            and self.best[2] is not None
        )

    def _held_out(self, walk: sgd.Walk) -> tuple[float, jax.Array]:
        """The lower held-out loss of the last iterate and of the average, and which vector it
        is.
        """
        problem, state = self.problem, walk.state._replace(per_row=self.held_rows)
        losses = [
            float(
                sgd.held_out_loss(
                    problem.objective, problem.density, state, problem.held_out, vector
                )
            )
            for vector in (walk.vector, walk.average)
        ]
        return (losses[0], walk.vector) if losses[0] < losses[1] else (losses[1], walk.average)

    def estimate(self, walk: sgd.Walk) -> jax.Array:
        """Where training ended: the best by held-out loss, the last iterate if the steps died out,
        else the average.
        """
        if self.best[2] is not None:
            return self.best[2]
        return walk.vector if sgd.has_died_out(self.lengths) else walk.average


def fit_by_training(problem: Problem) -> Outcome:
    """Train in chunks, from checkpoint to checkpoint, and compare draws of a network with rows kept
    out of training.
    """
    whole, (problem, compared) = problem, _split(problem)
    objective, findings = problem.objective, problem.findings
    key, run_key, look_key = jax.random.split(jax.random.key(problem.seed), 3)
    loss = problem.loss(key)
    steps = problem.steps or sgd.DEFAULTS.steps
    if isinstance(objective, Stochastic):
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
        findings += objective.findings(*given)
    if has_network(problem.p) and ended in ("", "held_out"):
        found = _network_findings(problem, loss.density, compared, look_key)
        findings += found
        converged = converged and not any(finding.severity == ERROR for finding in found)
    gone = divergent_by_margins(loss) if problem.batches is None else None
    converged = converged and not (gone and gone.any())
    losses = np.concatenate(monitor.losses) if monitor.losses else np.zeros(0)
    return Outcome(problem, loss, converged, losses, divergent=gone)


def _run(
    whole: Problem, problem: Problem, loss: Loss, run_key, look_key, steps: int
) -> tuple[_Monitor, sgd.Walk, int, str]:
    """Train to the end: the monitor, the last walk, the number of steps, and why it ended early."""
    optimizer = problem.optimizer or sgd.default_optimizer(steps)
    chunk = -(-steps // sgd.DEFAULTS.chunks)
    walk, done, ended = sgd.begin(optimizer, loss.density, loss.state), 0, ""
    monitor = _Monitor(problem, loss.state, look_key, walk.vector)
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
                if monitor.take(done, walk, losses):
                    ended = "held_out" if monitor.best[2] is not None else "callback"
                    break
        except KeyboardInterrupt:
            ended = "interrupt"
        except StopIteration:
            ended = "batches"
    return monitor, walk, done, ended


def _split(problem: Problem) -> tuple[Problem, Rows]:
    """The problem of the rows that are trained on, and the rows that draws of a network are
    compared with.
    """
    rows = Rows(problem.events, problem.weights)
    if not has_network(problem.p) or problem.batches is not None:
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
        )
        losses.append(loss)
    return walk, jnp.stack(losses)


def _skip_batches(problem: Problem, steps: int) -> None:
    """The user's batches that a stored chunk was trained on."""
    if problem.batches is not None:
        for _ in range(steps):
            next(problem.batches)


def _is_converged(problem: Problem, done: int, ended: str, monitor: _Monitor) -> bool:
    """What is to be said of the end of training; returns whether it had come to rest."""
    what = "training on batches gives no standard errors"
    advice = "leave out optimizer, batch_size and steps where parameters are few"
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

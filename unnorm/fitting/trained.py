"""Fits by first-order training: many parameters, mini-batches, an optimizer of the user's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.diagnostics.verdict import NOTE, WARNING, Finding
from unnorm.fitting import training
from unnorm.fitting.base import Extra
from unnorm.fitting.checkpoints import checkpoints
from unnorm.fitting.existence import runaways_by_margins
from unnorm.fitting.finished import finished
from unnorm.fitting.no_estimate import tell_runaways
from unnorm.fitting.optimise import parameters_of
from unnorm.fitting.problem import Problem
from unnorm.fitting.result import Fit

_PATIENCE = 10  # chunks without a better held-out loss before training stops


class _Looks:
    """What is seen between two chunks of training: losses, the held-out loss, the best average so far."""

    def __init__(self, problem: Problem, extra: Extra, key: jax.Array):
        self.problem = problem
        self.losses: list[np.ndarray] = []
        self.best: tuple[float, int, jax.Array | None] = (np.inf, 0, None)
        if problem.held_out is not None:
            rows = problem.objective.redrawn(problem.density, extra, problem.held_out, key)
            if rows is None:
                rows = problem.objective.prepare(problem.density, problem.held_out, key).rows
            self.held_rows = rows

    def take(self, step: int, walk: training.Walk, losses: Any) -> bool:
        """Look at the walk after a chunk; return whether to stop."""
        problem, losses = self.problem, np.asarray(losses)
        if problem.objective.stochastic:
            problem.objective.refuse_lost(problem.density, walk.extra)
        if not np.isfinite(np.asarray(walk.vector)).all():
            raise ValueError(
                f"The parameters of {problem.p.name} became NaN or infinite under {type(problem.objective).__name__} "
                f"before step {step}; expected finite numbers; give a smaller learning rate by optimizer=, or start= "
                "nearer to the data."
            )
        self.losses.append(losses)
        seen = {"step": step, "loss": float(losses.mean())}
        if problem.held_out is not None:
            extra = walk.extra._replace(rows=self.held_rows)
            loss = training.held_out_loss(problem.objective, problem.density, extra, problem.held_out, walk.average)
            seen["held_out"] = float(loss)
            if seen["held_out"] < self.best[0]:
                self.best = seen["held_out"], step, walk.average
        words = "" if np.isnan(seen["loss"]) else f", loss {seen['loss']:.4g}"
        problem.shown.step(1 / training.CHUNKS, f"step {step}{words}")
        asked = problem.callback is not None and problem.callback(seen) is True
        return asked or step - self.best[1] > _PATIENCE * max(1, len(losses)) and self.best[2] is not None


def trained(problem: Problem) -> Fit:
    """Train in chunks, from checkpoint to checkpoint; the fit is the averaged iterate."""
    objective, density = problem.objective, problem.density
    key, run_key, look_key = jax.random.split(jax.random.key(problem.seed), 3)
    extra = problem.prepared(key)
    steps = problem.steps or training.STEPS
    if objective.stochastic:
        extra.shared["iterations"] = jnp.asarray(float(steps))  # what is annealed over the run
    optimizer = problem.optimizer or training.default_optimizer(steps)
    chunk = -(-steps // training.CHUNKS)
    walk, done, looks, ended = training.begin(optimizer, density, extra), 0, _Looks(problem, extra, look_key), ""
    with checkpoints(problem, steps) as saved:
        try:
            for part in range(-(-steps // chunk)):
                if saved.has(part):
                    walk, losses = saved.carry(part, (walk, jnp.zeros(chunk, walk.vector.dtype)))
                    _passed_over(problem, chunk)
                else:
                    walk, losses = _chunk(problem, walk, run_key, done, optimizer, chunk)
                    saved.save(part, (walk, losses), ())
                done += len(losses)
                if looks.take(done, walk, losses):
                    ended = "held_out" if looks.best[2] is not None else "callback"
                    break
        except KeyboardInterrupt:
            ended = "interrupt"
        except StopIteration:
            ended = "batches"
    vector = walk.average if looks.best[2] is None else looks.best[2]
    free, learned = parameters_of(density, extra)[1](vector)
    density, extra = density.at(free), walk.extra._replace(learned=learned, weights=extra.weights)
    converged = _told(problem, walk, chunk, done, ended, looks)
    asked = (density, extra, problem.events)
    problem.findings += objective.findings(*asked, look_key) if objective.stochastic else objective.findings(*asked)
    losses = np.concatenate(looks.losses) if looks.losses else np.zeros(0)
    gone = runaways_by_margins(objective, *asked) if problem.batches is None else None
    fit = finished(problem, density, extra, None, converged and not (gone and gone.any()), losses)
    tell_runaways(fit, density, extra, gone)
    return fit


def _chunk(problem: Problem, walk, key, first: int, optimizer, steps: int):
    """One chunk of steps: compiled as a whole, or batch by batch where the user brings them."""
    if problem.batches is None:
        return training.run(
            problem.objective, problem.density, problem.events, walk, key, first,
            optimizer=optimizer, batch_size=min(problem.batch_size or training.BATCH_SIZE, problem.rows), steps=steps,
        )  # fmt: skip
    walk = walk._replace(
        gradient_sum=jnp.zeros_like(walk.gradient_sum), gradient_squares=jnp.zeros_like(walk.gradient_squares)
    )
    losses = []
    for step in range(first, first + steps):
        batch = next(problem.batches)
        walk, loss = training.one_batch(
            problem.objective, problem.density, batch, walk, key, jnp.asarray(step), optimizer=optimizer
        )
        losses.append(loss)
    return walk, jnp.stack(losses)


def _passed_over(problem: Problem, steps: int) -> None:
    """The user's batches that a stored chunk was trained on."""
    if problem.batches is not None:
        for _ in range(steps):
            next(problem.batches)


def _told(problem: Problem, walk, chunk: int, done: int, ended: str, looks: _Looks) -> bool:
    """What is to be said of the end of training; returns whether it had come to rest."""
    what = "training on batches gives no standard errors"
    problem.findings.append(Finding(what, "leave out optimizer, batch_size and steps where parameters are few", NOTE))
    if ended in ("interrupt", "batches", "callback"):
        why = {"interrupt": "was interrupted", "batches": "ran out of batches", "callback": "was stopped by callback"}
        problem.findings.append(Finding(f"training {why[ended]} after {done} steps", "run it again, or on", WARNING))
        return False
    if ended == "held_out":
        loss, step, _ = looks.best
        what = f"training stopped after {done} steps: the held-out loss was best at step {step}, {loss:.6g}"
        problem.findings.append(Finding(what, "nothing is to be done", NOTE))
        return True
    ratio = training.unrest(walk, chunk)
    if ratio <= training.AT_REST:
        return True
    what = (
        f"after {done} steps training had not come to rest: the mean gradient of the last {chunk} steps is "
        f"{ratio:.1f} times what noise alone would make it (squared)"
    )
    problem.findings.append(Finding(what, "raise steps, or give another learning rate by optimizer=", WARNING))
    return False

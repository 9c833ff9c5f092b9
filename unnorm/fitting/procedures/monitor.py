"""What is recorded of a training between its chunks, and what follows from it."""

from typing import Any

import jax
import numpy as np

from unnorm.fitting.base import HasChains, ResamplesNoise, Stochastic
from unnorm.fitting.problem import Problem
from unnorm.fitting.solvers import sgd


class Monitor:
    """Losses, the held-out loss and its best vector, how far each chunk went, and the last healthy
    walk.
    """

    def __init__(self, problem: Problem, walk: sgd.Walk, key: jax.Array) -> None:
        self.problem, self.vector, state = problem, walk.vector, walk.state
        self.healthy, self.last_healthy = walk, 0
        self.recoveries, self.gradients, self.blow_ups = 0, list[float](), list[str]()
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

    def take(self, step: int, walk: sgd.Walk, losses: Any) -> tuple[sgd.Walk, str]:
        """Record the walk after a chunk; return where to go on, and why to stop ("": go on)."""
        problem, losses = self.problem, np.asarray(losses)
        if isinstance(problem.objective, Stochastic):
            problem.objective.refuse_nan(problem.density, walk.state)
        self.losses.append(losses)
        reason = self._sickness(walk, len(losses))
        if reason:
            return self._recover(step, reason)
        self.healthy, self.last_healthy = walk, step
        self.drift.add(walk, step, len(losses))
        self.vector = walk.vector
        seen: dict[str, Any] = {"step": step, "loss": float(losses.mean())}
        if problem.held_out is not None:
            seen["held_out"], vector = self._held_out(walk)
            if seen["held_out"] < self.best[0]:
                self.best = seen["held_out"], step, vector
        words = "" if np.isnan(seen["loss"]) else f", loss {seen['loss']:.4g}"
        problem.shown.step(1 / sgd.DEFAULTS.chunks, f"step {step}{words}")
        if problem.callback is not None and problem.callback(self._view(seen, walk)) is True:
            return walk, "callback"
        waited = step - self.best[1] > sgd.DEFAULTS.patience * max(1, len(losses))
        return walk, "held_out" if waited and self.best[2] is not None else ""

    def _sickness(self, walk: sgd.Walk, steps: int) -> str:
        """Why a chunk is not healthy, or nothing."""
        if not np.isfinite(np.asarray(walk.vector)).all():
            return "parameters became NaN or infinite"
        gradient = float(np.sqrt(np.asarray(walk.gradient_squares) / max(steps, 1)))
        if not np.isfinite(gradient):
            return "the gradient became NaN or infinite"
        length = float(np.linalg.norm(np.asarray(walk.vector) - np.asarray(self.vector)))
        for name, value, before in (
            ("gradient", gradient, self.gradients),
            ("length of the steps", length, self.lengths),
        ):
            usual = float(np.median(before)) if before else np.inf
            if value > sgd.DEFAULTS.blow_up * usual:
                return f"the {name} rose to {value / usual:.3g} times its median"
        self.gradients.append(gradient)
        self.lengths.append(length)
        return ""

    def _recover(self, step: int, reason: str) -> tuple[sgd.Walk, str]:
        """The last healthy walk with shorter steps, or the end."""
        self.recoveries += 1
        self.blow_ups.append(f"{reason} before step {step}")
        if self.recoveries <= sgd.DEFAULTS.recoveries:
            return self.healthy._replace(
                shortening=self.healthy.shortening * 0.5**self.recoveries
            ), ""
        if self.last_healthy == 0:
            problem = self.problem
            raise ValueError(
                f"The parameters of {problem.p.name} became NaN or infinite under "
                f"{type(problem.objective).__name__} before step {step}, also with steps "
                f"{2**sgd.DEFAULTS.recoveries} times shorter; they must stay finite; give a "
                "smaller learning rate by optimizer=, or a start= nearer to the data."
            )
        return self.healthy, "diverged"

    def _view(self, seen: dict[str, Any], walk: sgd.Walk) -> dict[str, Any]:
        """What a callback gets: beside the numbers, the density as it stands and its chains."""
        problem, objective = self.problem, self.problem.objective
        free = sgd.parameters_of(problem.density, walk.state)[1](walk.vector)[0]
        density = problem.density.at(free)
        chains = (
            objective.chain_events(density, walk.state)
            if isinstance(objective, HasChains)
            else None
        )
        bound = problem.p.bind(**_as_numpy(density.parameters))
        extra = {"losses": self.losses[-1], "density": bound, "parameters": bound.parameters}
        return seen | extra | ({} if chains is None else {"chains": _as_numpy(chains)})

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
        """Where training ended: the best by held-out loss; the average that the user chose; else
        the last iterate if the steps died out, and the polynomial average if not.
        """
        if self.best[2] is not None:
            return self.best[2]
        if self.problem.average is not None:
            return walk.vector if self.problem.average == "last" else walk.average
        return walk.vector if sgd.has_died_out(self.lengths) else walk.average


def _as_numpy(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )

"""Gibbs sweeps over the variables with a few states, by the kernels of sampling."""

import math
from typing import Any, ClassVar, NamedTuple

import jax

from unnorm.core.method import method, static
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.interactions.coloring import Colouring
from unnorm.partition.annealing.tempered import Particle, PathDensity, keep_finite
from unnorm.partition.annealing.transitions.base import SamplingAlgorithm, Tuning
from unnorm.sampling.kernels.gibbs import Gibbs as GibbsKernel
from unnorm.sampling.kernels.gibbs import by_colours, one_by_one
from unnorm.supports import Support


class _Sites(NamedTuple):
    """The part of a view that a Gibbs kernel asks for, at one temperature."""

    supports: dict[str, Support]
    log_density: Any


@method
class Gibbs:
    """A sweep over all sites in order, sites of one colour at once.

    Attributes:
        names: the variables.
        colouring: of the sites that are redrawn together; None: one by one.
        scan: "systematic", or "backward" in the opposite order.
    """

    names: tuple[str, ...] = static()
    colouring: Colouring | None = static(default=None)
    scan: str = static(default="systematic")
    discrete: ClassVar[bool] = True
    global_moves: ClassVar[bool] = False

    def build(self, tempered: PathDensity, tuning: Tuning) -> SamplingAlgorithm:
        path, inverse_temperature = tempered

        def step(key: jax.Array, particle: Particle) -> tuple[Particle, jax.Array]:
            sites = {name: particle.position[name] for name in self.names}
            held = {n: value for n, value in particle.position.items() if n not in sites}

            def log_density(sites):
                here = held | sites
                log_q = path.proposal.log_prob(here)
                ratio = keep_finite(path.target.log_density(here) - log_q)
                return log_q + inverse_temperature * ratio

            target = _Sites({n: path.target.supports[n] for n in self.names}, log_density)
            if self.colouring is None:
                kernel = one_by_one(target, self.scan)
            else:
                kernel = by_colours(target, self.colouring, self.scan)
            noise = GibbsKernel(colouring=self.colouring).noise(key, sites)
            state, info = kernel.step(noise, kernel.init(sites))
            there = path.evaluate(held | state.position)
            # counted at trials too; minus infinity in the place of log p̃ would hide them
            nonfinite = particle.nonfinite + there.nonfinite
            nonfinite = nonfinite + info["nan_proposal"] + info["inf_proposal"]
            rate = info["flip_rate"].astype(there.log_target.dtype)
            return there._replace(nonfinite=nonfinite), rate

        return SamplingAlgorithm(path.evaluate, step)

    def reverse(self) -> "Gibbs":
        scan = "systematic" if self.scan == "backward" else "backward"
        return Gibbs(self.names, self.colouring, scan)

    def evaluations(self, view: Unconstrained) -> dict[str, int]:
        if self.colouring is not None and self.colouring.linear:
            return {"values": 1, "gradients": self.colouring.count + 1}
        shapes, supports = view.density.shapes(), view.supports
        sites = {n: math.prod(supports[n].free_shape(shapes[n])) for n in self.names}
        states = {n: len(supports[n].states) for n in self.names}
        if self.colouring is None:  # a site of two states takes one, because its value is known
            trials = {n: states[n] if states[n] > 2 else 1 for n in sites}
            return {"values": 2 + sum(sites[n] * trials[n] for n in sites), "gradients": 0}
        each = sum(sites[n] * states[n] for n in sites)
        return {"values": 1 + (self.colouring.count + 1) * each, "gradients": 0}


__all__ = ["Gibbs"]

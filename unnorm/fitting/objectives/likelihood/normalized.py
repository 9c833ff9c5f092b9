"""A note where a density seems to be normalized already, so that the calculation of log Z could be
left out.

No finite number of values proves it: Z may depend on parameters that were not tried. The fit is
therefore that with log Z, whatever the note says, and it is the user who declares `log_z=0.0`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import NOTE, Finding
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.row_normalizers import log_z_of_events
from unnorm.integration.nodes import Plan


@dataclass(frozen=True)
class NormalizedOptions:
    """When a density seems to be normalized.

    Attributes:
        tolerance: nats by which log Z may differ from 0: the error of the nodes.
        others: parameter values beside the estimate.
        spread: of these about the estimate, in unconstrained coordinates, for which its nodes
            still serve.
    """

    tolerance: float = 1e-8
    others: int = 3
    spread: float = 0.3


OPTIONS = NormalizedOptions()


def normalized_note(
    density, plan: Plan | None, events: dict, options: NormalizedOptions = OPTIONS
) -> list[Finding]:
    """The note on a density with latent variables or covariates whose log Z is 0 at the estimate
    and at other parameters; empty where it is not, or where log Z is declared.
    """
    if plan is None or not (density.covariates or latent_variables(density.variables, events)):
        return []
    vector, unravel = ravel_pytree(density.free())
    moves = np.random.default_rng(0).normal(0.0, options.spread, (options.others, vector.size))
    for move in (np.zeros(vector.size), *moves):
        there = density.at(unravel(vector + jnp.asarray(move, vector.dtype)))
        log_z = np.asarray(log_z_of_events(there, plan, events))
        if not np.all(np.abs(log_z) <= options.tolerance):
            return []
    what = (
        f"log Z is 0 at the estimate and at {options.others} other parameter values: the density "
        "seems to be normalized"
    )
    return [Finding(what, "declare log_z=0.0 if it is, and log Z need not be calculated", NOTE)]

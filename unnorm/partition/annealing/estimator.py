"""What estimators along an annealing path share: the pilot, and the run."""

from typing import Any, ClassVar

import jax

from unnorm.core.method import registry_name
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import Pilot, run_pilot
from unnorm.partition.base import LogZ
from unnorm.partition.proposals.user_given import check_proposal


class AnnealedEstimator:
    """log Z along q^(1−λ) p̃^λ: a subclass names its runs and the reduction, in `estimate_along`.

    Attributes:
        n_keys: how many keys `estimate_along` takes.
        pilot: particles of the pilot, an option of every subclass.
        base: the proposal, an option of every subclass.
    """

    n_keys: ClassVar[int] = 1
    pilot: int
    base: Any

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        self.check(density)
        pilot_key, *keys = jax.random.split(key, 1 + self.n_keys)
        return self.estimate_along(self.run_pilot(density, pilot_key), *keys)

    def check(self, density: Density) -> None:
        """Refuse options that do not fit the density."""
        check_proposal(type(self).__name__, density, self.base)

    def run_pilot(self, density: Density, key: jax.Array) -> Pilot:
        """The path, its transitions and temperatures."""
        return run_pilot(density, key, self.pilot, self.base)

    def estimate_along(self, pilot: Pilot, *keys: jax.Array) -> LogZ:
        """log Z from runs along the pilot's path."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The registry name."""
        return registry_name(type(self))


__all__ = ["AnnealedEstimator"]

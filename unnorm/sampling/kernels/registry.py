"""The kernels, a file per family. To add one: its file, and its line in KERNELS."""

from unnorm.core.method import registry_name
from unnorm.sampling.base import KERNELS
from unnorm.sampling.kernels.annealed_langevin import AnnealedLangevin
from unnorm.sampling.kernels.barker import Barker
from unnorm.sampling.kernels.composite.blockwise import Blockwise
from unnorm.sampling.kernels.composite.from_blackjax import FromBlackJAX
from unnorm.sampling.kernels.composite.replica_exchange import ReplicaExchange
from unnorm.sampling.kernels.ensemble.chees import ChEES
from unnorm.sampling.kernels.ensemble.meads import MEADS
from unnorm.sampling.kernels.gibbs import BlockGibbs, Gibbs
from unnorm.sampling.kernels.hamiltonian import HMC, NUTS
from unnorm.sampling.kernels.independent import IndependentMH
from unnorm.sampling.kernels.langevin import MALA, ULA
from unnorm.sampling.kernels.locally_informed import DiscreteLangevin, GibbsWithGradients
from unnorm.sampling.kernels.microcanonical import MCLMC
from unnorm.sampling.kernels.random_walk import RandomWalkMH
from unnorm.sampling.kernels.slice import EllipticalSlice, Slice
from unnorm.sampling.kernels.tie_no_tie import TieNoTie
from unnorm.supports import Support

KERNELS |= {
    registry_name(kernel): kernel
    for kernel in (
        RandomWalkMH,
        IndependentMH,
        ULA,
        MALA,
        AnnealedLangevin,
        Barker,
        HMC,
        NUTS,
        MCLMC,
        ChEES,
        MEADS,
        Slice,
        EllipticalSlice,
        Gibbs,
        BlockGibbs,
        GibbsWithGradients,
        DiscreteLangevin,
        TieNoTie,
        Blockwise,
        ReplicaExchange,
    )
}


def kernels_for(support: Support) -> str:
    """Names of kernels made for a support, for messages; those that serve any come last."""
    names = [
        cls.__name__ for cls in KERNELS.values() if not cls.composed and cls.serves(cls, support)
    ]
    return " or ".join(names) or "un.kernels.IndependentMH"


__all__ = [
    "KERNELS",
    "FromBlackJAX",
    "kernels_for",
    *(kernel.__name__ for kernel in KERNELS.values()),
]

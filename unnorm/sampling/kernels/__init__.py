"""The kernels, a file per family. To add one: its file, and its line in KERNELS."""

from unnorm.methods import registry_name
from unnorm.sampling.kernels.barker import Barker
from unnorm.sampling.kernels.blockwise import Blockwise
from unnorm.sampling.kernels.from_blackjax import FromBlackJAX
from unnorm.sampling.kernels.gibbs import BlockGibbs, Gibbs
from unnorm.sampling.kernels.hamiltonian import HMC, NUTS
from unnorm.sampling.kernels.independent import IndependentMH
from unnorm.sampling.kernels.langevin import MALA, ULA
from unnorm.sampling.kernels.locally_informed import DiscreteLangevin, GibbsWithGradients
from unnorm.sampling.kernels.microcanonical import MCLMC
from unnorm.sampling.kernels.random_walk import RandomWalkMH
from unnorm.sampling.kernels.replica_exchange import ReplicaExchange
from unnorm.sampling.kernels.slice import EllipticalSlice, Slice

KERNELS = {
    registry_name(kernel): kernel
    for kernel in (
        RandomWalkMH,
        IndependentMH,
        ULA,
        MALA,
        Barker,
        HMC,
        NUTS,
        MCLMC,
        Slice,
        EllipticalSlice,
        Gibbs,
        BlockGibbs,
        GibbsWithGradients,
        DiscreteLangevin,
        Blockwise,
        ReplicaExchange,
    )
}

__all__ = ["KERNELS", "FromBlackJAX", *(kernel.__name__ for kernel in KERNELS.values())]

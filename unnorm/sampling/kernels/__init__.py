"""The kernels, a file per family. To add one: its file, and its line in KERNELS."""

from unnorm.methods import registry_name
from unnorm.sampling.kernels.from_blackjax import FromBlackJAX
from unnorm.sampling.kernels.gibbs import Gibbs
from unnorm.sampling.kernels.hamiltonian import HMC, NUTS
from unnorm.sampling.kernels.langevin import MALA, ULA
from unnorm.sampling.kernels.random_walk import RandomWalkMH

KERNELS = {registry_name(kernel): kernel for kernel in (RandomWalkMH, ULA, MALA, HMC, NUTS, Gibbs)}

__all__ = ["HMC", "KERNELS", "MALA", "NUTS", "ULA", "FromBlackJAX", "Gibbs", "RandomWalkMH"]

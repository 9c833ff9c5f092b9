"""Declared densities by family, with small data sets and known answers.

`FAMILIES` lists them all: a Density, or a function that builds one; the first line of each
docstring says what it is for.

Example:
    >>> import unnorm as un
    >>> for name in ("von_mises", "potts"):
    ...     print(name, "-", un.models.FAMILIES[name].__doc__.splitlines()[0])
    von_mises - One angle about a mean direction: the von Mises distribution.
    potts - Which sites tend to be of one category: the Potts model of k categories.
"""

from collections.abc import Callable

from unnorm.declaration.density import Density
from unnorm.models.binary import (
    boltzmann_machine,
    ising,
    restricted_boltzmann_machine,
    restricted_boltzmann_machine_marginal,
)
from unnorm.models.categories import potts
from unnorm.models.components import independent_components
from unnorm.models.counts import conway_maxwell_poisson, multivariate_conway_maxwell_poisson
from unnorm.models.datasets import load
from unnorm.models.directions import (
    bingham,
    bivariate_von_mises,
    torus_graph,
    von_mises,
    von_mises_fisher,
)
from unnorm.models.exponential import exponential_family, kernel_exponential_family, quartic
from unnorm.models.gaussian import gaussian_graphical, non_negative_graphical, truncated_gaussian
from unnorm.models.networks.confined import convolutional_energy, fully_connected_energy
from unnorm.models.networks.noise_conditional import noise_conditional_energy
from unnorm.models.random_graph import exponential_random_graph
from unnorm.models.toys import checkerboard, eight_gaussians, two_moons, two_spirals

# To add a family: its file, and its line here.
FAMILIES: dict[str, Density | Callable[..., Density]] = {
    "ising": ising,
    "potts": potts,
    "boltzmann_machine": boltzmann_machine,
    "restricted_boltzmann_machine": restricted_boltzmann_machine,
    "restricted_boltzmann_machine_marginal": restricted_boltzmann_machine_marginal,
    "gaussian_graphical": gaussian_graphical,
    "truncated_gaussian": truncated_gaussian,
    "non_negative_graphical": non_negative_graphical,
    "conway_maxwell_poisson": conway_maxwell_poisson,
    "multivariate_conway_maxwell_poisson": multivariate_conway_maxwell_poisson,
    "von_mises": von_mises,
    "bivariate_von_mises": bivariate_von_mises,
    "torus_graph": torus_graph,
    "von_mises_fisher": von_mises_fisher,
    "bingham": bingham,
    "exponential_random_graph": exponential_random_graph,
    "quartic": quartic,
    "exponential_family": exponential_family,
    "independent_components": independent_components,
    "kernel_exponential_family": kernel_exponential_family,
    "eight_gaussians": eight_gaussians,
    "two_moons": two_moons,
    "two_spirals": two_spirals,
    "checkerboard": checkerboard,
    "fully_connected_energy": fully_connected_energy,
    "convolutional_energy": convolutional_energy,
    "noise_conditional_energy": noise_conditional_energy,
}

__all__ = ["FAMILIES", "load", *FAMILIES]

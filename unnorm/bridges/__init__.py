"""Densities from other programs' models, and back: NumPyro, any JAX function, Stan, PyMC."""

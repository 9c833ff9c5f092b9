"""Kernels, a file per family; the registry lists them."""

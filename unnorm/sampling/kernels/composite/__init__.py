"""Kernels made of other kernels."""

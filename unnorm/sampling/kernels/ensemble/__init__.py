"""Kernels that are tuned by many chains together."""

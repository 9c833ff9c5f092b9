"""Particles along a path from a proposal to the density."""

"""Energies that are neural networks, and what these are made of."""

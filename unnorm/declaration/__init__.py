"""Densities: how a function is read, what it holds, and how densities combine."""

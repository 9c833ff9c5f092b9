"""Declared densities by family, with small data sets and known answers."""

from unnorm.models.datasets import load

__all__ = ["load"]

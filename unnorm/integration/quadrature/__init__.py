"""Adaptive quadrature in up to three dimensions."""

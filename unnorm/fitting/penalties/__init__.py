"""Penalties, priors and the lasso's path."""

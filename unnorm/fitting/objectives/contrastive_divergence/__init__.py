"""Contrastive divergence and its standard errors."""

"""Normalized proposals, and the searches that place them."""

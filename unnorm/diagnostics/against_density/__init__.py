"""Checks of draws against the density they should follow."""

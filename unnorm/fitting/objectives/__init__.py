"""Objectives, a folder per family; the registry lists them."""

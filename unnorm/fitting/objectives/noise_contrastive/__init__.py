"""Objectives that contrast data with noise."""

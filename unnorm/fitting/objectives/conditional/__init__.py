"""Objectives of conditionals and of neighbouring states."""

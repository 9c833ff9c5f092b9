"""Strategies of warm-up beyond Stan's windows."""

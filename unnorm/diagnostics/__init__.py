"""Verdicts: whether draws, fits and log Z may be believed, and what to do if not."""

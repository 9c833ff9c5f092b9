"""Markov transitions that leave a tempered density invariant; a file per transition."""

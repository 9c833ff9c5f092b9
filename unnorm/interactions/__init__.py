"""Which entries of a discrete event interact, and what follows from it."""

"""Maximum likelihood, exact and by Monte Carlo."""

"""Maximum likelihood against a generator that learns the density."""

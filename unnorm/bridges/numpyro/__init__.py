"""NumPyro's models as densities, and densities as NumPyro's models."""

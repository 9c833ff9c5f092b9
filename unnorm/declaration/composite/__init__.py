"""Densities made of other densities: products, and events of which a part is observed."""

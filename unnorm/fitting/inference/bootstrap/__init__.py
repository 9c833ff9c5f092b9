"""The bootstrap: of rows or clusters, parametric, and what it returns."""

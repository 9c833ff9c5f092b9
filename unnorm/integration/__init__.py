"""Exact sums and integrals: enumeration, plans, quadrature, count series, variable elimination."""

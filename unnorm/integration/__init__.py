"""Exact sums and integrals: nodes, plans, adaptive grids, series of counts, variable
elimination.
"""

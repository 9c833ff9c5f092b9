"""Benchmarks: ratios in one process, alternating, medians; `make bench` prints the tables of
docs/benchmarks.md."""

"""Figures of results, a file each; every one reads in black and white."""

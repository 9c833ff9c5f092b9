"""Sampling: kernels in BlackJAX's (init, step) form, their warm-up, and the driver of many
chains.
"""

"""Numerical methods with no density in them: proximal steps, Hessian traces, scaled linear
algebra.
"""

"""Estimators of log Z, a file per method; the registry lists them."""

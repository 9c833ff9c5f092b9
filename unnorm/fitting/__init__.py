"""Fitting: objectives as M-estimators, one driver, one place for standard errors."""

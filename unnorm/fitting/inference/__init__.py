"""Standard errors, intervals and criteria."""

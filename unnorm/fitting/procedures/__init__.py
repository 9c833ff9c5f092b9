"""From a problem to a fit: by minimization, by averaged iterates, by training."""

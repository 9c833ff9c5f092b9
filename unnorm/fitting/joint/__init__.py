"""Several data sets that share parameters."""

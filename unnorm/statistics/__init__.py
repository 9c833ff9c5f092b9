"""Statistics of draws and weights, with no density in them."""

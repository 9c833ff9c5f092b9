"""`un.simulate`: data sets drawn from a fit, exactly or by chains that forget their starts."""

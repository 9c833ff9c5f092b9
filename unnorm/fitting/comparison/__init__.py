"""`un.compare`: fits held against each other on held-out data."""

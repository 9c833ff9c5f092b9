"""The statistics of random graphs, and the attributes of nodes that they use."""

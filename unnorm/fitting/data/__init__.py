"""Data: read and checked by the declaration; weights of rows, what is latent, where rows lie."""

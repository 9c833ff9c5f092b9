"""Missing entries of variables: latent entries of their rows."""

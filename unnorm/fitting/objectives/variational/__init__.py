"""Evidence lower bounds of densities with latent variables, by encoders."""

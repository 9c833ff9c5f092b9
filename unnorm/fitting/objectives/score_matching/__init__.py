"""Score matching: exact, sliced, denoising and by finite differences."""

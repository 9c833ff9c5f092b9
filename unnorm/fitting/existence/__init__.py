"""Whether a finite estimate exists, and the reason where none does."""

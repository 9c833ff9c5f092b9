"""How a loss is minimized."""

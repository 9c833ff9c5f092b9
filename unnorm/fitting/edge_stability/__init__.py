"""How far the edges of a network would move, were the rows others."""

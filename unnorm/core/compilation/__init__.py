"""Which programs are compiled how, shared by which functions, and kept; arrays by precision."""

"""How chains run: the compiled scan, chunks, devices and hosts."""

"""The search for modes: climbs from many starts, which show where a proposal must have mass."""

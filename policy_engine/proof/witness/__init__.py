"""A conversation that shows what a proof found."""

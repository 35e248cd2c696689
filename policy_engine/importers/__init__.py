"""Settings of other systems, imported as policies."""

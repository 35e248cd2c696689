"""Ground floor: source locations, diagnostics, the error tree and the vocabulary. Imports nothing of ours."""

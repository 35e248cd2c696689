"""Ground floor: source locations, diagnostics, the error tree and the vocabulary.

It imports no other room of the package.
"""

"""Pieces of output files: rows as lines of JSON, and what killed runs left."""

"""Pieces of output files: their places, rows as lines of JSON, and what killed runs left."""

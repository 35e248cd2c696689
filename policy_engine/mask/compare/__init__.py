"""Masks of two policies over the same rows, compared."""

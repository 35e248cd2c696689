"""Warnings about policies, the fixes offered for them, and comments that suppress them."""

"""Predicates and programs: what a checked policy compiles to."""

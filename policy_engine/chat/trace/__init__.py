"""Strings, lists and Jinja that remember where text came from."""

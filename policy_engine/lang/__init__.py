"""The policy language: `parse` makes a tree of a text, `check` its meaning, `format` a text."""

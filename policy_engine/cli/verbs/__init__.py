"""The verbs: each file declares one, with its arguments and options."""

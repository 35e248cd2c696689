"""The work of the verbs, each file under its verb's name."""

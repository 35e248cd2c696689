"""Conditions of a policy, as tests of a chat's fields and turns."""

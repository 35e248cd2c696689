"""The meeting point of policies and tokens.

It decides which token carries which weight, by which rule, and why.
"""

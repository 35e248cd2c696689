"""Answers to an editor's questions about a policy.

`server` speaks the protocol and is the only module that imports pygls.
"""

"""Proofs about a policy for all conversations: guards, dead rules, differences.

`prove(policy)` gives a `ProofReport`, `compare(old, new)` a `Diff`; a guard that fails and policies that differ come
with a conversation that shows it. `model.world` says which cases are enumerated.

    >>> from policy_engine import policy_from_text, prove
    >>> report = prove(policy_from_text("train assistant; never train user"))
    >>> [(guard.guard.span.text, guard.verdict) for guard in report.guards]
    [('never train user', 'holds')]
"""

"""Proofs about a policy for all conversations: guards, dead rules, differences.

`prove(policy)` gives a `ProofReport`, `compare(old, new)` a `Diff`; a guard that fails and policies that differ come
with a conversation that shows it. `model.world` says which cases are enumerated.

    >>> from policy_engine import policy_from_text, prove
    >>> report = prove(policy_from_text("train assistant; never train user"))
    >>> [(guard.guard.span.text, guard.verdict) for guard in report.guards]
    [('never train user', 'holds')]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policy_engine.proof.policy_diff import compare
    from policy_engine.proof.policy_proof import prove
    from policy_engine.proof.results import (
        Change,
        DeadRule,
        Diff,
        FixedCondition,
        GuardFinding,
        Order,
        ProofReport,
        RulePlaces,
        SettingChange,
        Witness,
    )

__all__ = [
    "Change",
    "DeadRule",
    "Diff",
    "FixedCondition",
    "GuardFinding",
    "Order",
    "ProofReport",
    "RulePlaces",
    "SettingChange",
    "Witness",
    "compare",
    "prove",
]
_HOMES = {"compare": "policy_diff", "prove": "policy_proof"}


def __getattr__(name: str) -> Any:
    # Imported when first used: what shows differences takes as long to import as what proves.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'results')}"), name)

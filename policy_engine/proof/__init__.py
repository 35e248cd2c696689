"""What is true of a policy in all conversations: guards, dead rules, differences, each with a conversation to show it.

`prove(policy)` gives a `ProofReport`, `compare(old, new)` a `Diff`. See `model.world` for what is enumerated and
assumed.
"""

from policy_engine.proof.diff import compare
from policy_engine.proof.findings import prove
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

"""The rules of a policy with what each decided, as JSON data of several verbs.

{"index": 0, "effect": "train", "file": "my.policy", "line": 1, "text": "train assistant", "tokens": 120, …}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy_engine.mask.evidence.rule_findings import why_unused
from policy_engine.mask.evidence.rule_use import Evidence
from policy_engine.rules.program import Program


def rules_json(program: Program, tokens: Mapping[int, int], seen: Evidence) -> list[dict[str, Any]]:
    """The rules with the tokens that each decided, and why one decided nothing, as JSON data.

    A `scale` rule multiplies what others decide, so its count is null.
    """
    return [
        {
            "index": rule.index,
            "effect": rule.effect,
            "file": rule.span.source.name,
            "line": rule.span.line,
            "text": rule.span.one_line,
            "tokens": None if rule.effect == "scale" else tokens.get(rule.index, 0),
            "unused": why_unused(program, seen, rule.index),
        }
        for rule in program.policy.rules
    ]

"""Numbered cases of the long runs: one policy, or one pair, against twenty conversations."""

from __future__ import annotations

from dataclasses import replace

from policy_engine.core.errors import PolicyCheckError
from policy_engine.lang.check import check
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.format import format_policy
from policy_engine.lang.parse import parse
from policy_engine.proof.policy_diff import compare
from policy_engine.proof.policy_proof import prove
from policy_engine.testing import policies
from policy_engine.testing.chats import rendered_chat
from policy_engine.testing.choices import RandomChoices
from tests.proof.claims import Held, diff_problems
from tests.proof.generate import policy

CHATS = 20
KINDS = {
    "structure": {"conditions": 0, "trained": 0, "spans": 0, "weights": 0},
    "trained": {"conditions": 0, "trained": 40, "spans": 0},
    "conditions": {"conditions": 60, "trained": 0, "spans": 30},
    "everything": {},
}


def made_policy(choices: RandomChoices, **options: bool | int) -> CheckedPolicy:
    """A checked policy of any kind, one in five by way of a policy text."""
    if choices.chance(20):
        try:
            return check(parse(format_policy(policies.policy(choices))))
        except PolicyCheckError:
            pass
    return policy(choices, **{**KINDS[choices.pick(tuple(KINDS))], **options})  # type: ignore[arg-type]


def proof_case(key: str) -> tuple[str, str | None]:
    """Holds a report against conversations: what came of it in a word, and what is wrong, if anything is."""
    report = prove(made_policy(RandomChoices(key)))
    held = Held(report=report)
    for number in range(CHATS):
        choices = RandomChoices(f"{key}/{number}")
        for problem in held.problems(rendered_chat(choices, most=choices.pick((2, 3, 5, 8)))):
            return "wrong", f"chat {number}: {problem}"
    return "undecided" if report.undecided is not None else "proven", None


def diff_case(key: str) -> tuple[str, str | None]:
    """Holds a comparison of a policy with a changed one against conversations."""
    old = made_policy(RandomChoices(key), guards=False, most=4)
    diff = compare(old, changed(old, RandomChoices(f"{key}/changed")))
    for number in range(CHATS):
        choices = RandomChoices(f"{key}/{number}")
        for problem in diff_problems(diff, rendered_chat(choices, most=choices.pick((2, 3, 5, 8)))):
            return "wrong", f"chat {number}: {problem}"
    return diff.verdict, None


def changed(old: CheckedPolicy, choices: RandomChoices) -> CheckedPolicy:
    """The policy with its rules in another order, one left out, or followed by those of another."""
    rules = list(old.rules)
    how = choices.integer(0, 2)
    if how == 0:
        rules.reverse()
    elif how == 1 and rules:
        rules.pop(choices.integer(0, len(rules) - 1))
    else:
        rules += policy(choices, most=2, guards=False, conditions=0).rules
    return replace(old, rules=tuple(replace(rule, index=i) for i, rule in enumerate(rules)))

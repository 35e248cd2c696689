"""Policies whose conditions ask for other messages, on conversations in which calls are made and answered.

The general generators make such conditions too, but few of their cases have a `result` that is there.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.core.vocabulary import NEIGHBOURS
from policy_engine.data.conversation import Conversation
from policy_engine.lang import ast
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.proof.policy_diff import compare
from policy_engine.proof.policy_proof import prove
from policy_engine.testing.chats import cut, lay_out
from policy_engine.testing.choices import Choices, RandomChoices
from policy_engine.testing.conversations import conversation
from policy_engine.testing.expressions import expression
from policy_engine.testing.policies import NOWHERE, policy
from tests.proof import generate
from tests.proof.cases import CHATS, changed
from tests.proof.claims import Held, diff_problems

T = TypeVar("T")


def agreement(choices: Choices) -> tuple[ast.Policy, TokenizedChat]:
    """A policy that asks for neighbours, and a tokenized chat in a layout of its own."""
    made = policy(choices, most=4)
    statements = tuple(
        replace(s, conditions=(ast.Condition(negated=False, expr=expression(choices, 2), span=NOWHERE),))
        if isinstance(s, ast.Rule | ast.Scale) and not s.conditions and choices.chance(60)
        else s
        for s in made.statements
    )
    return replace(made, statements=asking(statements, choices)), cut(choices, answered_chat(choices))


def answered_chat(choices: Choices) -> RenderedChat:
    """A rendered chat, mostly with calls and results."""
    made = conversation(choices, most=choices.pick((3, 6, 8)), bad=choices.chance(10))
    for _ in range(3):
        if any(message["role"] == "tool" for message in made.messages):
            break
        made = conversation(choices, most=6)
    return lay_out(choices, _marked(choices, made))


def _marked(choices: Choices, made: Conversation) -> Conversation:
    """The conversation with several results of one call, or none, here and there."""
    messages = []
    for message in made.messages:
        if message["role"] == "tool" and choices.chance(10):
            continue
        messages.append(message)
        if message["role"] == "tool" and choices.chance(15):
            messages.append({**message, "train": choices.pick((True, False)), "name": choices.pick(("ann", "bob"))})
    return replace(made, messages=tuple(messages)) if messages else made


def asking(node: T, choices: Choices) -> T:
    """A part of a policy with most fields of messages replaced by those of neighbours."""
    found: Any = node
    if isinstance(node, ast.Field):
        asks = node.scope == "message" and choices.chance(75)
        return replace(found, scope=choices.pick(NEIGHBOURS)) if asks else node
    if isinstance(node, tuple):
        return tuple(asking(item, choices) for item in node)  # type: ignore[return-value]
    if is_dataclass(node) and not isinstance(node, type):
        return replace(found, **{f.name: asking(getattr(node, f.name), choices) for f in fields(node) if f.compare})
    return node


def asking_policy(key: str, **options: Any) -> CheckedPolicy:
    """A checked policy that asks for neighbours."""
    choices = RandomChoices(key)
    trained = choices.pick((0, 0, 30))
    made = generate.policy(choices, **{"most": 4, "conditions": 80, "trained": trained, **options})
    return replace(made, rules=asking(made.rules, choices), guards=asking(made.guards, choices))


def proof_case(key: str) -> tuple[str, str | None]:
    """Compares a report, and every third time a diff, with conversations."""
    made = asking_policy(key)
    report = prove(made)
    held = Held(report=report)
    diff = compare(made, changed(made, RandomChoices(f"{key}/changed"))) if key[-1] in "369" else None
    for number in range(CHATS):
        chat = answered_chat(RandomChoices(f"{key}/{number}"))
        for problem in (*held.problems(chat), *(diff_problems(diff, chat) if diff else ())):
            return "wrong", f"chat {number}: {problem}"
    if report.undecided is not None:
        return "undecided", None
    verdicts = {guard.verdict for guard in report.guards}
    return next(v for v in ("possible", "fails", "holds") if v in verdicts), None

"""All small conversations, and what a proof says of rules held against them: dead ones do nothing, others decide."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace

from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.core.vocabulary import PARTS, UNOWNED
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.proof.model.assignments import TooLarge
from policy_engine.proof.policy_proof import PolicyProof
from policy_engine.proof.witness.witness import Finder
from policy_engine.rules.compile import compile_policy
from policy_engine.rules.decisions import Piece
from policy_engine.testing.choices import RandomChoices
from tests.proof.claims import bare, chars, without_rule
from tests.proof.generate import policy

KINDS = {
    "structure": {"conditions": 0, "trained": 0, "spans": 0},
    "trained": {"conditions": 0, "trained": 40, "spans": 0},
}
ROLES = {"structure": ("user", "assistant", "tool", "narrator"), "trained": ("user", "assistant", "narrator")}
"""No policy names the narrator."""
MOST_TURNS = {"structure": 5, "trained": 4}
"""Turns of the longest conversations; where `trained` occurs each turn comes with a body and without."""


class Decides:
    """A rule (None: the default) decides at the segment."""

    def __init__(self, policy: CheckedPolicy, rule: int | None) -> None:
        self._rule = rule
        self._program = compile_policy(replace(policy, guards=()))

    def shown(self, chat: RenderedChat, segment: int) -> Piece | None:
        """See `Claim`."""
        pieces = self._program.decide(chat).pieces
        # A segment may have several pieces, where a regex or spans decide parts of it.
        return next((p for p in pieces if p.segment == segment and p.rule == self._rule), None)


@functools.cache
def conversations(kind: str) -> tuple[RenderedChat, ...]:
    """Every conversation of up to that many turns over these roles."""
    bodies = (True,) if kind == "structure" else (True, False)
    return tuple(
        _whole_chat(who, bodied)
        for length in range(1, MOST_TURNS[kind] + 1)
        for who in itertools.product(ROLES[kind], repeat=length)
        for bodied in itertools.product(bodies, repeat=length)
    )


def _whole_chat(roles: tuple[str, ...], bodies: tuple[bool, ...]) -> RenderedChat:
    """A chat whose turns have every part, or every part but a body, and all text that no turn owns."""
    segments: list[Segment] = []
    texts: list[str] = []

    def write(part: str, turn: int | None) -> None:
        at = len(texts)
        segments.append(Segment(start=at, end=at + 1, part=part, turn=turn))
        texts.append("x")

    for part in sorted(UNOWNED):
        write(part, None)
    for turn, body in enumerate(bodies):
        for part in PARTS:
            if part not in UNOWNED and (body or part in ("header", "eot", "eod", "separator", "empty_reasoning")):
                write(part, turn)
    return RenderedChat(
        text="".join(texts),
        segments=tuple(segments),
        messages=tuple({"role": role, "content": "x"} for role in roles),
        sample={},
    )


def dead_case(key: str) -> tuple[str, str | None]:
    """A numbered case: a policy without conditions, its report against all small conversations."""
    choices = RandomChoices(key)
    kind = choices.pick(tuple(KINDS))
    made = policy(choices, most=5, guards=False, small=True, **{**KINDS[kind], "weights": 0})
    try:
        findings = PolicyProof(made)
    except TooLarge:
        return "undecided", None
    dead = {finding.rule.index for finding in findings.dead()}
    problem = next(rule_problems(made, findings, dead, kind), None)
    return ("dead rules" if dead else "live rules") if problem is None else "wrong", problem


def rule_problems(made: CheckedPolicy, findings: PolicyProof, dead: set[int], kind: str) -> Iterator[str]:
    """What the small conversations contradict, of each rule.

    One called dead decides none of them, and removing it changes none. One that is not decides one, or is asked about
    by a `trained` below it and decides there, or a conversation that is not among the small ones shows it deciding.
    """
    small = conversations(kind)
    decide = bare(made)
    seen = {rule for chat in small for rule in decide.table(chat).rules}
    finder = Finder(findings.possible)
    for rule in made.rules:
        regions = [outcome.decided.get(rule.index, {}) for outcome in findings.outcomes]
        if rule.index in dead:
            if rule.index in seen:
                yield f"rule {rule.index} is said to be dead, and decides"
            smaller, old = without_rule(made, rule.index)
            after = bare(smaller)
            for chat in small:
                told = chars(after, chat)
                if told is None or chars(decide, chat) != [(w, None if r is None else old[r]) for w, r in told]:
                    yield f"rule {rule.index} is said to be dead, and changes {[m['role'] for m in chat.messages]}"
                    break
        elif not any(regions):
            if rule.index in seen:
                yield f"rule {rule.index} is said to decide nothing"
            if not _decides_above(made, rule.index, small):
                yield f"rule {rule.index} is not said to be dead, and decides nothing, not above a `trained` either"
        elif rule.index not in seen:
            # Some places need more turns than that; then the witness has them, and replays.
            witness = finder.find(regions, Decides(made, rule.index))
            if witness is None or not _is_missing(witness.conversation.messages, kind):
                yield f"rule {rule.index} is not said to be dead, and decides in no small conversation"


def _decides_above(made: CheckedPolicy, index: int, small: tuple[RenderedChat, ...]) -> bool:
    """Whether a rule decides something by the rules up to one below it: what a `trained` there asks about."""
    for stop in range(index + 1, len(made.rules)):
        above = bare(replace(made, rules=made.rules[:stop]))
        if any(index in above.table(chat).rules for chat in small):
            return True
    return False


def _is_missing(messages: tuple, kind: str) -> bool:  # type: ignore[type-arg]
    """Whether a conversation is not among the small ones: longer, or with a role they leave out."""
    return len(messages) > MOST_TURNS[kind] or any(message["role"] not in ROLES[kind] for message in messages)

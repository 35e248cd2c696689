"""Tests a policy on a chat template: the data never trains what a guard forbids."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import GuardError, PolicyEngineError
from policy_engine.core.wording import article
from policy_engine.data.conversation import Conversation
from policy_engine.lang.checked import Atom
from policy_engine.mask.masker import LostFieldWarning, Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.proof.load_policy import load_policy
from policy_engine.rules.program import Program
from policy_engine.testing.checks.conformance_cases import example, marked, payloads
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.shapes import SHAPES

_WORD = re.compile(r"Wq(\d+)x|y(\d+)qW")


@dataclass(frozen=True, kw_only=True)
class GuardReport:
    """The result of a policy on a template.

    `checked` conversations were masked; `refused` counts, by code, those that were not. `trained` is the number of
    trained tokens.
    """

    policy: str
    template: str
    holds: bool
    sentence: str
    checked: int
    trained: int
    refused: dict[str, int]
    counterexample: Conversation | None = None


def check_policy(
    policy: Program | str | os.PathLike[str], tokenizer: ChatTokenizer, *, examples: int = 200
) -> GuardReport:
    """Masks conversations with a policy, each as it is and with control text in it.

    `tokenizer` brings the template.

    Holds if no guard of the policy breaks, and if no token is trained that has a word of a message, or any other text,
    that a `never` guard without conditions covers. Words are looked up in the text, so that this is known independently
    of what the engine says about whose text it is.

    Raises what loading a policy raises.
    """
    # Not proven: what the proof says is what this looks at from another side.
    program = policy if isinstance(policy, Program) else load_policy(policy, prove=False)
    masker = Masker(program, tokenizer)
    forbidden = _forbidden(program)
    refused: Counter[str] = Counter()
    checked = trained = 0
    problem: tuple[str, Conversation] | None = None
    for made in _conversations(tokenizer, examples):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LostFieldWarning)  # `complete` is a property of the template
            result = masker.mask_batch([made])[0]
        if isinstance(result, GuardError):
            problem = (result.message, made)
        elif isinstance(result, PolicyEngineError):
            refused[result.code] += 1
            continue
        else:
            found = _wrong(result, made, forbidden)
            problem = None if found is None else (found, made)
            trained += int((result.mask.weights_T != 0).sum())
        checked += 1
        if problem is not None:
            break
    sentence = (
        f"no guard breaks and nothing forbidden is trained, in {checked} conversations ({trained} tokens trained)"
    )
    if not checked:
        sentence = f"no conversation could be masked: {dict(refused)}"
    return GuardReport(
        policy=program.policy.source.name,
        template=tokenizer.template.name,
        holds=problem is None,
        sentence=sentence if problem is None else problem[0],
        checked=checked,
        trained=trained,
        refused=dict(refused),
        counterexample=None if problem is None else problem[1],
    )


def _conversations(tokenizer: ChatTokenizer, examples: int) -> Iterable[Conversation]:
    injected = payloads(tokenizer.template)
    for number, shape in enumerate(SHAPES.values()):
        yield shape
        yield marked(shape, injected[number % len(injected)])
    for number in range(examples):
        made = example(RandomChoices(f"guards:{number}"), injected)
        # A third as it is, with texts of its own: control text, blanks and all scripts among them.
        yield made.conversation if number % 3 == 0 else marked(made.conversation, made.payload)


def _forbidden(program: Program) -> list[Atom]:
    """Targets of `never` guards that hold for all turns of a role, or for text of no message."""
    return [
        target
        for guard in program.policy.guards
        if guard.kind == "never" and guard.condition is None
        for target in guard.targets
        if isinstance(target, Atom) and not target.relations and (target.turns is None or target.turns.which is None)
    ]


def _wrong(row: MaskedRow, conversation: Conversation, forbidden: list[Atom]) -> str | None:
    chat, tokens = row.chat, row.tokenized
    trained = [(int(a), int(b)) for a, b, w in zip(tokens.starts_T, tokens.ends_T, row.mask.weights_T) if w]

    def overlaps(start: int, end: int) -> bool:
        return any(a < end and b > start for a, b in trained)

    # First by the engine's own segments, then by words in the text, which do not depend on them.
    for segment in chat.segments:
        role = chat.role(segment)
        if any(segment.part in t.parts and _matches(t, role) for t in forbidden) and overlaps(
            segment.start, segment.end
        ):
            return f"{chat.segment_text(segment)!r} ({segment.part} of {role or 'no message'}) is trained"
    roles = {t.turns.role for t in forbidden if t.turns is not None and t.turns.role is not None and "text" in t.parts}
    owners = _words(conversation)
    for match in _WORD.finditer(chat.text):
        role = owners.get(match[1] or match[2])
        if role in roles and overlaps(*match.span()):
            return f"{match[0]!r}, a word of {article(role)} {role} message, is trained"
    return None


def _matches(target: Atom, role: str | None) -> bool:
    return target.turns is None or target.turns.role == role or (target.turns.role is None and role is not None)


def _words(conversation: Conversation) -> dict[str, Any]:
    """Roles of the marked words, as the data has them.

    >>> _words(marked(SHAPES["one exchange"]))
    {'1': 'user', '2': 'assistant'}
    """
    found: dict[str, Any] = {}
    for message in conversation.messages:
        for match in _WORD.finditer(repr({k: v for k, v in message.items() if k != "role"})):
            found[match[1] or match[2]] = message.get("role")
    return found

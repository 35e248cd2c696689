"""Facts of a dataset and a template: roles, fields with types, parts of each role's turns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.schema import FieldType, json_type
from policy_engine.core.vocabulary import PARTS
from policy_engine.data.conversation import Conversation
from policy_engine.mask.evidence.written_calls import CallsInText
from policy_engine.mask.unrendered import Lost, LostPiece, lost_of

_RENDERED = 50
"""Rows that are rendered to see the parts of turns; reading the others is enough."""


@dataclass(kw_only=True)
class Survey:
    """Counts over the rows that could be read.

    `fields` maps dotted names (`message.training`) to types seen.
    """

    rows: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    fields: dict[str, FieldType] = field(default_factory=dict)
    parts: dict[str, Counter[str]] = field(default_factory=dict)
    """Parts of the turns of each role, by how many segments had them."""
    rendered: int = 0
    """Rows that were given to the template."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows that could not be rendered, by code and reason without its numbers (`at message N`)."""
    first_refused: dict[tuple[str, str], PolicyEngineError] = field(default_factory=dict)
    """The error of the first row of each kind of `refused`."""
    unrendered: Lost = field(default_factory=Counter)
    """Pieces of the rendered rows that never reached the text."""
    lost_rows: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Numbers of the rows that lost each of them."""
    quoted: int = 0
    """Rendered rows with arguments of calls that the template quotes twice."""
    printed: Counter[str] = field(default_factory=Counter)
    """Rendered rows of which a field is written as Python prints it, by the field's name."""
    calls: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Facts about calls in text: see `mask.evidence.written_calls`."""

    @property
    def lost(self) -> list[LostPiece]:
        """`unrendered` with the rows of each.

        >>> Survey(unrendered=Counter({("user", "name"): 2}), lost_rows={("user", "name"): [7, 9]}).lost
        [LostPiece(role='user', field='name', messages=2, rows=(7, 9))]
        """
        return [
            LostPiece(role=role, field=piece, messages=count, rows=tuple(self.lost_rows[role, piece]))
            for (role, piece), count in self.unrendered.items()
        ]


def survey(conversations: Iterable[tuple[int, Conversation]], tokenizer: ChatTokenizer) -> Survey:
    """Looks at every conversation, each with the number of its row, and renders the first ones."""
    found = Survey()
    calls = CallsInText(tokenizer)
    for number, conversation in conversations:
        found.rows += 1
        calls.look(conversation.messages, found.calls, number=number)
        for message in conversation.messages:
            found.roles[str(message["role"])] += 1
            _note(found.fields, "message", message)
            for part in message["content"] if isinstance(message.get("content"), list) else ():
                if isinstance(part, Mapping):
                    _note(found.fields, "part", part)
            for call in message.get("tool_calls") or ():
                # A policy may always ask about these two, whether or not this row's calls have them.
                _note(found.fields, "call", {"name": "", "arguments": {}} | dict(call))
        _note(found.fields, "sample", conversation.sample)
        if found.rows <= _RENDERED:
            _render(found, number, conversation, tokenizer)
    return found


def _render(found: Survey, number: int, conversation: Conversation, tokenizer: ChatTokenizer) -> None:
    found.rendered += 1
    try:
        chat = tokenizer.render(conversation)
    except PolicyEngineError as error:
        kind = error.code, re.sub(r"\d+", "N", error.message)
        found.refused[kind] += 1
        found.first_refused.setdefault(kind, error)
        return
    lost = lost_of(chat)
    found.unrendered.update(lost)
    for piece in lost:
        rows = found.lost_rows.setdefault(piece, [])
        # The two answers of a pair are conversations of one row.
        rows += [] if rows[-1:] == [number] else [number]
    found.quoted += any(wrong.how == "quoted" for wrong in chat.miswritten)
    found.printed.update({wrong.name for wrong in chat.miswritten if wrong.how == "printed"})
    for segment in chat.segments:
        role = chat.role(segment)
        # An empty segment is a place where the template could have written something, and did not.
        if role is not None and segment.start < segment.end:
            found.parts.setdefault(role, Counter())[segment.part] += 1


def parts_in_order(parts: Iterable[str]) -> list[str]:
    """Parts as the vocabulary orders them.

    >>> parts_in_order(["eot", "text", "header"])
    ['header', 'text', 'eot']
    """
    return sorted(parts, key=PARTS.index)


def _note(fields: dict[str, FieldType], scope: str, value: Mapping[str, Any]) -> None:
    for key, item in value.items():
        seen = json_type(item)
        # Null is "not there", and tells nothing of the type.
        if seen == "null":
            continue
        name = f"{scope}.{key}"
        known = fields.get(name)
        fields[name] = "any" if seen == "other" else seen if known in (None, seen) else _join(known, seen)


def _join(one: FieldType | None, other: FieldType) -> FieldType:
    return "number" if {one, other} == {"integer", "number"} else "any"

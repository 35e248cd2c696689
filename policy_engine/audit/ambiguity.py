"""Mistakes of finding conversations again from ids, learned from conversations we know.

Some conversations of our own are rendered, found again from their ids alone, and compared. A text of the template that
was taken for data is a marker. Rows with that marker are not checked against a policy that would treat it differently.
Where only blanks before a marker are in doubt, both readings are compared with the policy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, Final

from policy_engine.audit.recover import Recoverer, encoded
from policy_engine.chat.segments import RenderedChat, Segment, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import or_none
from policy_engine.data.conversation import Conversation
from policy_engine.mask.apply_program import apply_program
from policy_engine.rules.program import Program

# Words that no template writes (`QQ…`), so that each is found where the data put it and nowhere else.
_USER: Final = {"role": "user", "content": "Is QQone there?"}
_MORE: Final = {"role": "user", "content": "And QQtwo?"}
_ANSWER: Final = {"role": "assistant", "content": "QQthree, it is."}
_LAST: Final = {"role": "assistant", "content": "QQfour is."}
_THOUGHT: Final = {"reasoning_content": "QQfive comes to mind."}
# Another tool than the one that turns are learned from: some templates write its name where turns open.
_CALL: Final = {"id": "callid002", "type": "function", "function": {"name": "find", "arguments": {"at": "QQsix"}}}
_RESULT: Final = {"role": "tool", "content": "QQseven", "tool_call_id": "callid002", "name": "find"}
_PLAIN: Final[tuple[tuple[dict[str, Any], ...], ...]] = ((_USER, _ANSWER), (_USER, _ANSWER, _MORE, _LAST))
_SYSTEM: Final = {"role": "system", "content": "QQeight."}
_OTHERS: Final[tuple[tuple[dict[str, Any], ...], ...]] = (
    (_SYSTEM, _USER, _ANSWER),
    (_SYSTEM, _USER, _ANSWER, _MORE, _LAST),
    (_SYSTEM, _USER, {**_ANSWER, **_THOUGHT}, _MORE, _LAST),
    (_USER, {**_ANSWER, **_THOUGHT}, _MORE, _LAST),
    (_USER, {**_ANSWER, **_THOUGHT}),
    (_USER, {**_ANSWER, **_THOUGHT}, _MORE, {**_LAST, **_THOUGHT}),
    (_USER, _ANSWER, _MORE, {**_LAST, **_THOUGHT}),
    (_USER, {"role": "assistant", "content": "", "tool_calls": [_CALL]}, _RESULT, _LAST),
    (_USER, {**_ANSWER, "tool_calls": [_CALL]}, _RESULT, _LAST, _MORE, _ANSWER),
    (_USER, {"role": "assistant", "content": "", "tool_calls": [_CALL]}),
)
_CLOSE: Final = "</think>"
_INSIDE: Final = {"role": "assistant", "content": f"<think>QQfive comes to mind.{_CLOSE}"}
# Thinking inside a content, with a call and nothing else.
_THINKING: Final[tuple[tuple[dict[str, Any], ...], ...]] = (
    (_USER, {**_INSIDE, "tool_calls": [_CALL]}),
    (_USER, {**_INSIDE, "tool_calls": [_CALL]}, _RESULT, _LAST),
)


_OF_CALLS: Final = ("QQsix", "QQseven")
ANYWHERE: Final = ""
"""The marker of every conversation, where nothing in the text tells which are found otherwise than they are."""


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """A conversation as it is and as it was found again, and the markers in it."""

    truth: TokenizedChat
    found: TokenizedChat
    markers: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class OtherReading:
    """A conversation as its ids can be read too, and the markers that tell of it."""

    chat: TokenizedChat
    markers: frozenset[str]


class Doubts:
    """Mistakes of finding again with one tokenizer and template."""

    def __init__(self, tokenizer: ChatTokenizer, recoverer: Recoverer) -> None:
        self._probes: list[_Probe] = []
        self._joins: set[str] = set()
        self.unreliable = False
        """True if even plain questions and answers are not found as they are."""
        for messages in (*_PLAIN, *_OTHERS, *_THINKING):
            truth = encoded(tokenizer, Conversation(messages=messages))
            if truth is None:
                continue
            if not all(word in truth.chat.text for word in _OF_CALLS if word in repr(messages)):
                continue  # the template has no place for calls, so no row has any
            found = recoverer.recover(truth.input_ids)
            # A row like this one is not found at all, so no finding about it is false.
            if found is None or not found.chat.text.startswith(truth.chat.text):
                continue
            markers, joins = _compare(truth.chat, found.chat)
            # Where plain questions and answers come out wrong, no row of this template can be trusted.
            self.unreliable |= messages in _PLAIN and (joins or bool(markers))
            # The text shows which rows have such thinking, so the others stay certain.
            if messages in _THINKING and not markers:
                markers = [_CLOSE]
            self._probes.append(_Probe(truth=truth, found=found, markers=frozenset(markers)))
            if joins:
                self._joins.update(markers)
        self._known = tuple(sorted({marker for probe in self._probes for marker in probe.markers}))

    def markers(self, chat: RenderedChat) -> frozenset[str]:
        """The markers in text that was taken for the data's, and `ANYWHERE`."""
        data = [chat.segment_text(s) for s in chat.segments if s.field is not None] if self._known else []
        return frozenset({ANYWHERE, *(marker for marker in self._known if any(marker in text for text in data))})

    def other_reading(self, chat: TokenizedChat) -> OtherReading | None:
        """The chat with blanks between thinking and a marker as the marker's, if it has any.

        Blanks behind thinking in a content end the thinking, as in `</think>⏎Four.`; but those before a call may be
        the template's, which writes them with the call, and the ids are the same.
        """
        segments = list(chat.chat.segments)
        found: set[str] = set()
        for at, (close, text) in enumerate(itertools.pairwise(segments)):
            if close.part != "reasoning.close" or text.part != "text" or close.turn != text.turn:
                continue
            written = chat.chat.segment_text(close)
            blanks = len(written) - len(written.rstrip())
            behind = chat.chat.segment_text(text).lstrip()
            marker = next((marker for marker in self._known if behind.startswith(marker)), None)
            # Without a field the template wrote the end of the thinking, and knows where it is.
            if not blanks or marker is None or close.field is None or close.field != text.field:
                continue
            segments[at] = replace(close, end=close.end - blanks)
            segments[at + 1] = replace(text, start=text.start - blanks, field_start=text.field_start - blanks)
            found.add(marker)
        if not found:
            return None
        return OtherReading(
            chat=replace(chat, chat=replace(chat.chat, segments=tuple(segments))), markers=frozenset(found)
        )

    def joins(self, markers: frozenset[str]) -> bool:
        """True if a row with these markers may have more turns than were found."""
        return not markers.isdisjoint(self._joins)

    def of(self, program: Program) -> frozenset[str]:
        """The markers of conversations that the policy decides otherwise than when found again."""
        doubtful: set[str] = set()
        for probe in self._probes:
            truth, found = _trained(program, probe.truth), _trained(program, probe.found)
            if truth is None or found is None:
                continue
            other = self.other_reading(probe.found)
            read = found if other is None else _trained(program, other.chat) or found
            # A conversation that is found again may have a further end: what is decided of its start counts. Rows are
            # compared by the other reading too, so what that says right is in no doubt here.
            if any(t not in pair for t, *pair in zip(truth, found, read, strict=False)):
                doubtful |= probe.markers or {ANYWHERE}
        return frozenset(doubtful)


def _compare(truth: RenderedChat, found: RenderedChat) -> tuple[list[str], bool]:
    """The template's text that was taken for data, and whether a character got another role.

    Of each piece of data, the text is the first.
    """
    markers: list[str] = []
    joins = False
    for piece in (s for s in found.segments if s.field is not None):
        inside = [s for s in truth.segments if s.start < piece.end and s.end > piece.start]
        joins |= any(_role(truth, s) != _role(found, piece) for s in inside)
        written = (truth.text[max(s.start, piece.start) : min(s.end, piece.end)] for s in inside if s.field is None)
        markers += [text for text in map(str.strip, written) if text][:1]
    return markers, joins


def _role(chat: RenderedChat, segment: Segment) -> str | None:
    return None if segment.turn is None else str(chat.messages[segment.turn]["role"])


def _trained(program: Program, chat: TokenizedChat) -> list[bool] | None:
    mask = or_none(apply_program, program, chat)
    # Without the first token, which is never trained.
    return None if mask is None else [bool(weight) for weight in mask.weights_T[1:].tolist()]

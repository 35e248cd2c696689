"""Mistakes of finding conversations again from ids, learned from conversations we know.

Some of our own are rendered, found again from their ids alone, and compared. Text that the template wrote and that was
taken for the data's is a marker; rows with that marker are not checked against a policy that would treat it
differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from policy_engine.audit.recover import Recoverer
from policy_engine.chat.segments import RenderedChat, Segment, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError
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


_OF_CALLS: Final = ("QQsix", "QQseven")
ANYWHERE: Final = ""
"""The marker of every conversation, where nothing in the text tells which are found otherwise than they are."""


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """A conversation as it is and as it was found again, and the markers in it."""

    truth: TokenizedChat
    found: TokenizedChat
    markers: frozenset[str]


class Doubts:
    """Mistakes of finding again with one tokenizer and template."""

    def __init__(self, tokenizer: ChatTokenizer, recoverer: Recoverer) -> None:
        self._probes: list[_Probe] = []
        self._joins: set[str] = set()
        self.unreliable = False
        """Whether even plain questions and answers are not found as they are."""
        for messages in (*_PLAIN, *_OTHERS):
            try:
                conversation = Conversation(messages=messages)
                truth = tokenizer.encode(tokenizer.template_for(conversation).render(conversation))
            except PolicyEngineError:
                continue
            if not all(word in truth.chat.text for word in _OF_CALLS if word in repr(messages)):
                continue  # the template has no place for calls, so no row has any
            found = recoverer.recover(truth.input_ids)
            # A row like this one is not found at all, so nothing false is said of it.
            if found is None or not found.chat.text.startswith(truth.chat.text):
                continue
            markers, joins = _compare(truth.chat, found.chat)
            # Where plain questions and answers come out wrong, no row of this template can be trusted.
            self.unreliable |= messages in _PLAIN and (joins or bool(markers))
            self._probes.append(_Probe(truth=truth, found=found, markers=frozenset(markers)))
            if joins:
                self._joins.update(markers)

    def markers(self, chat: RenderedChat) -> frozenset[str]:
        """The markers in text that was taken for the data's, and `ANYWHERE`."""
        known = {marker for probe in self._probes for marker in probe.markers}
        data = [chat.segment_text(s) for s in chat.segments if s.field is not None] if known else []
        return frozenset({ANYWHERE, *(marker for marker in known if any(marker in text for text in data))})

    def joins(self, markers: frozenset[str]) -> bool:
        """True if a row with these markers may have more turns than were found."""
        return not markers.isdisjoint(self._joins)

    def of(self, program: Program) -> frozenset[str]:
        """The markers of conversations that the policy decides otherwise than when found again."""
        doubtful: set[str] = set()
        for probe in self._probes:
            truth, found = _trained(program, probe.truth), _trained(program, probe.found)
            # A conversation that is found again may have a further end: what is decided of its start counts.
            if truth is not None and found is not None and truth != found[: len(truth)]:
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
    try:
        # Without the first token, which is never trained.
        return [bool(weight) for weight in apply_program(program, chat).weights_T[1:].tolist()]
    except PolicyEngineError:
        return None

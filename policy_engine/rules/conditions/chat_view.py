"""One chat, as the rules of a policy look at it.

Facts that several rules ask for, such as the round of a turn or the call that a tool answers, are worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy_engine.core.facts import ChatFacts, SegmentFacts
from policy_engine.core.vocabulary import BODY, NEIGHBOURS
from policy_engine.rules.conditions.answered import answered_calls, results_by_turn
from policy_engine.rules.conditions.comparison import MISSING, content_text, one_of, step_into
from policy_engine.rules.conditions.patterns import ScanBudget


class ChatView:
    """A chat while it is being decided. Lives for one call; not thread-safe."""

    def __init__(self, chat: ChatFacts) -> None:
        self.chat = chat
        self.roles: tuple[str, ...] = tuple([str(m["role"]) for m in chat.messages])
        self.signatures: list[int] = []
        """The signature of each turn (see `rules.turn_signatures`)."""
        self.held: tuple[tuple[int, int], ...] = ()
        """The statements that hold on each turn, and last on text that no message owns (see `turn_conditions`)."""
        self.budget = ScanBudget()
        self.memo: dict[Any, Any] = {}
        """Values of conditions and spans, by whatever key their owner chose."""
        # Each of these is made at its first use: most policies ask for no such fact.
        self._rounds: list[int] | None = None
        self._chars: dict[int, int] | None = None
        self._segments: dict[int | None, list[int]] | None = None
        self._answered: list[tuple[int, int] | None] | None = None
        self._results: dict[int, list[tuple[int, int]]] | None = None

    def role_of(self, segment: SegmentFacts) -> str | None:
        """Role of the message that owns a segment; None for text no message owns."""
        return None if segment.turn is None else self.roles[segment.turn]

    def text_of(self, segment: SegmentFacts) -> str:
        """The rendered characters of a segment."""
        return self.chat.text[segment.start : segment.end]

    def segments_of(self, turn: int | None) -> list[int]:
        """Indices of the non-empty segments of a turn, in order."""
        if self._segments is None:
            self._segments = {}
            for index, segment in enumerate(self.chat.segments):
                # An empty segment has no character to decide or to search.
                if segment.start < segment.end:
                    self._segments.setdefault(segment.turn, []).append(index)
        return self._segments.get(turn, [])

    def chars_of(self, turn: int) -> int:
        """Rendered characters of a turn's body."""
        if self._chars is None:
            self._chars = {}
            for s in self.chat.segments:
                # Pictures do not count: a processor may make thousands of placeholders of one.
                if s.turn is not None and s.part in BODY:
                    self._chars[s.turn] = self._chars.get(s.turn, 0) + s.end - s.start
        return self._chars.get(turn, 0)

    def round_of(self, turn: int) -> int:
        """Number of `user` turns up to and including a turn.

        >>> from policy_engine.chat.segments import RenderedChat
        >>> messages = tuple({"role": role} for role in ("user", "assistant", "user", "tool"))
        >>> view = ChatView(RenderedChat(text="", segments=(), messages=messages, sample={}))
        >>> [view.round_of(turn) for turn in range(4)]
        [1, 1, 2, 2]
        """
        if self._rounds is None:
            self._rounds = []
            users = 0
            for role in self.roles:
                users += role == "user"
                self._rounds.append(users)
        return self._rounds[turn]

    def call_of(self, segment: SegmentFacts) -> Any:
        """The tool call of a segment, or the call that its `tool` turn answers, or MISSING."""
        turn = segment.turn
        if turn is None:
            return MISSING
        # Text that belongs to a call has its own, also in a turn with several calls.
        if segment.call is not None:
            return step_into(self.chat.messages[turn], ("tool_calls", segment.call))
        answered = self.answered(turn)
        # `answered_calls` has found the call there, so that it needs no further test.
        return MISSING if answered is None else self.chat.messages[answered[0]]["tool_calls"][answered[1]]

    def answered(self, turn: int) -> tuple[int, int] | None:
        """The call that a `tool` turn answers: its message, and its number there.

        None for any other turn, and if the call is missing.
        """
        if self._answered is None:
            self._answered = answered_calls(self.roles, self.chat.messages)
        return self._answered[turn]

    def results_of(self, turn: int, call: int | None = None) -> list[int]:
        """The `tool` turns that answer a call of a turn, or with `call` that one; in order."""
        if self._results is None:
            self.answered(turn)
            self._results = results_by_turn(self._answered or ())
        return [result for result, number in self._results.get(turn, ()) if call is None or call == number]

    def neighbour(self, scope: str, turn: int) -> int | None:
        """The message that `previous`, `next` or `answer` means on a turn; None if it is missing.

        >>> from policy_engine.chat.segments import RenderedChat
        >>> messages = ({"role": "assistant", "tool_calls": [{"id": "a"}]}, {"role": "user"}, {"role": "tool"})
        >>> view = ChatView(RenderedChat(text="", segments=(), messages=messages, sample={}))
        >>> view.neighbour("previous", 2), view.neighbour("answer", 2), view.neighbour("next", 2)
        (1, 0, None)
        """
        if scope == "answer":
            answered = self.answered(turn)
            return None if answered is None else answered[0]
        at = turn - 1 if scope == "previous" else turn + 1
        return at if 0 <= at < len(self.roles) else None

    def field_values(self, scope: str, path: tuple[str | int, ...], segment: SegmentFacts) -> list[Any]:
        """The values of a policy's field on a segment, those that are there.

        There is one at most, but for `result`, which has one for each tool message that answers.
        """
        if scope != "result":
            value = self.field_value(scope, path, segment)
            return [] if value is MISSING else [value]
        if segment.turn is None:
            return []
        values = (self.message_value(path, turn) for turn in self.results_of(segment.turn, segment.call))
        return [value for value in values if value is not MISSING]

    def field_value(self, scope: str, path: tuple[str | int, ...], segment: SegmentFacts) -> Any:
        """The value of a policy's field on a segment, or MISSING.

        Of results that differ it is a `Differing`, which is no number and no list.
        """
        if scope == "sample":
            return step_into(self.chat.sample, path)
        if scope == "segment":
            text = self.text_of(segment)
            # The other field of a segment is `empty`; the checker lets no third one through.
            return text if path == ("text",) else not text.strip()
        turn = segment.turn
        if turn is None:
            return MISSING
        if scope == "turn":
            return self.turn_value(path, turn)
        if scope == "message":
            return self.message_value(path, turn)
        if scope in NEIGHBOURS:
            if scope == "result":
                return one_of(self.field_values(scope, path, segment))
            other = self.neighbour(scope, turn)
            return MISSING if other is None else self.message_value(path, other)
        if scope == "part":
            message = self.chat.messages[turn]
            return MISSING if segment.item is None else step_into(message, ("content", segment.item, *path))
        call = self.call_of(segment)
        # OpenAI's calls have both below `function`, other formats at the top. A policy says `call.name` for either.
        if path and path[0] in ("name", "arguments") and isinstance(call, Mapping) and "function" in call:
            return step_into(call, ("function", *path))
        return step_into(call, path)

    def turn_value(self, path: tuple[str | int, ...], turn: int) -> Any:
        """A field of the scope `turn`."""
        if path == ("index",):
            return turn
        if path == ("from_end",):
            return len(self.roles) - 1 - turn
        return self.round_of(turn) if path == ("round",) else self.chars_of(turn)

    def message_value(self, path: tuple[str | int, ...], turn: int) -> Any:
        """A field of a message, as the scope `message` has it, or MISSING."""
        message = self.chat.messages[turn]
        # A policy sees the joined text, whether the data has a string or a list of parts.
        if path and path[0] == "content":
            text = content_text(message)
            return MISSING if text is None else step_into(text, path[1:])
        # The role after the dataset's names are mapped, which the message may not have as it is.
        if path and path[0] == "role":
            return step_into(self.roles[turn], path[1:])
        return step_into(message, path)

"""Facts about a rendered chat that the rule engine needs.

`chat.segments` provides them, and `rules` depends on this file only. The facts of the chat

    <|im_start|>user\\nHi<|im_end|>\\n

are four segments: `header` (characters 0 to 17), `text` (17 to 19), `eot` (19 to 29) and `separator` (29 to 30), each
of turn 0. The text has the field `("content",)`; the others have no field, since the template wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class SegmentFacts(Protocol):
    """Rendered text, without a gap, with one owner, one part and one source."""

    @property
    def start(self) -> int:
        """First character in the text."""

    @property
    def end(self) -> int:
        """One past the last character in the text."""

    @property
    def part(self) -> str:
        """A leaf of `core.vocabulary.PARTS`."""

    @property
    def turn(self) -> int | None:
        """Index of the owning message; None for text that no message owns."""

    @property
    def field(self) -> tuple[str | int, ...] | None:
        """Path of the field the characters were copied from; None for text that the template wrote.

        The path of a message's data begins below the message: `("content",)`, `("content", 0, "text")`. The path of
        other data begins below the inputs of the rendering: `("tools", 0)`.
        """

    @property
    def field_start(self) -> int:
        """Offset in that field of the segment's first character; 0 for template text."""

    @property
    def field_exact(self) -> bool:
        """True if the characters equal the field's from `field_start` on, one for one."""

    @property
    def item(self) -> int | None:
        """Index of the content part the segment belongs to, if the content is a list of parts."""

    @property
    def call(self) -> int | None:
        """Index of the tool call the segment belongs to, below its message's `tool_calls`."""


class LayoutFacts(Protocol):
    """Roles, parts and order of the segments that all chats of one shape have in common.

    Two layouts are the same only if they are one object.
    """

    @property
    def parts(self) -> Sequence[str]:
        """The part of each segment."""

    @property
    def has_unknown(self) -> bool:
        """True if some segment is text that a template computed from data of unknown owner."""


class Placed(Protocol):
    """Segments kept as a layout and where each of them begins. None of them is empty."""

    @property
    def layout(self) -> LayoutFacts:
        """The layout of this shape: a key for what follows from roles, parts and order."""

    @property
    def starts(self) -> list[int]:
        """The first character of each segment, and the end of the text."""


def placed_of(segments: Sequence[SegmentFacts]) -> Placed | None:
    """The segments as a layout and places; None where they are separate objects."""
    # Asked by attribute, not by class: `chat.segments` is above this room, and segments may also be separate objects.
    found: Any = segments
    placed: Placed | None = found if hasattr(found, "layout") else None
    return placed


class ChatFacts(Protocol):
    """A rendered conversation: its text, its segments and its data."""

    @property
    def text(self) -> str:
        """The rendered text."""

    @property
    def segments(self) -> Sequence[SegmentFacts]:
        """The segments in order; together they are the text, without a gap.

        Segments that `placed_of` knows need not be looked at singly.
        """

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages of the data, after the dataset's field names and roles were mapped."""

    @property
    def sampled(self) -> Sequence[tuple[int, int]] | None:
        """The characters `[start, end)` of sampled tokens, in order.

        None where the row does not say it.
        """

    @property
    def sample(self) -> Mapping[str, Any]:
        """The whole dataset row."""

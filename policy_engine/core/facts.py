"""What the rule engine needs to know of a rendered chat. `chat.segments` provides it; `rules` depends only on this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast


class SegmentFacts(Protocol):
    """A contiguous piece of rendered text with one owner, one part and one source."""

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
        """Path of the field the characters were copied from, below the owner of the data; None for template text.

        Below the message for message data (`("content",)`, `("content", 0, "text")`), else below the render's
        inputs (`("tools", 0)`)."""

    @property
    def field_start(self) -> int:
        """Offset in that field of the segment's first character; 0 for template text."""

    @property
    def field_exact(self) -> bool:
        """Whether the characters equal the field's from `field_start` on, one for one."""

    @property
    def item(self) -> int | None:
        """Index of the content part the segment belongs to, if the content is a list of parts."""

    @property
    def call(self) -> int | None:
        """Index of the tool call the segment belongs to, below its message's `tool_calls`."""


class Layout(Protocol):
    """What the segments of all chats of one shape have in common: roles, parts and order. Told apart by identity."""

    @property
    def parts(self) -> Sequence[str]:
        """The part of each segment."""

    @property
    def has_unknown(self) -> bool:
        """Whether some segment is text that a template computed from data of unknown owner."""


class Placed(Protocol):
    """Segments kept as a layout and where each of them begins. None of them is empty."""

    @property
    def layout(self) -> Layout:
        """What chats of this shape share; what follows from roles, parts and order can be kept by it."""

    @property
    def starts(self) -> list[int]:
        """The first character of each segment, and the end of the text."""


def placed_of(segments: Sequence[SegmentFacts]) -> Placed | None:
    """The segments as a layout and their places, if they are kept so. None where each stands for itself."""
    return cast(Placed, segments) if hasattr(segments, "layout") else None


class ChatFacts(Protocol):
    """A rendered conversation: its text, the segments that partition it, and the data it came from."""

    @property
    def text(self) -> str:
        """The rendered text."""

    @property
    def segments(self) -> Sequence[SegmentFacts]:
        """Contiguous and gapless over the text, in order. Those that `placed_of` knows need not be looked at singly."""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages as they are in the data, after the dataset's field names and roles were mapped."""

    @property
    def sample(self) -> Mapping[str, Any]:
        """The whole dataset row."""

"""One rendering being labelled: its text, its bits, the template's profile, the result.

Of `<|im_start|>user⏎Hi<|im_end|>⏎` the template wrote four bits (`<|im_start|>`, `user`, `⏎`, `<|im_end|>⏎`) and
copied one from the data (`Hi`). Labelled, they are pieces: `header` (three of them), `text`, `eot` and `separator`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.chat.label.markers import REASONING, Markers
from policy_engine.chat.label.profile import TemplateProfile
from policy_engine.chat.label.sources import Bit


class Labelled:
    """Characters `[start, end)` of a bit, with their part and the turn that owns them."""

    __slots__ = ("bit", "call", "end", "item", "part", "start", "turn")

    def __init__(self, bit: Bit, start: int, end: int, part: str, turn: int | None, call: int | None) -> None:
        self.bit = bit
        self.start = start
        self.end = end
        self.part = part
        self.turn = turn
        # Data knows its own call; the argument is for scaffold beside it.
        self.call = bit.call if bit.call is not None else call
        self.item = bit.item


@dataclass(frozen=True, kw_only=True)
class Signs:
    """Facts about a template beside its profile.

    `delimiters` are the pairs around thinking that the template itself knows, `models` the roles that the model writes.
    """

    markers: Markers
    delimiters: Sequence[tuple[str, str]]
    models: frozenset[str]


class Chart:
    """One rendering while it is labelled.

    `ask` renders the generation prompt before a turn; needed where the profile's does not hold for all turns.
    """

    def __init__(
        self,
        *,
        text: str,
        bits: Sequence[Bit],
        messages: Sequence[Mapping[str, Any]],
        profile: TemplateProfile,
        signs: Signs,
        ask: Callable[[int], str | None] | None = None,
    ) -> None:
        self.text = text
        self.bits = bits
        self.messages = messages
        self.profile = profile
        self.markers = signs.markers
        self.delimiters = signs.delimiters
        self.models = signs.models
        self._ask = ask
        self.out: list[Labelled] = []
        self.ended: set[int] = set()
        """Turns whose end marker was found."""
        self.called: set[int] = set()
        """Turns with tool calls."""
        self.ended_late: set[int] = set()
        """Turns whose end marker is behind a preamble that the template writes after them."""
        self.opened: dict[int, str] = {}
        """Turns whose opening the turn before them wrote, or began; with the rest of the prompt."""
        self.quoted: set[int] = set()
        """Model turns that the template quotes in a turn of another role."""
        self.last_data = last_data(bits)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All delimiters of thinking, the template's own first. For scaffold only."""
        return (*self.delimiters, *REASONING)

    def role(self, turn: int) -> str:
        """Role of a turn."""
        return str(self.messages[turn].get("role"))

    def prompt(self, turn: int) -> str:
        """The generation prompt that `turn` would be written to."""
        # Asked only for templates whose prompt varies from turn to turn: each question is a rendering.
        asked = self._ask(turn) if self._ask is not None and turn else None
        return self.profile.prompt(self.role(turn - 1) if turn else None) if asked is None else asked

    def is_model(self, turn: int) -> bool:
        """True if the model writes turns of this role."""
        return self.role(turn) in self.models

    def add(self, bit: Bit, start: int, end: int, part: str, turn: int | None, call: int | None = None) -> None:
        """Label characters of a bit; no characters, no label."""
        if start < end:
            self.out.append(Labelled(bit, start, end, part, turn, call))


class Zone:
    """Consecutive scaffold of one turn, seen as one text."""

    def __init__(self, chart: Chart, bits: Sequence[Bit]) -> None:
        self.chart = chart
        # Empty data has a place among the bits, and no characters to label.
        self.bits = [b for b in bits if b.end > b.start]
        self.text = "".join(chart.text[b.start : b.end] for b in self.bits)

    def label(self, start: int, end: int, part: str, turn: int | None = None, call: int | None = None) -> None:
        """Label characters `[start, end)` of the zone; `turn` is the bits' own unless given."""
        for bit, low, high in self.slices(start, end):
            self.chart.add(bit, low, high, part, bit.turn if turn is None else turn, call)

    def disown(self, start: int, end: int, part: str) -> None:
        """Label characters `[start, end)` as text that no message owns."""
        for bit, low, high in self.slices(start, end):
            piece = Labelled(bit, low, high, part, None, None)
            # A bit of a loop over calls or parts would bring them along, and nobody owns this text.
            piece.call = piece.item = None
            self.chart.out.append(piece)

    def slices(self, start: int, end: int) -> list[tuple[Bit, int, int]]:
        """The bits of characters `[start, end)` of the zone, each with its range in the text."""
        found, at = [], 0
        for bit in self.bits:
            size = bit.end - bit.start
            low, high = max(start, at), min(end, at + size)
            if low < high:
                found.append((bit, bit.start + low - at, bit.start + high - at))
            at += size
        return found


def after_blanks(text: str, at: int) -> int:
    """The first position from `at` on that is not whitespace.

    >>> after_blanks("a  b", 1)
    3
    """
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def field_value(message: Mapping[str, Any], path: Sequence[str | int]) -> Any:
    """The value at a path below a message; None if the path leads nowhere.

    >>> field_value({"tool_calls": [{"id": "a"}]}, ("tool_calls", 0, "id"))
    'a'
    """
    value: Any = message
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def last_data(bits: Sequence[Bit]) -> int:
    """The end of the last data in a text; 0 for a text without data.

    >>> from policy_engine.chat.trace.origins import claim_of, origin_at
    >>> claim = claim_of(0, None, None, None, 0)
    >>> last_data([Bit(0, 4, None, 0, claim, 1), Bit(4, 6, origin_at(0, ("content",)), 0, claim, None)])
    6
    """
    return max((bit.end for bit in bits if bit.is_data), default=0)


def with_prompt(pieces: Sequence[Labelled], start: int) -> list[Labelled]:
    """The pieces, those from `start` on made the generation prompt's."""
    out: list[Labelled] = []
    for piece in pieces:
        if piece.end <= start:
            out.append(piece)
            continue
        if piece.start < start:
            out.append(Labelled(piece.bit, piece.start, start, piece.part, piece.turn, piece.call))
        prompt = Labelled(piece.bit, max(start, piece.start), piece.end, "generation_prompt", None, None)
        # As `disown` does: what opens an answer is of no call.
        prompt.call = prompt.item = None
        out.append(prompt)
    return out

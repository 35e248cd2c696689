"""Segments of chats that have one shape: told apart once, placed again for each row.

Rows of a dataset render to the same sequence of sources again and again, only with longer or shorter data. What the
parts are depends on that sequence alone, so it is decided when a sequence is first seen; after that a row costs its
boundaries.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

from policy_engine.chat.label.board import Labelled
from policy_engine.chat.label.sources import Bit
from policy_engine.chat.label.written import Written, written_in
from policy_engine.chat.segments import Segment
from policy_engine.chat.trace.origins import LOST, UNKNOWN, Origin, Scaffold, Unclaimed
from policy_engine.chat.trace.text import runs_of
from policy_engine.core.vocabulary import FROM_PARTS


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A segment without its place: all of `Segment` that rows of one layout share.

    `run` is the run of characters it begins in and `shift` the place of its first character there.
    """

    run: int
    shift: int
    part: str
    turn: int | None
    field: tuple[str | int, ...] | None
    exact: bool
    item: int | None
    call: int | None
    line: int | None
    unknown: bool


class Layout:
    """The segments of all chats of one shape.

    Compares by identity: equal shapes of a template share one layout.
    """

    # Compared and hashed by identity, which caches of masks use as a key.
    __slots__ = ("_read", "_shifts", "has_unknown", "kinds", "parts", "turns", "written")

    def __init__(self, kinds: tuple[Kind, ...], written: Written) -> None:
        self.kinds = kinds
        self.parts = tuple(kind.part for kind in kinds)
        self.turns = tuple(kind.turn for kind in kinds)
        self.has_unknown = any(kind.unknown for kind in kinds)
        self.written = written
        # One call for all, the text's end behind the last: a loop over the kinds takes three times as long.
        self._read = operator.itemgetter(*(kind.run for kind in kinds), -1) if kinds else lambda starts: starts[-1:]
        self._shifts = [(at, kind.shift) for at, kind in enumerate(kinds) if kind.shift]

    def of_segments(self, run_numbers: Sequence[int]) -> list[int]:
        """The number of the run in which each segment starts, and the text's end behind them."""
        return list(self._read(run_numbers))

    def starts_of(self, run_starts: Sequence[int]) -> list[int]:
        """The place where each segment starts, by those of runs; the end of the text is last."""
        starts = self.of_segments(run_starts)
        for at, shift in self._shifts:
            starts[at] += shift
        return starts


class PlacedSegments(Sequence[Segment]):
    """The segments of one chat: a layout, and the place where each begins.

    They are made into objects when asked for, and so are their places: of most rows only the masks of a whole batch
    ask for these, and work them out at once.
    """

    __slots__ = ("_made", "_starts", "layout", "scan")

    def __init__(self, layout: Layout, scan: Scan) -> None:
        self.layout = layout
        self.scan = scan
        self._starts: list[int] | None = None
        self._made: tuple[Segment, ...] | None = None

    @property
    def starts(self) -> list[int]:
        """The place where each segment starts.

        There is one place more than there are segments, the end of the text.
        """
        if self._starts is None:
            self._starts = self.layout.starts_of([0, *itertools.accumulate(self.scan.lengths)])
        return self._starts

    def _all(self) -> tuple[Segment, ...]:
        if self._made is None:
            self._made = tuple(map(self._segment, range(len(self.layout.kinds))))
        return self._made

    def _segment(self, at: int) -> Segment:
        kind, starts = self.layout.kinds[at], self.starts
        return Segment(
            start=starts[at],
            end=starts[at + 1],
            part=kind.part,
            turn=kind.turn,
            field=kind.field,
            field_start=self.scan.offsets[kind.run] + kind.shift if kind.exact else 0,
            field_exact=kind.exact,
            item=kind.item,
            call=kind.call,
            line=kind.line,
            unknown=kind.unknown,
        )

    def __len__(self) -> int:
        return len(self.layout.kinds)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Segment, ...]: ...
    def __getitem__(self, index: int | slice) -> Segment | tuple[Segment, ...]:
        if self._made is None and not isinstance(index, slice):
            # Of one segment only, while not all are made.
            return self._segment(range(len(self.layout.kinds))[index])  # one is asked for where a token straddles
        return self._all()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        # A layout is large and shared by thousands of rows; a pickle has the segments of this row.
        return (tuple, (self._all(),))


class Frame(Protocol):
    """The constant runs of many renderings, with slots between them."""

    def shifts_of(self, layout: Layout) -> tuple[list[int], list[int]]:
        """The start of each segment where all slots are empty, and the number of slots before it.

        The last ones are of the end of the text.
        """


class Scan:
    """The runs of one rendering: a key of its shape, and the runs' lengths and offsets.

    `data` has the runs of data of the turns that are `watched`, each with its origin; of all turns if it is None.
    """

    __slots__ = ("_starts", "data", "frame", "fronts", "key", "lengths", "offsets", "sizes", "text")

    def __init__(self, pieces: Sequence[tuple[str, Scaffold]], watched: Container[int | None] | None = ()) -> None:
        self.data: list[tuple[int, Origin]] = []
        self.fronts: dict[int, tuple[int, int]] = {}
        """The words of thinking in front of a content whose rest is a run: see `thinking.reading_of`."""
        self._starts: list[int] | None = None
        self.sizes: tuple[int, ...] | None = None
        """The characters in each slot of `frame`; None where the runs of other renderings are not known."""
        self.frame: Frame | None = None
        key: list[Any] = []
        self.lengths = lengths = list[int]()
        self.offsets = offsets = list[int]()
        for piece, claim in pieces:
            # A literal of the template: most pieces are.
            if type(piece) is str:
                if piece:
                    key += (claim, piece)
                    lengths.append(len(piece))
                    offsets.append(0)
                continue
            key.append(claim)
            self.add_runs(piece, key, watched)
        self.key = key
        self.text = "".join([piece for piece, _ in pieces])

    def add_runs(self, piece: str, key: list[Any], watched: Container[int | None] | None) -> None:
        """Adds the runs of a traced piece, and to `key` what makes its shape.

        `watched` are the turns whose data is kept in `data`; None for all.
        """
        lengths, offsets = self.lengths, self.offsets
        at = 0
        for length, origin, offset in runs_of(piece):
            kind = type(origin)
            if kind is Origin:
                # Whether data is there and whether it is copied as it is in its field are part of the shape.
                key.append(origin)
                if watched is None or origin.turn in watched:  # type: ignore[union-attr]
                    self.data.append((len(lengths), origin))  # type: ignore[arg-type]
                if not length or offset == LOST:
                    key.append(-1 if length else -2)
            elif not length:
                continue
            elif kind is Unclaimed:
                # Each constant of the template has an `Unclaimed` of its own, so its words need not be compared.
                key += (origin, length)
            else:
                # Assigned or buffered text: its words, since it may be any slice of what the template holds.
                key += (origin, piece[at : at + length])
            lengths.append(length)
            offsets.append(offset)
            at += length

    def run_text(self, run: int) -> str:
        """The text of a run."""
        start = self.start_of(run)
        return self.text[start : start + self.lengths[run]]

    def size_of(self, run: int) -> int:
        """The characters of a run."""
        return self.lengths[run]

    def range_of(self, run: int) -> tuple[int, int]:
        """The characters `[start, end)` of its field that a run is."""
        start = self.offsets[run]
        return start, start + self.lengths[run]

    def placed_data(self) -> list[tuple[int, Origin, int, int]]:
        """The runs of `data`, each with its origin and `range_of`."""
        return [(run, origin, *self.range_of(run)) for run, origin in self.data]

    def start_of(self, run: int) -> int:
        """The place in the text where a run begins."""
        if self._starts is None:
            self._starts = [0, *itertools.accumulate(self.lengths)]
        return self._starts[run]


def lay_out(pieces: Sequence[Labelled], bits: Sequence[Bit], text: str) -> Layout:
    """The layout of labelled pieces; `bits` are the runs of `text` they were cut from."""
    index = {id(bit): at for at, bit in enumerate(bits)}
    kinds: list[Kind] = []
    last: Labelled | None = None
    for piece in pieces:
        # Empty data is not shown as a segment.
        if piece.start == piece.end:
            continue
        if last is None or not _joins(last, piece):
            kinds.append(_kind(piece, index[id(piece.bit)]))
        last = piece
    return Layout(tuple(kinds), written_in(bits, text))


def _joins(a: Labelled, b: Labelled) -> bool:
    """True if two neighbours are one segment: the same part, and one source."""
    if (a.part, a.turn, a.call, a.item) != (b.part, b.turn, b.call, b.item):
        return False
    first, second = a.bit, b.bit
    if first is second:
        return True
    if first.origin is None or second.origin is None:
        # Scaffold of two template lines is two segments, so that coverage can name the line.
        lines = {first.line, second.line} - {None}
        return first.origin is None and second.origin is None and len(lines) < 2
    # Copied data has one run already where it is joined; only computed text of one field is put together.
    return first.origin is second.origin and first.offset == second.offset == LOST


def _kind(piece: Labelled, run: int) -> Kind:
    bit = piece.bit
    origin = bit.origin
    # A role or name of another message that labels this one is scaffold here: its field is not below this message.
    own = origin is not None and origin is not UNKNOWN and origin.turn == piece.turn
    return Kind(
        run=run,
        shift=piece.start - bit.start,
        part=piece.part,
        turn=piece.turn,
        field=origin.path if own and origin is not None else None,
        exact=own and bit.offset != LOST,
        # Scaffold that a loop over calls or content parts writes around them has neither: policies ask for calls and
        # parts on the text they are made of, and proofs count on it.
        item=piece.item if piece.part in FROM_PARTS else None,
        call=piece.call if piece.part.startswith("tool_call") else None,
        line=None if own else bit.line,
        unknown=origin is UNKNOWN,
    )


def part_types(messages: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    """The facts beside the text that decide parts: roles, and the types of content parts.

    >>> pictured = {"role": "user", "content": [{"type": "image"}, {"type": "text"}]}
    >>> part_types([pictured, {"role": "assistant", "content": "A cat."}])
    (('user', 'image', 'text'), 'assistant')
    """
    return tuple(
        [
            message.get("role")
            if not isinstance(content := message.get("content"), list)
            else (message.get("role"), *map(_type_of, content))
            for message in messages
        ]
    )


def _type_of(part: Any) -> str | None:
    """The type of a content part; None for a type that is not text: no part is known by it."""
    found = part.get("type") if isinstance(part, Mapping) else None
    return found if isinstance(found, str) else None

"""Places in a text (`chats.policy:3:7`) and in the data (`chats.jsonl:7`)."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final

LINE_SUFFIXES: Final = (".jsonl", ".ndjson")
"""Extensions of files that have a row in each line."""
# A YAML document is counted in lines as well: its tests are found by the line they begin in.
_NUMBERED: Final = (*LINE_SUFFIXES, ".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A text and its name: a path, `<string>`, or `policies/NAME` for the shipped library.

    >>> Source(name="a.policy", text="train assistant").name
    'a.policy'
    """

    name: str
    text: str = field(repr=False)

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character offset, both counted from 1.

        Offsets past the end mean the end.

            >>> Source(name="a.policy", text="mask user\\ntrain all").position(16)
            (2, 7)
        """
        offset = max(0, min(offset, len(self.text)))
        line = bisect.bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of line `number` (from 1), without its newline; empty past the end.

        >>> Source(name="a.policy", text="train assistant\\nmask user").line(2)
        'mask user'
        """
        if not 0 < number <= len(self._lines):
            return ""
        start = self._lines[number - 1]
        end = self._lines[number] - 1 if number < len(self._lines) else len(self.text)
        return self.text[start:end]

    @functools.cached_property
    def _lines(self) -> list[int]:
        """The offset of each line; a long text has thousands of findings, each with a place."""
        # Only `\n`: what `str.splitlines` takes for a line break beside it, editors do not count as one.
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_source, (self.name, self.text))  # without the lines, which are worked out again


def _source(name: str, text: str) -> Source:
    return Source(name=name, text=text)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Characters `[start, end)` of a source.

    >>> str(Span(source=Source(name="a.policy", text="mask user"), start=5, end=9))
    'a.policy:1:6'
    """

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """Line of the first character, from 1.

        >>> source = Source(name="a.policy", text="train assistant\\nmask user")
        >>> Span(source=source, start=16, end=20).line
        2
        """
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        """Column of the first character, from 1.

        >>> source = Source(name="a.policy", text="train assistant\\nmask user")
        >>> Span(source=source, start=21, end=25).column
        6
        """
        return self.source.position(self.start)[1]

    @property
    def text(self) -> str:
        """The characters the span covers.

        >>> Span(source=Source(name="a", text="mask user"), start=5, end=9).text
        'user'
        """
        return self.source.text[self.start : self.end]

    @property
    def one_line(self) -> str:
        """The characters the span covers, every run of white space as one blank.

        >>> text = "train assistant\\n    where message.train"
        >>> Span(source=Source(name="a.policy", text=text), start=0, end=39).one_line
        'train assistant where message.train'
        """
        return " ".join(self.text.split())

    def __str__(self) -> str:
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A row of the data, or a test in a dataset file: `chats.jsonl:7`, `row 7` of a pipe.

    >>> str(Place(file="chats.jsonl", number=7)), str(Place(file=None, number=7))
    ('chats.jsonl:7', 'row 7')
    """

    file: str | None
    """None for a pipe."""
    number: int
    """Counted from 1."""

    @property
    def is_line(self) -> bool:
        """True if the number counts lines; in Parquet, Arrow and JSON documents it counts rows.

        >>> Place(file="chats.jsonl", number=7).is_line, Place(file="chats.parquet", number=7).is_line
        (True, False)
        """
        return self.file is not None and PurePath(self.file).suffix.lower() in _NUMBERED

    @staticmethod
    def parse(text: str) -> Place:
        """The place that a text names as `str` writes it. Raises ValueError for any other text.

        >>> Place.parse("a.jsonl:7")
        Place(file='a.jsonl', number=7)
        """
        # From the right: a path of Windows has a colon of its own (`C:\chats.jsonl:7`).
        file, colon, number = text.rpartition(":")
        return Place(file=file if colon else None, number=int(number.removeprefix("row ")))

    def beside(self, message: str) -> str:
        """A message to write behind this place, without the number that the place has.

        >>> place = Place(file="chats.jsonl", number=7)
        >>> place.beside("line 7 is not JSON"), place.beside("row 7: `labels` is text")
        ('the line is not JSON', '`labels` is text')
        """
        opening = re.match(rf"(row|line) {self.number}(:? )", message)
        if opening is None:
            return message
        return ("" if opening[2] == ": " else f"the {opening[1]} ") + message[opening.end() :]

    def __str__(self) -> str:
        return f"row {self.number}" if self.file is None else f"{self.file}:{self.number}"


def common_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the longest common prefix: the place where two texts or lists first differ.

    >>> common_prefix("<|im_start|>user", "<|im_start|>tool"), common_prefix([1, 2], [1, 2, 3])
    (12, 2)
    """
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return size
    # Bisecting compares slices in C: a loop over characters is the slower one for renderings of 100,000.
    return bisect.bisect_left(range(1, size + 1), True, key=lambda end: a[:end] != b[:end])

"""Text of a field that a template leaves out, though it writes the rest of the field.

Qwen3 keeps the text behind the last `</think>`, and the thinking before it:

    content   <think>Plan.</think>I look.<think>Found.</think>It is 4.
    text      <|im_start|>assistant⏎<think>⏎Plan.⏎</think>⏎⏎It is 4.<|im_end|>
    left out  I look.   Found.    text that an answer loses, and thinking

Blanks around a text are nobody's loss, nor is what the template looks for, such as `</think>` or `/no_think`.
"""

from __future__ import annotations

import itertools
import json
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from policy_engine.chat.label.markers import pattern_of
from policy_engine.chat.label.thinking import Delimiters, is_thinking

_WORD: Final = re.compile(r"\w+")
_MOST_WORDS: Final = 10_000
"""Words of a changed text that are looked for: what templates shorten is short."""
_LETTER: Final = re.compile(r"[^\W_]")
"""A letter or a digit, as `str.isalnum` has them."""
_NEAR: Final = 8
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^"]+')
_ESCAPED: Final = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.")


class CutOut(NamedTuple):
    """Characters `[start, end)` of a field that are left out."""

    start: int
    end: int
    is_thinking: bool


@dataclass(frozen=True)
class Cutter:
    """Finds what a template leaves out of texts.

    `words` are the strings that the template has, `delimiters` the pairs around thinking that it knows, and `models`
    the roles whose content may have thinking.

    >>> delimiters = (("<think>", "</think>"),)
    >>> cutter = Cutter(words=frozenset({"</think>"}), delimiters=delimiters, models=frozenset({"assistant"}))
    >>> whole = "Plan.</think>I look.</think>It is 4."
    >>> [whole[cut.start : cut.end] for cut in cutter.cuts(whole, [(0, 5), (28, 36)], thinks=True)]
    ['I look.']
    """

    words: frozenset[str]
    delimiters: Delimiters
    models: frozenset[str]

    @cached_property
    def _markers(self) -> frozenset[str]:
        found = {word.strip() for word in self.words}
        return frozenset({*found, *(marker for pair in self.delimiters for marker in pair), ""})

    @cached_property
    def _removed(self) -> re.Pattern[str]:
        """The markers: words alone, such as `user`, may be any text."""
        return pattern_of(marker for marker in self._markers if marker and not marker.isalnum())

    def cuts(self, value: str, ranges: Sequence[tuple[int, int]], *, thinks: bool) -> Iterator[CutOut]:
        """The pieces outside of the ranges that have words in them; `thinks` for text of the model."""
        for start, end in _outside(value, ranges):
            # The usual case: blanks, and a delimiter that the template wrote itself.
            if value[start:end].strip() in self._markers:
                continue
            for low, high in self._pieces(start, end, value) if thinks else ((start, end),):
                piece = value[low:high]
                text = piece.strip()
                if text and self._says_something(text):
                    low += len(piece) - len(piece.lstrip())  # to search for a long text takes as long as all the rest
                    yield CutOut(
                        low, low + len(text), thinks and is_thinking(value, self.delimiters, low, low + len(text))
                    )

    def front_thinking(self, value: str, start: int, end: int) -> tuple[int, int] | None:
        """The words of the one block of thinking that opens a text whose rest is `[start, end)`.

        None for another text, and where the rest has a delimiter. `cuts` has the same for the block, and looks at each
        delimiter and gap.

        >>> cutter = Cutter(words=frozenset(), delimiters=(("<think>", "</think>"),), models=frozenset())
        >>> cutter.front_thinking("<think> Two. </think>Four.", 21, 26)
        (8, 12)
        """
        for open_, close, shared in self._pairs:
            at = value.find(close)
            if at < 0:
                continue
            rest = at + len(close)
            if rest > start:
                return None
            low = len(open_) if value.startswith(open_) else 0
            # A delimiter once more, in front of the rest or in it. One character is found in a tenth of the time.
            if (value.find(shared, low) != at or value.find(shared, rest) >= 0) and (
                value.find(close, rest) >= 0 or value.find(open_, low) >= 0
            ):
                return None
            inner = value[low:at]
            text = inner.strip()
            if not text or value[end:].strip() or value[rest:start].strip() or not self._says_something(text):
                return None
            # Another pair's delimiter would cut the block in two.
            if len(self.delimiters) > 1 and any(
                marker in value for pair in self.delimiters if pair != (open_, close) for marker in pair
            ):
                return None
            low += inner.index(text[0])  # in front of it are blanks
            return low, low + len(text)
        return None

    @cached_property
    def _pairs(self) -> tuple[tuple[str, str, str], ...]:
        """The delimiters, each pair with its first character where they share it."""
        return tuple((open_, close, open_[0] if open_[0] == close[0] else "") for open_, close in self.delimiters)

    def missing(self, value: str, shown: str) -> tuple[int, int] | None:
        """The first words of a text that are not in what was made of it; None if all are.

        Upper and lower case count as the same.

        >>> cutter = Cutter(words=frozenset(), delimiters=(), models=frozenset())
        >>> cutter.missing("One two three", "ONE TW…")
        (4, 13)
        """
        value = self._removed.sub(lambda marker: " " * len(marker.group()), value)
        near = shown.casefold()
        words = frozenset(_WORD.findall(near))
        found: tuple[int, int] | None = None
        for word in itertools.islice(_WORD.finditer(value), _MOST_WORDS):
            there = word.group().casefold() in words or word.group() in self._markers
            if not there and word.group().casefold() not in near:
                found = (word.start() if found is None else found[0], word.end())
            elif found is not None:
                break
        return found

    @cached_property
    def _openings(self) -> frozenset[str]:
        """The first two characters of the markers that are removed, or the one that there is."""
        return frozenset(marker[:2] for marker in self._markers if marker and not marker.isalnum())

    def _says_something(self, text: str) -> bool:
        if text in self._markers:
            return False
        # Most texts begin with a letter that begins no marker.
        if text[0].isalnum() and text[0] not in self._openings and text[:2] not in self._openings:
            return True
        word = _LETTER.search(text)
        if word is None:
            return False
        # Words first, as most texts have, and no search for markers: none begins before the first letter.
        head = text[: word.start() + 2]
        if len(head) < _NEAR and self._openings.isdisjoint((*head, *map(operator.add, head, head[1:]))):
            return True
        return any(map(str.isalnum, self._removed.sub("", text)))

    def _pieces(self, start: int, end: int, value: str) -> Iterator[tuple[int, int]]:
        """The characters between delimiters of thinking."""
        for low, high in sorted(self._delimiters(start, end, value)):
            if start < low:
                yield start, low
            start = max(start, high)
        if start < end:
            yield start, end

    def _delimiters(self, start: int, end: int, value: str) -> Iterator[tuple[int, int]]:
        for pair in self.delimiters:
            for marker in pair:
                # Also one that is cut in its middle.
                at = value.find(marker, max(0, start - len(marker) + 1), end + len(marker) - 1)
                while at >= 0:
                    yield at, min(end, at + len(marker))
                    at = value.find(marker, at + len(marker), end + len(marker) - 1)


def _outside(value: str, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    at = 0
    for start, end in sorted(ranges):
        if at < start:
            yield at, start
        at = max(at, end)
    if at < len(value):
        yield at, len(value)


def json_strings(value: str) -> str:
    """The strings of a JSON text without their escapes, each at its place; other text as it is.

    >>> json_strings('{"city": ["Malm\\\\u00f6", 1.5e3]}').split()
    ['city', 'Malmö']
    """
    try:
        json.loads(value)
    except ValueError:
        return value
    return _TOKEN.sub(_json_string, value)


def _json_string(token: re.Match[str]) -> str:
    text = token.group()
    if not text.startswith('"'):
        return " " * len(text)
    return " " + _ESCAPED.sub(_json_escape, text[1:-1]) + " "


def _json_escape(escape: re.Match[str]) -> str:
    return str(json.loads('"' + escape.group() + '"')).ljust(len(escape.group()))

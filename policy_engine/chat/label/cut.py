"""Text of a field that a template leaves out, though it writes the rest of the field.

Qwen3 keeps the text behind the last `</think>`, and the thinking before it:

    content   <think>Plan.</think>I look.<think>Found.</think>It is 4.
    text      <|im_start|>assistant⏎<think>⏎Plan.⏎</think>⏎⏎It is 4.<|im_end|>
    left out  I look.   Found.    text that an answer loses, and thinking

Blanks around a text are nobody's loss, nor is what the template looks for, such as `</think>` or `/no_think`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from policy_engine.chat.label.thinking import Delimiters, is_thinking


class CutOut(NamedTuple):
    """Characters `[start, end)` of a field that are left out."""

    start: int
    end: int
    is_thinking: bool


@dataclass(frozen=True)
class Cutter:
    """Finds what a template leaves out of texts.

    `words` are the strings that the template has, `delimiters` the pairs around thinking that it knows.

    >>> cutter = Cutter(words=frozenset({"</think>"}), delimiters=(("<think>", "</think>"),))
    >>> whole = "Plan.</think>I look.</think>It is 4."
    >>> [whole[cut.start : cut.end] for cut in cutter.cuts(whole, [(0, 5), (28, 36)], thinks=True)]
    ['I look.']
    >>> cutter.is_whole(whole, [(0, 5), (13, 20), (28, 36)])
    True
    """

    words: frozenset[str]
    delimiters: Delimiters

    @cached_property
    def _markers(self) -> frozenset[str]:
        found = {word.strip() for word in self.words}
        return frozenset({*found, *(marker for pair in self.delimiters for marker in pair), ""})

    @cached_property
    def _removed(self) -> re.Pattern[str]:
        """The markers, longest first: words alone, such as `user`, may be any text."""
        marked = (marker for marker in self._markers if not marker.isalnum() and marker)
        return re.compile("|".join(map(re.escape, sorted(marked, key=len, reverse=True))) or r"(?!)")

    def is_whole(self, value: str, ranges: Iterable[tuple[int, int]]) -> bool:
        """True if nothing but blanks and single markers of the template is outside of the ranges."""
        markers = self._markers
        return all(value[start:end].strip() in markers for start, end in _outside(value, ranges))

    def cuts(self, value: str, ranges: Sequence[tuple[int, int]], *, thinks: bool) -> Iterator[CutOut]:
        """The pieces with words in them that are outside of the ranges; `thinks` for text of the model."""
        for start, end in _outside(value, ranges):
            for low, high in self._pieces(start, end, value) if thinks else ((start, end),):
                text = value[low:high]
                low, high = low + len(text) - len(text.lstrip()), low + len(text.rstrip())
                if low < high and self._says_something(value[low:high]):
                    yield CutOut(low, high, thinks and is_thinking(value, self.delimiters, low, high))

    def _says_something(self, text: str) -> bool:
        return text not in self._markers and any(map(str.isalnum, self._removed.sub("", text)))

    def _pieces(self, start: int, end: int, value: str) -> Iterator[tuple[int, int]]:
        """The characters between delimiters of thinking."""
        ends = "|".join(re.escape(marker) for pair in self.delimiters for marker in pair)
        for match in re.finditer(ends, value) if ends else ():
            if start < match.end() and match.start() < end:
                if start < match.start():
                    yield start, match.start()
                start = match.end()
        if start < end:
            yield start, end


def _outside(value: str, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    at = 0
    for start, end in sorted(ranges):
        if at < start:
            yield at, start
        at = max(at, end)
    if at < len(value):
        yield at, len(value)

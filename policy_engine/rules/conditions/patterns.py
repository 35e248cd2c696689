"""RE2 patterns: compiled once per process, and searched within a budget of bytes."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from policy_engine.core.errors import ConfigError

# Imported by the first pattern: few policies have one.
if TYPE_CHECKING:
    import numpy as np
    import re2

SCAN_LIMIT = 2_000_000_000
"""Bytes that the searches for all matches may read in one row; a few seconds of RE2."""

# RE2 does not say how far a search read, so each is charged with the most that its pattern can make it read.
# A pattern without unbounded repetition never looks far past its match.
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")
# A pattern without any of these cannot match a newline, so it never looks past the line its match ends on.
_NEWLINE = re.compile(r"\\[^wdbBS.\-/+*?|()\[\]{}^$\\]|\[\^|\[:|\(\?[a-zA-Z]*s|[\x00-\x1f]")


@functools.lru_cache(maxsize=4096)
def compile_pattern(pattern: str, flags: str = "") -> re2._Regexp:
    """A compiled RE2 pattern.

    `flags` are RE2's inline letters (`i`, `m`, `s`, `U`). Capture groups mean nothing.

    Raises ConfigError if RE2 does not take it (a checked policy's patterns have been tried).

    >>> compile_pattern("a+", "i").search("xAA") is not None
    True
    """
    import re2

    options = re2.Options()
    # Without groups RE2 need not record where they match, which is faster.
    options.never_capture = True
    # RE2 would write to stderr what the exception says too.
    options.log_errors = False
    try:
        # RE2's options have no place for `U`, so all flags are written inline.
        return re2.compile(f"(?{flags}){pattern}" if flags else pattern, options)
    except re2.error as error:
        # google-re2 raises its message as bytes.
        detail = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else error
        raise ConfigError(f"regex `{pattern}` is not valid in RE2: {detail}") from None


def encode(text: str) -> bytes:
    """UTF-8, with U+FFFD for each lone surrogate, which JSON can hold and UTF-8 cannot.

    >>> encode("é")
    b'\\xc3\\xa9'
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # One character for one, so that offsets stay right.
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text).encode("utf-8")


def search(pattern: re2._Regexp, text: str) -> bool:
    """True if the pattern occurs anywhere in a text. The time is linear in the text's length.

    >>> search(compile_pattern("a+b"), "xaab")
    True
    """
    return pattern.search(encode(text)) is not None


class ScanBudget:
    """Bytes that a row's regexes may still look at."""

    def __init__(self, limit: int | None = None) -> None:
        self.left = SCAN_LIMIT if limit is None else limit

    def matches(self, pattern: re2._Regexp, source: str, text: str) -> Iterator[tuple[int, int]]:
        """All non-empty, non-overlapping matches as character ranges, leftmost first.

        `source` is the pattern as written, its flags in front. Raises ScanLimitError when the budget is spent.

        >>> list(ScanBudget().matches(compile_pattern("[0-9]+"), "[0-9]+", "é 4, 15"))
        [(2, 3), (5, 7)]
        """
        # As bytes: the budget counts bytes, and a lone surrogate could not be encoded by google-re2.
        data = encode(text)
        to_char = _char_offsets(data, text)
        bounded = _UNBOUNDED.search(source) is None
        one_line = _NEWLINE.search(source) is None
        at = 0
        for match in pattern.finditer(data):
            start, end = match.span()
            read_to = len(data)
            if bounded:
                read_to = end
            elif one_line and (newline := data.find(b"\n", end)) >= 0:
                read_to = newline
            self._spend(read_to - at)
            # After an empty match the search goes on one byte further.
            at = max(end, at + 1)
            if start < end:
                yield (start, end) if to_char is None else (int(to_char[start]), int(to_char[end]))
        # The last search, which found nothing, has read to the end.
        self._spend(max(0, len(data) - at))

    def _spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ScanLimitError


class ScanLimitError(Exception):
    """The scan budget of a row is spent.

    The code that knows the rule catches this, and raises a RowError that names the rule.
    """


def _char_offsets(data: bytes, text: str) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """Character index of each byte offset, end included; None if the two are equal."""
    if len(data) == len(text):
        return None
    # Imported here: proofs about policies compile patterns too, and search no text.
    import numpy as np

    # Bytes `10xxxxxx` continue a character in UTF-8; all others begin one.
    leads = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(leads, dtype=np.int64)))

"""JSON Lines and JSON as streams of rows, any size in constant memory.

{"messages": […]}     row 1
{"messages": [        row 2: a RowError in its place; the rows after it are read
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

from policy_engine.core.errors import DataError, RowError
from policy_engine.data.json_text import UNREAD, JsonReader, read_fast

TextKind = Literal["jsonl", "json", "auto"]
Numbered = tuple[int, Any]
"""A row's number, from 1, and the row or the RowError in its place."""


class Line(NamedTuple):
    """A row of JSON Lines that is not read yet: its line's number in the file, and its bytes."""

    number: int
    text: bytes


MAX_ROW: Final = 64 << 20
"""Bytes of one row; a longer line is refused, so that a file without newlines cannot fill the memory."""
MAX_DOCUMENT: Final = 1 << 30
"""Bytes of a JSON object that holds the list of rows, which is loaded whole."""
_CHUNK: Final = 1 << 20
_SNIFFED: Final = 1 << 16
_BLANK: Final = b" \t\r\n"
_MAGIC: Final = {
    b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file", b"\x1f\x8b": "gzip data", b"\x28\xb5\x2f\xfd": "zstd data",
    b"PK\x03\x04": "a zip archive", b"BZh": "bzip2 data", b"\xfd7zXZ": "xz data", b"SQLite": "an SQLite database",
    b"\x93NUMPY": "a NumPy array", b"\xff\xff\xff\xff": "an Arrow stream",
}  # fmt: skip
_BOMS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip

_MESSAGE: Final = re.compile(rb'\[\s*\{[^\[{]*"(role|from)"\s*:')


def what_it_is(head: bytes) -> str | None:
    """The kind of binary file that starts with these bytes; None if they say nothing.

    >>> what_it_is(b"PAR1"), what_it_is(b"{}")
    ('a Parquet file', None)
    """
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def read_text(stream: io.BufferedReader, name: str, kind: TextKind, *, unread: bool = False) -> Iterator[Numbered]:
    """The rows of a stream, numbered by line, blank lines included; items of an array by item.

    `json` and `auto` (a pipe) tell an array, an object that holds a list of rows, and JSON Lines apart. With `unread`
    rows of JSON Lines are left as `Line`, for `read_unread`.

    Raises DataError for data that is no text, is empty, or breaks off where reading cannot go on.
    """
    first = _check_start(stream, name)
    if first == b"[" and kind != "jsonl":
        # A pipe has no extension: JSON Lines of message lists begin with `[` as an array does.
        line = _peek_line(stream) if kind == "auto" else None
        if line is None or not _is_message_list(line):
            yield from _array(stream, name)
            return
    if first == b"{" and kind == "json" and not _is_object_line(stream):
        yield from _document(stream, name)
        return
    yield from (unread_lines if unread else read_lines)(stream, name)


def _check_start(stream: io.BufferedReader, name: str) -> bytes:
    """The first character that is not blank, after a UTF-8 byte order mark was skipped."""
    head = stream.peek(_SNIFFED)[:_SNIFFED]
    if not head:
        raise DataError(f"`{name}` is empty", help="give a file with at least one row")
    # UTF-32 before UTF-16: the little-endian mark of the first begins with that of the second.
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            raise DataError(
                f"`{name}` is {encoding}, not UTF-8",
                help=f"convert it: iconv -f {encoding} -t UTF-8 IN > OUT",
            )
    what = what_it_is(head)
    # JSON text has no NUL; UTF-16 without a mark has one at every second byte.
    if what is not None or b"\x00" in head:
        raise DataError(
            f"`{name}` is {what or 'binary, or UTF-16 without a byte order mark'}, not JSON text",
            help="give it its own extension, such as .parquet or .jsonl.gz (a pipe takes JSON text only)"
            if what
            else "give JSON Lines, JSON, Parquet or an Arrow folder",
        )
    if head.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
        head = head[len(codecs.BOM_UTF8) :]
    return head.lstrip(_BLANK)[:1]


def _peek_line(stream: io.BufferedReader) -> bytes:
    """The first line that is not blank, as far as it is buffered."""
    return stream.peek(_SNIFFED).lstrip(_BLANK).split(b"\n", 1)[0]


def _is_message_list(line: bytes) -> bool:
    """True if a line is one row that is a list of messages, not the start of an array of rows.

    >>> _is_message_list(b'[{"role": "user"}]'), _is_message_list(b'[{"id": 1},')
    (True, False)
    """
    return _MESSAGE.match(line) is not None


def _is_object_line(stream: io.BufferedReader) -> bool:
    """True if the text goes on after a first line that is an object: JSON Lines called .json."""
    head = stream.peek(_SNIFFED).lstrip(_BLANK)
    line, newline, rest = head.partition(b"\n")
    if not newline:
        # A first line longer than what is buffered; a document that is laid out for people has short lines.
        return len(head) >= io.DEFAULT_BUFFER_SIZE
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        # A broken first row: a line of its own, and the next one opens an object again.
        return line.rstrip() != b"{" and rest.lstrip(_BLANK).startswith(b"{")
    return bool(rest.strip(_BLANK))


def read_lines(stream: io.BufferedReader, name: str, *, before: int = 0) -> Iterator[Numbered]:
    """The rows of JSON Lines, numbered by line; `before` lines of the file come before these.

    >>> lines = io.BufferedReader(io.BytesIO(b'{"a": 1}\\n\\n[2]\\n'))
    >>> list(read_lines(lines, "chats.jsonl"))
    [(1, {'a': 1}), (3, [2])]
    """
    return read_unread(unread_lines(stream, name, before=before))


def read_unread(rows: Iterable[Numbered]) -> Iterator[Numbered]:
    """The same rows, those that are a `Line` read.

    >>> list(read_unread([(7, Line(7, b'{"a": 1}')), (8, [2])]))
    [(7, {'a': 1}), (8, [2])]
    """
    reader = JsonReader()
    for number, row in rows:
        if type(row) is Line:
            read = read_fast(row.text)
            row = _row(row.text, f"line {row.number}", reader) if read is UNREAD else read
        yield number, row


def unread_lines(stream: io.BufferedReader, name: str, *, before: int = 0) -> Iterator[Numbered]:
    """The lines of JSON Lines that are not blank, as `Line`; too long ones as RowError."""
    number = before
    rows = before
    # One byte more, to tell a line of just that length from a longer one.
    while line := stream.readline(MAX_ROW + 1):
        number += 1
        if len(line) > MAX_ROW:
            rows += 1
            yield number, RowError(f"line {number} is longer than {MAX_ROW >> 20} MiB", help="is this JSON Lines?")
            # The rest of the long line, in pieces.
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_ROW)
            continue
        text = line.strip(_BLANK)
        if not text:
            number += _skip_blank(stream)
            continue
        # Only on the first row: later it is a broken line like any other.
        if rows == 0 and text in (b"[", b"{"):
            raise DataError(
                f"`{name}` is one JSON document over several lines, not JSON Lines", help="rename it to .json"
            )
        rows += 1
        yield number, Line(number, text)


def _skip_blank(stream: io.BufferedReader) -> int:
    """Passes over blank lines, gigabytes of them perhaps; returns their number."""
    lines = 0
    while True:
        head = stream.peek(_CHUNK)
        blank = len(head) - len(head.lstrip(_BLANK))
        if not blank:
            return lines
        lines += head.count(b"\n", 0, blank)
        stream.read(blank)


_FIX: Final = "fix or remove the line; the rows after it are read all the same"


def _row(text: bytes, place: str, reader: JsonReader) -> Any:
    try:
        decoded = text.decode("utf-8")
        row = reader.decode(decoded)
    except UnicodeDecodeError as error:
        return RowError(f"{place} is not UTF-8: byte {error.start + 1} is 0x{text[error.start]:02x}", help=_FIX)
    except json.JSONDecodeError as error:
        return RowError(f"{place} is not JSON: {error.msg} at column {error.colno}{_hint(text)}", help=_FIX)
    except (ValueError, RecursionError) as error:
        return RowError(f"{place} is not usable JSON: {error}", help=_FIX)
    problem = reader.problem(row, decoded)
    if problem is not None:
        return RowError(f"{place} {problem}", help=_FIX)
    # Only escapes can make half a character. One search first, since most rows have no escape of the kind.
    escaped = b"\\u" in text and (b"\\ud" in text or b"\\uD" in text)
    return _without_surrogates(row, place) if escaped else row


def _hint(text: bytes) -> str:
    return " (it has single quotes: a Python dict, not JSON)" if text.startswith((b"{'", b"[{'")) else ""


def _checked(row: Any, problem: str | None, place: str) -> Any:
    """The row, or an error if it has a problem or cannot be text."""
    return _without_surrogates(row, place) if problem is None else RowError(f"{place} {problem}", help=_FIX)


def _without_surrogates(row: Any, place: str) -> Any:
    """The row, or an error if an escape stands for half a character, which no tokenizer takes."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(str(error.object)[error.start]):04x}"
        return RowError(f"{place} has `{half}`, one half of a surrogate pair", help="write the whole character")
    return row


def _array(stream: io.BufferedReader, name: str) -> Iterator[Numbered]:
    """The items of a JSON array, decoded one by one from a window that moves over the text."""
    reader = JsonReader()
    window = _Window(stream, name)
    window.skip("[")
    number = 0
    while True:
        char = window.next_char()
        if char == "]" and number == 0:
            break
        number += 1
        while True:
            try:
                item, end = reader.decoder.raw_decode(window.text, window.at)
            except json.JSONDecodeError as error:
                # Where the window ends inside the item, more text may make it whole.
                # An error this near to the end may be a cut word or escape: `tru`, `\u00`.
                cut = error.pos >= len(window.text) - 16 or error.msg.startswith("Unterminated string")
                if not (cut and window.more()):
                    raise _broken(name, number, f"{error.msg} at character {window.dropped + error.pos + 1}") from None
            except (ValueError, RecursionError) as error:
                raise _broken(name, number, str(error)) from None
            else:
                # A number that ends with the window may have more digits.
                if end < len(window.text) or not window.more():
                    break
        start, window.at = window.at, end
        yield number, _checked(item, reader.problem(item, window.text, start, end), f"item {number}")
        char = window.next_char()
        if char == "]":
            break
        if char != ",":
            raise _broken(name, number + 1, f"expected `,` or `]`, found {f'`{char}`' if char else 'the end'}")
        window.at += 1
    window.at += 1
    if window.next_char():
        raise DataError(f"`{name}` goes on after its JSON array", help="JSON Lines files end in .jsonl")


def _broken(name: str, number: int, reason: str) -> DataError:
    return DataError(
        f"`{name}`: item {number} of the array is not JSON: {reason}",
        help="rows before it were read; JSON Lines (.jsonl) lets the rows after a broken one be read too",
    )


class _Window:
    """Decoded text of a stream; text that was read is dropped now and then.

    `at` is the place reached in `text`.
    """

    def __init__(self, stream: io.BufferedReader, name: str) -> None:
        self._stream = stream
        self._name = name
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._size = _CHUNK
        self.text = ""
        self.at = 0
        self.dropped = 0

    def more(self) -> bool:
        """Reads on; False at the end of the stream."""
        # A missing quote would else read the whole file into memory.
        if len(self.text) - self.at > MAX_ROW:
            raise DataError(f"`{self._name}` has an item longer than {MAX_ROW >> 20} MiB", help="is a quote missing?")
        data = self._stream.read(self._size)
        # An item that does not fit is decoded again each time: growing reads keep that linear.
        self._size = min(self._size * 2, MAX_ROW)
        try:
            text = self._decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise DataError(f"`{self._name}` is not UTF-8: {error.reason}", help="convert it with iconv") from None
        self.text += text
        return bool(data)

    def next_char(self) -> str:
        """The next character that is not blank, left in place; empty at the end."""
        # Now and then, not for each item: cutting copies the rest.
        if self.at > _CHUNK:
            self.dropped += self.at
            self.text, self.at, self._size = self.text[self.at :], 0, _CHUNK
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in " \t\r\n":
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""

    def skip(self, char: str) -> None:
        """Passes over `char`, which is known to come next."""
        assert self.next_char() == char
        self.at += 1


def _document(stream: io.BufferedReader, name: str) -> Iterator[Numbered]:
    """The rows of a JSON object: its one list of objects, or itself if it is a conversation."""
    data = stream.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise DataError(
            f"`{name}` is a JSON object of more than {MAX_DOCUMENT >> 30} GiB",
            help="convert it: jq -c '.KEY[]' IN > OUT",
        )
    reader = JsonReader()
    try:
        text = data.decode("utf-8")
        document = reader.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"`{name}` is not JSON: {error}", help="if it is JSON Lines, rename it to .jsonl") from None
    lists = {k: v for k, v in document.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
    # A list of messages is one conversation, not a list of rows.
    if not lists or any({"role", "from"} & v[0].keys() for v in lists.values()):
        yield 1, _checked(document, reader.problem(document, text), "the object")
        return
    if len(lists) > 1:
        names = ", ".join(f"`{key}`" for key in lists)
        raise DataError(f"`{name}` holds several lists: {names}", help="write the one to read as JSON Lines")
    for number, item in enumerate(next(iter(lists.values())), start=1):
        yield number, _checked(item, reader.problem(item, text), f"item {number}")

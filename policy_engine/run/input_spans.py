"""An input cut into spans: stretches of rows that can be read by themselves.

Each span becomes one output shard.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import DataError
from policy_engine.core.source import LINE_SUFFIXES, Place
from policy_engine.data.files.read_arrow import parquet_groups, read_parquet
from policy_engine.data.files.read_text import MAX_ROW, Numbered, read_lines, read_text, read_unread
from policy_engine.data.files.readers import Rows, batched
from policy_engine.data.files.stamp import Stamp, changed

SPAN_ROWS: Final = 4096
"""Rows of one span where the input can only be read from its start."""
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class InputSpan:
    """A stretch of the input.

    It is either a place in `file` (bytes `[start, end)` of JSON Lines, or row groups of Parquet), or `rows` themselves.
    `before` is the number of rows of `file` before it, `base` the number of rows of all files before that one.
    """

    index: int
    file: Path | None = None
    start: int = 0
    end: int = 0
    groups: tuple[int, ...] | None = None
    before: int = 0
    base: int = 0
    rows: tuple[Numbered, ...] | None = None
    stamp: Stamp | None = None
    """`file` as it was when the run began."""
    places: tuple[tuple[int, str], ...] = ()
    """For `rows`: number before the first row of each file, and its name."""

    def read(self) -> Iterator[Numbered]:
        """The rows, with their numbers in the input.

        Raises DataError where reading cannot go on, and if the file is not as it was when the run began.
        """
        if self.rows is not None:
            yield from read_unread(self.rows)
            return
        self._check()
        yield from self._read()
        self._check()

    def _check(self) -> None:
        if self.file is not None and self.stamp is not None:
            self.stamp.check(self.file)

    def _read(self) -> Iterator[Numbered]:
        assert self.file is not None
        if self.groups is not None:
            yield from enumerate(read_parquet(self.file, self.groups), start=self.base + self.before + 1)
            return
        try:
            with self.file.open("rb") as file:
                file.seek(self.start)
                data = file.read(self.end - self.start)
        except OSError as error:
            raise DataError(f"`{self.file}` cannot be read: {error.strerror or error}") from None
        if len(data) != self.end - self.start:
            raise DataError(f"`{self.file}` became shorter while it was read", help="run again on a file that is whole")
        stream: Any = io.BufferedReader(io.BytesIO(data), 1 << 20)
        name = str(self.file)
        # Only the start of a file may have a byte order mark, which `read_text` looks for.
        lines = read_text(stream, name, "jsonl") if self.start == 0 else read_lines(stream, name, before=self.before)
        for number, row in lines:
            yield self.base + number, row

    def where(self, number: int) -> Place:
        """The place of a row: `chats.jsonl:7`.

        >>> str(InputSpan(index=1, file=Path("more.jsonl"), before=3, base=10).where(14))
        'more.jsonl:4'
        """
        if self.file is not None:
            return Place(file=str(self.file), number=number - self.base)
        found = [(base, name) for base, name in self.places if base < number]
        base, file = found[-1] if found else (0, None)
        return Place(file=file, number=number - base)


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """The values that tell an input file from a changed one."""

    path: str
    size: int
    sha256: str


def check_digests(files: Iterable[InputFile]) -> None:
    """Reads files once more, and compares them with what they were.

    Raises DataError for a file that changed; its stamp may not show that.
    """
    for file in files:
        if _scan(Path(file.path))[0] != file:
            raise changed(Path(file.path), "its contents are others")


def plan(rows: Rows, *, size: int) -> tuple[tuple[InputFile, ...], list[InputSpan] | None]:
    """Identity of the files of an input, and their spans.

    The spans are None if a file can only be read from its start. Reads every file once.
    """
    identities: list[InputFile] = []
    spans: list[InputSpan] | None = []
    base = 0
    for file, stamp in zip(rows.files, rows.stamps):
        lines = file.suffix.lower() in LINE_SUFFIXES
        # The whole file is read for its digest anyway; its lines are counted on the way.
        identity, cuts, last, longest = _scan(file, size if lines else 0)
        identities.append(identity)
        # One file cannot be cut, so the others are not either; the identities of the rest are still needed.
        if spans is None:
            continue
        if lines and not identity.size:
            raise DataError(f"`{file}` is empty", help="give a file with at least one row")
        # Longer than any row may be: the reader has an error for it, which has to come in its place in the file.
        if lines and longest <= MAX_ROW:
            for start, end, before in cuts:
                spans.append(
                    InputSpan(index=len(spans), file=file, stamp=stamp, start=start, end=end, before=before, base=base)
                )
            # Blank lines at the end are no rows, so the next file is numbered from the last line that has something.
            base += last
        elif file.suffix == ".parquet":
            for groups, before in _grouped(parquet_groups(file), size):
                spans.append(
                    InputSpan(index=len(spans), file=file, stamp=stamp, groups=groups, before=before, base=base)
                )
            base += sum(rows for rows, _ in parquet_groups(file))
        else:
            # Compressed files and JSON arrays can only be read from their start.
            spans = None
    # What was scanned has to be what was stamped when the run began.
    rows.check_unchanged()
    return tuple(identities), spans


def _grouped(groups: list[tuple[int, int]], size: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Row groups put together to about `size` bytes, and the rows before them.

    >>> list(_grouped([(100, 40), (100, 40), (50, 20)], 60))  # (rows, bytes) of each row group
    [((0, 1), 0), ((2,), 200)]
    """
    held: list[int] = []
    held_bytes, before, rows = 0, 0, 0
    for i, (count, count_bytes) in enumerate(groups):
        held.append(i)
        held_bytes += count_bytes
        rows += count
        if held_bytes >= size or i == len(groups) - 1:
            yield tuple(held), before
            held, held_bytes, before = [], 0, rows


def _scan(file: Path, size: int = 0) -> tuple[InputFile, list[tuple[int, int, int]], int, int]:
    """A file's identity; with `size`, also the places where its lines are cut.

    With `size` the result has the cuts (start, end, lines before), the number of the last line that is not blank, and
    the length of the longest stretch without a newline, roughly.
    """
    digest = hashlib.sha256()
    cuts: list[tuple[int, int, int]] = []
    at = start = lines = before = last = newline = longest = 0
    try:
        with file.open("rb") as stream:
            # Cuts are made at the end of what is read at a time.
            while chunk := stream.read(min(_CHUNK, max(size, 256)) if size else _CHUNK):
                digest.update(chunk)
                if size:
                    stripped = chunk.rstrip(b" \t\r\n")
                    if stripped:
                        last = lines + stripped.count(b"\n") + 1
                    lines += chunk.count(b"\n")
                    # A cut after a newline: a row of JSON Lines has no newline inside.
                    found = chunk.rfind(b"\n")
                    if found >= 0:
                        newline = at + found + 1
                        if newline - start >= size:
                            cuts.append((start, newline, before))
                            start, before = newline, lines
                    longest = max(longest, at + len(chunk) - newline)
                at += len(chunk)
    except OSError as error:
        raise DataError(f"`{file}` cannot be read: {error.strerror or error}", help="check its permissions") from None
    if size and at > start:
        cuts.append((start, at, before))
    return InputFile(path=str(file), size=at, sha256=digest.hexdigest()), cuts, last, longest


def inline_spans(numbered: Iterator[Numbered], rows: Rows, *, size: int = SPAN_ROWS) -> Iterator[InputSpan]:
    """Spans that carry their rows, of an input that can only be read from its start.

    Where reading breaks off, the rows before that come first.
    """
    for index, held in enumerate(batched(numbered, size)):
        yield InputSpan(index=index, rows=tuple(held), places=rows.places)


def describe(span: InputSpan) -> str:
    """A span in words, for messages about it.

    >>> describe(InputSpan(index=0, file=Path("chats.jsonl"), start=0, end=900))
    '`chats.jsonl` from line 1 (bytes 0 to 900)'
    """
    if span.file is None:
        rows: Any = span.rows or ()
        return f"rows {rows[0][0]} to {rows[-1][0]}" if rows else "no rows"
    if span.groups is not None:
        return f"row groups {span.groups[0]} to {span.groups[-1]} of `{span.file}`"
    return f"`{span.file}` from line {span.before + 1} (bytes {span.start} to {span.end})"

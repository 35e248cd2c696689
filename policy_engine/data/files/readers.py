"""Datasets as streams of numbered rows: files, folders of files, Arrow folders, a pipe.

>>> number, row = next(iter(read_rows("chats.jsonl")))  # doctest: +SKIP
"""

from __future__ import annotations

import io
import sys
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import DataError
from policy_engine.core.source import Place
from policy_engine.core.suggest import file_meant
from policy_engine.data.files.read_text import Numbered, TextKind, read_text, what_it_is
from policy_engine.data.files.saved_dataset import arrow_files
from policy_engine.data.files.stamp import Stamp

PIPE: Final = "-"
_TEXT: Final[dict[str, TextKind]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_ARROW: Final = (".parquet", ".arrow")
_Stream = tuple[Any, tuple[type[Exception], ...]]
"""The text of a compressed file as a stream, and the errors that reading it may raise."""


def _gunzip(raw: io.FileIO) -> _Stream:
    import gzip

    return gzip.GzipFile(fileobj=raw), (OSError, EOFError, zlib.error)


def _unzstd(raw: io.FileIO) -> _Stream:
    import pyarrow as pa

    # Arrow brings zstd along, and reads a file of several frames as one.
    return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"), (OSError, EOFError, pa.ArrowException)


_COMPRESSED: Final[dict[str, Callable[[io.FileIO], _Stream]]] = {".gz": _gunzip, ".zst": _unzstd}
"""Compressions of text files by the last suffix."""
SUFFIXES: Final = (*_TEXT, *_COMPRESSED, *_ARROW)
"""Endings of the names of data files."""
_KNOWN_HELP: Final = (
    f"known are {', '.join(_TEXT)} (each also with {' or '.join(_COMPRESSED)}), {', '.join(_ARROW)}, a folder of "
    "these, or a folder that `datasets.save_to_disk` wrote; - reads JSON Lines from a pipe"
)


class Rows(Iterator[Numbered]):
    """Rows of a dataset, each with its number, read as they are asked for.

    Iterating gives `(number, row)`, numbers from 1: the line of a JSON Lines file, else the position. A row that cannot
    be read is a RowError in its place. Iterating raises DataError where reading cannot go on. With `unread` rows of
    JSON Lines are `Line`, which `read_unread` reads.
    """

    def __init__(self, files: list[Path], *, pipe: io.BufferedReader | None = None, unread: bool = False) -> None:
        self.files = tuple(files)
        self._unread = unread
        # Taken before anything is read, so that whatever changes later shows.
        self.stamps = tuple(_stamp(file) for file in files)
        self._starts: list[int] = []
        # A pipe has no length.
        self._fraction: Callable[[], float | None] = lambda: None
        self._rows = self._read_files() if pipe is None else read_text(pipe, "<stdin>", "auto", unread=unread)
        # The first row is read at once, so that a file that cannot be read at all is reported before anything is made.
        self._first: list[Numbered] = [row for row in [next(self._rows, None)] if row is not None]
        if not self._first:
            name = "the pipe" if pipe is not None else ", ".join(f"`{file}`" for file in files[:3])
            raise DataError(f"{name} has no rows", help="give data with at least one row")

    def __iter__(self) -> Rows:
        return self

    def __next__(self) -> Numbered:
        return self._first.pop() if self._first else next(self._rows)

    def check_unchanged(self) -> None:
        """Raises DataError if a file is not as it was before the first row was read."""
        for file, stamp in zip(self.files, self.stamps):
            if stamp is not None:
                stamp.check(file)

    @property
    def fraction(self) -> float | None:
        """The share of the input that was read, from 0 to 1; None where that is not known."""
        return self._fraction()

    @property
    def places(self) -> tuple[tuple[int, str], ...]:
        """The files that reading has come to: the number before the first row of each, and its name."""
        return tuple((start, str(file)) for start, file in zip(self._starts, self.files))

    def where(self, number: int) -> Place:
        """The place of a row: `chats.jsonl:7`."""
        # Of the files begun so far, the last one that begins before this row.
        index = bisect_right(self._starts, number - 1) - 1
        if not self.files or index < 0:
            return Place(file=None, number=number)
        return Place(file=str(self.files[index]), number=number - self._starts[index])

    def _read_files(self) -> Iterator[Numbered]:
        start = 0
        for index, file in enumerate(self.files):
            self._starts.append(start)
            last = 0
            for number, row in self._read_file(file, index):
                last = number
                yield start + number, row
            start += last

    def _read_file(self, file: Path, index: int) -> Iterator[Numbered]:
        share = 1 / len(self.files)

        def report(fraction: Callable[[], float]) -> None:
            self._fraction = lambda: min(1.0, (index + fraction()) * share)

        kind = _text_kind(file)
        if kind is not None:
            yield from _text_rows(file, kind, report, unread=self._unread)
            return
        # Imported here: text is read without pyarrow, which takes longer to import than 1,000 rows to read.
        from policy_engine.data.files.read_arrow import parquet_rows, read_arrow, read_parquet

        if file.suffix == ".parquet":
            total = max(1, parquet_rows(file))
            done = 0
            report(lambda: done / total)
            for row in read_parquet(file):
                done += 1
                yield done, row
        else:
            yield from enumerate(read_arrow(file), start=1)
            report(lambda: 1.0)


def read_rows(path: str | Path, *, unread: bool = False) -> Rows:
    """The rows of a file, a folder or (`-`) standard input, as they stream.

    `unread` is as for `Rows`.

    Raises:
        DataError: there is no such file, it cannot be read, is empty, or is not what its extension says.
    """
    if str(path) == PIPE:
        try:
            descriptor = sys.stdin.fileno()
        except (AttributeError, ValueError, OSError):  # it was closed, or is none of the system
            raise DataError("standard input is closed", help="pipe rows into it, or give a file") from None
        return Rows([], pipe=io.BufferedReader(io.FileIO(descriptor, closefd=False), 1 << 20), unread=unread)
    path = Path(path)
    try:
        if path.is_dir():
            return Rows(arrow_files(path) or _files_of(path), unread=unread)
        if not path.exists():
            raise DataError(f"`{path}` does not exist", help=_nearby(path))
        _check_file(path)
        return Rows([path], unread=unread)
    except DataError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"`{path}` cannot be read: {error.strerror or error}", help="check the path and its permissions")


def _stamp(file: Path) -> Stamp | None:
    try:
        return Stamp.of(file)
    except OSError as error:
        raise _unreadable(file, error) from None


def _text_kind(file: Path) -> TextKind | None:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    # `chats.jsonl.gz` is JSON Lines.
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return _TEXT.get(suffixes[-1]) if suffixes else None


def _is_known(file: Path) -> bool:
    return _text_kind(file) is not None or file.suffix in _ARROW


def _check_file(file: Path) -> None:
    if _is_known(file):
        return
    with file.open("rb") as stream:
        what = what_it_is(stream.read(16))
    says = f"; it starts like {what}" if what else ""
    named = f"extension `{file.suffix}`" if file.suffix else "no extension"
    raise DataError(f"`{file}` has {named}, which says no format{says}", help=_KNOWN_HELP)


def _files_of(folder: Path) -> list[Path]:
    # By name, as shards are numbered; hidden files and `_SUCCESS` are no data.
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "_")))
    files = [entry for entry in entries if entry.is_file() and _is_known(entry)]
    if files:
        return files
    inner = [entry.name for entry in entries if entry.is_dir()]
    found = f"; it holds the folders {', '.join(f'`{name}`' for name in inner[:8])}" if inner else ""
    raise DataError(f"folder `{folder}` has no data files{found}", help=_KNOWN_HELP)


def _nearby(path: Path) -> str:
    beside = sorted(entry.name for entry in path.parent.glob("*") if entry.stem == path.stem or _is_known(entry))
    there = f"in `{path.parent}` there is {', '.join(beside[:5])}" if beside else "check the path"
    return file_meant(path) or there


def _text_rows(
    file: Path, kind: TextKind, report: Callable[[Callable[[], float]], None], *, unread: bool
) -> Iterator[Numbered]:
    try:
        # Unbuffered, so that `tell` says how much of the file was read, also under compression.
        raw = file.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(file, error) from None
    with raw:
        size = max(1, file.stat().st_size)
        report(lambda: raw.tell() / size if not raw.closed else 1.0)
        stream, errors = _decompressed(raw, file)
        with stream:
            try:
                yield from read_text(stream, str(file), kind, unread=unread)
            except errors as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(
                    f"`{file}` cannot be read on: {error}", help="is the file whole? rows before this point were read"
                ) from None


def _decompressed(raw: io.FileIO, file: Path) -> tuple[io.BufferedReader, tuple[type[Exception], ...]]:
    """The stream of a file's text, and the errors that reading it may raise."""
    opened = _COMPRESSED.get(file.suffix.lower())
    stream, errors = (raw, (OSError, EOFError)) if opened is None else opened(raw)
    return io.BufferedReader(stream, 1 << 20), errors


def batched(rows: Iterator[Numbered], size: int) -> Iterator[list[Numbered]]:
    """Lists of `size` rows. Where reading breaks off, the rows before that come first.

    >>> list(batched(iter([(1, "a"), (2, "b"), (3, "c")]), 2))
    [[(1, 'a'), (2, 'b')], [(3, 'c')]]
    """
    batch: list[Numbered] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == size:
                yield batch
                batch = []
    # A file that breaks off in row 1,000 still has 999 good rows; they are masked before the error is raised.
    except DataError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def first_rows(rows: Iterator[Numbered], size: int) -> tuple[list[Numbered], Iterator[Numbered]]:
    """The first `size` rows, and all rows from the first.

    Where reading breaks off among them, they are the rows before that, and the error comes where the others end.

    >>> first, rows = first_rows(iter([(1, "a"), (2, "b"), (3, "c")]), 2)
    >>> first, list(rows)
    ([(1, 'a'), (2, 'b')], [(1, 'a'), (2, 'b'), (3, 'c')])
    """
    # Not a row more than are asked for: they may come from a pipe.
    lists = batched(islice(rows, size), size)
    first = next(lists, [])
    return first, chain(first, chain.from_iterable(lists), rows)

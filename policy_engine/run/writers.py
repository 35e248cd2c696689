"""Output files: Parquet for training, JSON Lines for looking at.

A file has its final name only when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from policy_engine.core.errors import DataError
from policy_engine.run.output.json_lines import lines_of
from policy_engine.run.output.killed import locked
from policy_engine.run.output.places import check_output, partial_of, suffix_of

ROW_GROUP_BYTES: Final = 16 << 20
"""Bytes of columns in one Parquet row group: about 1,800,000 tokens, a fair unit to shuffle, stream and decode."""
_NUMBERS: Final = itertools.count()
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
_REFUSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


class Writer(Protocol):
    """A file being written under a temporary name."""

    def write(self, table: pa.Table) -> None:
        """Appends rows. Raises OSError if they could not be written; then only `keep` may follow."""

    def finish(self) -> None:
        """Writes what is still held, and all that makes the file whole."""

    def keep(self) -> int:
        """After a failure: makes what was finished a whole file; returns its number of rows."""


class ParquetOutput:
    """Rows in row groups, compressed with zstd.

    Before a row group is written the room for it and for the file's footer is reserved, so that a full disk is noticed
    while the footer, without which no row can be read, still fits.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._held: list[pa.Table] = []
        self._held_bytes = 0
        self._groups = 0
        self._rows = 0
        self._path = path
        self._sink = pa.OSFile(str(path), "wb")
        # Least and largest values say something of rows' numbers, and nothing of lists of ids.
        scalars = [field.name for field in schema if not pa.types.is_list(field.type)]
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            use_dictionary=_repeating(schema),
            write_statistics=scalars or False,
            # The default is 1,024, and each piece has a cost of its own: a row often has more tokens.
            write_batch_size=1 << 16,
        )

    def write(self, table: pa.Table) -> None:
        """Appends rows; a row group is written when enough are held."""
        self._held.append(table)
        self._held_bytes += table.nbytes
        if self._held_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Writes the last row group and the footer."""
        # An output without rows is a whole file too, with its columns.
        if self._held or self._groups == 0:
            self._flush()
        self._close()

    def keep(self) -> int:
        """Writes the rows held, if they fit, and the footer; returns the number of rows in the file."""
        if self._held:
            # The disk is full: what was flushed before is still worth a footer.
            with contextlib.suppress(OSError):
                self._flush()
        self._close()
        return self._rows

    def _flush(self) -> None:
        table = pa.concat_tables(self._held) if self._held else self._schema.empty_table()
        # Roomy: about 2 KiB for each column of each row group, and 64 KiB for the schema and its metadata.
        footer = (64 << 10) + 2048 * len(self._schema) * (self._groups + 1)
        # Encoded columns are at most their own size, and a dictionary of the same size beside it.
        self._reserve(self._sink.tell() + 2 * table.nbytes + footer)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._groups += 1
        self._rows += table.num_rows
        self._held, self._held_bytes = [], 0

    def _reserve(self, size: int) -> None:
        if not hasattr(os, "posix_fallocate"):
            return
        with self._path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno in _FULL:
                    raise
                # File systems that cannot reserve say so here; they still say when they are full.

    def _close(self) -> None:
        if self._sink.closed:
            return
        self._writer.close()
        # The reserved room is longer than what was written; the file is cut to it.
        size = self._sink.tell()
        self._sink.close()
        os.truncate(self._path, size)


def _repeating(schema: pa.Schema) -> list[str]:
    """The columns, by their paths in the file, whose few values are worth a dictionary.

    Ids are not: of real text a dictionary of them is larger than what it saves, and takes a third of the writing. A
    mask of ones is as small without, and looking up its bytes takes longer than packing them.

    >>> _repeating(pa.schema({"input_ids": pa.list_(pa.int32()), "loss_weights": pa.list_(pa.float32())}))
    ['loss_weights.list.element']
    """
    small = ("loss_weights", "mm_token_type_ids", "turn", "samples", "seq_lengths")
    return [f"{name}.list.element" if pa.types.is_list(schema.field(name).type) else name
            for name in schema.names if name in small]  # fmt: skip


class JsonLinesOutput:
    """Writes one JSON object per row.

    `compression` is None, `gz` or `zst`; each batch is a compressed member of its own.
    """

    def __init__(self, path: Path, compression: str | None) -> None:
        self._compression = compression
        self._rows = 0
        self._size = 0
        self._file = path.open("wb", buffering=0)

    def write(self, table: pa.Table) -> None:
        """Appends all rows, or writes nothing."""
        lines = lines_of(table)
        if self._compression == "gz":
            # Without the time of day, so that the same rows give the same file.
            packer = zlib.compressobj(9, wbits=31)
            data = b"".join([*(packer.compress(piece.encode()) for piece in lines), packer.flush()])
        else:
            data = b"".join(piece.encode() for piece in lines)
        if self._compression == "zst":
            data = pa.Codec("zstd").compress(data, asbytes=True)
        size = len(data)
        view = memoryview(data)
        # Unbuffered, a write may take only a part of the data.
        while view:
            view = view[self._file.write(view) :]
        self._size += size
        self._rows += table.num_rows

    def finish(self) -> None:
        """Closes the file."""
        self._file.close()

    def keep(self) -> int:
        """Cuts off what was written of a batch that failed; returns the number of rows in the file."""
        if not self._file.closed:
            self._file.truncate(self._size)
            self._file.close()
        return self._rows


OUTPUT_FORMATS: Final[dict[str, Callable[[Path, pa.Schema], Writer]]] = {
    ".parquet": ParquetOutput,
    ".jsonl": lambda path, schema: JsonLinesOutput(path, None),
    ".jsonl.gz": lambda path, schema: JsonLinesOutput(path, "gz"),
    ".jsonl.zst": lambda path, schema: JsonLinesOutput(path, "zst"),
}
"""Output formats by the suffix of a file, as in `OUTPUT_SUFFIXES`: what writes it, given its temporary name and its
columns."""
SHARD_SUFFIX: Final = ".parquet"
"""The format of the shards of an output folder; `run.resume` reads what is in them."""


class Output:
    """A file that gets its final name when it is whole.

    It is used as a context. Left normally, the file is finished. Left by an error or Ctrl-C, the rows that were
    finished become a whole file, NAME.partial.SUFFIX (`partial`), and `kept` is the number of its rows; None if there
    is no such file.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, overwrite: bool) -> None:
        self.path = path
        self.kept: int | None = None
        self._overwrite = overwrite
        self._discarded = False
        # Two runs of one process (in threads) may have the same output in mind.
        number = next(_NUMBERS)
        own = f"{os.getpid()}-{number}" if number else f"{os.getpid()}"
        # Beside the output, and not in a folder for temporary files: only on one file system is a rename atomic.
        self._temporary = path.with_name(f".{path.name}.{own}.tmp")
        suffix = suffix_of(path)
        self.partial = partial_of(path)
        self._mark: BinaryIO | None = None
        try:
            self._mark = locked(self._temporary)
            self._writer = OUTPUT_FORMATS[suffix](self._temporary, schema)
        except OSError as error:
            self._unmark()
            self._temporary.unlink(missing_ok=True)
            raise DataError(f"`{path}` cannot be written: {reason_of(error)}", help="choose another place") from None

    def write(self, table: pa.Table) -> None:
        """Appends rows. Raises OSError where the disk refuses them."""
        self._writer.write(table)

    def discard(self) -> None:
        """Leaves nothing behind, whatever comes."""
        self._discarded = True

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None and not self._discarded:
            try:
                self._finish()
            except BaseException:
                self._keep()
                self._unmark()
                raise
        else:
            self._keep()
        self._unmark()

    def _unmark(self) -> None:
        if self._mark is not None:
            self._mark.close()

    def _finish(self) -> None:
        self._writer.finish()
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        # Looked at again: hours may have passed since `check_output`.
        if not self._overwrite and self.path.exists():
            raise DataError(
                f"`{self.path}` was made by somebody else meanwhile", help="give another -o, or --overwrite"
            )
        with _no_interrupt():
            # A signal at this moment would say of a whole file that it was not written.
            self._temporary.replace(self.path)

    def _keep(self) -> None:
        with _no_interrupt():
            try:
                rows = self._writer.keep()
                if rows and not self._discarded:
                    self._temporary.replace(self.partial)
                    self.kept = rows
            except (OSError, pa.ArrowException):
                pass  # nothing can be kept: `kept` says so
            finally:
                self._temporary.unlink(missing_ok=True)


def open_output(path: str | Path, schema: pa.Schema, *, overwrite: bool = False) -> Output:
    """Opens an output file, to be used as a context.

    Raises:
        DataError: its extension says no format, it exists and may not be overwritten, or it cannot be written there.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    return Output(path, schema, overwrite=overwrite)


def what_is_left(output: Output, *, read: int) -> str:
    """A sentence on what a run that broke off left behind, for after the output's context.

    `read` is the number of the last input row that was handed to the output.
    """
    if output.kept is None:
        return f"`{output.path}` was not written, and no row was finished"
    return (
        f"`{output.path}` was not written; the {output.kept} rows finished before are in `{output.partial}` "
        f"(the input was read up to row {read})"
    )


def reason_of(error: BaseException) -> str:
    """Why the system refused to write.

    >>> reason_of(FileNotFoundError(2, "No such file or directory"))
    'No such file or directory'
    """
    number = getattr(error, "errno", None)
    if number in _FULL:
        return "the disk, or the space allowed, is full"
    return os.strerror(number) if isinstance(number, int) else str(error)


def remedy(error: BaseException, then: str) -> str:
    """The help for a file that the system refused to write; `then` is how to go on.

    >>> remedy(FileNotFoundError(), "run again")
    'see to the disk, run again'
    """
    number = getattr(error, "errno", None)
    if number in _FULL:
        return f"make room, {then}"
    if number in _GONE:
        return f"its folder was removed or moved while the run wrote to it: make it again, {then}"
    if number in _REFUSED:
        return f"its folder cannot be written to any more: give the rights back, {then}"
    return f"see to the disk, {then}"


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Holds off Ctrl-C and SIGTERM for the moment that keeping finished rows takes."""
    # Python takes signals, and lets handlers be set, in the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: the handler was not set from Python, so it cannot be set back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

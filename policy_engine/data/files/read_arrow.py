"""Parquet files and Arrow files, row by row, as plain Python values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from policy_engine.core.errors import DataError, RowError
from policy_engine.data.conversation import null_key_kept
from policy_engine.data.json_text import read_json

_BATCH: Final = 512
Cleaner = Callable[[Any], Any]
Row = dict[str, Any] | RowError
"""A row, or the error of one that cannot be read."""


def read_parquet(path: Path, row_groups: Sequence[int] | None = None) -> Iterator[Row]:
    """The rows of a Parquet file, or of some of its row groups.

    Raises DataError if it is not a Parquet file, or breaks off.
    """
    # Without pre-buffering a row group is decoded page by page, whatever its size.
    with _reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=_BATCH, row_groups=row_groups):
            yield from rows_of(batch)


def parquet_groups(path: Path) -> list[tuple[int, int]]:
    """Rows and uncompressed bytes of each row group.

    Raises DataError if it is not a Parquet file.
    """
    with _reading(path):
        # The footer alone: no data is read.
        metadata = pq.read_metadata(path)
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        return [(int(group.num_rows), int(group.total_byte_size)) for group in groups]


def parquet_rows(path: Path) -> int:
    """The number of rows of a Parquet file. Raises DataError if it is not one."""
    with _reading(path):
        return int(pq.read_metadata(path).num_rows)


def read_arrow(path: Path) -> Iterator[Row]:
    """The rows of an Arrow file, in the stream or the file layout.

    Raises DataError if it is neither, or breaks off.
    """
    with _reading(path), pa.memory_map(str(path)) as source:
        reader = _opened(source)
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            batches: Iterator[pa.RecordBatch] = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            batches = iter(reader)
        for batch in batches:
            # A file may be one batch of all its rows, which would become Python values at once.
            for start in range(0, batch.num_rows, _BATCH):
                yield from _checked(batch.slice(start, _BATCH))


def schema_in(path: Path) -> pa.Schema:
    """The columns of a Parquet or Arrow file. Raises DataError if it is neither."""
    with _reading(path):
        if path.suffix == ".parquet":
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as source:
            return _opened(source).schema


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # names that are not UTF-8 raise other kinds than Arrow's own
        what = "a Parquet file" if path.suffix == ".parquet" else "an Arrow file"
        help = "is it whole, and has it the right extension?"
        raise DataError(f"`{path}` cannot be read as {what}: {error}", help=help) from None


def _opened(source: pa.MemoryMappedFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    # `datasets` writes streams, other programs files, both as `.arrow`.
    if source.size() >= 6 and bytes(source.read(6)) == b"ARROW1":
        return pa.ipc.open_file(source)
    source.seek(0)
    return pa.ipc.open_stream(source)


def _checked(batch: pa.RecordBatch) -> list[Row]:
    """The rows of a batch, whose offsets are checked first.

    Arrow believes the offsets in a file: wrong ones would end the process, not the reading.
    """
    problem = next((found for column in batch.columns if (found := _problem(column)) is not None), None)
    if problem is None:
        return rows_of(batch)
    if batch.num_rows > 1:
        # Row by row, to lose only those that are broken.
        return [row for at in range(batch.num_rows) for row in _checked(batch.slice(at, 1))]
    return [RowError(f"the row is broken: {problem}", help="is the file whole? write it again, or drop the row")]


def _problem(column: pa.Array) -> str | None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        # Text that is not UTF-8 costs its own row, when it becomes a Python value.
        return None if "UTF8" in str(error) else str(error)
    return None


def rows_of(batch: pa.RecordBatch | pa.Table) -> list[Row]:
    """Rows as dictionaries, as the data had them before Arrow gave every object every key.

    A key of an object that is null is left out, at any depth: in a struct, null and absent cannot be told apart. The
    content of a message, columns themselves, items of lists and values of Arrow maps stay null. JSON columns are
    parsed. A row with a value that Python cannot have (text that is not UTF-8, a date in the year 300,000) is an error
    in its place.
    """
    try:
        columns = {field.name: _values(field, column) for field, column in zip(batch.schema, batch.columns)}
    except Exception:  # whatever Arrow and Python raise for one value, only its row is lost
        return [_row(batch.slice(at, 1)) for at in range(batch.num_rows)]
    names = list(columns)
    return [dict(zip(names, values)) for values in zip(*columns.values())]


def _row(batch: pa.RecordBatch | pa.Table) -> Row:
    row: dict[str, Any] = {}
    for field, column in zip(batch.schema, batch.columns):
        try:
            (row[field.name],) = _values(field, column)
        except Exception as error:
            return RowError(f"column `{field.name}` cannot be read: {error}", help="fix the value, or drop the row")
    return row


def _values(field: pa.Field, column: pa.Array) -> list[Any]:
    # `strict`: a map with a key twice is an error, not the last of the two.
    values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    clean = _cleaner(field.type)
    return values if clean is None else [clean(value) for value in values]


def _cleaner(kind: pa.DataType) -> Cleaner | None:
    """A function that turns a value of an Arrow type into what it was; None if no value changes."""
    if isinstance(kind, pa.BaseExtensionType):
        # Objects of mixed shape may be stored so, as JSON text.
        if kind.extension_name == "arrow.json":
            return lambda value: read_json(value) if isinstance(value, str) else value
        return _cleaner(kind.storage_type)
    if pa.types.is_struct(kind):
        return _struct_cleaner(kind)
    if pa.types.is_map(kind):
        return _map_cleaner(_cleaner(kind.item_type))
    if (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    ):
        return _list_cleaner(_cleaner(kind.value_type))
    return None


def _map_cleaner(inner: Cleaner | None) -> Cleaner | None:
    if inner is None:
        return None
    clean = inner
    # `value and`: null and an empty map stay as they are.
    return lambda value: value and {key: clean(item) for key, item in value.items()}


def _list_cleaner(inner: Cleaner | None) -> Cleaner | None:
    if inner is None:
        return None
    clean = inner
    return lambda value: value and [clean(item) for item in value]


def _struct_cleaner(kind: pa.StructType) -> Cleaner:
    names = [field.name for field in kind]
    kept = null_key_kept(names)
    inner = {field.name: _cleaner(field.type) for field in kind}

    def clean(value: Any) -> Any:
        if value is None:
            return None
        result = {}
        for name, item in value.items():
            if item is not None:
                cleaner = inner[name]
                result[name] = item if cleaner is None else cleaner(item)
            elif name == kept:
                result[name] = None
        return result

    return clean

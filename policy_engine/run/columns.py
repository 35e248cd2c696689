"""Columns of masked rows as Arrow tables.

They are built from arrays, with no Python list of numbers on the way: a list of int objects takes many times the
memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from policy_engine._version import __version__
from policy_engine.data.formats import FormatKind
from policy_engine.data.pairs import PAIR_KINDS
from policy_engine.mask.masker import Masker
from policy_engine.mask.preferences.pair_columns import pair_types
from policy_engine.mask.row import LIST_TYPES, MEDIA_COLUMN, MEDIA_TYPES, SAMPLE_COLUMNS

METADATA_KEY: Final = b"policy_engine"
"""Key of a Parquet file's schema metadata whose value (JSON) says what the columns were made with."""


_MEDIA: Final = pa.struct([pa.field(name, pa.type_for_alias(kind)) for name, kind in MEDIA_TYPES.items()])


def schema_of(
    masker: Masker, *, packed: bool = False, row_numbers: bool = True, kind: FormatKind = "messages"
) -> pa.Schema:
    """The columns of the output.

    First comes `row`, the number of the row in the input, then one list of numbers per row and column. If the masker
    unrolls, `turn` and `samples` (int32) name the samples of a row (`SAMPLE_COLUMNS`).

    `input_ids` and `labels` int32, `attention_mask` int8, `loss_weights` float32 if the policy has weights; packed rows
    have `position_ids` and `seq_lengths` in place of the attention mask, and lists of what names rows. Without
    `row_numbers` nothing names them. A processor adds its columns (int8), and `media`, a list of objects. Columns
    that the dataset file carries along are float32.

    Rows of a `kind` of preferences have the columns of their trainer in place of these (`pair_types`).
    """
    if kind in PAIR_KINDS:
        types = pair_types(masker.pair_columns(kind), masker.tokenizer, unrolled=masker.unrolls)
        made = [pa.field("row", pa.int64())] if row_numbers else []
        return pa.schema([*made, *map(_field, types, types.values())], metadata=_made_with(masker))
    names = ["input_ids", "labels", *(["position_ids", "seq_lengths"] if packed else ["attention_mask"])]
    names += ["loss_weights"] if masker.program.is_weighted else []
    names += [] if masker.tokenizer.media is None else masker.tokenizer.media.columns
    names += masker.dataset.carry
    fields = [pa.field(name, pa.list_(pa.type_for_alias(LIST_TYPES.get(name, "float32")))) for name in names]
    if row_numbers:
        named = {"row": pa.int64(), **(dict.fromkeys(SAMPLE_COLUMNS, pa.int32()) if masker.unrolls else {})}
        # In front, where a person looks first; a packed row has the numbers of all its documents.
        fields[:0] = [pa.field(name, pa.list_(kind) if packed else kind) for name, kind in named.items()]
    if masker.tokenizer.media is not None:
        fields.append(pa.field(MEDIA_COLUMN, pa.list_(_MEDIA)))
    return pa.schema(fields, metadata=_made_with(masker))


def _field(name: str, kind: str) -> pa.Field:
    """A column of preferences. `kind` is the type of its numbers."""
    if name == MEDIA_COLUMN:
        return pa.field(name, pa.list_(_MEDIA))
    made = pa.type_for_alias(kind)
    return pa.field(name, made if kind == "bool" or name in SAMPLE_COLUMNS else pa.list_(made))


def _made_with(masker: Masker) -> dict[bytes, bytes]:
    # Fingerprints, not texts: each shard has them, and they are enough to tell files apart.
    made_with = {
        "version": __version__,
        "policy": masker.program.fingerprint,
        "policy_name": masker.program.policy.source.name,
        "tokenizer": masker.tokenizer.fingerprint,
        "tokenizer_name": masker.tokenizer.name,
    }
    return {METADATA_KEY: json.dumps(made_with, sort_keys=True).encode()}


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows of arrays as a table of `schema`.

    A scalar column takes the one item of each row's array.

    >>> table_of([{"row": np.array([1])}, {"row": np.array([2])}], pa.schema([("row", pa.int64())])).to_pydict()
    {'row': [1, 2]}
    """
    columns = []
    for field in schema:
        parts = [row[field.name] for row in rows]
        if not pa.types.is_list(field.type):
            columns.append(_array(parts, field.type))
            continue
        if pa.types.is_struct(field.type.value_type):
            columns.append(pa.array([list(part) for part in parts], field.type))
            continue
        # An Arrow list column is one flat array of values, and offsets that say where each row begins.
        offsets = np.zeros(len(parts) + 1, dtype=np.int32)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        values = _array(parts, field.type.value_type)
        columns.append(pa.ListArray.from_arrays(_array([offsets], pa.int32()), values, type=field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _array(parts: Sequence[npt.NDArray[Any]], kind: pa.DataType) -> pa.Array:
    # From the memory itself: `pa.array` of a numpy array imports pandas, which takes half a second, where it can.
    numbers = np.concatenate(parts) if parts else np.zeros(0)
    if pa.types.is_boolean(kind):  # bits, and not bytes
        return pa.array(numbers.astype(bool).tolist(), kind)
    numbers = np.ascontiguousarray(numbers, dtype=_numpy_type(kind))
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


def _numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    # pyarrow's own answer, `to_pandas_dtype`, needs pandas before release 26.
    letter = "f" if pa.types.is_floating(kind) else "i" if pa.types.is_signed_integer(kind) else "u"
    return np.dtype(f"{letter}{kind.bit_width // 8}")


def rows_of_columns(table: pa.Table) -> list[dict[str, Any]]:
    """The rows that `table_of` made a table of.

    >>> rows_of_columns(pa.table({"input_ids": pa.array([[5, 6], [7]], pa.list_(pa.int32()))}))
    [{'input_ids': array([5, 6], dtype=int32)}, {'input_ids': array([7], dtype=int32)}]
    """
    rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
    for name, column in zip(table.column_names, table.combine_chunks().columns):
        for chunk in column.chunks:
            if pa.types.is_list(chunk.type) and pa.types.is_struct(chunk.type.value_type):
                for row, value in zip(rows, chunk.to_pylist()):
                    row[name] = value
                continue
            if pa.types.is_list(chunk.type):
                # Views of the column's memory; nothing is copied.
                values, cuts = chunk.values.to_numpy(), chunk.offsets.to_numpy()
            else:
                values, cuts = chunk.to_numpy(), np.arange(len(chunk) + 1)
            for at, row in enumerate(rows):
                row[name] = values[cuts[at] : cuts[at + 1]]
    return rows

"""Rows of a table as lines of JSON.

>>> import pyarrow as pa
>>> "".join(lines_of(pa.table({"row": [1, 2], "input_ids": [[7, 8], []]})))
'{"row":1,"input_ids":[7,8]}\\n{"row":2,"input_ids":[]}\\n'
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

LARGE: Final = 4 << 20
"""Bytes of a table from which on its rows become JSON piece by piece."""
_VALUES: Final = 1 << 16
"""Values of a column that become JSON in one call; a twentieth of a second's work."""


def lines_of(table: pa.Table) -> Iterator[str]:
    """The rows as lines of JSON, in pieces.

    Long columns of numbers come `_VALUES` at a time: Python hears Ctrl-C only between two calls of compiled code, and
    a row of 100 MB would be one.
    """
    if table.nbytes < LARGE:
        yield from (f"{_json(row)}\n" for row in table.to_pylist())
        return
    for row in range(table.num_rows):
        for number, name in enumerate(table.column_names):
            yield f"{',' if number else '{'}{_json(name)}:"
            yield from _value(table[name][row])
        yield "}\n" if table.column_names else "{}\n"


def _value(value: pa.Scalar) -> Iterator[str]:
    values = getattr(value, "values", None)
    if not isinstance(values, pa.Array) or len(values) <= _VALUES:
        yield _json(value.as_py())
        return
    for start in range(0, len(values), _VALUES):
        yield f"{',' if start else '['}{_json(values.slice(start, _VALUES).to_pylist())[1:-1]}"
    yield "]"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

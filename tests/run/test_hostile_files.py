"""Files that are broken, not what they are called, or bombs: an error with the file, or the rows that can be read."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.files import read_text
from tests.run.support import apply_dataset, chat, masker

ROWS = [{"messages": chat(f"q{n}", f"a{n}")} for n in range(12)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
GZ = gzip.compress(LINES, mtime=0)
ZST = pa.Codec("zstd").compress(LINES, asbytes=True)
PICKLED = pickle.dumps(ROWS)


def parquet(table):
    stream = io.BytesIO()
    pq.write_table(table, stream, row_group_size=4)
    return stream.getvalue()


def arrow(table):
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


TABLE = pa.Table.from_pylist(ROWS)
PARQUET, ARROW = parquet(TABLE), arrow(TABLE)
WIDE = LINES.decode()
NONE = {  # name of the file → contents of which no row can be read
    "empty.jsonl": b"", "blank.jsonl": b"\n \n\n", "nul.jsonl": b"\0" * 99, "utf16.jsonl": WIDE.encode("utf-16"),
    "utf32.jsonl": WIDE.encode("utf-32"), "utf16le.jsonl": WIDE.encode("utf-16-le"),
    "latin.jsonl": '{"messages": "\xe9"}\n'.encode("latin-1"), "pickle.jsonl": PICKLED, "pickle.json": PICKLED,
    "pickle.parquet": PICKLED, "pickle.arrow": PICKLED, "rows.pkl": PICKLED, "numbers.jsonl": b"1\n2\n",
    "texts.jsonl": b'"a"\n"b"\n', "null.jsonl": b"null\n", "page.jsonl": b"<html>\n</html>",
    "table.jsonl": b"a,b\n1,2\n", "table.csv": b"a,b\n1,2\n", "python.jsonl": b"{'a': 1}\n", "nothing.json": b"[]",
    "object.json": b"{}", "half.json": b'[{"messages":', "lists.json": b'{"a": [{}], "b": [{}]}',
    "deep.json": b"[" * 100_000, "deep-object.json": b'{"a":' * 100_000, "after.json": b"[{}]x", "text.json": b'"x"',
    "number.json": b"12", "not.jsonl.gz": LINES, "empty.jsonl.gz": b"", "of-nothing.jsonl.gz": gzip.compress(b""),
    "gz.jsonl": GZ, "half.json.gz": gzip.compress(b"[{"), "not.jsonl.zst": LINES, "empty.jsonl.zst": b"",
    "zst.jsonl": ZST, "cut0.parquet": b"", "cut3.parquet": PARQUET[:3], "cut8.parquet": PARQUET[:8],
    "half.parquet": PARQUET[: len(PARQUET) // 2], "end.parquet": PARQUET[:-1], "parquet.jsonl": PARQUET,
    "arrow.parquet": ARROW, "cut4.arrow": ARROW[:4], "jsonl.arrow": LINES, "parquet.arrow": PARQUET,
}  # fmt: skip


def masks(tmp_path, name, data):
    """What a run makes of a file: its summary, or its error."""
    path = tmp_path / name
    path.write_bytes(data)
    try:
        return apply_dataset(path, masker(), tmp_path / "out.jsonl", batch_size=4, overwrite=True)
    except PolicyEngineError as error:
        return error


@pytest.mark.parametrize("name", NONE)
def test_a_file_without_a_row_is_an_error_that_names_it(tmp_path, name):
    found = masks(tmp_path, name, NONE[name])
    assert isinstance(found, PolicyEngineError), found
    assert str(tmp_path / name) in str(found)
    assert found.help
    assert "PE000" != found.code
    assert not (tmp_path / "out.jsonl").exists()


JUNK = b"\xff" * 9
BREAKS_OFF = {
    "half.jsonl.gz": GZ[: len(GZ) // 2], "sum.jsonl.gz": GZ[:-8] + bytes(8), "tail.jsonl.gz": GZ + b"garbage",
    "middle.jsonl.gz": GZ[:60] + JUNK + GZ[69:], "half.jsonl.zst": ZST[: len(ZST) // 2],
    "middle.jsonl.zst": ZST[:60] + JUNK + ZST[69:], "tail.jsonl.zst": ZST + b"garbage",
    "row.json": b"[" + LINES.replace(b"\n", b",") + b"{oops}]",
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS_OFF)
def test_a_file_that_breaks_off_is_an_error_and_the_rows_before_are_kept(tmp_path, name):
    found = masks(tmp_path, name, BREAKS_OFF[name])
    assert isinstance(found, PolicyEngineError), found
    assert str(tmp_path / name) in str(found)
    assert found.help
    assert not (tmp_path / "out.jsonl").exists()


def text(*values):
    """A column of text, UTF-8 or not."""
    return pa.array(values, pa.binary()).view(pa.string())


ONE_BAD = {  # of which Python cannot have the last value
    "date": pa.array([0] * 11 + [10**7], pa.int32()).cast(pa.date32()),
    "duration": pa.array([0] * 11 + [2**62], pa.int64()).cast(pa.duration("s")),
    "map": pa.array([[("a", 1)]] * 11 + [[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int8())),
    "text": text(*[b"x"] * 11, b"\xff\xfe"),
    "texts": pa.ListArray.from_arrays(pa.array(range(13), pa.int32()), text(*[b"x"] * 11, b"\xff")),
}
COLUMNS = {
    **ONE_BAD,
    "int": pa.array(range(12)),
    "bool": pa.array([True] * 12),
    "binary": pa.array([b"\xff\xfe"] * 12),
    "large": pa.array(["x"] * 12, pa.large_string()),
    "null": pa.nulls(12),
    "dictionary": pa.array(["a", "b", "c"] * 4).dictionary_encode(),
    "fixed": pa.array([[1, 2]] * 12, pa.list_(pa.int8(), 2)),
    "struct": pa.array([{"a": {"b": [{"c": 1}]}}] * 12),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("write", [parquet, arrow])
def test_every_kind_of_column_whole_and_corrupt(tmp_path, kind, write):
    data = write(TABLE.append_column("x", COLUMNS[kind]))
    whole = masks(tmp_path, f"whole.{write.__name__}", data)
    bad = 1 if kind in ONE_BAD else 0
    assert (12, 12 - bad, bad) == (whole.rows_in, whole.rows_out, whole.rows_failed)
    assert all("`x`" in failure.reason or "UTF8" in failure.reason for failure in whole.failures)
    chance = random.Random(kind)
    for _ in range(4):
        corrupt = bytearray(data)
        for _ in range(20):
            corrupt[chance.randrange(len(corrupt))] ^= 1 << chance.randrange(8)
        found = masks(tmp_path, f"bad.{write.__name__}", bytes(corrupt))
        if isinstance(found, PolicyEngineError):
            assert found.help
            assert "PE000" != found.code
        else:
            assert found.rows_in == found.rows_out + found.rows_failed + found.rows_empty


def test_a_row_beyond_the_bound_costs_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(read_text, "MAX_ROW", 10_000)
    bomb = LINES + b'{"messages": "' + b"x" * 50_000_000 + b'"}\n' + LINES
    for name, data in (
        ("in.jsonl.gz", gzip.compress(bomb, 1)),
        ("in.jsonl.zst", pa.Codec("zstd").compress(bomb, asbytes=True)),
    ):
        found = masks(tmp_path, name, data)
        assert (25, 24, 1) == (found.rows_in, found.rows_out, found.rows_failed)
        assert "line 13 is longer than" in found.failures[0].reason


def test_a_bomb_of_blank_lines(tmp_path):
    lines = b"\n" * 30_000_000
    found = masks(tmp_path, "in.jsonl.gz", gzip.compress(LINES + lines + LINES[:-1] + b"oops", 1))
    assert (24, 23) == (found.rows_in, found.rows_out)
    assert "line 30000024 is not JSON" in found.failures[0].reason

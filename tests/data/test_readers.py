"""Every kind of input streams as numbered rows; what cannot be read says why and what to do."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_engine.core.errors import DataError, RowError
from policy_engine.core.source import Place
from policy_engine.data.files.read_arrow import rows_of
from policy_engine.data.files.read_text import Line, read_unread
from policy_engine.data.files.readers import read_rows

ROWS = [{"messages": [{"role": "user", "content": text}], "n": n} for n, text in enumerate(["a", "ü\n", "你好 \u2028"])]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def put(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def zipped(data):
    # Without a time in it: test processes have to collect tests of the same names.
    return gzip.compress(data, mtime=0)


def zstd(data):
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return out.getvalue().to_pybytes()


TEXT_FILES = {
    "a.jsonl": LINES,
    "a.ndjson": LINES,
    "crlf.jsonl": LINES.replace(b"}\n", b"}\r\n"),
    "no-last-newline.jsonl": LINES.rstrip(b"\n"),
    "bom.jsonl": b"\xef\xbb\xbf" + LINES,
    "a.jsonl.gz": zipped(LINES),
    "two-members.jsonl.gz": zipped(LINES[:10]) + zipped(LINES[10:]),
    "a.jsonl.zst": zstd(LINES),
    "two-frames.jsonl.zst": zstd(LINES[:10]) + zstd(LINES[10:]),
    "array.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2).encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "array.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "lines.json": LINES,
    "object.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "pretty-object.json": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
}


@pytest.mark.parametrize("name", TEXT_FILES)
def test_text_files(tmp_path, name):
    rows = read_rows(put(tmp_path, name, TEXT_FILES[name]))
    assert list(enumerate(ROWS, start=1)) == list(rows)
    assert 1.0 == rows.fraction


def test_blank_lines_are_passed_over_but_counted(tmp_path):
    path = put(tmp_path, "a.jsonl", b"\n" + LINES.replace(b"}\n", b"}\n\n  \n"))
    rows = read_rows(path)
    assert [2, 5, 8] == [number for number, _ in rows]
    assert Place(file=str(path), number=5) == rows.where(5)
    assert f"{path}:5" == str(rows.where(5))


@pytest.mark.parametrize("name", TEXT_FILES)
def test_rows_may_be_left_unread(tmp_path, name):
    path = put(tmp_path, name, TEXT_FILES[name])
    unread = list(read_rows(path, unread=True))
    assert list(read_rows(path)) == list(read_unread(unread))
    is_lines = ".jsonl" in name or ".ndjson" in name or name == "lines.json"
    assert {is_lines} == {type(row) is Line for _, row in unread}


def test_one_conversation_in_a_json_file(tmp_path):
    assert [(1, ROWS[0])] == list(read_rows(put(tmp_path, "a.json", json.dumps(ROWS[0], indent=2))))


def test_a_row_may_be_a_list_of_messages(tmp_path):
    line = json.dumps(ROWS[0]["messages"])
    assert [(1, ROWS[0]["messages"])] == list(read_rows(put(tmp_path, "a.jsonl", line)))


def test_long_arrays_are_read_through_a_window(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "é" * n}]} for n in range(0, 4000, 3)]
    path = put(tmp_path, "a.json", json.dumps(rows, ensure_ascii=False))
    assert path.stat().st_size > 4 << 20
    assert rows == [row for _, row in read_rows(path)]


def test_an_item_longer_than_the_window(tmp_path):
    rows = [{"a": "x" * 5_000_000}, {"b": 1}]
    assert rows == [row for _, row in read_rows(put(tmp_path, "a.json", json.dumps(rows)))]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "line 2 is not JSON"),
        (b"{'a': 1}", "single quotes"),
        (b'{"a": "\xff"}', "line 2 is not UTF-8: byte 8 is 0xff"),
        (b'{"a": "\\ud83d"}', "`\\ud83d`, one half of a surrogate pair"),
        (b"[" * 100_000, "line 2 is not usable JSON"),
        (b"1" * 5000, "line 2 is not usable JSON"),
        (b"plain text", "Expecting value at column 1"),
    ],
)
def test_a_broken_line_is_an_error_in_its_place(tmp_path, line, reason):
    path = put(tmp_path, "a.jsonl", b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    (_, first), (number, error), (_, last) = read_rows(path)
    assert ({"n": 1}, 2, {"n": 3}) == (first, number, last)
    assert isinstance(error, RowError)
    assert reason in error.message


def test_whole_surrogate_pairs_are_fine(tmp_path):
    assert [(1, {"a": "😀"})] == list(read_rows(put(tmp_path, "a.jsonl", b'{"a": "\\ud83d\\ude00"}')))


def test_a_line_without_end_is_refused_and_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("policy_engine.data.files.read_text.MAX_ROW", 100)
    path = put(tmp_path, "a.jsonl", b'{"n": 1}\n"' + b"x" * 1000 + b'"\n{"n": 3}\n')
    found = list(read_rows(path))
    assert [1, 2, 3] == [number for number, _ in found]
    assert isinstance(found[1][1], RowError)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.json", b"", "is empty"),
        ("a.jsonl.gz", zipped(b""), "is empty"),
        ("a.jsonl", b"\n\n  \n", "has no rows"),
        ("a.json", b"[]", "has no rows"),
        ("a.jsonl", LINES.decode().encode("utf-16"), "is UTF-16, not UTF-8"),
        ("a.jsonl", LINES.decode().encode("utf-32"), "is UTF-32, not UTF-8"),
        ("a.jsonl", LINES.decode().encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("a.jsonl", b"PAR1\x15\x04", "is a Parquet file, not JSON text"),
        ("a.json", zipped(LINES), "is gzip data, not JSON text"),
        ("a.jsonl", bytes(range(256)), "is binary"),
        ("a.jsonl", json.dumps(ROWS, indent=2), "is one JSON document over several lines"),
        ("a.jsonl", json.dumps(ROWS[0], indent=2), "is one JSON document over several lines"),
        ("a.json", b'{"a": [}', "is not JSON"),
        ("a.json", json.dumps({"a": [{"x": 1}], "b": [{"x": 1}]}), "holds several lists: `a`, `b`"),
        ("a.parquet", LINES, "cannot be read as a Parquet file"),
        ("a.arrow", LINES, "cannot be read as an Arrow file"),
        ("a.jsonl.gz", LINES, "cannot be read on"),
        ("a.jsonl.zst", LINES, "cannot be read on"),
        ("a.csv", b"a,b\n1,2\n", "extension `.csv`, which says no format"),
        ("a", LINES, "no extension, which says no format"),
        ("a.dat", b"PAR1....", "it starts like a Parquet file"),
        ("a.jsonl.bz2", bz2.compress(LINES), "it starts like bzip2 data"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, name, data, reason):
    with pytest.raises(DataError) as caught:
        read_rows(put(tmp_path, name, data))
    assert reason in caught.value.message
    assert caught.value.help


@pytest.mark.parametrize(
    ("data", "good", "reason"),
    [
        (b'[{"a": 1}, {"b": }, {"c": 1}]', 1, "item 2 of the array is not JSON"),
        (b'[{"a": 1} {"b": 1}]', 1, "expected `,` or `]`"),
        (b'[{"a": 1}', 1, "found the end"),
        (b'[{"a": 1}, ', 1, "item 2 of the array is not JSON"),
        (b'[{"a": 1}] x', 1, "goes on after its JSON array"),
        (b'[{"a": "\xff"}]', 0, "is not UTF-8"),
    ],
)
def test_an_array_that_breaks_keeps_the_rows_before(tmp_path, data, good, reason):
    path = put(tmp_path, "a.json", data)
    with pytest.raises(DataError, match=reason):
        list(read_rows(path))
    if good:
        assert (1, {"a": 1}) == next(read_rows(path))


def test_truncated_gzip_keeps_the_rows_before(tmp_path):
    data = gzip.compress(os.urandom(200_000).hex().encode().join([b'{"a": "', b'"}\n']) * 20)
    found = read_rows(put(tmp_path, "a.jsonl.gz", data[: len(data) // 2]))
    assert 1 == next(found)[0]
    with pytest.raises(DataError, match="rows before this point were read"):
        list(found)


def test_missing(tmp_path):
    put(tmp_path, "chats.json", LINES)
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "chats.jsonl")
    assert "does not exist" in caught.value.message
    assert "chats.json" in str(caught.value.help)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(tmp_path):
    path = put(tmp_path, "a.jsonl", LINES)
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read_rows(path)


def test_unreadable_for_whoever_runs_this(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = put(tmp_path, "a.jsonl", LINES)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read_rows(path)


class TestArrow:
    def test_parquet(self, tmp_path):
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=2)
        rows = read_rows(tmp_path / "a.parquet")
        assert list(enumerate(ROWS, start=1)) == list(rows)
        assert 1.0 == rows.fraction

    def test_a_parquet_file_without_rows(self, tmp_path):
        pq.write_table(pa.table({"messages": pa.array([], pa.string())}), tmp_path / "a.parquet")
        with pytest.raises(DataError, match="has no rows"):
            read_rows(tmp_path / "a.parquet")

    @pytest.mark.parametrize("writer", [pa.ipc.new_stream, pa.ipc.new_file])
    def test_arrow_files(self, tmp_path, writer):
        table = pa.Table.from_pylist(ROWS)
        with writer(str(tmp_path / "a.arrow"), table.schema) as out:
            out.write_table(table)
        assert list(enumerate(ROWS, start=1)) == list(read_rows(tmp_path / "a.arrow"))

    def test_struct_nulls_mean_absent_but_content_stays(self, tmp_path):
        rows = [
            {
                "meta": {"a": 1, "b": None},
                "messages": [
                    {"role": "user", "content": "a", "tool_calls": None},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"f": {"x": 1, "y": None}}, {"f": {"y": "2"}}],
                    },
                ],
                "source": None,
                "list": [1, None],
            }
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        assert [
            (
                1,
                {
                    "meta": {"a": 1},
                    "messages": [
                        {"role": "user", "content": "a"},
                        {"role": "assistant", "content": None, "tool_calls": [{"f": {"x": 1}}, {"f": {"y": "2"}}]},
                    ],
                    "source": None,
                    "list": [1, None],
                },
            )
        ] == list(read_rows(tmp_path / "a.parquet"))

    def test_maps_keep_their_nulls(self):
        kind = pa.map_(pa.string(), pa.struct([("a", pa.int64()), ("b", pa.int64())]))
        table = pa.table({"m": pa.array([[("x", {"a": 1, "b": None}), ("y", None)], None], kind)})
        assert [{"m": {"x": {"a": 1}, "y": None}}, {"m": None}] == rows_of(table)

    def test_json_columns_are_parsed(self):
        storage = pa.array(['{"a": [1, null]}', None])
        table = pa.table({"j": pa.ExtensionArray.from_storage(pa.json_(), storage)})
        assert [{"j": {"a": [1, None]}}, {"j": None}] == rows_of(table)

    def test_save_to_disk(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "ds", num_shards=2)
        assert list(enumerate(ROWS, start=1)) == list(read_rows(tmp_path / "ds"))

    def test_a_dataset_dict_needs_a_split(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        ds = datasets.Dataset.from_list(ROWS)
        datasets.DatasetDict({"train": ds, "test": ds}).save_to_disk(tmp_path / "dd")
        with pytest.raises(DataError) as caught:
            read_rows(tmp_path / "dd")
        assert str(tmp_path / "dd" / "train") in str(caught.value.help)
        assert 3 == len(list(read_rows(tmp_path / "dd" / "train")))
        datasets.DatasetDict({"train": ds}).save_to_disk(tmp_path / "one")
        assert 3 == len(list(read_rows(tmp_path / "one")))

    def test_a_folder_that_lacks_a_file(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "ds")
        next((tmp_path / "ds").glob("*.arrow")).unlink()
        with pytest.raises(DataError, match=r"which its state\.json lists"):
            read_rows(tmp_path / "ds")


class TestFolder:
    def test_files_in_order_of_name_and_where_rows_are(self, tmp_path):
        put(tmp_path, "b.jsonl", b'{"n": 3}\n\n{"n": 4}\n')
        put(tmp_path, "a.json", b'[{"n": 1}, {"n": 2}]')
        put(tmp_path, "README.md", b"x")
        put(tmp_path, ".hidden.jsonl", b"x")
        rows = read_rows(tmp_path)
        assert [(1, {"n": 1}), (2, {"n": 2}), (3, {"n": 3}), (5, {"n": 4})] == list(rows)
        assert [f"{tmp_path / 'a.json'}:2", f"{tmp_path / 'b.jsonl'}:3"] == [str(rows.where(n)) for n in (2, 5)]
        assert [False, True] == [rows.where(n).is_line for n in (2, 5)]

    def test_without_data(self, tmp_path):
        (tmp_path / "data").mkdir()
        with pytest.raises(DataError, match="has no data files; it holds the folders `data`"):
            read_rows(tmp_path)


@pytest.mark.parametrize(
    "data",
    [LINES, json.dumps(ROWS).encode(), json.dumps(ROWS, indent=1).encode()],
    ids=["lines", "array", "pretty array"],
)
def test_a_pipe(data):
    code = "from policy_engine.data.files.readers import read_rows\nfor row in read_rows('-'): print(row)"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert "".join(f"{row}\n" for row in enumerate(ROWS, start=1)) == done.stdout.decode()


@pytest.mark.parametrize("data", [b"", b"PAR1abc", zipped(LINES)], ids=["empty", "parquet", "gzip"])
def test_a_pipe_of_something_else(data):
    code = "from policy_engine.data.files.readers import read_rows\nread_rows('-')"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert b"DataError: `<stdin>` is " in done.stderr


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=3), values, max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(objects, min_size=1, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_what_was_written_is_read(tmp_path, rows, ascii_only, indent):
    put(tmp_path, "a.jsonl", "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows))
    put(tmp_path, "a.json", json.dumps(rows, ensure_ascii=ascii_only, indent=indent))
    expected = list(enumerate(rows, start=1))
    assert expected == list(read_rows(tmp_path / "a.jsonl"))
    assert expected == list(read_rows(tmp_path / "a.json"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60), st.sampled_from(["a.jsonl", "a.json", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow"])
)
def test_any_bytes_are_rows_or_a_data_error(tmp_path, data, name):
    try:
        rows = list(read_rows(put(tmp_path, name, data)))
    except DataError:
        return
    assert all(isinstance(number, int) for number, _ in rows)


def test_standard_input_that_is_closed(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        read_rows("-")

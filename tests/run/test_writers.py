"""Output files are whole or not there under their final name; what was finished is kept beside it."""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policy_engine.core.errors import DataError
from policy_engine.data.files.readers import read_rows
from policy_engine.run.output import json_lines
from policy_engine.run.output.killed import clear_killed
from policy_engine.run.output.places import OUTPUT_SUFFIXES, check_output
from policy_engine.run.writers import OUTPUT_FORMATS, open_output

SCHEMA = pa.schema(
    [("row", pa.int64()), ("input_ids", pa.list_(pa.int32())), ("loss_weights", pa.list_(pa.float32()))],
    metadata={b"policy_engine": b"{}"},
)
NAMES = [f"a{suffix}" for suffix in OUTPUT_FORMATS]


def table(start, size=3, tokens=4):
    generator = np.random.default_rng(start)
    return pa.table(
        {
            "row": range(start, start + size),
            "input_ids": [generator.integers(0, 2**31 - 1, tokens, dtype=np.int32) for _ in range(size)],
            "loss_weights": [[0.5] * tokens] * size,
        },
        schema=SCHEMA,
    )


def rows(path):
    if path.name.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = gzip.decompress(data)
    elif path.name.endswith(".zst"):
        data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    return [json.loads(line) for line in data.decode().splitlines()]


def write_and_break(output, error):
    with output:
        output.write(table(0))
        raise error


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_data_again(tmp_path, name):
    """Masked rows are audited, and go through `doctor`: whatever `apply` writes, the readers read."""
    with open_output(tmp_path / name, SCHEMA) as output:
        output.write(table(0))
        output.write(table(3))
    read = [dict(row) for _, row in read_rows(tmp_path / name)]
    assert [*table(0).to_pylist(), *table(3).to_pylist()] == read


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read(tmp_path, name):
    with open_output(tmp_path / name, SCHEMA) as output:
        output.write(table(0))
        output.write(table(3))
        assert not (tmp_path / name).exists()
    assert table(0).to_pylist() + table(3).to_pylist() == rows(tmp_path / name)
    assert [name] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_at_all_is_a_readable_file(tmp_path, name):
    with open_output(tmp_path / name, SCHEMA):
        pass
    assert [] == rows(tmp_path / name)


def test_parquet_for_training(tmp_path, monkeypatch):
    monkeypatch.setattr("policy_engine.run.writers.ROW_GROUP_BYTES", 100)
    with open_output(tmp_path / "a.parquet", SCHEMA) as output:
        for start in range(0, 12, 3):
            output.write(table(start))
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert [3, 3, 3, 3] == [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert "ZSTD" == file.metadata.row_group(0).column(1).compression
    assert pa.int32() == file.schema_arrow.field("input_ids").type.value_type
    assert b"{}" == file.schema_arrow.metadata[b"policy_engine"]


@pytest.mark.parametrize("name", NAMES)
def test_an_error_keeps_what_was_finished_under_another_name(tmp_path, name):
    output = open_output(tmp_path / name, SCHEMA)
    with pytest.raises(KeyboardInterrupt):
        write_and_break(output, KeyboardInterrupt())
    partial = tmp_path / name.replace("a.", "a.partial.", 1)
    assert [partial] == list(tmp_path.iterdir())
    assert 3 == output.kept
    assert table(0).to_pylist() == rows(partial)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_before_any_row_leaves_nothing(tmp_path, name):
    with pytest.raises(ValueError), open_output(tmp_path / name, SCHEMA) as output:
        raise ValueError
    assert output.kept is None
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_keeps_the_finished_rows(tmp_path, name):
    """The space allowed is bounded for real: a limit on the size of files, in a process of its own."""
    code = f"""
        import resource, sys
        sys.path.insert(0, {str(sys.path[0])!r})
        import policy_engine.run.writers as writers
        from tests.run.test_writers import SCHEMA, table
        writers.ROW_GROUP_BYTES = 40_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        written = 0
        try:
            with writers.open_output({str(tmp_path / name)!r}, SCHEMA) as output:
                for start in range(1000):
                    output.write(table(start * 3, tokens=1000))
                    written += 3
        except OSError as error:
            print(writers.reason_of(error), written, output.kept)
        else:
            print("no error")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        cwd=sys.path[0] or ".",
    )
    reason, _, counts = done.stdout.strip().partition(" is full ")
    assert "the disk, or the space allowed," == reason, done.stdout + done.stderr
    written, kept = map(int, counts.split())
    partial = tmp_path / name.replace("a.", "a.partial.", 1)
    assert [partial] == list(tmp_path.iterdir())
    found = rows(partial)
    assert 0 < len(found) == kept <= written
    assert list(range(kept)) == [row["row"] for row in found]
    assert table(0, tokens=1000).to_pylist() == found[:3]


class TestPlaces:
    def test_an_output_that_exists(self, tmp_path):
        (tmp_path / "a.parquet").write_bytes(b"old")
        with pytest.raises(DataError, match="exists") as caught:
            open_output(tmp_path / "a.parquet", SCHEMA)
        assert "--overwrite" in str(caught.value.help)
        assert b"old" == (tmp_path / "a.parquet").read_bytes()

    def test_overwriting_keeps_the_old_file_until_the_new_one_is_whole(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b"old")
        with pytest.raises(ValueError):
            write_and_break(open_output(path, SCHEMA, overwrite=True), ValueError())
        assert b"old" == path.read_bytes()
        with open_output(path, SCHEMA, overwrite=True) as output:
            output.write(table(0))
        assert 3 == len(rows(path))

    def test_a_file_that_appears_meanwhile_is_not_replaced(self, tmp_path):
        path = tmp_path / "a.jsonl"
        with pytest.raises(DataError, match="meanwhile"), open_output(path, SCHEMA):
            path.write_bytes(b"other")
        assert b"other" == path.read_bytes()

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("no/a.parquet", "does not exist"),
            ("a.csv", "says no output format"),
            ("a", "says no output format"),
            (".parquet", "says no output format"),
            ("folder.parquet", "is a folder"),
        ],
    )
    def test_places_that_will_not_do(self, tmp_path, name, reason):
        (tmp_path / "folder.parquet").mkdir()
        with pytest.raises(DataError, match=reason) as caught:
            open_output(tmp_path / name, SCHEMA)
        assert caught.value.help

    def test_the_input_is_never_the_output(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b"{}")
        (tmp_path / "link.jsonl").symlink_to(path)
        with pytest.raises(DataError, match="is also the input"):
            check_output(tmp_path / "link.jsonl", overwrite=True, inputs=(path,))


def test_an_output_is_accepted_by_name_if_something_writes_it():
    assert tuple(OUTPUT_FORMATS) == OUTPUT_SUFFIXES


def test_this_process_has_no_limit_left_behind():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 300_000


def test_the_rows_of_a_run_that_broke_off_are_not_replaced(tmp_path):
    kept = tmp_path / "out.partial.parquet"
    kept.write_bytes(b"precious")
    with pytest.raises(DataError, match="has the rows of a run that broke off") as caught:
        check_output(tmp_path / "out.parquet", overwrite=False)
    assert f"`{kept}`" in caught.value.message
    assert "--overwrite" in caught.value.help
    check_output(tmp_path / "out.parquet", overwrite=True)
    check_output(tmp_path / "out.jsonl", overwrite=False)


def test_ids_have_no_dictionary_and_no_statistics(tmp_path):
    names = {"row": pa.int64(), "input_ids": pa.list_(pa.int32()), "labels": pa.list_(pa.int32()),
             "attention_mask": pa.list_(pa.int8()), "loss_weights": pa.list_(pa.float32())}  # fmt: skip
    rows = {"row": [1], "input_ids": [[5, 5]], "labels": [[-100, 5]], "attention_mask": [[1, 1]],
            "loss_weights": [[0, 1]]}  # fmt: skip
    with open_output(tmp_path / "a.parquet", pa.schema(names)) as output:
        output.write(pa.table(rows, schema=pa.schema(names)))
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    with_dictionary = [c.path_in_schema.split(".")[0] for c in columns if "RLE_DICTIONARY" in c.encodings]
    assert ["loss_weights"] == with_dictionary
    assert [c.is_stats_set for c in columns] == [True, False, False, False, False]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_huge_row_is_written_piece_by_piece(tmp_path, monkeypatch, name):
    """The same bytes as those of one call, and many calls, between which Ctrl-C is heard."""
    whole = pa.concat_tables([table(0, tokens=5), table(3, tokens=0), table(6, tokens=70)])
    with open_output(tmp_path / name, SCHEMA) as output:
        output.write(whole)
    expected = (tmp_path / name).read_bytes()
    assert whole.to_pylist() == rows(tmp_path / name)
    monkeypatch.setattr(json_lines, "LARGE", 0)
    monkeypatch.setattr(json_lines, "_VALUES", 7)
    given = []
    monkeypatch.setattr(json_lines, "_json", lambda value: given.append(value) or real_json(value))
    with open_output(tmp_path / name, SCHEMA, overwrite=True) as output:
        output.write(whole)
    assert expected == (tmp_path / name).read_bytes()
    assert 7 == max(len(value) for value in given if isinstance(value, list))


def real_json(value):
    return json.dumps(value, separators=(",", ":"))


def test_the_file_of_a_run_that_was_killed_is_removed_and_that_of_one_under_way_is_not(tmp_path):
    path = tmp_path / "a[1].parquet"
    script = f"""
        import os, pyarrow as pa
        from pathlib import Path
        from policy_engine.run.writers import open_output
        with open_output(Path({str(path)!r}), pa.schema([("row", pa.int64())])):
            os.kill(os.getpid(), 9)
    """
    killed = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    assert -9 == killed.wait()
    left = f".{path.name}.{killed.pid}.tmp"
    (tmp_path / f".{path.name}.mine.tmp").touch()
    assert (tmp_path / left).exists()
    with open_output(path, SCHEMA) as under_way:
        assert [left] == clear_killed(path)
        assert under_way._temporary.exists()
        assert [] == clear_killed(path)
    assert [f".{path.name}.mine.tmp", path.name] == sorted(found.name for found in tmp_path.iterdir())

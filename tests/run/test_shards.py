"""A folder of shards: the same rows as one file, however the input is cut, with a manifest that says what made them."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.checksum import canonical_checksum
from policy_engine.core.errors import ConfigError, DataError, RowError
from policy_engine.data.files.readers import read_rows
from policy_engine.run.input_spans import inline_spans, plan
from policy_engine.run.truncate import Truncation
from tests.run.support import CARD, apply_dataset, chat, masker, write_lines

ROWS = [{"messages": chat(f"Question {n}", f"Answer {n} " * (n % 7 + 1))} for n in range(40)]
ROWS[7] = {"messages": None}
ROWS[11] = {"messages": chat("only a question")}
SPAN = 1200


def rows_in(folder):
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("part-*.parquet")))


def contents_of(path):
    """The table of a file, or of a folder of shards."""
    return rows_in(path) if path.is_dir() else pq.read_table(path)


def run(data, folder, *, policy=CARD, **options):
    return apply_dataset(data, masker(policy), f"{folder}/", **{"span_bytes": SPAN, "batch_size": 3, **options})


@pytest.fixture
def data(tmp_path):
    return write_lines(tmp_path / "in.jsonl", ROWS)


def test_the_rows_are_those_of_one_file(tmp_path, data):
    whole = apply_dataset(data, masker(), tmp_path / "out.parquet")
    summary = run(data, tmp_path / "out")
    found = rows_in(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*"))) >= 3
    assert pq.read_table(tmp_path / "out.parquet").equals(found)
    assert {**whole.to_json(), "output": ""} == {**summary.to_json(), "output": ""}


def test_the_manifest(tmp_path, data):
    run(data, tmp_path / "out", truncation=Truncation(max_length=30))
    made = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert masker().program.fingerprint == made["policy"]["fingerprint"]
    assert "train assistant" in made["policy"]["text"]
    assert [
        {"path": str(data), "size": data.stat().st_size, "sha256": hashlib.sha256(data.read_bytes()).hexdigest()}
    ] == (made["input"]["files"])
    assert 30 == made["options"]["max_length"]
    assert {"name": "labels", "type": "list<element: int32>"} == {
        **made["schema"][2], "type": made["schema"][2]["type"].replace("item", "element")
    }  # fmt: skip
    assert 1 == made["shards"][0]["first_row"]
    for before, after in zip(made["shards"], made["shards"][1:]):
        assert before["last_row"] + 1 == after["first_row"]
    assert len(ROWS) == made["shards"][-1]["last_row"]
    for shard in made["shards"]:
        path = tmp_path / "out" / shard["file"]
        assert shard["rows"] == pq.read_metadata(path).num_rows
        assert shard["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert made["summary"]["rows_in"] == sum(shard["counts"]["read"] for shard in made["shards"]) == len(ROWS)
    assert {"_manifest.json"} == {p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith("part-")}


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.json", "in.parquet"])
def test_other_inputs_give_the_same_rows(tmp_path, data, name):
    import gzip

    other = tmp_path / name
    if name.endswith("gz"):
        other.write_bytes(gzip.compress(data.read_bytes()))
    elif name.endswith("json"):
        other.write_text(json.dumps(ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), other, row_group_size=7)
    run(data, tmp_path / "a")
    summary = run(other, tmp_path / "b")
    assert canonical_checksum(tmp_path / "a") == canonical_checksum(tmp_path / "b")
    assert (38, 1, 1) == (summary.rows_out, summary.rows_failed, summary.rows_empty)
    assert f"{other}:8" == summary.failures[0].place


def test_folders_of_files_are_numbered_on(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_lines(folder / "a.jsonl", ROWS[:10])
    (folder / "b.jsonl").write_text("\n\n" + json.dumps(ROWS[10]) + "\n\n{broken\n  \n\n")
    write_lines(folder / "c.jsonl", ROWS[12:])
    whole = apply_dataset(folder, masker(), tmp_path / "out.parquet")
    summary = run(folder, tmp_path / "out")
    assert pq.read_table(tmp_path / "out.parquet").equals(rows_in(tmp_path / "out"))
    assert [(f.row, f.place) for f in whole.failures] == [(f.row, f.place) for f in summary.failures]


@pytest.mark.parametrize("size", [1, 50, 300, 10_000])
@pytest.mark.parametrize("end", ["\n", "", "\r\n\n  \n"])
def test_cuts_lose_no_line(tmp_path, monkeypatch, size, end):
    monkeypatch.setattr("policy_engine.run.input_spans._CHUNK", 64)
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(json.dumps({"n": n, "x": "y" * (n * 7 % 90)}) for n in range(40)) + end)
    _, spans = plan(read_rows(path), size=size)
    found = [row for span in spans for row in span.read()]
    assert list(range(1, 41)) == [number for number, _ in found]
    assert list(range(40)) == [row["n"] for _, row in found]
    assert [span.index for span in spans] == list(range(len(spans)))


def test_a_byte_order_mark_and_lines_too_long_for_spans(tmp_path, monkeypatch):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}\n{"a": 2}\n')
    _, spans = plan(read_rows(path), size=1)
    assert [(1, {"a": 1}), (2, {"a": 2})] == [row for span in spans for row in span.read()]
    monkeypatch.setattr("policy_engine.run.input_spans._CHUNK", 4)
    monkeypatch.setattr("policy_engine.run.input_spans.MAX_ROW", 5)
    assert plan(read_rows(path), size=1)[1] is None


def test_inline_spans_give_the_rows_before_input_breaks_off():
    class Rows:
        places = ()

    def rows():
        yield 1, "a"
        yield 2, "b"
        raise DataError("broken")

    spans = inline_spans(rows(), Rows(), size=10)
    assert [(1, "a"), (2, "b")] == list(next(spans).read())
    with pytest.raises(DataError):
        next(spans)


def test_packed(tmp_path, data):
    summary = run(data, tmp_path / "out", packed=True, truncation=Truncation(max_length=64))
    found = rows_in(tmp_path / "out")
    assert summary.sequences == found.num_rows < summary.rows_out
    numbers = sorted(n for row in found["row"].to_pylist() for n in row)
    assert [n for n in range(1, 41) if n not in (8, 12)] == numbers


def test_a_limit(tmp_path, data):
    run(data, tmp_path / "out", limit=10)
    assert [1, 2, 3, 4, 5, 6, 7, 9, 10] == rows_in(tmp_path / "out")["row"].to_pylist()


def test_spans_without_a_row_to_write_have_no_file(tmp_path):
    data = write_lines(tmp_path / "in.jsonl", [{"messages": chat("q" * 500)}, {"messages": chat("q", "a")}])
    summary = run(data, tmp_path / "out", span_bytes=1)
    assert (1, 1) == (summary.rows_empty, summary.rows_out)


def test_strict_keeps_whole_shards_and_says_the_place(tmp_path, data):
    with pytest.raises(RowError, match=rf"{data}:8: .*whole shards") as caught:
        run(data, tmp_path / "out", strict=True)
    assert caught.value.help is None or "resume" not in caught.value.help
    assert not (tmp_path / "out" / "_manifest.json").exists()


def test_what_is_refused(tmp_path, data):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="is not empty"):
        run(data, tmp_path / "full", overwrite=True)
    with pytest.raises(DataError, match="does not exist"):
        run(data, tmp_path / "no" / "out")
    with pytest.raises(DataError, match="the input is in"):
        run(data, tmp_path)
    with pytest.raises(ConfigError, match="cannot be resumed"):
        apply_dataset(data, masker(), tmp_path / "out.parquet", resume=True)


def test_an_empty_file_among_others_is_said(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_lines(folder / "a.jsonl", ROWS[:3])
    (folder / "b.jsonl").write_text("")
    with pytest.raises(DataError, match=r"b.jsonl` is empty"):
        run(folder, tmp_path / "out")

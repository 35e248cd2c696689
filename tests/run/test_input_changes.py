"""An input that does not stay as it was while a run reads it: the run fails, and says so."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policy_engine.core.errors import DataError
from policy_engine.run import folder
from policy_engine.run.input_spans import inline_spans
from tests.run.support import apply_dataset, chat, masker

ROWS = [{"messages": chat(f"Question {n}", f"Answer {n}")} for n in range(30)]
OTHERS = [{"messages": chat(f"Question {n}", f"Rejoin {n}")} for n in range(30)]


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)


def in_place(path, how):
    """Other contents in the same file."""
    beside = path.with_suffix(".other" + path.suffix)
    write(beside, OTHERS if how == "rewritten" else ROWS + OTHERS)
    with path.open("r+b") as file:
        file.write(beside.read_bytes())
        file.truncate()


def unseen(path, how):
    """As a tool does that sets times back."""
    found = path.stat()
    in_place(path, "rewritten")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def replaced(path, how):
    other = path.with_suffix(".tmp")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


CHANGES = {
    "rewritten": (in_place, "changed while it was read"),
    "longer": (in_place, "bytes and has"),
    "replaced": (replaced, "another file was put in its place"),
    "removed": (lambda path, how: path.unlink(), "it is not there any more"),
    "touched": (lambda path, how: os.utime(path, ns=(1, 1)), "it was written to"),
}


def changing(path, how, change):
    steps = []

    def step(progress):
        steps.append(progress)
        if len(steps) == 2:
            change(path, how)

    return step


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
@pytest.mark.parametrize("how", CHANGES)
def test_a_folder_run_fails(tmp_path, name, how):
    path = tmp_path / name
    write(path, ROWS)
    change, said = CHANGES[how]
    with pytest.raises(DataError, match=said) as caught:
        apply_dataset(
            path, masker(), f"{tmp_path}/out/", span_bytes=300, batch_size=3, progress=changing(path, how, change)
        )
    assert f"`{path}` changed while it was read" in caught.value.message
    assert "whole shards" in caught.value.message
    assert "--resume" not in caught.value.message
    assert not (tmp_path / "out" / "_manifest.json").exists()


@pytest.mark.parametrize("name", ["in.jsonl", "in.json"])
def test_what_size_and_time_do_not_show_the_digest_does(tmp_path, monkeypatch, name):
    monkeypatch.setattr(folder, "inline_spans", lambda numbered, rows: inline_spans(numbered, rows, size=5))
    path = tmp_path / name
    write(path, ROWS)
    step = changing(path, "rewritten", unseen)
    with pytest.raises(DataError, match="its contents are others"):
        apply_dataset(path, masker(), f"{tmp_path}/out/", span_bytes=300, batch_size=3, progress=step)
    assert not (tmp_path / "out" / "_manifest.json").exists()


def test_a_run_into_one_file_fails(tmp_path):
    path = tmp_path / "in.jsonl"
    write(path, ROWS)
    step = changing(path, "longer", in_place)
    with pytest.raises(DataError, match="changed while it was read") as caught:
        apply_dataset(path, masker(), tmp_path / "out.jsonl", batch_size=3, progress=step)
    assert "are in `" in caught.value.message
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_that_changes_before_its_digest_is_taken(tmp_path, monkeypatch):
    path = tmp_path / "in.jsonl"
    write(path, ROWS)
    real = folder.plan

    def plan(rows, **options):
        in_place(path, "longer")
        return real(rows, **options)

    monkeypatch.setattr(folder, "plan", plan)
    with pytest.raises(DataError, match="changed while it was read"):
        apply_dataset(path, masker(), f"{tmp_path}/out/")

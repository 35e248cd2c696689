"""Runs that lose their output folder, meet a clock that jumps, or share their output with another run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from policy_engine.core.errors import DataError
from policy_engine.run import writers
from tests.run.support import apply_dataset, chat, masker

ROWS = [{"messages": chat(f"Question {n}", f"Answer {n}")} for n in range(40)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def _once(action):
    """A progress callback that acts the first time that it is called."""
    done: list[bool] = []

    def progress(_: object) -> None:
        if not done:
            done.append(True)
            action()

    return progress


def _remove(folder: Path) -> None:
    """Removes a folder in which a worker may be making files."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("name", "workers"),
    [("out.jsonl", 1), ("out.jsonl.gz", 1), ("out.parquet", 1), ("shards", 1), ("out.jsonl", 2), ("shards", 2)],
)
def test_an_output_folder_that_is_removed_ends_the_run(tmp_path, data, name, workers) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    out: Path | str = folder / name if "." in name else f"{folder / name}/"
    options = {"span_bytes": 400} if name == "shards" else {"batch_size": 4}
    with pytest.raises(DataError) as caught:
        apply_dataset(data, masker(), out, progress=_once(lambda: _remove(folder)), workers=workers, **options)
    assert "cannot be written: No such file or directory" in caught.value.message
    assert "its folder was removed or moved" in caught.value.help
    assert not folder.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
@pytest.mark.parametrize("name", ["out.parquet", "shards"])
def test_an_output_folder_that_becomes_read_only(tmp_path, data, monkeypatch, name, number) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writers.ParquetOutput, "_flush", refused)
    with pytest.raises(DataError, match="cannot be written") as caught:
        apply_dataset(data, masker(), tmp_path / name if "." in name else f"{tmp_path / name}/")
    assert os.strerror(number) in caught.value.message
    assert "cannot be written to any more" in caught.value.help


def test_two_runs_of_one_process_into_one_file(tmp_path, data) -> None:
    out = tmp_path / "out.parquet"
    other = _once(lambda: apply_dataset(data, masker(), out, batch_size=4, limit=8))
    with pytest.raises(DataError, match="was made by somebody else meanwhile") as caught:
        apply_dataset(data, masker(), out, batch_size=4, progress=other)
    assert f"the {len(ROWS)} rows finished before are in" in caught.value.message
    assert 8 == pq.read_table(out).num_rows
    assert len(ROWS) == pq.read_table(tmp_path / "out.partial.parquet").num_rows
    assert ["chats.jsonl", "out.parquet", "out.partial.parquet"] == sorted(p.name for p in tmp_path.iterdir())


@pytest.mark.parametrize("jump", [-10_000_000, 10_000_000])
def test_a_clock_that_jumps(tmp_path, data, monkeypatch, jump) -> None:
    real, calls = time.time, [0]

    def jumping() -> float:
        calls[0] += 1
        return real() + (jump if calls[0] % 2 else 0)

    apply_dataset(data, masker(), f"{tmp_path / 'usual'}/", span_bytes=400)
    monkeypatch.setattr(time, "time", jumping)
    apply_dataset(data, masker(), f"{tmp_path / 'jumped'}/", span_bytes=400)
    shards = sorted(path.name for path in (tmp_path / "usual").glob("part-*"))
    assert len(shards) > 3
    for name in shards:
        assert pq.read_table(tmp_path / "usual" / name).equals(pq.read_table(tmp_path / "jumped" / name))


def test_what_a_killed_run_left_is_removed_and_said(tmp_path, data) -> None:
    (tmp_path / ".out.parquet.99999.tmp").write_bytes(b"half")
    said: list[str] = []
    apply_dataset(data, masker(), tmp_path / "out.parquet", say=said.append)
    assert "removed `.out.parquet.99999.tmp`, the unfinished file of a run that was killed" in said
    assert ["chats.jsonl", "out.parquet"] == sorted(path.name for path in tmp_path.iterdir())

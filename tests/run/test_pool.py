"""Several processes: the same results in order, workers that die, few tasks ahead, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from policy_engine.core.errors import DataError, RowError
from policy_engine.run.apply import apply_dataset
from policy_engine.run.pool import AHEAD, in_order
from policy_engine.run.shards import canonical_checksum
from tests.run.support import masker, write_lines
from tests.run.test_shards import ROWS, run

ROOT = Path(__file__).parents[2]


def double(task):
    time.sleep(0.02 * (task % 3))
    return 2 * task


def dies_once(task):
    """Kills its process for task 3, the first time."""
    number, marker = task
    if number == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies_always(task):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def fails(task):
    if task == 2:
        raise RowError("no good", help="mend it")
    return task


def test_order_is_kept_and_few_tasks_are_ahead():
    taken = []

    def tasks():
        for n in range(20):
            taken.append(n)
            yield n

    for done, (task, result) in enumerate(in_order(double, tasks(), workers=2)):
        assert (done, 2 * done) == (task, result)
        assert len(taken) <= done + 1 + 2 * AHEAD


def test_a_worker_that_dies_is_replaced_and_its_task_done_again(tmp_path):
    tasks = ((n, tmp_path / "died") for n in range(12))
    assert list(range(12)) == [result for _, result in in_order(dies_once, tasks, workers=2)]
    assert (tmp_path / "died").exists()


def test_a_task_that_ends_two_workers_is_reported():
    results = in_order(dies_always, iter(range(12)), workers=2, describe=lambda task: f"number {task}")
    assert [0, 1, 2] == [next(results)[1] for _ in range(3)]
    with pytest.raises(DataError, match="died twice on number 3"):
        next(results)


def test_errors_cross_processes():
    with pytest.raises(RowError, match="no good") as caught:
        list(in_order(fails, iter(range(5)), workers=2))
    assert "mend it" == caught.value.help


def test_two_processes_write_what_one_writes(tmp_path):
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    one = run(data, tmp_path / "one")
    two = run(data, tmp_path / "two", workers=2)
    assert {**one.to_json(), "output": ""} == {**two.to_json(), "output": ""}
    for path in (tmp_path / "one").glob("part-*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert canonical_checksum(tmp_path / "one") == canonical_checksum(tmp_path / "two")
    a = apply_dataset(data, masker(), tmp_path / "one.parquet", batch_size=5)
    b = apply_dataset(data, masker(), tmp_path / "two.parquet", batch_size=5, workers=2)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert {**a.to_json(), "output": ""} == {**b.to_json(), "output": ""}


SCRIPT = """
import functools, signal, sys
from pathlib import Path
from policy_engine.run import folder
from tests.run.test_shards import run
folder.inline_spans = functools.partial(folder.inline_spans, size=60)
if __name__ == "__main__":
    # A job in the background has SIGINT ignored, and its children inherit that; at a terminal they do not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run("-", Path(sys.argv[1]), workers=2, progress=lambda p: print("step", flush=True))
    except KeyboardInterrupt as stop:
        print("stop:", stop)
        sys.exit(130)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_ends_workers_and_leaves_whole_files(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "out")], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    line = json.dumps(ROWS[0]) + "\n"
    process.stdin.write(line * 260)
    process.stdin.flush()
    assert "step\n" == process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert 130 == process.returncode, err
    assert "whole shards" in out
    assert "Traceback" not in err
    assert {".parquet", ".jsonl"} == {path.suffix for path in (tmp_path / "out").iterdir()}
    deadline = time.monotonic() + 20
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [] == _alive(process.pid)


def _alive(group):
    """Processes of a group that are not only waiting to be reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            found.append(path.parent.name)
    return found
